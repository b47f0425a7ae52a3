package issuance

import (
	"context"
	"errors"
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// settle finds out what became of a reservation whose answer was lost: whatever the provider's user has now, did not
// have before, and no other credential claims, is ours.
func (r *run) settle(ctx context.Context, c credential.Credential) error {
	if c.Doubt.Answer != nil {
		return r.recordAnswer(ctx, c, *c.Doubt.Answer)
	}
	u, err := r.findUser(ctx)
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrEmailInUse) {
		return r.giveUpDoubt(ctx, c, nil)
	}
	if err != nil {
		return err
	}
	invitations, credentials, err := r.unexplained(ctx, c, u)
	if err != nil {
		return err
	}
	switch {
	case len(invitations) == 0 && len(credentials) == 0:
		return r.giveUpDoubt(ctx, c, nil)
	case len(invitations) == 1 && len(credentials) == 1:
		if err := r.rememberIfUnsure(ctx, c); err != nil {
			return err
		}
		return r.recordAnswer(ctx, c, r.reservedOf(ctx, c, u, invitations[0], credentials[0]))
	}
	// The provider does not say which invitation goes with which mobile ID, so one can be picked only when there is
	// one. All of them go back, and a new one is asked for.
	return r.giveUpDoubt(ctx, c, straysOf(u.ID, invitations, credentials))
}

// giveUpDoubt settles a doubt without its answer, which is remembered, and has strays released.
func (r *run) giveUpDoubt(ctx context.Context, c credential.Credential, strays []credential.Reserved) error {
	return r.edit(ctx, c, func(newest *credential.Credential) bool {
		if !isSameDoubt(*newest, c) {
			return false
		}
		newest.Unanswered = r.remembering(*newest)
		newest.Strays = append(newest.Strays, strays...)
		newest.Reservation, newest.Doubt = credential.ReservationNone, nil
		return true
	})
}

// rememberIfUnsure remembers a doubt that is about to be settled with what may just as well be the late answer to an
// earlier one: then its own may still come.
func (r *run) rememberIfUnsure(ctx context.Context, c credential.Credential) error {
	rows, err := r.rowsHere(ctx)
	if err != nil {
		return err
	}
	mayBeLate := func(row credential.Credential) bool {
		return row.PartNumber == c.PartNumber && slices.ContainsFunc(row.Unanswered, func(d credential.Doubt) bool {
			return d.ID != c.Doubt.ID && !d.Rechecked
		})
	}
	if !slices.ContainsFunc(rows, mayBeLate) {
		return nil
	}
	return r.edit(ctx, c, func(newest *credential.Credential) bool {
		if !isSameDoubt(*newest, c) {
			return false
		}
		newest.Unanswered = r.remembering(*newest)
		return true
	})
}

// straysOf makes reservations to be released of invitations and credentials that cannot be told which goes with which.
func straysOf(
	userID string,
	invitations []provider.Invitation,
	credentials []provider.Credential,
) []credential.Reserved {
	var strays []credential.Reserved
	for i := range max(len(invitations), len(credentials)) {
		stray := credential.Reserved{UserID: userID}
		if i < len(invitations) {
			stray.InvitationRef = invitations[i].ID
		}
		if i < len(credentials) {
			stray.CredentialRef, stray.Mobile = credentials[i].ID, &credentials[i].MobileID
		}
		strays = append(strays, stray)
	}
	return strays
}

// unexplained lists what a user has that the doubt of a row explains: new since, of its part number, and in no
// row's name. Nothing of it has been redeemed: only the answer that never came had the code.
func (r *run) unexplained(
	ctx context.Context, c credential.Credential, u provider.User,
) (invitations []provider.Invitation, credentials []provider.Credential, err error) {
	rows, err := r.rowsHere(ctx)
	if err != nil {
		return nil, nil, err
	}
	known := observe.Known(rows)
	for _, i := range u.Invitations {
		redeemable := i.Status == provider.InvitationPending
		if !redeemable || slices.Contains(c.Doubt.Invitations, i.ID) || known.HasInvitation(i.ID) {
			continue
		}
		free, err := r.isUnclaimed(ctx, c, credential.RefInvitation, i.ID)
		if err != nil {
			return nil, nil, err
		}
		if free {
			invitations = append(invitations, i)
		}
	}
	for _, k := range u.Credentials {
		isOld := slices.Contains(c.Doubt.Credentials, k.ID) || known.HasCredential(k.ID)
		if isOld || k.PartNumber != c.PartNumber || k.Device != nil || k.Issuing {
			continue
		}
		free, err := r.isUnclaimed(ctx, c, credential.RefCredential, k.ID)
		if err != nil {
			return nil, nil, err
		}
		if free {
			credentials = append(credentials, k)
		}
	}
	return invitations, credentials, nil
}

// isUnclaimed says whether no other credential of ours has a provider's record.
func (s *Service) isUnclaimed(
	ctx context.Context, c credential.Credential, kind credential.RefKind, id string,
) (bool, error) {
	ref, err := s.Store.Ref(ctx, c.Account, kind, id)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return ref.CredentialID == c.ID, err
}

// reservedOf puts a reservation together from what was read of it.
func (r *run) reservedOf(
	ctx context.Context, c credential.Credential, u provider.User, i provider.Invitation, k provider.Credential,
) credential.Reserved {
	mobile := k.MobileID
	if p, err := r.connect(ctx); err == nil && mobile.Format == "" {
		// What is printed on the card is worth a call, not a failure.
		if stock, err := p.Stock(ctx, c.PartNumber); err == nil {
			mobile.Format, mobile.FacilityCode = stock.Format, stock.FacilityCode
		}
	}
	return credential.Reserved{
		UserID: u.ID, InvitationRef: i.ID, CredentialRef: k.ID, Mobile: &mobile, Code: i.Code, ExpiresAt: i.ExpiresAt,
	}
}
