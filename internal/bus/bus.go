// Package bus puts events on the EventBridge bus.
//
// What belongs here is publishing: batches, and what to do about entries that were not taken. What does not: what
// events are called and how they are read (envelope, which links no client), what they say (provider, notify) and when
// they are published (webhook, notify).
package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/mobilecred/mobilecred/internal/backoff"
)

const (
	maxEntries = 10
	// maxBytes is the size of a request. The EventBridge API reference says 1 MB; older versions of it, and some
	// regions, allow 256 kB for all entries together.
	maxBytes = 256 << 10
	attempts = 4
	baseWait = 50 * time.Millisecond
	maxWait  = time.Second
)

// API is what is used of EventBridge; *eventbridge.Client has it.
type API interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput,
		...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Entry is one event to be put on the bus.
type Entry struct {
	DetailType string
	Detail     any       // encoded as JSON
	Time       time.Time // when it happened; zero: now, by EventBridge
}

// Bus publishes events of one source to one bus.
type Bus struct {
	api     API
	name    string
	source  string
	backoff backoff.Backoff
}

// New returns a bus by its name, for events of one of the sources.
func New(api API, name, source string) *Bus {
	return &Bus{api, name, source, backoff.Backoff{First: baseWait, Most: maxWait}}
}

// Error says which entries are not on the bus. An entry whose request got no answer is counted among them, but may be
// there.
type Error struct {
	Entries int            // how many were to be published
	Failed  []int          // the indexes of those that were not, ascending
	Codes   map[string]int // EventBridge's reasons for refusing an entry, at the last attempt, and how often
	Cause   error          // why a request failed or the attempts ended early, or nil
}

// Error implements error: it gives the counts and EventBridge's codes, and nothing of the entries' details.
func (e *Error) Error() string {
	text := fmt.Sprintf("bus: %d of %d events not published", len(e.Failed), e.Entries)
	var codes []string
	for code, n := range e.Codes {
		codes = append(codes, fmt.Sprintf("%d %s", n, code))
	}
	if slices.Sort(codes); len(codes) > 0 {
		text += " (" + strings.Join(codes, ", ") + ")"
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Publish puts entries on the bus, in their order, and returns nil when every one of them is there. Entries that
// EventBridge refused are sent again, without the others, up to four times in all; an *Error names those that are left.
// A request that failed as a whole is not repeated, because the SDK has already repeated it, and no further entries are
// sent. Entries may arrive twice.
func (b *Bus) Publish(ctx context.Context, entries []Entry) error {
	requests := make([]types.PutEventsRequestEntry, len(entries))
	for i, e := range entries {
		detail, err := json.Marshal(e.Detail)
		if err != nil {
			return fmt.Errorf("bus: event %d has a detail that is no JSON", i) // the error would quote it
		}
		text := string(detail)
		requests[i] = types.PutEventsRequestEntry{EventBusName: &b.name, Source: &b.source,
			DetailType: &entries[i].DetailType, Detail: &text}
		if !e.Time.IsZero() {
			requests[i].Time = &entries[i].Time
		}
	}
	left := &Error{Entries: len(entries), Codes: map[string]int{}}
	for from := 0; from < len(requests); {
		to := from + fitting(requests[from:])
		batch := make([]int, 0, maxEntries)
		for i := from; i < to; i++ {
			batch = append(batch, i)
		}
		failed, err := b.put(ctx, requests, batch, left.Codes)
		left.Failed = append(left.Failed, failed...)
		from = to
		if err != nil {
			for ; from < len(requests); from++ {
				left.Failed = append(left.Failed, from)
			}
			left.Cause = err
		}
	}
	if len(left.Failed) > 0 {
		return left
	}
	return nil
}

// fitting says how many of the first entries fit into one request; at least one, and then EventBridge may refuse it.
func fitting(entries []types.PutEventsRequestEntry) int {
	bytes := 0
	for i, e := range entries {
		bytes += len(*e.Source) + len(*e.DetailType) + len(*e.Detail)
		if e.Time != nil {
			bytes += 14 // as EventBridge counts
		}
		if i > 0 && bytes > maxBytes || i == maxEntries {
			return i
		}
	}
	return len(entries)
}

// put sends one batch, given by indexes, until all of it is taken or the attempts are used up. It returns the indexes
// that are left.
func (b *Bus) put(ctx context.Context, requests []types.PutEventsRequestEntry, batch []int,
	codes map[string]int) ([]int, error) {
	for attempt := 0; ; attempt++ {
		in := &eventbridge.PutEventsInput{}
		for _, i := range batch {
			in.Entries = append(in.Entries, requests[i])
		}
		out, err := b.api.PutEvents(ctx, in)
		if err != nil {
			return batch, err
		}
		if out.FailedEntryCount == 0 {
			return nil, nil
		}
		if len(out.Entries) != len(batch) {
			return batch, errors.New("an answer that does not fit the request")
		}
		var failed []int
		reasons := map[string]int{}
		for n, result := range out.Entries {
			if result.EventId == nil || result.ErrorCode != nil {
				failed = append(failed, batch[n])
				reasons[cmp.Or(value(result.ErrorCode), "unknown")]++
			}
		}
		if len(failed) == 0 {
			return nil, nil
		}
		batch = failed
		if attempt+1 < attempts {
			if err = b.backoff.Wait(ctx, attempt); err == nil {
				continue
			}
		}
		for code, n := range reasons {
			codes[code] += n
		}
		return batch, err
	}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
