package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// secondLook is how long after a release the provider is read again.
const secondLook = time.Minute

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
		if err := r.giveBack(ctx, p, c, t); err != nil {
			return err
		}
	}
	left, err := r.stillHeld(ctx, p, targets)
	if err != nil {
		return err
	}
	// A credential may have got another reference since, when it was issued.
	again := slices.DeleteFunc(slices.Clone(left), func(h held) bool { return h.revoking || h.CredentialRef == "" })
	for _, t := range again {
		if err := r.revoke(ctx, p, t.CredentialRef); err != nil {
			return err
		}
	}
	if len(again) > 0 {
		if left, err = r.stillHeld(ctx, p, targets); err != nil {
			return err
		}
	}
	if len(left) == 0 || r.holder.Erasing && allRevoking(left) { // an erasure does not wait for a phone
		return r.recordReleased(ctx, c)
	}
	if allRevoking(left) {
		return r.awaitRelease(ctx, c)
	}
	return errNotGoneYet
}

// giveBack asks for the end of what we know of one reservation: its invitation unless that was redeemed, and its
// credential, whether or not a reading would list it. Only what was asked for is believed to be gone when it is not
// listed.
func (r *run) giveBack(
	ctx context.Context, p provider.Provider, c credential.Credential, t credential.Reserved,
) error {
	redeemed := t.InvitationRef == c.InvitationRef && c.Invitation.Status == credential.InvitationAccepted
	if t.InvitationRef != "" && !redeemed {
		err := r.noteAnswer(p.Cancel(ctx, t.InvitationRef))
		if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrRefused) {
			return err
		}
	}
	// What was given to another may be there under the same reference: it is revoked only where our own user lists it.
	isWithAnother := c.Status == credential.StatusReassigned && t.InvitationRef == c.InvitationRef
	if t.CredentialRef == "" || isWithAnother {
		return nil
	}
	return r.revoke(ctx, p, t.CredentialRef)
}

func (r *run) revoke(ctx context.Context, p provider.Provider, ref string) error {
	if err := r.noteAnswer(p.Revoke(ctx, ref)); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	return nil
}

func allRevoking(left []held) bool {
	return !slices.ContainsFunc(left, func(h held) bool { return !h.revoking })
}

// awaitRelease is for a release that the provider has begun, and a phone keeps waiting.
func (r *run) awaitRelease(ctx context.Context, c credential.Credential) error {
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		at := r.Now().Add(credential.NextReleaseLook(c.ReleaseLooks))
		c.ReleaseAt, c.ReleaseLooks = &at, c.ReleaseLooks+1
		c.Retry = credential.Retry{}
		return true
	})
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

// onlyOurs strips from a reservation what by now belongs to another credential: each reference that leads to another of
// ours, and the mobile ID.
func (s *Service) onlyOurs(ctx context.Context, c credential.Credential, t *credential.Reserved) error {
	for _, known := range []struct {
		kind credential.RefKind
		ref  *string
	}{{credential.RefInvitation, &t.InvitationRef}, {credential.RefCredential, &t.CredentialRef}} {
		if *known.ref == "" {
			continue
		}
		free, err := s.isUnclaimed(ctx, c, known.kind, *known.ref)
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
	owner, err := s.Store.Owner(ctx, c.Account, t.Mobile.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	// Only inside the credential's own user is anything looked for by its mobile ID. There it is another's only when
	// the owner is another credential of this holder, or the provider was seen to give it to this very user anew.
	isTaken := owner.State == credential.OwnerHeld || owner.State == credential.OwnerSpent
	ofSibling := isTaken && owner.HolderID == c.HolderID && owner.CredentialID != c.ID
	givenAnew := owner.State == credential.OwnerForeign && owner.UserID == t.UserID
	if ofSibling || givenAnew {
		t.Mobile = nil
	}
	return nil
}

// held is a reservation of which something is still there. revoking: nothing but a credential whose revocation has
// begun.
type held struct {
	credential.Reserved
	revoking bool
}

// stillHeld reads the users of reservations and returns those of which something is still there: a pending invitation,
// or a credential, under the reference it is listed with now.
func (r *run) stillHeld(
	ctx context.Context, p provider.Provider, targets []credential.Reserved,
) ([]held, error) {
	users := map[string]*provider.User{}
	var left []held
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
		isPending := u.InvitationStatus(t.InvitationRef) == provider.InvitationPending
		left = append(left, held{t, k.Revoking && !isPending})
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
		row.Retry, row.ReleaseAt, row.ReleaseLooks = credential.Retry{}, nil, 0
		ch := r.begin()
		if c.Want == credential.WantGone {
			row.Aside = nil
			if c.Reservation == credential.ReservationHeld && row.Reservation == credential.ReservationHeld {
				row.Reservation = credential.ReservationReleased
				// One reading is enough to say so; another one makes sure that it was not an old one.
				if !r.holder.Erasing {
					look := ch.at().Add(secondLook)
					row.LookAt, row.Looks = &look, 0
				}
				if err := ch.disown(ctx, row, credential.OwnerReleased); err != nil {
					return err
				}
			}
		}
		ch.row(row)
		return ch.commit(ctx)
	})
}
