package issuance

import (
	"context"
	"errors"
	"strings"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// mail sends the invitation (R7). The intent is written first: if what became of the mail is never known, it is sent
// once more, but not before the doubt has had time to be answered.
func (r *run) mail(ctx context.Context, c credential.Credential) error {
	profile, err := r.Store.Profile(ctx, c.ProfileID)
	if err != nil {
		return err
	}
	now := r.Now()
	c.Invitation.MailingAt = &now
	if err := r.save(ctx, &c); err != nil {
		return err
	}
	outcome := r.Mailer.Send(ctx, mail.NewLetter(r.holder, profile, c))
	switch outcome.Fate {
	case mail.Sent:
		e := credential.Event{Kind: credential.EventMailed, Actor: r.actor}
		return r.recordEvent(
			ctx,
			c,
			e,
			func(c *credential.Credential) { c.Invitation.SentTo = maskEmail(r.holder.Email) },
		)
	case mail.Throttled, mail.Rejected:
		return r.edit(ctx, c, func(c *credential.Credential) bool {
			c.Invitation.MailingAt = nil
			c.Retry = credential.Postpone(c.Retry, credential.StepMail, outcome.Reason, r.Now())
			return true
		})
	}
	return nil // in doubt
}

// maskEmail keeps the first letter and the domain: enough to recognise an address, not to write to it.
func maskEmail(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 1 {
		return "…"
	}
	for i := range email {
		if i > 0 {
			return email[:i] + "…" + email[at:]
		}
	}
	return "…"
}

// pictureUnknown stands for the picture while the provider's answer is outstanding: it may show the one before or the
// one after.
const pictureUnknown = "unknown"

// picture makes the provider show the holder's picture on the badge, or none (R8).
func (r *run) picture(ctx context.Context, c credential.Credential) error {
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if c.PictureHash != pictureUnknown {
		c.PictureHash = pictureUnknown
		if err := r.save(ctx, &c); err != nil {
			return err
		}
	}
	hash := ""
	if r.holder.PictureHash == "" {
		err = r.removePicture(ctx, p)
	} else {
		hash, err = r.setPicture(ctx, p, c)
	}
	if err != nil {
		return err
	}
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		c.PictureHash, c.Retry = hash, credential.Retry{}
		return true
	})
}

// setPicture makes the provider's user of a row show the holder's picture, and returns its hash.
func (r *run) setPicture(ctx context.Context, p provider.Provider, c credential.Credential) (hash string, err error) {
	picture, err := r.Store.Picture(ctx, c.HolderID)
	if errors.Is(err, store.ErrNotFound) {
		return "", store.ErrConflict // replaced since the holder was read
	}
	if err != nil {
		return "", err
	}
	ref, err := p.SetPhoto(ctx, c.UserID, picture)
	_ = r.noteAnswer(err)
	if ref != "" { // it is there, be it shown or not, and will have to be removed
		r.item.PictureRef = ref
		if err := r.Store.SaveWork(ctx, r.item); err != nil {
			return "", err
		}
	}
	return picture.Hash, err
}

// look reads the provider again for an accepted credential that no report has put on a device.
func (r *run) look(ctx context.Context, c credential.Credential) error {
	u, err := r.userOf(ctx, c)
	if err != nil {
		return err
	}
	if err := r.applyReading(ctx, &c, observe.Reading{User: u}, r.actor); err != nil {
		return err
	}
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		if c.Stage != credential.StageActivating {
			return false
		}
		next := r.Now().Add(credential.NextLook(c.Looks))
		c.LookAt = &next
		c.Looks++
		return true
	})
}

// expire ends an invitation whose deadline has passed. Our clock alone decides nothing: the invitation is cancelled,
// and what the provider then says is believed, even that the holder was faster.
func (r *run) expire(ctx context.Context, c credential.Credential) error {
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if !c.Invitation.Expiring {
		c.Invitation.Expiring = true
		if err := r.save(ctx, &c); err != nil {
			return err
		}
	}
	err = r.noteAnswer(p.Cancel(ctx, c.InvitationRef))
	if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrRefused) {
		return err
	}
	u, err := r.userOf(ctx, c)
	if err != nil {
		return err
	}
	if u != nil && u.InvitationStatus(c.InvitationRef) == provider.InvitationPending {
		return errNotGoneYet
	}
	return r.applyReading(ctx, &c, observe.Reading{User: u}, r.actor)
}
