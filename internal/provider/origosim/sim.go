// Package origosim simulates HID Origo's Mobile Identities v2.2 HTTP interface, with state, for runs on one machine
// and for tests.
//
// THIS IS OUR OWN SIMULATOR. HID had no part in it, and it has never been compared with a real account. What runs
// against it is evidence that mobilecred keeps its promises towards a provider that behaves like this one: an OAuth2
// token, SCIM users, invitations, a finite pool of mobile IDs, CloudEvents callbacks, and every fault listed at
// [Fault]. It is no evidence that HID behaves so. Paths, field names, URNs, status words and value formats are those
// that several independent public clients of HID send and receive. Ours, because nothing public says it, are:
//
//   - the text and scimType of refusals other than "uniqueness", and their status codes (an exhausted pool is 400
//     "poolExhausted", ending an invitation that is not pending is 409 "invalidStatus");
//   - the reading of events, GET /events, described at [Sim.Handler];
//   - the retries of a callback that was refused, and that everything at HID happens without delay unless a switch or a
//     fault says otherwise;
//   - the points that HID leaves open and clients disagree on, which are [Switches].
//
// Two traits that surprise are HID's own, as far as its clients show: a search hit names its user only by
// meta.location, and nothing in a user's record says which invitation a reserved credential belongs to.
//
// Here belongs what the provider, its phones and its administrators do. What mobilecred does about it does not, nor
// the page that shows it.
package origosim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Options are the simulator's place in the world. Every function is required, but for Load, Save and Replace.
type Options struct {
	Account        string // mobilecred's name for the customer account, for error texts
	OrganizationID string // as in the paths, and in the events as organization_id
	ClientID       string
	ClientSecret   string
	ApplicationID  string

	// Now is the world's clock. It may jump forward; call [Sim.Tick] when it did.
	Now func() time.Time
	// Load returns the journal: what Save was given, one after the other, since Replace was last called. Its last
	// line may be torn. Without Load the simulator starts empty.
	Load func() ([]byte, error)
	// Save adds lines to the journal and makes them durable before it returns. No answer leaves that depends on a
	// change not saved, and a change that could not be saved has not happened. Without Save nothing is kept.
	Save func(lines []byte) error
	// Replace puts a shorter journal that says the same in the place of the whole. Without Replace it only grows.
	// [Journal] is a file that has all three.
	Replace func(journal []byte) error
	// Fault consumes one planned fault for the operation: token, search, read, reserve, update, cancel, revoke, photo,
	// stock, feed, or callback. "update" (PUT of a user) is no operation a fault can name, so it meets only those that
	// name none. holder is the externalId of the user whom the call is about (also of the one that a call would create,
	// and of the one whose records a call cancels or revokes); empty when it is about no user, or an unknown one.
	Fault func(op, holder string) (Fault, bool)
	// Deliver posts one batch of CloudEvents (application/cloudevents-batch+json) to mobilecred's webhook, with its
	// secret header. An error asks for another try later.
	Deliver func(ctx context.Context, body []byte) error
	// Changed is called after every change of the state and after every attempt to deliver a callback, without locks
	// held: what [Sim.Settled] says may be another then.
	Changed func()
	// Address counts the calls that come from where mobilecred is. Accounts that are called from one address share one;
	// without it this simulator has one of its own.
	Address *Address

	// Switches are the positions to start with. Those that were set while the simulator ran are in the journal, and
	// come first.
	Switches Switches
}

// Fault is one planned misbehaviour. Kind is one of
//
//	error      500
//	throttle   403, which is HID's answer over its rate limit
//	forbidden  403 that does not speak of a limit
//	missing    404 without a body, as a gateway in front of HID answers
//	timeout    nothing for Hold (for as long as the client waits if 0), then the connection is cut
//	late       nothing for as long as the client waits; the request takes effect Hold later on the world's clock
//	           (LateAfter if 0)
//	slow       the answer comes after Hold
//	malformed  what was asked happens, and the JSON of the answer breaks off
//	drop       of a callback only: it is not sent, and only the events API still has it
//
// With When "after" the effect happens, durably, and only the answer is lost; otherwise nothing happens. When means
// nothing to the last four. A callback with a fault other than drop or slow counts as refused and is sent again;
// "after" makes it arrive twice.
type Fault struct {
	Kind string
	When string
	Hold time.Duration
}

