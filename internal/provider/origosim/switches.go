package origosim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Switches are the points that HID leaves open, and the weather that lasts. Unless a comment says otherwise, no public
// source tells which position is HID's, so that a client has to live with both. The JSON names are those of the world's
// /provider/settings.
//
// What happens to single calls is a [Fault] instead; what happens to one user, credential or phone is a method of
// [Sim].
type Switches struct {
	// CancelFreesID: cancelling an invitation returns its reserved mobile ID to the pool. Otherwise the mobile ID stays
	// reserved until its credential is revoked.
	CancelFreesID bool `json:"cancelFreesID"`
	// CancelAcceptedAnswers2xx: cancelling an acknowledged invitation answers 204 and does nothing, instead of 409.
	CancelAcceptedAnswers2xx bool `json:"cancelAcceptedAnswers2xx"`
	// SearchByExternalID: users/.search understands externalId eq "…".
	SearchByExternalID bool `json:"searchByExternalID"`
	// OnePerPartNumberAndPhone: a phone refuses a second mobile ID of one part number. A client of HID's v1.0 gets 412
	// for it, so that this is what runs start with.
	OnePerPartNumberAndPhone bool `json:"onePerPartNumberAndPhone"`

	// SearchLags: a search does not find a user before the user is [Lag] old.
	SearchLags bool `json:"searchLags"`
	// ListLags: the reading of a user lacks every invitation and credential that is less than [Lag] old.
	ListLags bool `json:"listLags"`
	// PartialReadOnce: of every user that exists when this is turned on, and that is created while it is on, one
	// reading lacks a credential: the first in which the user has one. The readings after it are whole.
	PartialReadOnce bool `json:"partialReadOnce"`
	// ReservedNeverListed: the reading of a user lacks the credentials that are not on a phone yet.
	ReservedNeverListed bool `json:"reservedNeverListed"`
	// NewReferenceOnIssue: a credential gets another id when it is issued to a phone; the old one is unknown then.
	NewReferenceOnIssue bool `json:"newReferenceOnIssue"`
	// LateExecution: a request that a [Fault] times out before it has taken effect is executed all the same, after
	// [LateAfter]: it waited in a queue that its sender knows nothing of.
	LateExecution bool `json:"lateExecution"`
	// SecondRevoke412: revoking a credential again answers 412, which a client of HID's v1.0 reads as "already under
	// way", instead of 404.
	SecondRevoke412 bool `json:"secondRevoke412"`
	// OfflinePhonesKeepRevoking: a credential that is revoked while on a phone stays there, with the status REVOKING,
	// since the phone is away. It is gone when the phone comes back: at its [Sim.Sync], or when this is turned off.
	OfflinePhonesKeepRevoking bool `json:"offlinePhonesKeepRevoking"`
	// TakenEmailMakesSecondUser: creating a user with the e-mail address of another makes a second user. Otherwise it
	// is refused with 409, as clients of HID expect.
	TakenEmailMakesSecondUser bool `json:"takenEmailMakesSecondUser"`
	// GUIDs: users, invitations, credentials and photos made while this is on have GUIDs for ids; clients of HID have
	// met integers and GUIDs as the ids of users.
	GUIDs bool `json:"guidIDs"`
	// DetailErrors: the text of a refusal is in "detail", as clients of HID's v1.0 read it, instead of "message".
	DetailErrors bool `json:"detailErrors"`

	// CallsPerWindow, FeedCallsPerWindow and TokenCallsPerWindow are how many calls of Mobile Identities, of the events
	// API and of the token endpoint one address may make within [Window]; the next is refused with 403, HID's answer
	// over its limits, and is not counted. HID documents 300, 300 and 50. 0: no limit.
	CallsPerWindow      int `json:"callsPerWindow"`
	FeedCallsPerWindow  int `json:"feedCallsPerWindow"`
	TokenCallsPerWindow int `json:"tokenCallsPerWindow"`
}

// Times of the weather, on the world's clock.
const (
	Lag       = 30 * time.Second // see SearchLags and ListLags
	LateAfter = 10 * time.Minute // see LateExecution
	Window    = 5 * time.Minute  // see CallsPerWindow
)

// ErrSetting says which setting is unknown or has a value of the wrong kind.
var ErrSetting = errors.New("settings")

// Switches returns the positions of the switches now.
func (s *Sim) Switches() (now Switches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.Switches
}

// Switch changes positions, durably: they are kept when the simulator is started again, whatever its options say then.
func (s *Sim) Switch(set func(*Switches)) error {
	return s.change(func(st *state, now time.Time) error {
		before := st.Switches
		set(&st.Switches)
		st.byHand, _ = json.Marshal(st.Switches) // flags and numbers can be written
		st.noted.switches = st.byHand
		if st.Switches.PartialReadOnce && !before.PartialReadOnce {
			for _, u := range st.Users {
				st.edit(u, func() { u.Partial = true })
			}
		}
		if before.OfflinePhonesKeepRevoking && !st.Switches.OfflinePhonesKeepRevoking {
			for _, u := range st.Users {
				s.finishRevoking(st, now, u, func(*credential) bool { return true })
			}
		}
		return nil
	})
}

