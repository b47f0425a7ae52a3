package origosim

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A refused callback is tried again after firstRetry, then after twice as long each time, deliveries times in all; the
// events API is where the lost ones are found.
const (
	deliveries = 8
	firstRetry = 200 * time.Millisecond
)

// eventTime has a fixed width, so that events sort and compare as text.
const eventTime = "2006-01-02T15:04:05.000Z"

type cloudEvent struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Type            string         `json:"type"`
	Source          string         `json:"source"`
	Time            string         `json:"time"`
	DataContentType string         `json:"datacontenttype"`
	Data            map[string]any `json:"data"`
}

// callback is one batch waiting to be sent.
type callback struct {
	ID        int64
	Events    []cloudEvent `json:",omitempty"`
	Tries     int          `json:",omitempty"`
	NotBefore time.Time    `json:",omitzero"`
}

// sideBySide is how many callbacks are under way at most.
const sideBySide = 32

// userID is whose events these are. The callbacks about one user are sent one after the other, which the provider does
// not promise; those about different users side by side.
func (c *callback) userID() any { return c.Events[0].Data["userId"] }

// Run sends the queued callbacks until ctx ends. It is to be called once.
func (s *Sim) Run(ctx context.Context) {
	var senders sync.WaitGroup
	defer senders.Wait()
	for ctx.Err() == nil {
		_ = s.arrive() // what could not be saved is late still
		due, wait := s.take()
		for _, c := range due {
			// Here, so that faults are met in the order of the queue.
			fault, faulty := s.opts.Fault("callback", s.holderOf(c))
			senders.Go(func() { s.send(ctx, c, fault, faulty) })
		}
		var next <-chan time.Time
		if wait > 0 {
			next = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-next:
		}
	}
}

// holderOf is the externalId of the user whose events a callback has first, empty for a user that is gone.
func (s *Sim) holderOf(c *callback) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.st.user(parseID(fmt.Sprint(c.userID()))); u != nil {
		return u.ExternalID
	}
	return ""
}

// Settled reports whether no callback is under way or due to be sent.
func (s *Sim) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	due, _ := s.dueLocked()
	return len(s.sending) == 0 && len(due) == 0
}

// take returns callbacks to be sent now, which are then under way, and how long nothing else will be due, 0 for ever.
func (s *Sim) take() (due []*callback, wait time.Duration) {
	s.mu.Lock()
	due, wait = s.dueLocked()
	for _, c := range due {
		s.sending[c.ID] = true
	}
	seen := s.unsavedLocked()
	s.mu.Unlock()
	if s.wait(seen) == nil {
		return due, wait
	}
	s.over(due...) // what was to be told has not happened
	return nil, firstRetry
}

func (s *Sim) dueLocked() (due []*callback, wait time.Duration) {
	now := s.opts.Now()
	waiting := map[any]bool{} // users with a callback under way, or with one that comes first
	for _, c := range s.st.Queue {
		if s.sending[c.ID] {
			waiting[c.userID()] = true
		}
	}
	for _, c := range s.st.Queue {
		if len(s.sending)+len(due) == sideBySide {
			break
		}
		if waiting[c.userID()] {
			continue
		}
		waiting[c.userID()] = true
		if left := c.NotBefore.Sub(now); left <= 0 {
			due = append(due, c)
		} else if wait == 0 || left < wait {
			wait = left
		}
	}
	if len(s.st.Late) > 0 {
		if left := max(s.st.Late[0].At.Sub(now), time.Millisecond); wait == 0 || left < wait {
			wait = left
		}
	}
	return due, wait
}

// send makes one attempt and keeps what came of it.
func (s *Sim) send(ctx context.Context, c *callback, fault Fault, faulty bool) {
	refused := s.deliver(ctx, c.Events, fault, faulty)
	if ctx.Err() == nil { // an interrupted try says nothing: the callback stays queued as it was
		err := s.change(func(st *state, now time.Time) error {
			if tries := c.Tries + 1; refused == nil || tries == deliveries {
				st.sent(c.ID)
			} else {
				st.tried(c.ID, tries, now.Add(firstRetry<<(tries-1)))
			}
			return nil
		})
		if err != nil { // it will be sent again, but not in a tight loop
			select {
			case <-ctx.Done():
			case <-time.After(firstRetry):
			}
		}
	}
	s.over(c)
	s.poke()
}

// over ends that the callbacks are under way. Who waits for Settled looks when Changed is called.
func (s *Sim) over(callbacks ...*callback) {
	s.mu.Lock()
	for _, c := range callbacks {
		delete(s.sending, c.ID)
	}
	s.mu.Unlock()
	s.opts.Changed()
}

func (s *Sim) deliver(ctx context.Context, events []cloudEvent, fault Fault, faulty bool) error {
	if faulty && fault.Kind == "drop" {
		return nil
	}
	if faulty && fault.Kind == "slow" {
		wait(ctx, fault.Hold)
		faulty = false
	}
	if faulty && fault.When != "after" {
		return errors.New("fault before the callback")
	}
	body, err := json.Marshal(events)
	if err == nil {
		err = s.opts.Deliver(ctx, body)
	}
	if err == nil && faulty {
		return errors.New("fault after the callback")
	}
	return err
}

func (s *Sim) userEvent(u *user, status string) cloudEvent {
	e := s.event("com.origo.mi.user", "user", u.shownID(), u, status)
	e.Data["firstName"], e.Data["lastName"], e.Data["email"], e.Data["externalId"] = u.GivenName, u.FamilyName, u.Email,
		u.ExternalID
	return e
}

func (s *Sim) invitationEvent(u *user, inv *invitation, status string) cloudEvent {
	e := s.event("com.origo.mi.invitation", "invitation", inv.shownID(), u, status)
	e.Data["invitationCode"], e.Data["expirationTime"] = inv.Code, inv.Expires.Format(time.RFC3339)
	return e
}

func (s *Sim) endpointEvent(u *user, deviceID, status string) cloudEvent {
	e := s.event("com.origo.mi.endpoint", "credential-container", deviceID, u, status)
	e.Data["endpointId"], e.Data["endpointModel"] = deviceID, s.st.modelOf(deviceID).name
	return e
}

func (s *Sim) credentialEvent(u *user, c *credential, status string) cloudEvent {
	e := s.event("com.origo.mi.credential", "credential", c.shownID(), u, status)
	e.Data["mid"] = c.shownID()
	return e
}

// reservedEvent is of the newer family of types, the only one seen to tell of a reservation and to name the card.
func (s *Sim) reservedEvent(u *user, c *credential) cloudEvent {
	id := c.shownID()
	e := s.event("origo.credential-management.events.credential", "credential", id, u, "CREDENTIAL_RESERVED")
	e.DataContentType = "application/json"
	e.Data["id"] = id
	e.Data["metaData"] = map[string]any{"cardNumber": strconv.Itoa(c.Card), "partNumber": c.PartNumber}
	return e
}

func (s *Sim) event(kind, resource, id string, u *user, status string) cloudEvent {
	return cloudEvent{
		Type:   kind,
		Source: s.location(resource, id),
		DataContentType: "application/vnd.hidglobal.origo.events." + strings.TrimPrefix(kind, "com.origo.mi.") +
			"-2.0+json",
		Data: map[string]any{"organization_id": s.opts.OrganizationID, "userId": u.shownID(),
			"status": status},
	}
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
