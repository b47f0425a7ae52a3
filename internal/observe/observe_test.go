package observe_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
)

const part = "MID-SUB-CRD_FTPN_1001"

var (
	phone = &credential.Device{ID: "phone-a"}
	other = &credential.Device{ID: "phone-b"}
)

// row is a live credential in a stage, or a final one in a status, whose mobile ID is m:1.
func row(state string) credential.Credential {
	c := credential.Credential{
		ID: "c1", Account: "acme", PartNumber: part, Status: credential.StatusActive, Want: credential.WantLive,
		Reservation: credential.ReservationHeld, UserID: "u1", InvitationRef: "i1", CredentialRef: "k1",
		Mobile: &credential.MobileID{ID: "m:1", Number: "1"},
	}
	switch stage := credential.Stage(state); stage {
	case credential.StageInvited, credential.StageActivating, credential.StageActivated:
		c.Stage = stage
		if stage == credential.StageActivated {
			c.Device = phone
		}
	default:
		c.Status, c.Want = credential.Status(state), credential.WantGone
		c.Reservation = credential.ReservationReleased
	}
	return c
}

func with(c credential.Credential, edit func(*credential.Credential)) credential.Credential {
	edit(&c)
	return c
}

// user is the row's user with its invitation in a status and, unless k is nil, its credential.
func user(status provider.InvitationStatus, k *provider.Credential) *provider.User {
	u := &provider.User{ID: "u1", ExternalID: "E-1"}
	if status != "" {
		u.Invitations = []provider.Invitation{{ID: "i1", Status: status}}
	}
	if k != nil {
		u.Credentials = []provider.Credential{*k}
	}
	return u
}

func record(ref string, device *credential.Device, issuing bool) *provider.Credential {
	return &provider.Credential{
		ID: ref, PartNumber: part, MobileID: credential.MobileID{ID: "m:1", Number: "1"}, Device: device,
		Issuing: issuing,
	}
}