// Set is Switch with the switches to change as a JSON object, by their names. An unknown name, or a value of the wrong
// kind, is [ErrSetting], and nothing has changed then.
func (s *Sim) Set(settings []byte) error {
	given := map[string]json.RawMessage{}
	if err := json.Unmarshal(settings, &given); err != nil {
		return fmt.Errorf("%w: an object with the names of settings is expected", ErrSetting)
	}
	text, _ := json.Marshal(Switches{})
	known := map[string]json.RawMessage{}
	_ = json.Unmarshal(text, &known)
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	for name, value := range given {
		kind, ok := known[name]
		if !ok {
			return fmt.Errorf("%w: unknown setting %q; there are: %s", ErrSetting, name, strings.Join(names, " "))
		}
		var trial Switches
		one, _ := json.Marshal(map[string]json.RawMessage{name: value})
		if err := json.Unmarshal(one, &trial); err != nil || bytes.Equal(value, []byte("null")) ||
			trial.CallsPerWindow < 0 || trial.FeedCallsPerWindow < 0 || trial.TokenCallsPerWindow < 0 {
			wanted := "true or false"
			if !bytes.Equal(kind, []byte("false")) {
				wanted = "a number that is not negative"
			}
			return fmt.Errorf("%w: %s must be %s", ErrSetting, name, wanted)
		}
	}
	return s.Switch(func(sw *Switches) { _ = json.Unmarshal(settings, sw) })
}

// finishRevoking takes the credentials that match, and are being revoked, from their phones.
func (s *Sim) finishRevoking(st *state, now time.Time, u *user, match func(*credential) bool) {
	for _, c := range slices.Clone(u.Credentials) {
		if c.Revoking && match(c) {
			s.endCredential(st, now, u, c)
		}
	}
}

// isYoung says whether something that was made at a moment is hidden by a lag.
func isYoung(made, now time.Time) bool { return now.Before(made.Add(Lag)) }

// How a user is unwell, see [Sim.MakeUnwell].
const (
	Error     = "error"     // 500
	Malformed = "malformed" // what was asked happens, and the JSON of the answer breaks off
	Missing   = "missing"   // 404 without a body, as a gateway in front of HID answers
)

// MakeUnwell makes every call about one user fail in one way, [Error], [Malformed] or [Missing], until it is called
// with "". All other users are well. It fails with [ErrUnknownUser].
func (s *Sim) MakeUnwell(userID, how string) error {
	if how != "" && !slices.Contains([]string{Error, Malformed, Missing}, how) {
		return fmt.Errorf("a user is not unwell in the way %q", how)
	}
	return s.changeKnown(userID, func(st *state, u *user) { st.edit(u, func() { u.Unwell = how }) })
}

// MakePartial makes the next reading of a user that has a credential lack one, see [Switches].PartialReadOnce. It fails
// with [ErrUnknownUser].
func (s *Sim) MakePartial(userID string) error {
	return s.changeKnown(userID, func(st *state, u *user) { st.edit(u, func() { u.Partial = true }) })
}

// Forbid makes revoking the credentials of a mobile ID, and cancelling its invitation, answer 403, or ends that. It
// fails with [ErrUnknownMobileID] if no user has the mobile ID.
func (s *Sim) Forbid(mobileID string, forbidden bool) error {
	return s.change(func(st *state, _ time.Time) error {
		owners := st.mobileIDs.all(mobileID)
		for _, u := range owners {
			st.edit(u, func() {
				for _, c := range u.Credentials {
					if c.mobileID() == mobileID {
						c.Forbidden = forbidden
					}
				}
			})
		}
		if len(owners) == 0 {
			return ErrUnknownMobileID
		}
		return nil
	})
}

func (s *Sim) changeKnown(userID string, fn func(*state, *user)) error {
	return s.change(func(st *state, _ time.Time) error {
		u := st.user(parseID(userID))
		if u == nil {
			return ErrUnknownUser
		}
		fn(st, u)
		return nil
	})
}

// AddStrangers adds n users of other systems in the same organisation. Nothing is told of them before StirStrangers.
// It returns their ids.
func (s *Sim) AddStrangers(n int) (ids []string, err error) {
	err = s.change(func(st *state, now time.Time) error {
		for range n {
			st.LastStranger++
			u := st.inventUser(fmt.Sprint(strangerPrefix, st.LastStranger), now)
			ids = append(ids, u.shownID())
		}
		return nil
	})
	return ids, err
}

// strangerPrefix begins the externalId of the strangers; stirBatch is how many of their events come in one callback.
const (
	strangerPrefix = "STRANGER-"
	stirBatch      = 50
)

