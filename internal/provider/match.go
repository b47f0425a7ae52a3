package provider

import (
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// A reservation is matched with what is read or reported of its own user in one way only: by reference, or else by
// mobile ID, because a provider may give a credential a new reference when it issues it. Across users a mobile ID says
// nothing about whose it is, so none of these questions may be asked of another user's records.

// Is says whether a credential listed in a user is the one that a reservation for that user stands for.
func (k Credential) Is(r credential.Reserved) bool {
	return names(k.ID, k.MobileID.ID, r)
}

// Names says whether a fact about a credential of a user is about the one that a reservation for that user stands for.
func (f Fact) Names(r credential.Reserved) bool {
	return f.What == AboutCredential && names(f.Ref, f.MobileID, r)
}

func names(ref, mobileID string, r credential.Reserved) bool {
	return ref != "" && ref == r.CredentialRef || mobileID != "" && r.Mobile != nil && mobileID == r.Mobile.ID
}

// Credential finds the credential of a reservation in its user. One that is listed under the reservation's reference
// comes before one of the same mobile ID. The latter is the reservation's only as long as it may have been issued,
// under a new reference: where the invitation is listed and was not redeemed, the mobile ID was reserved anew, by
// another.
func (u User) Credential(r credential.Reserved) (Credential, bool) {
	i := slices.IndexFunc(u.Credentials, func(k Credential) bool { return k.ID != "" && k.ID == r.CredentialRef })
	status := u.InvitationStatus(r.InvitationRef)
	mayBeIssued := status == InvitationAccepted || status == ""
	if i < 0 && (mayBeIssued || r.CredentialRef == "") {
		i = slices.IndexFunc(u.Credentials, func(k Credential) bool { return k.Is(r) })
	}
	if i < 0 {
		return Credential{}, false
	}
	return u.Credentials[i], true
}

// InvitationStatus is the status of an invitation of the user, empty when it is not listed.
func (u User) InvitationStatus(ref string) InvitationStatus {
	for _, i := range u.Invitations {
		if i.ID == ref {
			return i.Status
		}
	}
	return ""
}

// Holds says whether the user still has anything of a reservation: its credential, or its invitation while that can be
// redeemed.
func (u User) Holds(r credential.Reserved) bool {
	if r.InvitationRef != "" && u.InvitationStatus(r.InvitationRef) == InvitationPending {
		return true
	}
	_, listed := u.Credential(r)
	return listed
}
