package origosim

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	Events    []cloudEvent
	Tries     int       `json:",omitempty"`
	NotBefore time.Time `json:",omitzero"`
}

// emit records one change's events for the events API and queues them as one callback.
func (st *state) emit(now time.Time, events ...cloudEvent) {
	for i := range events {
		events[i].SpecVersion, events[i].ID, events[i].Time = "1.0", newUUID(), now.Format(eventTime)
	}
	st.Events = append(st.Events, events...)
	if n := len(st.Events) - feedLength; n > 0 {
		st.Events = st.Events[n:]
	}
	st.Queue = append(st.Queue, callback{Events: events})
}

// Run sends the queued callbacks, one after the other, until ctx ends. It is to be called once.
func (s *Sim) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, ok := s.deliverNext(ctx)
		if ok && wait <= 0 {
			continue
		}
		var due <-chan time.Time
		if ok {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-due:
		}
	}
}

// Settled reports whether no callback is under way or due to be sent.
func (s *Sim) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.delivering && (len(s.st.Queue) == 0 || s.st.Queue[0].NotBefore.After(s.opts.Now()))
}

// deliverNext sends the callback at the head of the queue if it is due, and returns how long to wait for the next;
// false if there is none.
func (s *Sim) deliverNext(ctx context.Context) (time.Duration, bool) {
	s.mu.Lock()
	if len(s.st.Queue) == 0 {
		s.mu.Unlock()
		return 0, false
	}
	head := s.st.Queue[0]
	if wait := head.NotBefore.Sub(s.opts.Now()); wait > 0 {
		s.mu.Unlock()
		return wait, true
	}
	s.delivering = true
	s.mu.Unlock()

	refused := s.deliver(ctx, head.Events)

	s.mu.Lock()
	defer s.unlock()
	s.delivering = false
	if ctx.Err() != nil { // an interrupted try says nothing: the callback stays queued as it was
		return 0, true
	}
	err := s.applyLocked(s.opts.Now().UTC(), func(st *state, now time.Time) error {
		head := &st.Queue[0]
		if head.Tries++; refused == nil || head.Tries == deliveries {
			st.Queue = st.Queue[1:]
		} else {
			head.NotBefore = now.Add(firstRetry << (head.Tries - 1))
		}
		return nil
	})
	if err != nil { // not saved: it will be sent again, but not in a tight loop
		return firstRetry, true
	}
	return 0, true
}

func (s *Sim) deliver(ctx context.Context, events []cloudEvent) error {
	fault, faulty := s.opts.Fault("callback")
	if faulty && fault.Kind == "drop" {
		return nil
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
	e := s.event("com.origo.mi.user", "user", strconv.FormatInt(u.ID, 10), u, status)
	e.Data["firstName"], e.Data["lastName"], e.Data["email"], e.Data["externalId"] = u.GivenName, u.FamilyName, u.Email, u.ExternalID
	return e
}

func (s *Sim) invitationEvent(u *user, inv *invitation, status string) cloudEvent {
	e := s.event("com.origo.mi.invitation", "invitation", strconv.FormatInt(inv.ID, 10), u, status)
	e.Data["invitationCode"], e.Data["expirationTime"] = inv.Code, inv.Expires.Format(time.RFC3339)
	return e
}

func (s *Sim) endpointEvent(u *user, deviceID, status string) cloudEvent {
	e := s.event("com.origo.mi.endpoint", "credential-container", deviceID, u, status)
	e.Data["endpointId"], e.Data["endpointModel"] = deviceID, modelOf(deviceID).name
	return e
}

func (s *Sim) credentialEvent(u *user, c *credential, status string) cloudEvent {
	e := s.event("com.origo.mi.credential", "credential", strconv.FormatInt(c.ID, 10), u, status)
	e.Data["mid"] = strconv.FormatInt(c.ID, 10)
	return e
}

// reservedEvent is of the newer family of types, the only one seen to tell of a reservation and to name the card.
func (s *Sim) reservedEvent(u *user, c *credential) cloudEvent {
	id := strconv.FormatInt(c.ID, 10)
	e := s.event("origo.credential-management.events.credential", "credential", id, u, "CREDENTIAL_RESERVED")
	e.DataContentType = "application/json"
	e.Data["id"] = id
	e.Data["metaData"] = map[string]any{"cardNumber": strconv.Itoa(c.Card), "partNumber": c.PartNumber}
	return e
}

func (s *Sim) event(kind, resource, id string, u *user, status string) cloudEvent {
	return cloudEvent{
		Type:            kind,
		Source:          s.location(resource, id),
		DataContentType: "application/vnd.hidglobal.origo.events." + strings.TrimPrefix(kind, "com.origo.mi.") + "-2.0+json",
		Data: map[string]any{"organization_id": s.opts.OrganizationID, "userId": strconv.FormatInt(u.ID, 10),
			"status": status},
	}
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
