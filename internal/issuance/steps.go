package issuance

import (
	"context"
	"errors"
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// release gives back what a row must not keep: its own reservation once it is to be gone, and whatever it caused besides. Only
// reading the user afterwards confirms it; until then the row keeps its word.
func (r *run) release(ctx context.Context, c credential.Credential) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	targets := slices.Clone(c.Strays)
	if c.Want == credential.WantGone {
		targets = append(targets, c.Aside...)
		if c.Reservation == credential.ReservationHeld {
			targets = append(targets, c.Reserved())
		}
	}
	for i := range targets {
		if err := r.onlyOurs(ctx, c, &targets[i]); err != nil {
			return err
		}
	}
	for _, t := range targets {
		if t.InvitationRef == "" || t.InvitationRef == c.InvitationRef && c.Invitation.Status == credential.InvitationAccepted {
			continue
		}
		err := r.heard(p.Cancel(ctx, t.InvitationRef))
		if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrRefused) {
			return err
		}
	}
	left, err := r.remaining(ctx, p, targets)
	if err != nil {
		return err
	}
	revoked := false
	for _, t := range left {
		if t.CredentialRef == "" {
			continue
		}
		if err := r.heard(p.Revoke(ctx, t.CredentialRef)); err != nil && !errors.Is(err, provider.ErrNotFound) {
			return err
		}
		revoked = true
	}
	if revoked {
		if left, err = r.remaining(ctx, p, left); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return errNotGoneYet
	}
	return r.recordReleased(ctx, c, targets)
}

// onlyOurs strips from a reservation what by now belongs to another credential of ours.
func (r *run) onlyOurs(ctx context.Context, c credential.Credential, t *credential.Reserved) error {
	for kind, id := range map[credential.RefKind]*string{credential.RefInvitation: &t.InvitationRef, credential.RefCredential: &t.CredentialRef} {
		if *id == "" {
			continue
		}
		free, err := r.unclaimed(ctx, c, kind, *id)
		if err != nil {
			return err
		}
		if !free {
			*id = ""
		}
	}
	return nil
}

// remaining reads the users of reservations and returns those of which something is still there: a pending invitation, or a
// credential, of which the references are then left.
func (r *run) remaining(ctx context.Context, p provider.Provider, targets []credential.Reserved) ([]credential.Reserved, error) {
	users := map[string]provider.User{}
	var left []credential.Reserved
	for _, t := range targets {
		u, read := users[t.UserID]
		if !read {
			var err error
			u, err = p.User(ctx, t.UserID)
			if r.heard(err) != nil && !errors.Is(err, provider.ErrNotFound) {
				return nil, err
			}
			users[t.UserID] = u
		}
		if !isHeld(u, t) {
			continue
		}
		if !slices.ContainsFunc(u.Credentials, func(k provider.Credential) bool { return k.ID == t.CredentialRef }) {
			t.CredentialRef = ""
		}
		left = append(left, t)
	}
	return left, nil
}

// isHeld says whether a user still has anything of a reservation.
func isHeld(u provider.User, t credential.Reserved) bool {
	for _, i := range u.Invitations {
		if i.ID == t.InvitationRef && i.Status == provider.InvitationPending {
			return true
		}
	}
	return slices.ContainsFunc(u.Credentials, func(k provider.Credential) bool { return k.ID != "" && k.ID == t.CredentialRef })
}

// recordReleased notes on the row that the provider no longer has what was released, and on the mobile ID that it is in the pool again.
func (r *run) recordReleased(ctx context.Context, c credential.Credential, released []credential.Reserved) error {
	return r.again(ctx, func() error {
		row, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		isReleased := func(t credential.Reserved) bool {
			return slices.ContainsFunc(c.Strays, func(s credential.Reserved) bool {
				return s.InvitationRef == t.InvitationRef && s.CredentialRef == t.CredentialRef
			})
		}
		row.Strays = slices.DeleteFunc(slices.Clone(row.Strays), isReleased)
		row.Retry = credential.Retry{}
		var owners []credential.Owner
		if c.Want == credential.WantGone {
			row.Aside = nil
			if c.Reservation == credential.ReservationHeld && row.Reservation == credential.ReservationHeld {
				row.Reservation = credential.ReservationReleased
				if owners, err = r.ownerReleased(ctx, row); err != nil {
					return err
				}
			}
		}
		change := r.rowChange(&row)
		change.Owners = owners
		return r.Store.Commit(ctx, change)
	})
}

