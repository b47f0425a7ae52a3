package observe

import (
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// ClocksDiffer is how far the provider's clock may be from ours.
const ClocksDiffer = 5 * time.Minute

// Late finds what a user has because a request of a row was carried out after its doubt had been settled: for each such
// doubt at most one reservation, which was not there before the doubt, is of the row's part number, is on no device,
// and is in no row's name. rows are all rows of the holder at the account. explained are the doubts that found theirs,
// by their ids. undecided says that the user has more, which may as well be the answer to a doubt that is still open:
// then it is for its settlement to say.
func Late(
	c credential.Credential, rows []credential.Credential, u provider.User,
) (late []credential.Reserved, explained []string, undecided bool) {
	taken := Known(rows)
	for _, d := range c.Unanswered {
		if d.Explained || d.UserID != "" && d.UserID != u.ID {
			continue
		}
		found := credential.Reserved{UserID: u.ID}
		isAsked := false // an invitation was made in time, whatever became of it
		others := 0      // pending invitations that were not
		for _, i := range u.Invitations {
			inTime := i.CreatedAt.IsZero() || !i.CreatedAt.Before(d.At.Add(-ClocksDiffer)) &&
				!i.CreatedAt.After(d.At.Add(credential.LateFor))
			isPending := i.Status == provider.InvitationPending
			switch {
			case slices.Contains(d.Invitations, i.ID), taken.HasInvitation(i.ID):
			case i.Status == provider.InvitationAccepted: // only the answer that never came had the code
			case !inTime && isPending:
				others++
			case inTime:
				isAsked = true
				isOpen := isPending && mayAnswer(rows, u, i.ID)
				undecided = undecided || isOpen
				if isPending && !isOpen && found.InvitationRef == "" {
					found.InvitationRef = i.ID
				}
			}
		}
		// Only invitations are dated. So a mobile ID is ours only where one was made in time, and each pending
		// invitation of others accounts for one, of the newest.
		reserved := unknownReserved(d, taken, u)
		for _, k := range reserved[:max(0, len(reserved)-others)] {
			if !isAsked || k.PartNumber != c.PartNumber {
				continue
			}
			if mayAnswer(rows, u, k.ID) {
				undecided = true
				continue
			}
			found.CredentialRef, found.Mobile = k.ID, &k.MobileID
			break
		}
		if found.InvitationRef == "" && found.CredentialRef == "" {
			continue
		}
		taken.add(found)
		late, explained = append(late, found), append(explained, d.ID)
	}
	return late, explained, undecided
}

// unknownReserved lists what a user has reserved that was not there before a doubt, and is in no row's name.
func unknownReserved(d credential.Doubt, taken References, u provider.User) []provider.Credential {
	return slices.DeleteFunc(slices.Clone(u.Credentials), func(k provider.Credential) bool {
		return k.Device != nil || k.Issuing || slices.Contains(d.Credentials, k.ID) || taken.HasCredential(k.ID)
	})
}

// References are records of the provider that rows know of.
type References struct{ invitations, credentials map[string]bool }

// Known collects the references in the name of any row: its own, put aside, to be released, or the answer to its doubt.
func Known(rows []credential.Credential) References {
	all := References{invitations: map[string]bool{}, credentials: map[string]bool{}}
	for _, row := range rows {
		all.add(row.Reserved())
		for _, t := range slices.Concat(row.Aside, row.Strays) {
			all.add(t)
		}
		if row.Doubt != nil && row.Doubt.Answer != nil {
			all.add(*row.Doubt.Answer)
		}
	}
	return all
}

func (r References) add(t credential.Reserved) {
	r.invitations[t.InvitationRef], r.credentials[t.CredentialRef] = true, true
}

// HasInvitation says whether a row knows of an invitation, by the provider's id.
func (r References) HasInvitation(id string) bool { return r.invitations[id] }

// HasCredential says whether a row knows of a credential, by the provider's id.
func (r References) HasCredential(id string) bool { return r.credentials[id] }

// mayAnswer says whether a record of a user may be the answer to a doubt that is still open.
func mayAnswer(rows []credential.Credential, u provider.User, ref string) bool {
	return slices.ContainsFunc(rows, func(row credential.Credential) bool {
		d := row.Doubt
		return row.Reservation == credential.ReservationInDoubt && d != nil && d.Answer == nil &&
			(d.UserID == "" || d.UserID == u.ID) &&
			!slices.Contains(d.Invitations, ref) && !slices.Contains(d.Credentials, ref)
	})
}