func fact(what provider.What, ref string, status provider.FactStatus) provider.Fact {
	return provider.Fact{What: what, Ref: ref, Status: status}
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

var (
	pending, accepted   = provider.InvitationPending, provider.InvitationAccepted
	cancelled, expired  = provider.InvitationCancelled, provider.InvitationExpired
	reserved            = record("k1", nil, false)
	onPhone             = record("k1", phone, false)
	revokedFact         = fact(provider.AboutCredential, "k1", provider.FactRevoked)
	invitationExpired   = fact(provider.AboutInvitation, "i1", provider.FactExpired)
	invitationCancelled = fact(provider.AboutInvitation, "i1", provider.FactCancelled)
	phoneRemoved        = provider.Fact{
		What:     provider.AboutEndpoint,
		Status:   provider.FactInactive,
		DeviceID: "phone-a",
	}
)

func TestEventsOfAReading(t *testing.T) {
	event := func(kind credential.EventKind, reason string) credential.Event {
		return credential.Event{Kind: kind, Reason: reason}
	}
	userDeleted := event(credential.EventRevokedAtProvider, credential.ReasonUserDeleted)
	revoked := event(credential.EventRevokedAtProvider, credential.ReasonRevokedAtProvider)
	deviceRemoved := event(credential.EventRevokedAtProvider, credential.ReasonDeviceRemoved)
	missing := event(credential.EventMissingAtProvider, credential.ReasonMissingAtProvider)
	given := event(credential.EventGivenToAnother, credential.ReasonGivenToAnother)
	declined := event(credential.EventDeclined, credential.ReasonCancelledAtProvider)
	expiredEvent := event(credential.EventExpired, credential.ReasonInvitationExpired)
	activated := credential.Event{Kind: credential.EventActivated, Device: phone, CredentialRef: "k1"}
	acceptedEvent := credential.Event{Kind: credential.EventAccepted}

	expiring := with(row("invited"), func(c *credential.Credential) { c.Invitation.Expiring = true })
	inDoubt := with(row("invited"), func(c *credential.Credential) { c.Reservation = credential.ReservationInDoubt })
	onItsWay := with(row("activating"), func(c *credential.Credential) { c.AcceptedOn = "phone-a" })
	onOther := with(row("activating"), func(c *credential.Credential) { c.AcceptedOn = "phone-b" })
	wasExpired := with(row("expired"), func(c *credential.Credential) {
		c.Invitation.Status = credential.InvitationExpired
	})
	// missed is a row in a state whose mobile ID, or user, an earlier reading missed, and again is a reading long
	// enough after that.
	missed := func(state string) credential.Credential {
		return with(row(state), func(c *credential.Credential) { c.MissingAt = &noon })
	}
	again := func(u *provider.User, facts ...provider.Fact) observe.Reading {
		return observe.Reading{User: u, Facts: facts, At: noon.Add(observe.AbsentFor), ListsReserved: true}
	}
	userGone := fact(provider.AboutUser, "u1", provider.FactDeleted)
	unreleased := with(row("revoked"), func(c *credential.Credential) { c.Reservation = credential.ReservationHeld })

	for _, tt := range []struct {
		name string
		row  credential.Credential
		r    observe.Reading
		want []credential.Event
	}{
		{"in doubt, whatever is read", inDoubt, observe.Reading{}, nil},
		{"user reported deleted, and gone", row("invited"), observe.Reading{Facts: []provider.Fact{userGone}},
			[]credential.Event{userDeleted}},
		{"user reported deleted, activated", row("activated"), observe.Reading{Facts: []provider.Fact{userGone}},
			[]credential.Event{userDeleted}},
		{"a 404 for the user", row("activated"), observe.Reading{}, nil},
		{"a 404 for the user, twice", missed("activated"), again(nil), nil},
		{"a 404 for the user, and no search finds it", row("activated"), observe.Reading{SearchMisses: true}, nil},
		{"a 404 for the user, twice, and no search finds it", missed("activated"),
			observe.Reading{SearchMisses: true, At: noon.Add(observe.AbsentFor)}, []credential.Event{userDeleted}},
		{"the same too soon after the first", missed("activated"),
			observe.Reading{SearchMisses: true, At: noon.Add(observe.AbsentFor - 1)}, nil},
		{"a 404 for the user, the ID with another", row("invited"), observe.Reading{WithAnother: true},
			[]credential.Event{given}},

		{"as it was", row("invited"), observe.Reading{User: user(pending, reserved)}, nil},
		{"accepted", row("invited"), observe.Reading{User: user(accepted, reserved)},
			[]credential.Event{acceptedEvent}},
		{"accepted, on its way to a phone", row("invited"), observe.Reading{User: user(accepted, record("k1", phone,
			true))},
			[]credential.Event{{Kind: credential.EventAccepted, Device: phone}}},
		{"still on its way", row("activating"), observe.Reading{User: user(accepted, record("k1", phone, true))}, nil},
		{"on a phone", row("invited"), observe.Reading{User: user(accepted, onPhone)}, []credential.Event{activated}},
		{"on a phone after acceptance", row("activating"), observe.Reading{User: user(accepted, onPhone)},
			[]credential.Event{activated}},
		{"on a phone under a new reference", row("activating"), observe.Reading{User: user(accepted, record("k7", phone,
			false))},
			[]credential.Event{{Kind: credential.EventActivated, Device: phone, CredentialRef: "k7"}}},
		{"on another phone", row("activated"), observe.Reading{User: user(accepted, record("k1", other, false))},
			[]credential.Event{{Kind: credential.EventActivated, Device: other, CredentialRef: "k1"}}},
		{"cancelled, the ID not freed", row("invited"), observe.Reading{User: user(cancelled, reserved)},
			[]credential.Event{declined}},
		{"expired at the provider, the ID not freed", row("invited"), observe.Reading{User: user(expired, reserved)},
			[]credential.Event{expiredEvent}},
		{"our cancellation at the deadline", expiring, observe.Reading{User: user(cancelled, reserved)},
			[]credential.Event{expiredEvent}},
		{"our cancellation at the deadline under way", expiring, observe.Reading{User: user(pending, reserved)}, nil},

		{"cancelled", row("invited"), observe.Reading{User: user(cancelled, nil)}, []credential.Event{declined}},
		{"expired", row("invited"), observe.Reading{User: user(expired, nil)}, []credential.Event{expiredEvent}},
		{"cancelled and with another user", row("invited"),
			observe.Reading{User: user(cancelled, nil), WithAnother: true}, []credential.Event{given}},
		{"given to another", row("invited"), observe.Reading{User: user(pending, nil), WithAnother: true},
			[]credential.Event{given}},
		{"not listed, once", row("invited"), observe.Reading{User: user(pending, nil)}, nil},
		{"missing", missed("invited"), again(user(pending, nil)), []credential.Event{missing}},
		{"missing too soon after the first", missed("invited"),
			observe.Reading{User: user(pending, nil), At: noon.Add(observe.AbsentFor - 1), ListsReserved: true}, nil},
		{"never listed by this provider", missed("invited"),
			observe.Reading{User: user(pending, nil), At: noon.Add(observe.AbsentFor)}, nil},
		{"activated, and so listed before", missed("activated"),
			observe.Reading{User: user(accepted, nil), At: noon.Add(observe.AbsentFor)}, []credential.Event{missing}},
		{"not listed after acceptance, once", row("activating"), observe.Reading{User: user(accepted, nil)}, nil},
		{"missing after acceptance", missed("activating"), again(user(accepted, nil)), []credential.Event{missing}},
		{"accepted and missing", row("invited"), observe.Reading{User: user(accepted, nil)},
			[]credential.Event{acceptedEvent}},
		{"revoked", row("activated"), observe.Reading{User: user(accepted, nil), Facts: []provider.Fact{revokedFact}},
			[]credential.Event{revoked}},
		{"revoked, reported by mobile ID", row("activated"), observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{
				{What: provider.AboutCredential, Status: provider.FactRevoked, MobileID: "m:1"}}},
			[]credential.Event{revoked}},
		{"revoked, reported under a new reference", row("activated"), observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{{What: provider.AboutCredential, Ref: "k7", Status: provider.FactRevoked,
				MobileID: "m:1"}}},
			[]credential.Event{revoked}},
		{"another one revoked", missed("activated"), again(user(accepted, nil),
			fact(provider.AboutCredential, "k7", provider.FactRevoked)), []credential.Event{missing}},
		{"reported revoked, but still there", row("activated"), observe.Reading{User: user(accepted, onPhone),
			Facts: []provider.Fact{revokedFact}}, []credential.Event{activated}},
		{"its phone removed", row("activated"), observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{phoneRemoved}}, []credential.Event{deviceRemoved}},
		{"its phone removed on the way", onItsWay, observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{phoneRemoved}}, []credential.Event{deviceRemoved}},
		{"another phone removed on the way", onOther, observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{phoneRemoved}}, nil},
		{"accepted and its phone removed", row("invited"), observe.Reading{User: user(accepted, nil),
			Facts: []provider.Fact{phoneRemoved}}, []credential.Event{acceptedEvent, deviceRemoved}},
		{"a phone removed while invited", missed("invited"), again(user(pending, nil), phoneRemoved),
			[]credential.Event{missing}},

		{"a report of expiry against a phone", row("activated"), observe.Reading{User: user(accepted, onPhone),
			Facts: []provider.Fact{invitationExpired, invitationCancelled}}, []credential.Event{activated,
			event(credential.EventExpired, credential.ReasonContradictedByReport),
			event(credential.EventDeclined, credential.ReasonContradictedByReport)}},
		{"a report of expiry against an acceptance", row("activating"), observe.Reading{User: user(accepted, reserved),
			Facts: []provider.Fact{invitationExpired}},
			[]credential.Event{event(credential.EventExpired, credential.ReasonContradictedByReport)}},
		{"a report of expiry against a pending invitation", row("invited"), observe.Reading{User: user(pending,
			reserved),
			Facts: []provider.Fact{invitationExpired}}, nil},

		{"final and gone", row("revoked"), observe.Reading{User: user(cancelled, nil)}, nil},
		{"final, user deleted", row("revoked"), observe.Reading{}, nil},
		{"final, on a phone after its release", row("revoked"), observe.Reading{User: user(accepted, onPhone)},
			[]credential.Event{{Kind: credential.EventActivated, Reason: credential.ReasonActivatedAfterEnd,
				Device: phone}}},
		{"final, accepted after its release", row("revoked"), observe.Reading{User: user(accepted, nil)},
			[]credential.Event{event(credential.EventAccepted, credential.ReasonAcceptedAfterEnd)}},
		{"final, not released yet", unreleased, observe.Reading{User: user(accepted, onPhone)}, nil},
		{"final, reported to have expired", row("revoked"), observe.Reading{User: user(cancelled, nil),
			Facts: []provider.Fact{invitationExpired}}, []credential.Event{expiredEvent}},
		{"invited, reported to be revoked, and its mobile ID is reserved anew", row("invited"),
			observe.Reading{User: user(pending, record("k7", nil, false)), Facts: []provider.Fact{revokedFact}},
			[]credential.Event{revoked}},
		{"expired, reported to have expired", wasExpired, observe.Reading{User: user(expired, nil),
			Facts: []provider.Fact{invitationExpired}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := observe.Events(tt.row, tt.r); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// A report alone neither ends nor activates anything: without a change in what was read, only contradictions follow.
func TestReportsOnlyExplainWhatWasRead(t *testing.T) {
	everything := []provider.Fact{revokedFact, phoneRemoved}
	for _, status := range []provider.FactStatus{
		provider.FactCreated, provider.FactUpdated, provider.FactPending, provider.FactAccepted, provider.FactReserved,
		provider.FactIssued, provider.FactActive, provider.FactInactive, provider.FactOther,
	} {
		for _, what := range []provider.What{
			provider.AboutUser, provider.AboutInvitation, provider.AboutCredential, provider.AboutEndpoint,
		} {
			f := fact(what, "k1", status)
			if what == provider.AboutInvitation {
				f.Ref = "i1"
			}
			everything = append(everything, f)
		}
	}
	u := user(pending, reserved)
	if got := observe.Events(row("invited"), observe.Reading{User: u, Facts: everything}); got != nil {
		t.Errorf("got %+v", got)
	}
}

func TestExplains(t *testing.T) {
	stray := credential.Reserved{CredentialRef: "k8"}
	aside := credential.Reserved{Mobile: &credential.MobileID{ID: "m:9"}}
	known := with(row("invited"), func(c *credential.Credential) {
		c.Strays, c.Aside = []credential.Reserved{stray}, []credential.Reserved{aside}
	})
	doubtful := with(row("invited"), func(c *credential.Credential) {
		c.Reservation, c.CredentialRef, c.Mobile = credential.ReservationInDoubt, "", nil
	})
	listed := func(ref, mobileID, partNumber string) provider.Credential {
		return provider.Credential{ID: ref, PartNumber: partNumber, MobileID: credential.MobileID{ID: mobileID}}
	}
	for _, tt := range []struct {
		name string
		row  credential.Credential
		k    provider.Credential
		want bool
	}{
		{"its own", known, listed("k1", "m:1", part), true},
		{"its own under a new reference", known, listed("k7", "m:1", part), true},
		{"to be released", known, listed("k8", "m:8", part), true},
		{"kept aside", known, listed("k9", "m:9", part), true},
		{"of another system", known, listed("k5", "m:5", part), false},
		{"what its doubt may be", doubtful, listed("k5", "m:5", part), true},
		{"of another part number than its doubt", doubtful, listed("k5", "m:5", "other"), false},
	} {
		if got := observe.Explains(tt.row, tt.k); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestIsNews(t *testing.T) {
	acceptedRow := with(row("activating"), func(c *credential.Credential) {
		c.Invitation.Status = credential.InvitationAccepted
	})
	reused := []credential.Credential{row("declined"), with(row("invited"), func(c *credential.Credential) {
		c.ID, c.CredentialRef, c.InvitationRef = "c2", "k2", "i2"
	})}
	one := func(c credential.Credential) []credential.Credential { return []credential.Credential{c} }
	credentialFact := func(ref, mobileID string, status provider.FactStatus) provider.Fact {
		return provider.Fact{What: provider.AboutCredential, Ref: ref, MobileID: mobileID, Status: status}
	}
	for _, tt := range []struct {
		name string
		f    provider.Fact
		rows []credential.Credential
		want bool
	}{
		{"user created", fact(provider.AboutUser, "u1", provider.FactCreated), one(row("invited")), false},
		{"user deleted", fact(provider.AboutUser, "u1", provider.FactDeleted), one(row("invited")), true},
		{"user deleted, nothing live", fact(provider.AboutUser, "u1", provider.FactDeleted), one(row("revoked")),
			false},
		{"without meaning", fact(provider.AboutCredential, "k1", provider.FactOther), one(row("invited")), false},
		{"our reservation", credentialFact("k1", "m:1", provider.FactReserved), one(row("invited")), false},
		{"accepted", fact(provider.AboutInvitation, "i1", provider.FactAccepted), one(row("invited")), true},
		{"accepted, known", fact(provider.AboutInvitation, "i1", provider.FactAccepted), one(acceptedRow), false},
		{"issued", credentialFact("k1", "m:1", provider.FactIssued), one(acceptedRow), true},
		{"issued, known", credentialFact("k1", "m:1", provider.FactIssued), one(row("activated")), false},
		{"cancelled", fact(provider.AboutInvitation, "i1", provider.FactCancelled), one(row("invited")), true},
		{"cancelled by us", fact(provider.AboutInvitation, "i1", provider.FactCancelled), one(row("revoked")), false},
		{"expired", invitationExpired, one(row("invited")), true},
		{"expired, known", invitationExpired, one(row("expired")), false},
		{"expired, ended otherwise", invitationExpired, one(row("revoked")), true},
		{"a record of no row", credentialFact("k7", "m:7", provider.FactReserved), one(row("invited")), true},
		{"of a user without rows", credentialFact("k7", "m:7", provider.FactReserved), nil, true},
		{"a phone", fact(provider.AboutEndpoint, "", provider.FactActive), one(row("invited")), false},
		{"a phone removed", phoneRemoved, one(row("activated")), true},
		{"revoked, of the live row with the ID", credentialFact("", "m:1", provider.FactRevoked), reused, true},
		{"revoked under a new reference, of the live row", credentialFact("k7", "m:1", provider.FactRevoked), reused,
			true},
		{"revoked, of the final row", credentialFact("k1", "m:1", provider.FactRevoked), reused, false},
		{"a final row's ID under a new reference", credentialFact("k7", "m:1", provider.FactReserved),
			one(row("declined")), true},
	} {
		if got := observe.IsNews(tt.f, tt.rows); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