// ownerReleased is the owner item of a row's mobile ID after its release; none when somebody else has it, or it is spent (R5).
func (s *Service) ownerReleased(ctx context.Context, c credential.Credential) ([]credential.Owner, error) {
	if c.Mobile == nil {
		return nil, nil
	}
	owner, err := s.Store.Owner(ctx, c.Account, c.Mobile.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (owner.State != credential.OwnerHeld || owner.CredentialID != c.ID) {
		return nil, nil
	}
	owner.State, owner.UpdatedAt = credential.OwnerReleased, s.Now()
	owner.Revision++
	return []credential.Owner{owner}, err
}

// mail sends the invitation (R7). The intent is written first: if we never hear what became of it, it is sent once more, but not
// before the doubt has had time to be answered.
func (r *run) mail(ctx context.Context, c credential.Credential) error {
	profile, err := r.Store.Profile(ctx, c.ProfileID)
	if err != nil {
		return err
	}
	now := r.Now()
	c.Invitation.MailingAt = &now
	if err := r.Store.Commit(ctx, r.rowChange(&c)); err != nil {
		return err
	}
	outcome := r.Mailer.Send(ctx, mail.NewLetter(r.holder, profile, c))
	switch outcome.Fate {
	case mail.Sent:
		_, err = r.commitEvent(ctx, c, credential.Event{Kind: credential.EventMailed, Actor: r.actor}, func(c *credential.Credential) {
			c.Invitation.SentTo = maskEmail(r.holder.Email)
		})
		return err
	case mail.Throttled, mail.Rejected:
		return r.change(ctx, c, func(c *credential.Credential) bool {
			c.Invitation.MailingAt = nil
			c.Retry = credential.Postpone(c.Retry, credential.StepMail, outcome.Reason, r.Now())
			return true
		})
	}
	return nil // in doubt
}

// pictureUnknown stands for the picture while the provider's answer is outstanding: it may show the one before or the one after.
const pictureUnknown = "unknown"

// picture makes the provider show the holder's picture on the badge, or none (R8).
func (r *run) picture(ctx context.Context, c credential.Credential) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	if c.PictureHash != pictureUnknown {
		c.PictureHash = pictureUnknown
		if err := r.Store.Commit(ctx, r.rowChange(&c)); err != nil {
			return err
		}
	}
	hash := ""
	if r.holder.PictureHash != "" {
		picture, err := r.Store.Picture(ctx, c.HolderID)
		if errors.Is(err, store.ErrNotFound) {
			return store.ErrConflict // replaced since we looked
		}
		if err != nil {
			return err
		}
		hash = picture.Hash
		ref, err := p.SetPhoto(ctx, c.UserID, picture)
		r.heard(err)
		if ref != "" { // it is there, be it shown or not, and will have to be removed
			r.item.PictureRef = ref
			if err := r.Store.SaveWork(ctx, r.item); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	} else if err := r.removePicture(ctx, p); err != nil {
		return err
	}
	return r.change(ctx, c, func(c *credential.Credential) bool {
		c.PictureHash, c.Retry = hash, credential.Retry{}
		return true
	})
}

// removePicture makes the provider's user show no picture: it does so on every badge, those of the future too.
func (r *run) removePicture(ctx context.Context, p provider.Provider) error {
	if r.item.PictureRef == "" {
		return nil
	}
	if err := r.heard(p.RemovePhoto(ctx, r.item.UserID, r.item.PictureRef)); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	r.item.PictureRef = ""
	return r.Store.SaveWork(ctx, r.item)
}

// look reads the provider again for an accepted credential nobody has reported on a device.
func (r *run) look(ctx context.Context, c credential.Credential) error {
	u, err := r.readUser(ctx, c)
	if err != nil {
		return err
	}
	if err := r.applyReading(ctx, &c, u, reading{}, r.actor); err != nil {
		return err
	}
	return r.change(ctx, c, func(c *credential.Credential) bool {
		if c.Stage != credential.StageActivating {
			return false
		}
		next := r.Now().Add(credential.NextLook(c.Looks))
		c.LookAt = &next
		c.Looks++
		return true
	})
}

// expire ends an invitation whose deadline has passed. Our clock alone decides nothing: the invitation is cancelled, and what the
// provider then says is believed, be it that the holder was faster.
func (r *run) expire(ctx context.Context, c credential.Credential) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	if !c.Invitation.Expiring {
		c.Invitation.Expiring = true
		if err := r.Store.Commit(ctx, r.rowChange(&c)); err != nil {
			return err
		}
	}
	err = r.heard(p.Cancel(ctx, c.InvitationRef))
	if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrRefused) {
		return err
	}
	u, err := r.readUser(ctx, c)
	if err != nil {
		return err
	}
	if u != nil && slices.ContainsFunc(u.Invitations, func(i provider.Invitation) bool {
		return i.ID == c.InvitationRef && i.Status == provider.InvitationPending
	}) {
		return errNotGoneYet
	}
	return r.applyReading(ctx, &c, u, reading{}, r.actor)
}

// readUser reads the provider's user of a row; nil when it was deleted.
func (r *run) readUser(ctx context.Context, c credential.Credential) (*provider.User, error) {
	p, err := r.at(ctx)
	if err != nil {
		return nil, err
	}
	u, err := p.User(ctx, c.UserID)
	if r.heard(err); errors.Is(err, provider.ErrNotFound) {
		return nil, nil
	}
	return &u, err
}
