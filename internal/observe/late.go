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
// by their ids.
func Late(
	c credential.Credential, rows []credential.Credential, u provider.User,
) (late []credential.Reserved, explained []string) {
	taken := known(rows)
	for _, d := range c.Unanswered {
		if d.Explained || d.UserID != "" && d.UserID != u.ID {
			continue
		}
		found := credential.Reserved{UserID: u.ID}
		for _, i := range u.Invitations {
			inTime := i.CreatedAt.IsZero() || !i.CreatedAt.Before(d.At.Add(-ClocksDiffer)) &&
				!i.CreatedAt.After(d.At.Add(credential.LateFor))
			isNew := !slices.Contains(d.Invitations, i.ID) && !taken[i.ID] && !mayAnswer(rows, i.ID)
			if i.Status == provider.InvitationPending && inTime && isNew {
				found.InvitationRef = i.ID
				break
			}
		}
		for _, k := range u.Credentials {
			isNew := !slices.Contains(d.Credentials, k.ID) && !taken[k.ID] && !mayAnswer(rows, k.ID)
			if k.PartNumber == c.PartNumber && k.Device == nil && isNew {
				found.CredentialRef, found.Mobile = k.ID, &k.MobileID
				break
			}
		}
		if found.InvitationRef == "" && found.CredentialRef == "" {
			continue
		}
		taken[found.InvitationRef], taken[found.CredentialRef] = true, true
		late, explained = append(late, found), append(explained, d.ID)
	}
	return late, explained
}

// known collects the references in the name of any row: its own, put aside, to be released, or the answer to its doubt.
func known(rows []credential.Credential) map[string]bool {
	all := map[string]bool{}
	for _, row := range rows {
		refs := slices.Concat([]credential.Reserved{row.Reserved()}, row.Aside, row.Strays)
		if row.Doubt != nil && row.Doubt.Answer != nil {
			refs = append(refs, *row.Doubt.Answer)
		}
		for _, t := range refs {
			all[t.InvitationRef], all[t.CredentialRef] = true, true
		}
	}
	return all
}

// mayAnswer says whether a record may be the answer to a doubt that is still open: then it is for its settlement to
// say.
func mayAnswer(rows []credential.Credential, ref string) bool {
	return slices.ContainsFunc(rows, func(row credential.Credential) bool {
		d := row.Doubt
		return row.Reservation == credential.ReservationInDoubt && d != nil && d.Answer == nil &&
			!slices.Contains(d.Invitations, ref) && !slices.Contains(d.Credentials, ref)
	})
}
