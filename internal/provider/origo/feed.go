package origo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
)

const (
	feedPage = 500
	// overlap is how far before the newest event the next reading begins: an event may be recorded after others that
	// have a later time.
	overlap = 2 * time.Minute
	// remembered is how many events a bookmark may name; with more, the overlap becomes shorter.
	remembered = 250
)

// bookmark says where to read on: from a time, which HID includes, leaving out the events from that time on that were
// already read.
type bookmark struct {
	from time.Time
	seen []string
}

// String has the time and the events, separated by spaces.
func (b bookmark) String() string {
	return strings.Join(append([]string{b.from.UTC().Format(time.RFC3339Nano)}, b.seen...), " ")
}

func parseBookmark(text string, since time.Time) bookmark {
	words := strings.Fields(text)
	if len(words) == 0 {
		return bookmark{from: since}
	}
	from, err := time.Parse(time.RFC3339Nano, words[0])
	if err != nil { // not one of ours: begin again; it does no harm to report an event twice
		return bookmark{from: since}
	}
	return bookmark{from, words[1:]}
}

// Feed reads the events that follow a bookmark; with an empty bookmark, those from since on. Events that cannot be used
// are left out, and what is beyond atMost is left for the next reading. Each event is reported once, provided that HID
// records it at most two minutes after others that have a later time.
//
// HID documents that events can be read on demand (doc.origo.hidglobal.com, events and callbacks), but not in which
// shape. This relies on GET events with dateFrom, startIndex and count, listing the oldest first, as a bare array or as
// a SCIM list.
func (c *Client) Feed(ctx context.Context, mark string, since time.Time, atMost int) (provider.Feed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	at := parseBookmark(mark, since)
	seen := map[string]bool{}
	for _, s := range at.seen {
		seen[s] = true
	}
	type told struct {
		key  string
		time time.Time
	}
	var all []told
	var fresh []json.RawMessage
	more := true
	// Reading moves on by the bookmark, not by the index, because old events may drop out meanwhile. The index is used
	// only to pass over pages that hold nothing new.
	for more && len(fresh) == 0 {
		page, total, err := c.events(ctx, at.from, 1+len(all))
		if err != nil {
			return provider.Feed{}, err
		}
		more = len(page) > 0 && len(all)+len(page) < total
		last := at.from
		for _, raw := range page {
			if atMost > 0 && len(fresh) == atMost {
				more = true
				break
			}
			var e event
			_ = json.Unmarshal(raw, &e) // what cannot be read is rejected by translate
			if when := e.when(); !when.IsZero() {
				last = when
			}
			if last.Before(at.from) { // it was not asked for, and must not be reported at each reading
				last = at.from
			}
			k := key(e.ID, raw)
			all = append(all, told{k, last})
			if !seen[k] {
				seen[k] = true
				fresh = append(fresh, raw)
			}
		}
	}
	if len(fresh) == 0 {
		return provider.Feed{Next: at.String()}, nil
	}
	slices.SortStableFunc(all, func(a, b told) int { return a.time.Compare(b.time) })
	newest := all[len(all)-1].time
	next := bookmark{from: newest.Add(-overlap)}
	if i := len(all) - remembered; i > 0 && all[i].time.After(next.from) {
		next.from = all[i].time
	}
	if next.from.Before(at.from) {
		next.from = at.from
	}
	for _, t := range all {
		if !t.time.Before(next.from) {
			next.seen = append(next.seen, t.key)
		}
	}
	if more { // events that were read before and come after this page still have to be passed over
		for _, k := range at.seen {
			if !slices.ContainsFunc(all, func(t told) bool { return t.key == k }) {
				next.seen = append(next.seen, k)
			}
		}
	}
	users, _ := translate(c.config.Account, fresh)
	return provider.Feed{Users: users, Next: next.String(), More: more}, nil
}

// events reads one page, and how many events there are from that time on.
func (c *Client) events(ctx context.Context, from time.Time, start int) ([]json.RawMessage, int, error) {
	query := url.Values{"dateFrom": {from.UTC().Format(time.RFC3339Nano)}, "startIndex": {strconv.Itoa(start)},
		"count": {strconv.Itoa(feedPage)}}
	var raw json.RawMessage
	k := call{op: "feed", method: http.MethodGet, url: c.config.Endpoints.Events + "/events?" + query.Encode()}
	if err := c.do(ctx, k, &raw); err != nil {
		return nil, 0, err
	}
	var bare []json.RawMessage
	if json.Unmarshal(raw, &bare) == nil {
		return bare, start - 1 + len(bare), nil
	}
	var list struct {
		Total     int               `json:"totalResults"`
		Resources []json.RawMessage `json:"Resources"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil, 0, failed("feed", "malformed answer", provider.ErrUnavailable)
	}
	return list.Resources, list.Total, nil
}

// key names an event in a bookmark, by its id where it has one.
func key(eventID json.RawMessage, raw []byte) string {
	var i id
	if eventID != nil && i.UnmarshalJSON(eventID) == nil && i != "" {
		raw = []byte(i)
	}
	sum := sha256.Sum256(raw)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
