// Package bus is EventBridge and what stands behind its rules: it matches
// events against the template's patterns and keeps every event that is not yet
// delivered until its function has taken it.
//
// The wire format of PutEvents belongs to package awsapi. A function's queue
// always takes an event here, so what a rule says of retries and dead letters
// on the way there never applies; what the function says does.
package bus

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const events = "events"

// Entry is one entry of PutEvents.
type Entry struct {
	Source       string
	DetailType   string
	Detail       string
	EventBusName string
	Resources    []string
	Time         *float64 // seconds since 1970
}

// Outcome is what PutEvents says of an entry: an id or an error.
type Outcome struct {
	EventID      string `json:"EventId,omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

// Envelope is an event as rules see it and functions get it.
type Envelope struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

type crossed struct {
	Bus   string   `json:"bus"`
	Event Envelope `json:"event"`
}

// Bus is all buses of the template and the default one.
type Bus struct {
	queue *Queue
	buses []string
}

// New returns the buses; rules and targets are those of the queue's functions.
func New(q *Queue, buses []string) *Bus {
	return &Bus{queue: q, buses: append([]string{"default"}, buses...)}
}

// Put accepts entries one by one. An accepted one is durable for every rule it
// matches when Put returns; a refused one says why and stops none of the others.
func (b *Bus) Put(entries []Entry) []Outcome {
	out := make([]Outcome, len(entries))
	for i, e := range entries {
		id, code, message := b.put(e)
		out[i] = Outcome{EventID: id, ErrorCode: code, ErrorMessage: message}
	}
	return out
}

func (b *Bus) put(e Entry) (id, code, message string) {
	name := "default"
	if e.EventBusName != "" {
		name = e.EventBusName[strings.LastIndex(e.EventBusName, "/")+1:]
	}
	var detail map[string]any
	switch {
	case e.Source == "":
		return "", "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."
	case e.DetailType == "":
		return "", "InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType is a required argument."
	case e.Detail == "":
		return "", "InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."
	case strings.HasPrefix(e.Source, "aws."):
		return "", "NotAuthorizedForSourceException", "Not authorized for the source."
	case json.Unmarshal([]byte(e.Detail), &detail) != nil || detail == nil:
		return "", "MalformedDetail", "Detail is malformed."
	case !slices.Contains(b.buses, name):
		return "", "ResourceNotFoundException", "Event bus " + name + " does not exist."
	}
	at := b.queue.now()
	if e.Time != nil {
		at = time.UnixMilli(int64(*e.Time * 1000))
	}
	event := Envelope{
		Version: "0", ID: newID(), DetailType: e.DetailType, Source: e.Source, Account: template.AccountID,
		Time: at.UTC().Format(time.RFC3339), Region: template.Region,
		Resources: append([]string{}, e.Resources...), Detail: json.RawMessage(e.Detail),
	}
	payload, err := json.Marshal(event)
	if err == nil {
		err = b.keep(name, event, payload)
	}
	if err != nil {
		return "", "InternalFailure", err.Error()
	}
	return event.ID, "", ""
}

// keep writes the event and one job for each rule it matches, together.
func (b *Bus) keep(name string, event Envelope, payload []byte) error {
	var fields map[string]any
	if err := json.Unmarshal(payload, &fields); err != nil {
		return err
	}
	var targets []*job
	now := b.queue.now()
	for _, f := range b.queue.functions {
		for _, r := range f.Rules {
			if r.Bus == name && template.Matches(r.Pattern, fields) {
				targets = append(targets, &job{Function: f.LogicalID, Payload: payload, First: now, Due: now})
			}
		}
	}
	return b.queue.keep(func(tx *state.Tx) error {
		_, err := tx.Add(events, crossed{name, event})
		return err
	}, targets...)
}

// Events returns the envelopes that crossed a bus, oldest first; never nil.
func (b *Bus) Events(name string) ([]Envelope, error) {
	entries, err := state.List[crossed](b.queue.db, events)
	out := []Envelope{}
	for _, e := range entries {
		if e.Value.Bus == name {
			out = append(out, e.Value.Event)
		}
	}
	return out, err
}

// Newest returns the envelopes that crossed a bus last, n at most, the last first; never nil.
func (b *Bus) Newest(name string, n int) ([]Envelope, error) {
	entries, err := state.Newest(b.queue.db, events, n, func(c crossed) bool { return c.Bus == name }, nil)
	out := []Envelope{}
	for _, e := range entries {
		out = append(out, e.Value.Event)
	}
	return out, err
}

// After returns the envelopes that crossed a bus after the one with the id, or all if it is not known, oldest first;
// never nil.
func (b *Bus) After(name, id string) ([]Envelope, error) {
	found := false
	entries, err := state.Newest(b.queue.db, events, math.MaxInt, func(c crossed) bool {
		found = found || c.Event.ID == id
		return c.Bus == name && !found
	}, func(crossed) bool { return found })
	out := []Envelope{}
	for _, e := range slices.Backward(entries) {
		out = append(out, e.Value.Event)
	}
	return out, err
}

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