// SeedPartNumber is one part number an organisation has bought: Count mobile IDs with card numbers from First.
type SeedPartNumber struct {
	PartNumber, FriendlyName, Format, FacilityCode string
	First, Count                                   int
}

// What phones, administrators and the methods that make weather are refused with.
var (
	ErrUnknownCode     = errors.New("no such invitation code")
	ErrDead            = errors.New("the invitation is declined, cancelled, expired or has lost its mobile ID")
	ErrTaken           = errors.New("the invitation has been redeemed already")
	ErrUnknownMobileID = errors.New("no such mobile ID, or no user has it")
	ErrUnknownUser     = errors.New("no such user")
	ErrNoneLeft        = errors.New("no mobile ID is left of this part number")
	// ErrDelivered is an ErrTaken: the code is good, and the phone has a mobile ID of its part number.
	ErrDelivered = fmt.Errorf("%w: this credential is already delivered to this credentialcontainer", ErrTaken)
)

// Sim is the provider. Its methods may be called concurrently.
type Sim struct {
	opts Options
	wake chan struct{} // the queue or the clock changed
	saver
	sending map[int64]bool // callbacks under way, by id; guarded by mu
}

// New loads the provider's state, or starts with an empty one.
func New(opts Options) (*Sim, error) {
	s := &Sim{opts: opts, wake: make(chan struct{}, 1), sending: map[int64]bool{},
		saver: saver{load: opts.Load, save: opts.Save, replace: opts.Replace, account: opts.Account,
			defaults: opts.Switches}}
	if s.opts.Address == nil {
		s.opts.Address = &Address{}
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// Seed adds part numbers. One that exists already stays as it is.
func (s *Sim) Seed(parts ...SeedPartNumber) error {
	return s.change(func(st *state, _ time.Time) error {
		for _, p := range parts {
			st.seed(p)
		}
		return nil
	})
}

// Tick expires every invitation whose time has come, executes the requests that were late, and looks at the queue of
// callbacks again. Call it after the clock has jumped; requests and phones see expired invitations as such without it.
func (s *Sim) Tick() error {
	defer s.poke()
	if err := s.change(func(*state, time.Time) error { return nil }); err != nil {
		return err
	}
	return s.arrive()
}

// Redeem enters an invitation code in the app on a phone: the invitation is acknowledged and its mobile ID issued to
// the phone, for ever spent. It fails with [ErrUnknownCode], [ErrDead] or [ErrTaken]; [ErrDelivered] is an ErrTaken.
func (s *Sim) Redeem(deviceID, code string) error { return s.accept(deviceID, code, false) }

// Accept enters an invitation code into the app on a phone that cannot fetch the credential yet: minutes can lie
// between acceptance and issue. Sync does the rest. It fails as [Sim.Redeem] does.
func (s *Sim) Accept(deviceID, code string) error { return s.accept(deviceID, code, true) }

func (s *Sim) accept(deviceID, code string, later bool) error {
	return s.change(func(st *state, now time.Time) error {
		u, inv, err := st.pending(code)
		if err != nil {
			return err
		}
		c := u.credential(inv.Credential)
		deviceID := st.app(deviceID)
		if c != nil && st.Switches.OnePerPartNumberAndPhone && st.holds(deviceID, c.PartNumber) {
			return ErrDelivered
		}
		st.edit(u, func() {
			inv.Status = acknowledged
			if !slices.Contains(u.Containers, deviceID) {
				u.Containers = append(u.Containers, deviceID)
			}
			if c != nil {
				c.Container, c.Issuing = deviceID, true
			}
		})
		events := []cloudEvent{s.invitationEvent(u, inv, "INVITATION_ACKNOWLEDGED"),
			s.endpointEvent(u, deviceID, "ENDPOINT_ACTIVE")}
		if c != nil {
			st.spend(c.PartNumber, c.Card)
		}
		if !later {
			events = append(events, s.issue(st, deviceID)...)
		}
		st.emit(now, events...)
		return nil
	})
}

// Sync is the phone fetching what was accepted on it and has not been issued, and giving up what was revoked while it
// was away.
func (s *Sim) Sync(deviceID string) error {
	return s.change(func(st *state, now time.Time) error {
		deviceID := st.app(deviceID)
		for _, u := range st.phones.all(deviceID) {
			s.finishRevoking(st, now, u, func(c *credential) bool { return c.Container == deviceID })
		}
		if events := s.issue(st, deviceID); len(events) > 0 {
			st.emit(now, events...)
		}
		return nil
	})
}

func (s *Sim) issue(st *state, deviceID string) (events []cloudEvent) {
	for _, u := range st.phones.all(deviceID) {
		for _, c := range u.Credentials {
			if c.Container == deviceID && c.Issuing {
				st.edit(u, func() {
					c.Issuing = false
					if st.Switches.NewReferenceOnIssue {
						st.renumber(u, c)
					}
				})
				events = append(events, s.credentialEvent(u, c, "CREDENTIAL_ISSUED"))
			}
		}
	}
	return events
}

// Remove is the phone being removed at the provider, by its owner in the app or by an administrator: what is on it is
// gone for ever, without a word about each credential.
func (s *Sim) Remove(deviceID string) error {
	return s.change(func(st *state, now time.Time) error {
		for _, u := range st.phones.all(deviceID) {
			st.edit(u, func() {
				is := func(id string) bool { return id == deviceID }
				u.Containers = slices.DeleteFunc(u.Containers, is)
				u.Inactive = slices.DeleteFunc(u.Inactive, is)
				u.Credentials = slices.DeleteFunc(u.Credentials,
					func(c *credential) bool { return c.Container == deviceID })
			})
			st.emit(now, s.endpointEvent(u, deviceID, "ENDPOINT_INACTIVE"))
		}
		return nil
	})
}

// Decline is the holder saying no. HID knows no such thing: the invitation is cancelled, which is all that shows
// afterwards. It fails as [Sim.Redeem] does.
func (s *Sim) Decline(code string) error { return s.cancel(code) }

// Cancel is an administrator cancelling a pending invitation in the provider's own portal. It fails as [Sim.Redeem]
// does.
func (s *Sim) Cancel(code string) error { return s.cancel(code) }

func (s *Sim) cancel(code string) error {
	return s.change(func(st *state, now time.Time) error {
		u, inv, err := st.pending(code)
		if err != nil {
			return err
		}
		s.cancelInvitation(st, now, u, inv)
		return nil
	})
}

// Revoke is an administrator revoking a mobile ID in the provider's own portal: the one on a phone if there is one,
// else the reserved one. It fails with [ErrUnknownMobileID] if no user has it.
func (s *Sim) Revoke(mobileID string) error {
	return s.change(func(st *state, now time.Time) error {
		var owner *user
		var found *credential
		for _, u := range st.mobileIDs.all(mobileID) {
			for _, c := range u.Credentials {
				if c.mobileID() == mobileID && (found == nil || found.Container == "") {
					owner, found = u, c
				}
			}
		}
		if found == nil {
			return ErrUnknownMobileID
		}
		s.revokeCredential(st, now, owner, found)
		return nil
	})
}

// Reassign is the provider giving a mobile ID to another person, who gets an invitation for it: to the user with this
// externalId, or to a new one with an invented name and e-mail address. A user who had the mobile ID reserved loses it:
// that user's invitation stays pending without it, and no event tells of the loss. A mobile ID that is on a phone stays
// there as well: that is the blunder mobilecred has to survive. It fails with [ErrUnknownMobileID].
func (s *Sim) Reassign(mobileID, externalID string) error {
	return s.change(func(st *state, now time.Time) error {
		part, card, ok := st.parseMobileID(mobileID)
		if !ok {
			return ErrUnknownMobileID
		}
		for _, u := range st.mobileIDs.all(mobileID) {
			st.removeCredentials(u, func(c *credential) bool { return c.mobileID() == mobileID && c.Container == "" })
		}
		var events []cloudEvent
		u := st.userByExternalID(externalID)
		if u == nil {
			u = st.inventUser(externalID, now)
			events = append(events, s.userEvent(u, "USER_CREATED"))
		}
		c := st.addCredential(u, now, part, card)
		inv := st.addInvitation(u, now, c.ID)
		st.emit(now, append(events, s.invitationEvent(u, inv, "INVITATION_PENDING"), s.reservedEvent(u, c))...)
		return nil
	})
}

// change expires what is due, then applies fn, each as a whole or not at all, and returns when both are saved.
func (s *Sim) change(fn func(*state, time.Time) error) error {
	return s.saved(func(now time.Time) (bool, error) { return s.applyLocked(now, fn) })
}

// read expires what is due, then lets fn look. It returns when all that fn has seen is saved.
func (s *Sim) read(fn func(*state)) error {
	return s.saved(func(time.Time) (bool, error) {
		fn(s.st)
		return false, nil
	})
}

// saved runs fn under the lock, what is due having expired, and returns when all that can be seen then is saved.
func (s *Sim) saved(fn func(now time.Time) (changed bool, err error)) error {
	now := s.opts.Now().UTC()
	s.mu.Lock()
	err := s.mendLocked()
	expired, changed := false, false
	if err == nil {
		expired, err = s.expireLocked(now)
	}
	if err == nil {
		changed, err = fn(now)
	}
	seen := s.unsavedLocked()
	s.mu.Unlock()
	if lost := s.wait(seen); lost != nil {
		return lost
	}
	if expired || changed {
		s.poke()
		s.opts.Changed()
	}
	return err
}

// look lets fn look at what is saved; it may be called again, for what it saw was lost.
func (s *Sim) look(fn func(*state)) {
	for {
		s.mu.Lock()
		_ = s.mendLocked() // what is in memory can be looked at in any case
		fn(s.st)
		seen := s.unsavedLocked()
		s.mu.Unlock()
		if s.wait(seen) == nil {
			return
		}
	}
}

func (s *Sim) expireLocked(now time.Time) (changed bool, err error) {
	if !s.st.anyExpired(now) {
		return false, nil
	}
	return s.applyLocked(now, func(st *state, now time.Time) error {
		s.expire(st, now)
		return nil
	})
}

func (s *Sim) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// cancelInvitation is what ending a pending invitation does, for the holder, an administrator and the API alike.
func (s *Sim) cancelInvitation(st *state, now time.Time, u *user, inv *invitation) {
	st.edit(u, func() { inv.Status = cancelled })
	if st.Switches.CancelFreesID {
		st.removeCredentials(u, func(c *credential) bool { return c.ID == inv.Credential })
	}
	st.emit(now, s.invitationEvent(u, inv, "INVITATION_CANCEL_INITIATED"),
		s.invitationEvent(u, inv, "INVITATION_CANCELLED"))
}

// revokeCredential begins to revoke a credential, and ends it, unless it is on a phone that is away.
func (s *Sim) revokeCredential(st *state, now time.Time, u *user, c *credential) {
	if !st.Switches.OfflinePhonesKeepRevoking || c.Container == "" || c.Issuing {
		s.endCredential(st, now, u, c)
	} else if !c.Revoking {
		st.edit(u, func() { c.Revoking = true })
		st.emit(now, s.credentialEvent(u, c, "CREDENTIAL_REVOKING"))
	}
}

func (s *Sim) endCredential(st *state, now time.Time, u *user, c *credential) {
	st.removeCredentials(u, func(x *credential) bool { return x == c })
	if st.Switches.SecondRevoke412 {
		st.remember(c.ID)
	}
	st.emit(now, s.credentialEvent(u, c, "CREDENTIAL_REVOKED"))
}

// expire ends the invitations whose time has come; their mobile IDs are free again.
func (s *Sim) expire(st *state, now time.Time) {
	for _, u := range st.Users {
		for _, inv := range u.Invitations {
			if !inv.due(now) {
				continue
			}
			st.edit(u, func() { inv.Status = expired })
			st.removeCredentials(u, func(c *credential) bool { return c.ID == inv.Credential && c.Container == "" })
			st.emit(now, s.invitationEvent(u, inv, "INVITATION_EXPIRED"))
		}
	}
}
