package issuance

import (
	"context"
	"errors"
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// release gives back what a row must not keep: its own reservation once it is to be gone, and whatever it caused
// besides. Only reading the users afterwards confirms it; until then the row keeps what it knows.
func (r *run) release(ctx context.Context, c credential.Credential) error {
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	targets, err := r.releaseTargets(ctx, c)
	if err != nil {
		return err
	}
	for _, t := range targets {
		redeemed := t.InvitationRef == c.InvitationRef && c.Invitation.Status == credential.InvitationAccepted
		if t.InvitationRef == "" || redeemed {
			continue
		}
		err := r.noteAnswer(p.Cancel(ctx, t.InvitationRef))
		if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrRefused) {
			return err
		}
	}
	left, err := r.stillHeld(ctx, p, targets)
	if err != nil {
		return err
	}
	revoked := false
	for _, t := range left {
		if t.CredentialRef == "" {
			continue
		}
		err := r.noteAnswer(p.Revoke(ctx, t.CredentialRef))
		if err != nil && !errors.Is(err, provider.ErrNotFound) {
			return err
		}
		revoked = true
	}
	if revoked {
		if left, err = r.stillHeld(ctx, p, left); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return errNotGoneYet
	}
	return r.recordReleased(ctx, c)
}

// releaseTargets lists what a row must give back, without what by now belongs to another credential of ours.
func (r *run) releaseTargets(ctx context.Context, c credential.Credential) ([]credential.Reserved, error) {
	targets := slices.Clone(c.Strays)
	if c.Want == credential.WantGone {
		targets = append(targets, c.Aside...)
		if c.Reservation == credential.ReservationHeld {
			targets = append(targets, c.Reserved())
		}
	}
	for i := range targets {
		if err := r.onlyOurs(ctx, c, &targets[i]); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// onlyOurs strips from a reservation what by now belongs to another credential of ours: each reference that leads to
// another, and the mobile ID unless this credential is its owner.
func (r *run) onlyOurs(ctx context.Context, c credential.Credential, t *credential.Reserved) error {
	for _, known := range []struct {
		kind credential.RefKind
		ref  *string
	}{{credential.RefInvitation, &t.InvitationRef}, {credential.RefCredential, &t.CredentialRef}} {
		if *known.ref == "" {
			continue
		}
		free, err := r.isUnclaimed(ctx, c, known.kind, *known.ref)
		if err != nil {
			return err
		}
		if !free {
			*known.ref = ""
		}
	}
	if t.Mobile == nil {
		return nil
	}
	owner, err := r.Store.Owner(ctx, c.Account, t.Mobile.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	isHere := owner.State == credential.OwnerHeld || owner.State == credential.OwnerSpent
	if !isHere || owner.CredentialID != c.ID {
		t.Mobile = nil
	}
	return nil
}

// stillHeld reads the users of reservations and returns those of which something is still there: a pending invitation,
// or a credential, under the reference it is listed with now.
func (r *run) stillHeld(
	ctx context.Context, p provider.Provider, targets []credential.Reserved,
) ([]credential.Reserved, error) {
	users := map[string]*provider.User{}
	var left []credential.Reserved
	for _, t := range targets {
		u, read := users[t.UserID]
		if !read {
			var err error
			u, err = readUser(ctx, p, t.UserID)
			if r.noteAnswer(err) != nil {
				return nil, err
			}
			users[t.UserID] = u
		}
		if u == nil || !u.Holds(t) {
			continue
		}
		k, _ := u.Credential(t)
		t.CredentialRef = k.ID
		left = append(left, t)
	}
	return left, nil
}

// recordReleased notes on a row that the provider no longer has what c, the row as it was read, had to give back, and
// on the mobile ID that it is in the pool again.
func (r *run) recordReleased(ctx context.Context, c credential.Credential) error {
	return r.untilNoConflict(ctx, func() error {
		row, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		// Strays that another process added meanwhile stay.
		row.Strays = slices.DeleteFunc(slices.Clone(row.Strays), func(t credential.Reserved) bool {
			return slices.ContainsFunc(c.Strays, func(s credential.Reserved) bool {
				return s.InvitationRef == t.InvitationRef && s.CredentialRef == t.CredentialRef
			})
		})
		row.Retry = credential.Retry{}
		ch := r.begin()
		if c.Want == credential.WantGone {
			row.Aside = nil
			if c.Reservation == credential.ReservationHeld && row.Reservation == credential.ReservationHeld {
				row.Reservation = credential.ReservationReleased
				if err := ch.disown(ctx, row, credential.OwnerReleased); err != nil {
					return err
				}
			}
		}
		ch.row(row)
		return ch.commit(ctx)
	})
}
