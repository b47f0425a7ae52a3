// Package faults holds the bad weather that was ordered: which of the next calls to a service shall fail, and how.
// Faults not yet spent survive a restart.
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

// Callback is the operation a fault of kind drop applies to: a webhook call that a service does not make. No other kind
// applies to it.
const Callback = "callback"

// Reject is a kind that only mail can meet: it is refused, and would be again.
const Reject = "reject"

// Fault is one order. The JSON is that of POST /faults.
type Fault struct {
	Service string `json:"service"`        // ses dynamodb events, and the caller's own
	Op      string `json:"op,omitempty"`   // empty = any
	Kind    string `json:"kind"`           // error timeout throttle drop, and what the service adds
	When    string `json:"when,omitempty"` // before after; default before
	Count   int    `json:"count"`          // calls still to fail; default 1
	HoldMs  int    `json:"holdMs"`         // wait before the answer or the cut

	// Whom a call must be about to fail, if the service can tell; empty = any.
	Account string `json:"account,omitempty"`
	Holder  string `json:"holder,omitempty"`
	Address string `json:"address,omitempty"` // that mail is sent to
}

// About says whom a call is about, as far as the service knows.
type About struct {
	Account, Holder string
	Addresses       []string
}

func (f Fault) meets(a About) bool {
	isAddress := func(address string) bool { return strings.EqualFold(address, f.Address) }
	return (f.Account == "" || f.Account == a.Account) && (f.Holder == "" || f.Holder == a.Holder) &&
		(f.Address == "" || slices.ContainsFunc(a.Addresses, isAddress))
}

// Hold is HoldMs as a duration.
func (f Fault) Hold() time.Duration { return time.Duration(f.HoldMs) * time.Millisecond }

// Service is something whose calls can be made to fail.
type Service struct {
	Name      string
	Ops       []string
	Callbacks bool     // it calls webhooks, and kind drop loses such a call
	Kinds     []string // what its calls can meet besides error, timeout and throttle
	Aims      []string // which of account, holder and address its faults can name
}

var (
	mail   = Service{Name: "ses", Ops: []string{"send"}, Kinds: []string{Reject}, Aims: []string{"address"}}
	engine = Service{Name: "dynamodb", Ops: []string{"read", "put", "transact"}}
	events = Service{Name: "events", Ops: []string{"publish"}}
)

func (fs *Faults) check(f *Fault) error {
	var known *Service
	var names, dropping []string
	for i, s := range fs.services {
		names = append(names, s.Name)
		if s.Callbacks {
			dropping = append(dropping, s.Name)
		}
		if s.Name == f.Service {
			known = &fs.services[i]
		}
	}
	switch {
	case known == nil:
		last := len(names) - 1
		return errors.New("service must be " + strings.Join(names[:last], ", ") + " or " + names[last])
	case f.Kind == "drop" && !known.Callbacks && dropping == nil:
		return errors.New("no service makes calls that can be dropped")
	case f.Kind == "drop" && !known.Callbacks:
		return errors.New("only " + strings.Join(dropping, "'s and ") + "'s webhooks can be dropped")
	case f.Kind == "drop":
		f.Op = Callback
	case !slices.Contains([]string{"error", "timeout", "throttle"}, f.Kind) && !slices.Contains(known.Kinds, f.Kind):
		return errors.New("kind must be " + strings.Join(append([]string{"error", "timeout", "throttle"},
			known.Kinds...), ", ") + " or drop")
	case f.Op != "" && !slices.Contains(known.Ops, f.Op):
		return fmt.Errorf("op of %s must be one of: %s", f.Service, strings.Join(known.Ops, " "))
	}
	for aim, named := range map[string]bool{"account": f.Account != "", "holder": f.Holder != "",
		"address": f.Address != ""} {
		if named && !slices.Contains(known.Aims, aim) {
			return fmt.Errorf("a fault of %s cannot name the %s it is about", f.Service, aim)
		}
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
	services []Service
	db       *state.DB

	mu      sync.Mutex
	read    bool                 // orders are what the database holds
	pending []state.Entry[Fault] // oldest first
}

// New returns the orders kept in db, for the services that every world has and those of the caller.
func New(db *state.DB, own ...Service) *Faults {
	return &Faults{db: db, services: slices.Concat([]Service{mail}, own, []Service{engine, events})}
}

// ordersLocked reads the database once: every call to a service asks.
func (fs *Faults) ordersLocked() (err error) {
	if !fs.read {
		fs.pending, err = state.List[Fault](fs.db, bucket)
		fs.read = err == nil
	}
	return err
}

// Add checks an order, fills in its defaults and keeps it. The error says what
// is wrong with the order.
func (fs *Faults) Add(f Fault) (Fault, error) {
	if err := fs.check(&f); err != nil {
		return f, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.ordersLocked(); err != nil {
		return f, err
	}
	key, err := fs.db.Add(bucket, f)
	if err == nil {
		fs.pending = append(fs.pending, state.Entry[Fault]{Key: key, Value: f})
	}
	return f, err
}

// List returns the orders not spent, oldest first; never nil.
func (fs *Faults) List() ([]Fault, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	err := fs.ordersLocked()
	out := []Fault{}
	for _, e := range fs.pending {
		out = append(out, e.Value)
	}
	return out, err
}

// Clear forgets every order.
func (fs *Faults) Clear() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.ordersLocked(); err != nil {
		return err
	}
	err := fs.db.Write(func(tx *state.Tx) error {
		for _, e := range fs.pending {
			if err := tx.Delete(bucket, e.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		fs.pending = nil
	}
	return err
}

// Take spends one call of the oldest order that applies to service, op and whom the call is about.
func (fs *Faults) Take(service, op string, about About) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.ordersLocked() != nil {
		return Fault{}, false
	}
	for i, e := range fs.pending {
		f := e.Value
		if f.Service != service || f.Op != op && (f.Op != "" || op == Callback) || !f.meets(about) {
			continue
		}
		rest := f
		if rest.Count--; rest.Count > 0 {
			if fs.db.Put(bucket, e.Key, rest) != nil {
				return Fault{}, false
			}
			fs.pending[i].Value = rest
			return f, true
		}
		if fs.db.Delete(bucket, e.Key) != nil {
			return Fault{}, false
		}
		fs.pending = slices.Delete(fs.pending, i, i+1)
		return f, true
	}
	return Fault{}, false
}
