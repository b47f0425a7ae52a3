// Package observe says what a reading of the provider means for our credentials: (row, reading) → events.
//
// What belongs here is pure: which events follow from a row and what was read of its provider's user, and whether a
// report is worth a reading. What does not: reading, writing, and what an event then does to a credential, which is for
// credential.Apply.
package observe

import (
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// Reading is what was read of the provider about the user of a row, and what is known beside it.
type Reading struct {
	// User is the row's own user; nil when the provider has deleted it.
	User *provider.User
	// Facts are what the provider reported of this user. They only explain what was read: none of them ends or
	// activates anything by itself.
	Facts []provider.Fact
	// WithAnother says that the row's mobile ID was seen with another user.
	WithAnother bool
	// At is when the user was read.
	At time.Time
	// ListsReserved says that this provider lists mobile IDs that are only reserved.
	ListsReserved bool
	// SearchMisses says that a search found no such user either.
	SearchMisses bool
}

// AbsentFor is how long a second reading has to come after the first that did not list a mobile ID.
const AbsentFor = time.Minute

// isAbsenceBelieved says whether a reading without the row's mobile ID is believed: it would be listed, and this is the
// second reading without it, AbsentFor after the first.
func isAbsenceBelieved(c credential.Credential, r Reading) bool {
	wouldBeListed := r.ListsReserved || c.Stage == credential.StageActivated
	return wouldBeListed && c.MissingAt != nil && r.At.Sub(*c.MissingAt) >= AbsentFor
}

// Remember returns a live row with what a reading says of whether its mobile ID is missing.
func Remember(c credential.Credential, r Reading) credential.Credential {
	if !c.IsLive() || c.Reservation != credential.ReservationHeld {
		return c
	}
	if r.User != nil {
		if _, listed := r.User.Credential(c.Reserved()); listed {
			c.MissingAt = nil
			return c
		}
	}
	if c.MissingAt == nil {
		at := r.At
		c.MissingAt = &at
	}
	return c
}

// Events lists what a reading means for a row that was read before it, in the order in which it is to be applied; none
// when the row is as the provider has it. Nothing follows for a row without a reservation of its own: settling a doubt
// is another matter.
func Events(c credential.Credential, r Reading) []credential.Event {
	if c.Reservation != credential.ReservationHeld && c.Reservation != credential.ReservationReleased {
		return nil
	}
	if !c.IsLive() {
		return ofFinal(c, r)
	}
	if r.User == nil {
		return ofNoUser(c, r)
	}
	if k, listed := r.User.Credential(c.Reserved()); listed {
		return ofListed(c, k, r)
	}
	return ofMissing(c, r)
}

// ofNoUser is for a live row whose user was not found. That is trouble of the user, unless the provider reported its
// end, or a search has missed it as well, a while after the first reading that did.
func ofNoUser(c credential.Credential, r Reading) []credential.Event {
	reported := slices.ContainsFunc(r.Facts, func(f provider.Fact) bool {
		return f.What == provider.AboutUser && f.Status == provider.FactDeleted
	})
	missed := r.SearchMisses && c.MissingAt != nil && r.At.Sub(*c.MissingAt) >= AbsentFor
	switch {
	case reported || missed:
		return []credential.Event{{Kind: credential.EventRevokedAtProvider, Reason: credential.ReasonUserDeleted}}
	case r.WithAnother:
		r.User = &provider.User{}
		return ofMissing(c, r)
	}
	return nil
}

// ofListed is for a live row whose mobile ID its user has.
func ofListed(c credential.Credential, k provider.Credential, r Reading) []credential.Event {
	invitation := r.User.InvitationStatus(c.InvitationRef)
	switch {
	case k.Revoking:
		return nil // begun, and not done
	case k.Device != nil && !k.Issuing:
		activated := credential.Event{Kind: credential.EventActivated, Device: k.Device, CredentialRef: k.ID}
		return append([]credential.Event{activated}, contradictions(c, r)...)
	case c.Stage != credential.StageInvited:
		return contradictions(c, r)
	case invitation == provider.InvitationAccepted:
		return []credential.Event{{Kind: credential.EventAccepted, Device: k.Device}}
	}
	return unredeemed(c, invitation)
}

// ofMissing is for a live row whose mobile ID its user does not have.
func ofMissing(c credential.Credential, r Reading) []credential.Event {
	if e := explanation(c, r); e != nil {
		isAccepted := r.User.InvitationStatus(c.InvitationRef) == provider.InvitationAccepted
		if c.Stage == credential.StageInvited && isAccepted { // it was accepted before it ended
			return []credential.Event{{Kind: credential.EventAccepted}, *e}
		}
		return []credential.Event{*e}
	}
	missing := credential.Event{Kind: credential.EventMissingAtProvider, Reason: credential.ReasonMissingAtProvider}
	if r.WithAnother {
		missing = credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother}
	}
	isMissing := r.WithAnother || isAbsenceBelieved(c, r)
	if c.Stage != credential.StageInvited {
		if !isMissing {
			return nil
		}
		return []credential.Event{missing}
	}
	invitation := r.User.InvitationStatus(c.InvitationRef)
	if invitation == provider.InvitationAccepted {
		events := []credential.Event{{Kind: credential.EventAccepted}}
		c.Stage = credential.StageActivating
		if e := explanation(c, r); e != nil { // its device was removed before we learned that it was accepted
			events = append(events, *e)
		}
		return events
	}
	if events := unredeemed(c, invitation); events != nil && !r.WithAnother {
		return events
	}
	if !isMissing {
		return nil
	}
	return []credential.Event{missing}
}

