// Package faults holds the bad weather somebody ordered: which of the next
// calls to a service shall fail, and how. Faults not yet spent survive a
// restart.
//
// What a failing call looks like belongs to the service that is asked.
package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/state"
)

const bucket = "faults"

// Callback is the operation a fault of kind drop applies to: a webhook call
// that the provider does not make. No other kind applies to it.
const Callback = "callback"

// Fault is one order. The JSON is that of POST /faults.
type Fault struct {
	Service string `json:"service"`        // ses origo dynamodb events
	Op      string `json:"op,omitempty"`   // empty = any
	Kind    string `json:"kind"`           // error timeout throttle drop
	When    string `json:"when,omitempty"` // before after; default before
	Count   int    `json:"count"`          // calls still to fail; default 1
	HoldMs  int    `json:"holdMs"`         // wait before the answer or the cut
}

// Hold is HoldMs as a duration.
func (f Fault) Hold() time.Duration { return time.Duration(f.HoldMs) * time.Millisecond }

var ops = map[string][]string{
	"ses":      {"send"},
	"origo":    {"token", "search", "read", "reserve", "cancel", "revoke", "photo", "stock", "feed"},
	"dynamodb": {"read", "put", "transact"},
	"events":   {"publish"},
}

func (f *Fault) check() error {
	known, ok := ops[f.Service]
	switch {
	case !ok:
		return errors.New("service must be ses, origo, dynamodb or events")
	case f.Kind == "drop":
		if f.Service != "origo" {
			return errors.New("only origo's webhooks can be dropped")
		}
		f.Op = Callback
	case !slices.Contains([]string{"error", "timeout", "throttle"}, f.Kind):
		return errors.New("kind must be error, timeout, throttle or drop")
	case f.Op != "" && !slices.Contains(known, f.Op):
		return fmt.Errorf("op of %s must be one of: %s", f.Service, strings.Join(known, " "))
	}
	if f.When == "" {
		f.When = "before"
	}
	if f.Count == 0 {
		f.Count = 1
	}
	if f.When != "before" && f.When != "after" || f.Count < 0 || f.HoldMs < 0 {
		return errors.New("when must be before or after, count and holdMs not negative")
	}
	return nil
}

// Faults is the list of orders.
type Faults struct {
	mu sync.Mutex
	db *state.DB
}

// New returns the orders kept in db.
func New(db *state.DB) *Faults { return &Faults{db: db} }

// Add checks an order, fills in its defaults and keeps it. The error says what
// is wrong with the order.
func (fs *Faults) Add(f Fault) (Fault, error) {
	if err := f.check(); err != nil {
		return f, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	_, err := fs.db.Add(bucket, f)
	return f, err
}

// List returns the orders not spent, oldest first; never nil.
func (fs *Faults) List() ([]Fault, error) {
	entries, err := state.List[Fault](fs.db, bucket)
	out := []Fault{}
	for _, e := range entries {
		out = append(out, e.Value)
	}
	return out, err
}

// Clear forgets every order.
func (fs *Faults) Clear() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	entries, err := state.List[Fault](fs.db, bucket)
	if err != nil {
		return err
	}
	return fs.db.Write(func(tx *state.Tx) error {
		for _, e := range entries {
			if err := tx.Delete(bucket, e.Key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Take spends one call of the oldest order that applies to service and op.
func (fs *Faults) Take(service, op string) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	entries, err := state.List[Fault](fs.db, bucket)
	if err != nil {
		return Fault{}, false
	}
	for _, e := range entries {
		f := e.Value
		if f.Service != service || f.Op != op && (f.Op != "" || op == Callback) {
			continue
		}
		rest := f
		if rest.Count--; rest.Count == 0 {
			err = fs.db.Delete(bucket, e.Key)
		} else {
			err = fs.db.Put(bucket, e.Key, rest)
		}
		return f, err == nil
	}
	return Fault{}, false
}
