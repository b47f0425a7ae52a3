package issuance

import (
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// reading is what is known beside the user that was read at the provider.
type reading struct {
	facts     []provider.Fact // what events said of this user, as hints
	elsewhere bool            // the mobile ID was seen with another user
}

// observe says what a reading of the provider's user means for one credential; u is nil when the user was deleted. The row must have
// been read before the user. Hints only explain what was read: none of them ends or activates anything by itself.
func observe(c credential.Credential, u *provider.User, rd reading) []credential.Event {
	if c.Reservation != credential.ReservationHeld && c.Reservation != credential.ReservationReleased {
		return nil // nothing of the provider's is the row's own yet; settling a doubt is another matter
	}
	if !c.IsLive() {
		return observeFinal(c, u, rd)
	}
	if u == nil {
		return []credential.Event{{Kind: credential.EventRevokedAtProvider, Reason: credential.ReasonUserDeleted}}
	}
	k, present := credentialIn(u, c)
	invitation := invitationIn(u, c)
	accepted := invitation == provider.InvitationAccepted
	if present {
		switch {
		case k.Device != nil && !k.Issuing:
			events := []credential.Event{{Kind: credential.EventActivated, Device: k.Device, CredentialRef: k.ID}}
			return append(events, contradictions(c, rd)...)
		case c.Stage != credential.StageInvited:
			return contradictions(c, rd)
		case accepted:
			return []credential.Event{{Kind: credential.EventAccepted, Device: k.Device}}
		}
		return unredeemed(c, invitation)
	}
	if e := explained(c, rd); e != nil {
		return []credential.Event{*e}
	}
	missing := credential.Event{Kind: credential.EventMissingAtProvider, Reason: credential.ReasonMissingAtProvider}
	if rd.elsewhere {
		missing = credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother}
	}
	if c.Stage != credential.StageInvited {
		return []credential.Event{missing}
	}
	if accepted {
		events := []credential.Event{{Kind: credential.EventAccepted}}
		c.Stage = credential.StageActivating
		if e := explained(c, rd); e != nil { // removed before we heard that it was accepted
			events = append(events, *e)
		}
		return events
	}
	if events := unredeemed(c, invitation); events != nil && !rd.elsewhere {
		return events
	}
	return []credential.Event{missing}
}

// observeFinal: what is final stays final. It matters only if a phone has it although it was seen to be released, and what was
// said too late is noted.
func observeFinal(c credential.Credential, u *provider.User, rd reading) []credential.Event {
	if u != nil && c.Reservation == credential.ReservationReleased {
		if k, present := credentialIn(u, c); present && k.Device != nil {
			return []credential.Event{{Kind: credential.EventActivated, Reason: credential.ReasonActivatedAfterEnd, Device: k.Device}}
		}
		if c.Invitation.Status != credential.InvitationAccepted && invitationIn(u, c) == provider.InvitationAccepted {
			return []credential.Event{{Kind: credential.EventAccepted, Reason: credential.ReasonAcceptedAfterEnd}}
		}
	}
	for _, f := range rd.facts {
		if f.What == provider.AboutInvitation && f.Ref == c.InvitationRef && f.Status == provider.FactExpired && c.Invitation.Status != credential.InvitationExpired {
			return []credential.Event{{Kind: credential.EventExpired, Reason: credential.ReasonInvitationExpired}}
		}
	}
	return nil
}

// unredeemed is for an invitation nobody accepted.
func unredeemed(c credential.Credential, invitation provider.InvitationStatus) []credential.Event {
	switch {
	case invitation == provider.InvitationExpired, c.Invitation.Expiring && invitation != provider.InvitationPending:
		return []credential.Event{{Kind: credential.EventExpired, Reason: credential.ReasonInvitationExpired}}
	case invitation == provider.InvitationCancelled:
		return []credential.Event{{Kind: credential.EventDeclined, Reason: credential.ReasonCancelledAtProvider}}
	}
	return nil
}