// ofFinal is for a row that is final and stays so. It matters only whether a phone has the mobile ID although it was
// seen to be released; and what was reported too late is noted.
func ofFinal(c credential.Credential, r Reading) []credential.Event {
	if r.User != nil && c.Reservation == credential.ReservationReleased {
		if k, listed := r.User.Credential(c.Reserved()); listed && k.Device != nil {
			return []credential.Event{{
				Kind: credential.EventActivated, Reason: credential.ReasonActivatedAfterEnd, Device: k.Device,
			}}
		}
		accepted := r.User.InvitationStatus(c.InvitationRef) == provider.InvitationAccepted
		if accepted && c.Invitation.Status != credential.InvitationAccepted {
			return []credential.Event{{Kind: credential.EventAccepted, Reason: credential.ReasonAcceptedAfterEnd}}
		}
	}
	for _, f := range r.Facts {
		expired := f.What == provider.AboutInvitation && f.Ref == c.InvitationRef && f.Status == provider.FactExpired
		if expired && c.Invitation.Status != credential.InvitationExpired {
			return []credential.Event{{Kind: credential.EventExpired, Reason: credential.ReasonInvitationExpired}}
		}
	}
	return nil
}

// unredeemed is for an invitation that was not accepted.
func unredeemed(c credential.Credential, invitation provider.InvitationStatus) []credential.Event {
	ourCancellation := c.Invitation.Expiring && invitation != provider.InvitationPending
	switch {
	case invitation == provider.InvitationExpired, ourCancellation:
		return []credential.Event{{Kind: credential.EventExpired, Reason: credential.ReasonInvitationExpired}}
	case invitation == provider.InvitationCancelled:
		return []credential.Event{{Kind: credential.EventDeclined, Reason: credential.ReasonCancelledAtProvider}}
	}
	return nil
}

// explanation finds the provider's word for why a mobile ID is gone: an explicit revocation, or the removal of its
// device, as listed or as reported; nil for none.
func explanation(c credential.Credential, r Reading) *credential.Event {
	for _, ended := range r.User.Ended {
		if !ended.Is(c.Reserved()) {
			continue
		}
		reason := credential.ReasonRevokedAtProvider
		if ended.Why == provider.FactInactive {
			reason = credential.ReasonDeviceRemoved
		}
		return &credential.Event{Kind: credential.EventRevokedAtProvider, Reason: reason}
	}
	for _, f := range r.Facts {
		switch {
		case f.Status == provider.FactRevoked && f.Names(c.Reserved()):
			return &credential.Event{
				Kind:   credential.EventRevokedAtProvider,
				Reason: credential.ReasonRevokedAtProvider,
			}
		case removesDevice(f) && wasOn(c, f.DeviceID):
			return &credential.Event{Kind: credential.EventRevokedAtProvider, Reason: credential.ReasonDeviceRemoved}
		}
	}
	return nil
}

func removesDevice(f provider.Fact) bool {
	return f.What == provider.AboutEndpoint && (f.Status == provider.FactInactive || f.Status == provider.FactDeleted)
}

