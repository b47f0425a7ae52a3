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
	now, askedAt := r.Now(), c.Invitation.AskedAt
	c.Invitation.MailingAt = &now
	c.Invitation.Doubts++
	c.Invitation.Mails++
	if err := r.save(ctx, &c); err != nil {
		return err
	}
	outcome := r.Mailer.Send(ctx, mail.NewLetter(r.holder, profile, c))
	switch outcome.Fate {
	case mail.Sent:
		e := credential.Event{Kind: credential.EventMailed, AskedAt: askedAt, Actor: r.actor}
		return r.recordEvent(
			ctx,
			c,
			e,
			func(c *credential.Credential) { c.Invitation.SentTo = maskEmail(r.holder.Email) },
		)
	case mail.Throttled, mail.Rejected:
		if c.Retry.For != credential.StepMail || c.Retry.Error != outcome.Reason {
			r.Log.WarnContext(ctx, "mail refused", "holderId", c.HolderID, "credentialId", c.ID, "code", outcome.Reason)
		}
		return r.edit(ctx, c, func(c *credential.Credential) bool {
			c.Invitation.Mails--
			if c.Invitation.AskedAt.Equal(askedAt) {
				c.Invitation.MailingAt = nil
				c.Invitation.Doubts--
			}
			c.Retry = credential.Postpone(c.Retry, credential.StepMail, r.holder, outcome.Reason, r.Now())
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

// look reads the provider again for an accepted credential that no report has put on a device, and for one of which a
// report could not be applied when it came.
func (r *run) look(ctx context.Context, c credential.Credential) error {
	u, err := r.userOf(ctx, c)
	if err != nil {
		return err
	}
	looked := c
	reading := observe.Reading{User: u}
	facts, others := reportedOf(c)
	reading.Facts = facts
	for _, report := range others {
		p, err := r.connect(ctx)
		if err != nil {
			return err
		}
		with, err := r.isWithOther(ctx, p, c, u, report.OtherUserID, report.At)
		if r.noteAnswer(err) != nil {
			return err
		}
		reading.WithAnother = reading.WithAnother || with
	}
	if u == nil {
		if reading.SearchMisses, err = r.searchMisses(ctx); err != nil {
			return err
		}
	}
	if err := r.applyReading(ctx, &c, reading, r.actor); err != nil {
		return err
	}
	isBack, err := r.isBack(ctx, c, u)
	if err != nil {
		return err
	}
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		if isBack && c.Reservation == credential.ReservationReleased {
			c.Reservation = credential.ReservationHeld
		}
		if len(c.Reports) > len(looked.Reports) { // more was reported meanwhile
			return false
		}
		c.Reports, c.Retry = nil, credential.Retry{}
		if len(others) > 0 && c.IsLive() && c.MissingAt != nil && r.Now().Sub(*c.MissingAt) < observe.AbsentFor {
			// Whether the other user has it, the second reading decides.
			again := c.MissingAt.Add(observe.AbsentFor)
			c.Reports, c.LookAt = others, &again
			return true
		}
		if c.MissingAt != nil && c.IsLive() && c.Stage != credential.StageActivating {
			// Not listed: the provider is asked again, ever less often, until it lists it or the invitation is over.
			next := r.Now().Add(credential.NextLook(c.Looks))
			c.LookAt = &next
			c.Looks++
			return true
		}
		if c.Stage != credential.StageActivating {
			c.LookAt, c.Looks = nil, 0
			return true
		}
		next := r.Now().Add(credential.NextLook(c.Looks))
		c.LookAt = &next
		c.Looks++
		return true
	})
}

// isBack says whether a user still has what was taken for released: the reading that said so was an old one.
func (r *run) isBack(ctx context.Context, c credential.Credential, u *provider.User) (bool, error) {
	if u == nil || c.IsLive() || c.Reservation != credential.ReservationReleased {
		return false, nil
	}
	t := c.Reserved()
	err := r.onlyOurs(ctx, c, &t)
	return u.Holds(t), err
}

// searchMisses says whether a search finds no user of the holder. A 404 for the user alone may be the provider's
// mistake.
func (r *run) searchMisses(ctx context.Context) (bool, error) {
	p, err := r.connect(ctx)
	if err != nil || r.holder.Email == "" {
		return r.holder.Email == "", err
	}
	_, err = p.FindUser(ctx, person(r.holder))
	if _ = r.noteAnswer(err); errors.Is(err, provider.ErrNotFound) {
		return true, nil
	}
	if errors.Is(err, provider.ErrEmailInUse) {
		return true, nil
	}
	return false, err
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
	if err := r.applyReading(ctx, &c, observe.Reading{User: u}, r.actor); err != nil {
		return err
	}
	if c.IsLive() && c.Stage == credential.StageInvited {
		return errNotGoneYet // the user could not be found: nothing is known yet
	}
	return nil
}