// explained finds the word of the provider for why a mobile ID is gone: an explicit revocation, or the removal of its device.
func explained(c credential.Credential, rd reading) *credential.Event {
	for _, f := range rd.facts {
		switch {
		case f.What == provider.AboutCredential && f.Status == provider.FactRevoked && refersTo(f, c):
			return &credential.Event{Kind: credential.EventRevokedAtProvider, Reason: credential.ReasonRevokedAtProvider}
		case f.What == provider.AboutEndpoint && (f.Status == provider.FactInactive || f.Status == provider.FactDeleted) && wasOn(c, f.DeviceID):
			return &credential.Event{Kind: credential.EventRevokedAtProvider, Reason: credential.ReasonDeviceRemoved}
		}
	}
	return nil
}

// contradictions are reports against what was just read of an accepted credential: nothing changes, but somebody should know.
func contradictions(c credential.Credential, rd reading) []credential.Event {
	var events []credential.Event
	for _, f := range rd.facts {
		if f.What != provider.AboutInvitation || f.Ref != c.InvitationRef {
			continue
		}
		switch f.Status {
		case provider.FactExpired:
			events = append(events, credential.Event{Kind: credential.EventExpired, Reason: credential.ReasonContradictedByReport})
		case provider.FactCancelled:
			events = append(events, credential.Event{Kind: credential.EventDeclined, Reason: credential.ReasonContradictedByReport})
		}
	}
	return events
}

// wasOn says whether the removal of a device of its user takes a credential along: the one it is on or on its way to, or any while
// nobody has told which that is.
func wasOn(c credential.Credential, deviceID string) bool {
	if c.Device != nil {
		return c.Device.ID == deviceID
	}
	return c.Stage == credential.StageActivating && (c.AcceptedOn == "" || c.AcceptedOn == deviceID)
}

func refersTo(f provider.Fact, c credential.Credential) bool {
	return f.Ref != "" && f.Ref == c.CredentialRef || f.Ref == "" && f.MobileID != "" && c.Mobile != nil && f.MobileID == c.Mobile.ID
}

// credentialIn finds the row's mobile ID in its own user: by reference, or else by what doors see.
func credentialIn(u *provider.User, c credential.Credential) (provider.Credential, bool) {
	for _, k := range u.Credentials {
		if k.ID != "" && k.ID == c.CredentialRef {
			return k, true
		}
	}
	for _, k := range u.Credentials {
		if c.Mobile != nil && k.MobileID.ID == c.Mobile.ID {
			return k, true
		}
	}
	return provider.Credential{}, false
}

// invitationIn is the status of the row's invitation in its user, empty when it is not listed.
func invitationIn(u *provider.User, c credential.Credential) provider.InvitationStatus {
	for _, i := range u.Invitations {
		if i.ID == c.InvitationRef {
			return i.Status
		}
	}
	return ""
}

// isNews says whether a fact could mean a change for the credentials of its user, so that the provider has to be asked. What only
// repeats what the rows say already, as most of what our own calls cause, is not.
func isNews(f provider.Fact, rows []credential.Credential) bool {
	if f.What == provider.AboutUser {
		return f.Status == provider.FactDeleted && slices.ContainsFunc(rows, func(c credential.Credential) bool { return c.IsLive() })
	}
	if f.Status == provider.FactOther {
		return false
	}
	for _, c := range rows {
		own := f.What == provider.AboutInvitation && f.Ref == c.InvitationRef || f.What == provider.AboutCredential && refersTo(f, c)
		if own {
			return !known(f, c)
		}
	}
	if f.What == provider.AboutEndpoint && f.Status == provider.FactActive {
		return false // a phone; whether anything is on it is told by its credentials
	}
	return true
}

// known says whether a row of its own already implies a fact.
func known(f provider.Fact, c credential.Credential) bool {
	switch f.Status {
	case provider.FactCreated, provider.FactPending, provider.FactReserved, provider.FactUpdated:
		return true
	case provider.FactAccepted:
		return c.Invitation.Status == credential.InvitationAccepted
	case provider.FactIssued, provider.FactActive:
		return c.Stage == credential.StageActivated
	case provider.FactCancelled, provider.FactRevoked:
		return !c.IsLive()
	case provider.FactExpired:
		return c.Status == credential.StatusExpired
	}
	return false
}