// contradictions are reports against what was just read of an accepted credential: nothing changes, and the operator
// gets to know.
func contradictions(c credential.Credential, r Reading) []credential.Event {
	var events []credential.Event
	for _, f := range r.Facts {
		if f.What != provider.AboutInvitation || f.Ref != c.InvitationRef {
			continue
		}
		e := credential.Event{Reason: credential.ReasonContradictedByReport}
		switch f.Status {
		case provider.FactExpired:
			e.Kind = credential.EventExpired
		case provider.FactCancelled:
			e.Kind = credential.EventDeclined
		default:
			continue
		}
		events = append(events, e)
	}
	return events
}

// wasOn says whether the removal of a device takes a credential of its user along: the one it is on or on its way to,
// or any device while the provider has not said which that is.
func wasOn(c credential.Credential, deviceID string) bool {
	if c.Device != nil {
		return c.Device.ID == deviceID
	}
	return c.Stage == credential.StageActivating && (c.AcceptedOn == "" || c.AcceptedOn == deviceID)
}

// Explains says whether a row accounts for a credential listed in the row's own user: as its own, put aside or to be
// released, or as what its doubt may still turn out to be.
func Explains(c credential.Credential, k provider.Credential) bool {
	known := slices.Concat([]credential.Reserved{c.Reserved()}, c.Aside, c.Strays)
	return slices.ContainsFunc(known, k.Is) ||
		c.Reservation == credential.ReservationInDoubt && c.PartNumber == k.PartNumber
}

// Gives says whether a fact says that its user has a mobile ID now.
func Gives(f provider.Fact) bool {
	if f.What != provider.AboutCredential {
		return false
	}
	return f.Status == provider.FactReserved || f.Status == provider.FactIssued
}

// Ends says whether a fact says that something is over.
func Ends(f provider.Fact) bool {
	switch f.Status {
	case provider.FactRevoked, provider.FactCancelled, provider.FactExpired, provider.FactDeleted:
		return true
	}
	return false
}

// IsNews says whether a fact could mean a change for the rows of its user, so that the provider has to be read. Most of
// what our own calls cause only repeats what the rows say already, and is not.
func IsNews(f provider.Fact, rows []credential.Credential) bool {
	if f.What == provider.AboutUser {
		return f.Status == provider.FactDeleted && slices.ContainsFunc(rows, credential.Credential.IsLive)
	}
	if f.Status == provider.FactOther {
		return false
	}
	if c, found := rowOf(f, rows); found {
		return !implied(f, c)
	}
	// A phone by itself is no news; whether anything is on it is reported of its credentials.
	return f.What != provider.AboutEndpoint || f.Status != provider.FactActive
}

// rowOf finds the row that a fact is about: by reference, or else the live one with its mobile ID. A mobile ID that
// went back to the pool may stand in several rows, so it leads to a final one only where the fact has no reference.
func rowOf(f provider.Fact, rows []credential.Credential) (credential.Credential, bool) {
	for _, own := range []func(credential.Credential) bool{
		func(c credential.Credential) bool {
			return f.What == provider.AboutInvitation && f.Ref == c.InvitationRef
		},
		func(c credential.Credential) bool {
			return f.What == provider.AboutCredential && f.Ref != "" && f.Ref == c.CredentialRef
		},
		func(c credential.Credential) bool { return c.IsLive() && f.Names(c.Reserved()) },
		func(c credential.Credential) bool { return f.Ref == "" && f.Names(c.Reserved()) },
	} {
		if i := slices.IndexFunc(rows, own); i >= 0 {
			return rows[i], true
		}
	}
	return credential.Credential{}, false
}

// implied says whether a row already says what a fact about its own records says.
func implied(f provider.Fact, c credential.Credential) bool {
	switch f.Status {
	case provider.FactCreated, provider.FactPending, provider.FactReserved, provider.FactUpdated:
		return true
	case provider.FactAccepted:
		return c.Invitation.Status == credential.InvitationAccepted
	case provider.FactIssued, provider.FactActive:
		return c.Stage == credential.StageActivated
	case provider.FactRevoked:
		return !c.IsLive() && c.ReleaseAt == nil // what is waited for
	case provider.FactCancelled:
		return !c.IsLive()
	case provider.FactExpired:
		return c.Status == credential.StatusExpired
	}
	return false
}
