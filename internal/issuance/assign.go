package issuance

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Assign gives a holder a new credential and sends the invitation. The result's invitation is sent, or still pending
// when the provider or the mail has to be tried again, or when it waits for a mobile ID: the sweep goes on from there.
// Refusals: CodeAlreadyAssigned (IfNone), CodeHolderNotFound, CodeHolderBeingErased, CodeValidationFailed (R1),
// CodeProfileNotFound, CodeProfileRequired (R2), CodeInvalidState (retired profile, visit over), CodeNoLicenceLeft and
// CodeEmailInUse (both with the failed credential's id), CodeIdempotencyKeyReused.
func (s *Service) Assign(ctx context.Context, cmd credential.Assign) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(ch *change) (c credential.Credential, err error) {
		holder, err := s.assignee(ctx, cmd, ch)
		if err != nil {
			return c, err
		}
		profile, err := s.profileFor(ctx, cmd.ProfileID)
		if err != nil {
			return c, err
		}
		if holder.Ended(ch.at()) {
			return c, errVisitOver
		}
		if cmd.IfNone {
			if err := s.ifNone(ctx, ch, holder.ID, profile); err != nil {
				return c, err
			}
		}
		c = s.newCredential(holder.ID, profile, ch.at())
		c.Wait = cmd.Wait
		return ch.create(c, cmd.Actor), nil
	})
}

// ifNone refuses an assignment when the holder has a live credential of the profile, and makes the change depend on its
// getting none meanwhile.
func (s *Service) ifNone(ctx context.Context, ch *change, holderID string, profile credential.Profile) error {
	item, err := s.Store.WorkItem(ctx, holderID, profile.Account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	ch.ifUntouched(holderID, profile.Account, item.Added)
	rows, err := s.Store.Credentials(ctx, holderID)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if c.IsLive() && c.ProfileID == profile.ID {
			return &credential.Error{
				Code: credential.CodeAlreadyAssigned, CredentialID: c.ID,
				Detail: "The holder has a live credential of this profile, and the request is for a holder without one.",
			}
		}
	}
	return nil
}

var errVisitOver = credential.Refuse(credential.CodeInvalidState, "The visit is over.")

// assignee returns the holder to assign to, and makes the change store it or depend on it.
func (s *Service) assignee(ctx context.Context, cmd credential.Assign, ch *change) (credential.Holder, error) {
	holder, err := s.holder(ctx, cmd.HolderID)
	isNew := errors.Is(err, credential.Refuse(credential.CodeHolderNotFound, ""))
	if err != nil && (cmd.Holder == nil || !isNew) {
		return holder, err
	}
	if holder.Erasing {
		return holder, errBeingErased
	}
	pointer := ""
	ch.onHolder(holder)
	if cmd.Holder != nil {
		pointer = "/holder"
		described, changed := describedAs(holder, *cmd.Holder, cmd.HolderID)
		if holder = described; changed {
			holder = ch.holder(described)
			if _, err := ch.touchEveryAccount(ctx, holder.ID); err != nil {
				return holder, err
			}
		}
	}
	return holder, refuseIncomplete(holder, pointer, neededToInvite)
}

const neededToInvite = "A holder needs first name, last name and e-mail to be invited."

// refuseIncomplete refuses a holder without what a credential needs (R1), for a reason in one sentence. pointer leads
// to the holder in the request's body.
func refuseIncomplete(holder credential.Holder, pointer, reason string) error {
	var missing []credential.FieldError
	for _, name := range holder.Missing() {
		missing = append(missing, credential.FieldError{
			Pointer: pointer + "/" + name, Code: "required", Detail: reason,
		})
	}
	if missing != nil {
		return credential.Invalid(missing...)
	}
	return nil
}

// profileFor finds the profile to assign from (R2).
func (s *Service) profileFor(ctx context.Context, profileID string) (credential.Profile, error) {
	notFound := credential.Refuse(credential.CodeProfileNotFound, "There is no such profile.")
	if profileID != "" {
		p, err := s.Store.Profile(ctx, profileID)
		if errors.Is(err, store.ErrNotFound) {
			return p, notFound
		}
		if err == nil && p.Retired {
			return p, credential.Refuse(credential.CodeInvalidState, "The profile is retired.")
		}
		return p, err
	}
	all, err := s.Store.Profiles(ctx)
	if err != nil {
		return credential.Profile{}, err
	}
	var usable []credential.Profile
	for _, p := range all {
		if !p.Retired {
			usable = append(usable, p)
		}
	}
	switch len(usable) {
	case 0:
		return credential.Profile{}, notFound
	case 1:
		return usable[0], nil
	}
	return credential.Profile{}, &credential.Error{
		Code: credential.CodeProfileRequired, Detail: "There is more than one profile, so one must be named.",
		Fields: []credential.FieldError{{
			Pointer: "/profileId", Code: "required", Detail: "Name one of " + strconv.Itoa(len(usable)) + " profiles.",
		}},
	}
}

func (s *Service) newCredential(holderID string, p credential.Profile, now time.Time) credential.Credential {
	return credential.Credential{
		ID: s.NewID(), HolderID: holderID, ProfileID: p.ID, ProfileName: p.Name,
		Account: p.Account, PartNumber: p.PartNumber,
		Status: credential.StatusActive, Stage: credential.StageInvited,
		Want: credential.WantLive, Reservation: credential.ReservationNone,
		Invitation: credential.Invitation{Status: credential.InvitationPending, AskedAt: now},
	}
}

// Resend asks for the invitation to be mailed again, with the same code. Refusals: CodeHolderNotFound,
// CodeCredentialNotFound, CodeInvalidState when the credential is not invited, CodeValidationFailed (R1), CodeTooSoon
// within a minute of the mail asked for before.
func (s *Service) Resend(ctx context.Context, cmd credential.Resend) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(ch *change) (credential.Credential, error) {
		holder, c, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		if !c.IsLive() || c.Stage != credential.StageInvited {
			return c, credential.Refuse(credential.CodeInvalidState,
				"The invitation is "+string(c.Invitation.Status)+" already.")
		}
		if deadline := c.Deadline(holder); deadline != nil && !ch.at().Before(*deadline) {
			return c, credential.Refuse(credential.CodeInvalidState, "The invitation has expired.")
		}
		if err := refuseIncomplete(holder, "", neededToInvite); err != nil {
			return c, err
		}
		if wait := c.Invitation.AskedAt.Add(time.Minute).Sub(ch.at()); wait > 0 {
			return c, &credential.Error{
				Code: credential.CodeTooSoon, Detail: "The invitation can be mailed once a minute.",
				RetryAfter: int((wait + time.Second - 1) / time.Second),
			}
		}
		c, _, err = ch.apply(c, credential.Event{Kind: credential.EventResent, Actor: cmd.Actor})
		return c, err
	})
}
