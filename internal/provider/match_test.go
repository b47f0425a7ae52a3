package provider_test

import (
	"testing"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

func listed(ref, mobileID string) provider.Credential {
	return provider.Credential{ID: ref, MobileID: credential.MobileID{ID: mobileID}}
}

func reserved(ref, mobileID string) credential.Reserved {
	r := credential.Reserved{CredentialRef: ref, InvitationRef: "i1"}
	if mobileID != "" {
		r.Mobile = &credential.MobileID{ID: mobileID}
	}
	return r
}

func TestAReservationIsMatchedByReferenceOrMobileID(t *testing.T) {
	for _, tt := range []struct {
		name string
		k    provider.Credential
		r    credential.Reserved
		want bool
	}{
		{"same reference and mobile ID", listed("k1", "m:1"), reserved("k1", "m:1"), true},
		{"a new reference, given at issue", listed("k2", "m:1"), reserved("k1", "m:1"), true},
		{"the reference alone", listed("k1", ""), reserved("k1", "m:1"), true},
		{"another record", listed("k2", "m:2"), reserved("k1", "m:1"), false},
		{"nothing known of the reservation", listed("k1", "m:1"), reserved("", ""), false},
		{"nothing known of the record", listed("", ""), reserved("", ""), false},
	} {
		if got := tt.k.Is(tt.r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		f := provider.Fact{What: provider.AboutCredential, Ref: tt.k.ID, MobileID: tt.k.MobileID.ID}
		if got := f.Names(tt.r); got != tt.want {
			t.Errorf("a fact of %s: %v, want %v", tt.name, got, tt.want)
		}
		f.What = provider.AboutInvitation
		if f.Names(tt.r) {
			t.Errorf("a fact about an invitation names the credential: %s", tt.name)
		}
	}
}

func TestTheReferenceComesBeforeTheMobileID(t *testing.T) {
	u := provider.User{Credentials: []provider.Credential{listed("k2", "m:1"), listed("k1", "m:1")}}
	if k, ok := u.Credential(reserved("k1", "m:1")); !ok || k.ID != "k1" {
		t.Errorf("got %+v, %v", k, ok)
	}
	if k, ok := u.Credential(reserved("k9", "m:1")); !ok || k.ID != "k2" {
		t.Errorf("got %+v, %v", k, ok)
	}
	if k, ok := u.Credential(reserved("k9", "m:9")); ok {
		t.Errorf("got %+v", k)
	}
	for status, want := range map[provider.InvitationStatus]bool{
		provider.InvitationPending: false, provider.InvitationCancelled: false, provider.InvitationExpired: false,
		provider.InvitationAccepted: true,
	} {
		u.Invitations = invited(status).Invitations
		if k, ok := u.Credential(reserved("k9", "m:1")); ok != want {
			t.Errorf("invitation %s: another reference is the reservation's: %v, %+v", status, ok, k)
		}
	}
}

func TestAUserHoldsWhatCanStillBeUsed(t *testing.T) {
	for _, tt := range []struct {
		name string
		u    provider.User
		want bool
	}{
		{"nothing", provider.User{}, false},
		{"pending invitation", invited(provider.InvitationPending), true},
		{"cancelled invitation", invited(provider.InvitationCancelled), false},
		{"accepted invitation, credential gone", invited(provider.InvitationAccepted), false},
		{"credential", provider.User{Credentials: []provider.Credential{listed("k1", "m:1")}}, true},
		{"mobile ID reserved anew while the invitation is pending no more", provider.User{
			Invitations: invited(provider.InvitationCancelled).Invitations,
			Credentials: []provider.Credential{listed("k2", "m:1")},
		}, false},
		{"credential under a new reference", provider.User{Credentials: []provider.Credential{listed("k2", "m:1")}},
			true},
	} {
		if got := tt.u.Holds(reserved("k1", "m:1")); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if invited(provider.InvitationPending).Holds(credential.Reserved{}) {
		t.Error("a user holds a reservation without any reference")
	}
}

func invited(status provider.InvitationStatus) provider.User {
	return provider.User{Invitations: []provider.Invitation{{ID: "i1", Status: status}}}
}