// StirStrangers makes other systems do n things with the strangers' users, in turn, each of which is an event in the
// feed; callbacks carry up to 50 of them.
func (s *Sim) StirStrangers(n int) error {
	return s.change(func(st *state, now time.Time) error {
		strangers := slices.DeleteFunc(slices.Clone(st.Users), func(u *user) bool {
			return !strings.HasPrefix(u.ExternalID, strangerPrefix)
		})
		if len(strangers) == 0 {
			return ErrUnknownUser
		}
		var events []cloudEvent
		for i := range n {
			u := strangers[i%len(strangers)]
			// Records that no reading shows: other systems have made them and are done with them.
			theirs := &credential{ID: int64(500_000_000 + i), PartNumber: "MID-STRANGERS", Card: i + 1}
			switch i / len(strangers) % 3 {
			case 0:
				events = append(events, s.userEvent(u, "USER_UPDATED"))
			case 1:
				events = append(events, s.reservedEvent(u, theirs))
			case 2:
				events = append(events, s.credentialEvent(u, theirs, "CREDENTIAL_ISSUED"))
			}
		}
		for batch := range slices.Chunk(events, stirBatch) {
			st.emit(now, batch...)
		}
		return nil
	})
}

// ReserveByHand is an administrator who invites one of our users in the provider's own portal, with a mobile ID of the
// part number, which it returns. It fails with [ErrUnknownUser] or [ErrNoneLeft].
func (s *Sim) ReserveByHand(externalID, partNumber string) (mobileID string, err error) {
	err = s.change(func(st *state, now time.Time) error {
		u := st.userByExternalID(externalID)
		if u == nil {
			return ErrUnknownUser
		}
		_, c, events, err := s.act(st, now, u,
			userAction{CreateInvitationCode: "Y", AssignCredential: "Y", PartNumber: partNumber})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoneLeft, err)
		}
		st.emit(now, events...)
		mobileID = c.mobileID()
		return nil
	})
	return mobileID, err
}

// Existing is a person who was at the provider before mobilecred knew of them, by the hand of another system.
type Existing struct {
	ExternalID, Email     string // required
	GivenName, FamilyName string // have defaults
	Phone, PartNumber     string // a live badge of the part number is on the phone; without a part number there is none
}

// AddExisting adds a person as another system left them there: no event tells of it. It returns the mobile ID of the
// badge, and fails with [ErrNoneLeft].
func (s *Sim) AddExisting(e Existing) (mobileID string, err error) {
	err = s.change(func(st *state, now time.Time) error {
		u := st.addUser(user{ExternalID: e.ExternalID, Email: e.Email, GivenName: cmp.Or(e.GivenName, "A"),
			FamilyName: cmp.Or(e.FamilyName, "Holder")}, now)
		if e.PartNumber == "" {
			return nil
		}
		inv, c, _, err := s.act(st, now, u,
			userAction{CreateInvitationCode: "Y", AssignCredential: "Y", PartNumber: e.PartNumber})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoneLeft, err)
		}
		phone := st.app(cmp.Or(e.Phone, e.ExternalID+"-phone"))
		st.spend(c.PartNumber, c.Card)
		st.edit(u, func() {
			inv.Status, c.Container = acknowledged, phone
			u.Containers = append(u.Containers, phone)
		})
		mobileID = c.mobileID()
		return nil
	})
	return mobileID, err
}

// Unbind is a phone dropping a mobile ID that nothing has revoked: the user does not have it any more, and the event is
// CREDENTIAL_UNBOUND. It fails with [ErrUnknownMobileID] if it is on no phone.
func (s *Sim) Unbind(mobileID string) error {
	return s.change(func(st *state, now time.Time) error {
		for _, u := range st.mobileIDs.all(mobileID) {
			for _, c := range u.Credentials {
				if c.mobileID() == mobileID && c.Container != "" && !c.Issuing {
					st.removeCredentials(u, func(x *credential) bool { return x == c })
					st.emit(now, s.credentialEvent(u, c, "CREDENTIAL_UNBOUND"))
					return nil
				}
			}
		}
		return ErrUnknownMobileID
	})
}

// FailIssue is a phone failing to store what was accepted on it: CREDENTIAL_CREATION_FAILURE. The credential stays on
// its way, and Sync tries again.
func (s *Sim) FailIssue(deviceID string) error {
	return s.change(func(st *state, now time.Time) error {
		deviceID = st.app(deviceID)
		for _, u := range st.phones.all(deviceID) {
			for _, c := range u.Credentials {
				if c.Container == deviceID && c.Issuing {
					st.emit(now, s.credentialEvent(u, c, "CREDENTIAL_CREATION_FAILURE"))
				}
			}
		}
		return nil
	})
}

// Reinstall is the app being removed from a phone and installed anew: a new container, whose id is returned. The old
// one is INACTIVE, and still listed with its credentials until they are revoked or it is removed ([Sim.Remove], by its
// own id). Everywhere else the id of the old container stands for the phone, that is, for its newest container.
func (s *Sim) Reinstall(deviceID string) (newID string, err error) {
	err = s.change(func(st *state, now time.Time) error {
		old := st.app(deviceID)
		newID = successor(old)
		st.reinstall(old, newID)
		for _, u := range st.phones.all(old) {
			st.edit(u, func() {
				u.Inactive = append(u.Inactive, old)
				u.Containers = append(u.Containers, newID)
			})
			st.emit(now, s.endpointEvent(u, old, "ENDPOINT_INACTIVE"), s.endpointEvent(u, newID, "ENDPOINT_ACTIVE"))
		}
		return nil
	})
	return newID, err
}
