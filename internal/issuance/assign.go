package issuance

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Assign gives a holder a new credential and sends the invitation. The result's invitation is sent, or still pending when the
// provider or the mail has to be tried again: the sweep goes on from there. Refusals: CodeHolderNotFound, CodeHolderBeingErased,
// CodeValidationFailed (R1), CodeProfileNotFound, CodeProfileRequired (R2), CodeInvalidState (retired profile, visit over),
// CodeNoLicenceLeft and CodeEmailInUse (both with the failed credential's id), CodeIdempotencyKeyReused.
func (s *Service) Assign(ctx context.Context, cmd credential.Assign) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(change *credential.Change) (c credential.Credential, err error) {
		holder, err := s.assignee(ctx, cmd, change)
		if err != nil {
			return c, err
		}
		profile, err := s.profileFor(ctx, cmd.ProfileID)
		if err != nil {
			return c, err
		}
		if holder.Ended(change.At) {
			return c, credential.Refuse(credential.CodeInvalidState, "The visit is over.")
		}
		return s.addNew(change, s.newCredential(holder.ID, profile, change.At), cmd.Actor), nil
	})
}

// assignee returns the holder to assign to and makes the change store, or depend on, it.
func (s *Service) assignee(ctx context.Context, cmd credential.Assign, change *credential.Change) (credential.Holder, error) {
	holder, err := s.holder(ctx, cmd.HolderID)
	if err != nil && (cmd.Holder == nil || !errors.Is(err, credential.Refuse(credential.CodeHolderNotFound, ""))) {
		return holder, err
	}
	if holder.Erasing {
		return holder, credential.Refuse(credential.CodeHolderBeingErased, "The holder is being erased.")
	}
	at := ""
	change.HolderAt = cmd.HolderID
	if cmd.Holder != nil {
		at = "/holder"
		described := describe(holder, *cmd.Holder, change.At)
		described.ID = cmd.HolderID
		if described.Revision != holder.Revision {
			change.Holder, change.HolderAt = &described, ""
			if err := s.touchAll(ctx, change, described.ID); err != nil {
				return holder, err
			}
		}
		holder = described
	}
	var missing []credential.FieldError
	for _, name := range holder.Missing() {
		missing = append(missing, credential.FieldError{
			Pointer: at + "/" + name, Code: "required",
			Detail: "A holder needs first name, last name and e-mail to be assigned a credential.",
		})
	}
	if missing != nil {
		return holder, credential.Invalid(missing...)
	}
	return holder, nil
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
		Fields: []credential.FieldError{{Pointer: "/profileId", Code: "required", Detail: "Name one of " + strconv.Itoa(len(usable)) + " profiles."}},
	}
}

func (s *Service) newCredential(holderID string, p credential.Profile, now time.Time) credential.Credential {
	return credential.Credential{
		ID: s.NewID(), HolderID: holderID, ProfileID: p.ID, ProfileName: p.Name, Account: p.Account, PartNumber: p.PartNumber,
		Status: credential.StatusActive, Stage: credential.StageInvited, Want: credential.WantLive, Reservation: credential.ReservationNone,
		Invitation: credential.Invitation{Status: credential.InvitationPending, AskedAt: now},
		CreatedAt:  now, UpdatedAt: now, Revision: 1,
	}
}

// addNew puts a new credential into a change.
func (s *Service) addNew(change *credential.Change, c credential.Credential, actor credential.Actor) credential.Credential {
	change.Credentials = append(change.Credentials, c)
	change.History = append(change.History, credential.Entry(c, credential.Event{Kind: credential.EventAssigned, Actor: actor}, "", change.At))
	addTouch(change, c, false)
	return c
}

// addTouch asks for work on a credential's behalf.
func addTouch(change *credential.Change, c credential.Credential, unclaimed bool) {
	change.Touch = append(change.Touch, credential.Touch{HolderID: c.HolderID, Account: c.Account, Unclaimed: unclaimed})
}

// carryOut carries out a command of the portal, once: decide says what to write, anew whenever somebody was faster, and for which
// credential; what that makes due is done as far as it can be done now. A request with a key that was carried out before changes
// nothing and returns what has become of its credential since.
func (s *Service) carryOut(
	ctx context.Context, r credential.Request, holderID string, decide func(*credential.Change) (credential.Credential, error),
) (credential.Result, error) {
	var c credential.Credential
	var replayed *credential.Result
	err := s.again(ctx, func() (err error) {
		if replayed, err = s.replay(ctx, r, holderID); replayed != nil || err != nil {
			return err
		}
		change := credential.Change{At: s.Now()}
		if c, err = decide(&change); err != nil {
			return err
		}
		change.Idempotency = s.remember(r, holderID, c.ID)
		if len(change.Credentials) == 0 && change.Idempotency == nil {
			return nil
		}
		return s.Store.Commit(ctx, change)
	})
	if err != nil {
		return credential.Result{}, err
	}
	if replayed != nil {
		return *replayed, nil
	}
	if _, err := s.work(ctx, c.HolderID, c.Account, r.Actor, false); err != nil {
		// The command itself is stored, so it is done; only how far is not known to the caller.
		s.Log.ErrorContext(ctx, "left to the sweep", "holderId", c.HolderID, "account", c.Account, "error", err)
	}
	wasLive := c.IsLive()
	h, c, err := s.credential(ctx, c.HolderID, c.ID)
	if err != nil {
		return credential.Result{}, err
	}
	if wasLive {
		err = refusalOf(c)
	}
	return credential.Result{Credential: c, Holder: h}, err
}

// refusalOf is the error that stands for a failed credential.
func refusalOf(c credential.Credential) error {
	if c.Status != credential.StatusFailed {
		return nil
	}
	e := &credential.Error{CredentialID: c.ID}
	switch c.Reason {
	case credential.ReasonNoLicenceLeft:
		e.Code, e.Detail = credential.CodeNoLicenceLeft, "The provider has no mobile ID left for this profile."
	case credential.ReasonEmailInUse:
		e.Code, e.Detail = credential.CodeEmailInUse, "The provider knows the holder's e-mail as somebody else's."
	default:
		e.Code, e.Detail = credential.CodeInvalidState, "The provider refused the assignment."
	}
	return e
}

// Resend asks for the invitation to be mailed again, with the same code. Refusals: CodeHolderNotFound, CodeCredentialNotFound,
// CodeInvalidState when the credential is not invited, CodeTooSoon within a minute of the mail asked for before.
func (s *Service) Resend(ctx context.Context, cmd credential.Resend) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(change *credential.Change) (credential.Credential, error) {
		_, c, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		if !c.IsLive() || c.Stage != credential.StageInvited {
			return c, credential.Refuse(credential.CodeInvalidState, "The invitation is "+string(c.Invitation.Status)+" already.")
		}
		if wait := c.Invitation.AskedAt.Add(time.Minute).Sub(change.At); wait > 0 {
			return c, &credential.Error{
				Code: credential.CodeTooSoon, Detail: "The invitation can be mailed once a minute.",
				RetryAfter: int((wait + time.Second - 1) / time.Second),
			}
		}
		return addEvent(change, c, credential.Event{Kind: credential.EventResent, Actor: cmd.Actor})
	})
}

// addEvent applies an event to a credential and puts what follows into the change: the row, its history and the wish for work. It
// returns the credential as it will be.
func addEvent(change *credential.Change, c credential.Credential, e credential.Event) (credential.Credential, error) {
	c, entry, err := credential.Apply(c, e, change.At)
	if err != nil || entry == nil {
		return c, err
	}
	change.Credentials = append(change.Credentials, c)
	change.History = append(change.History, *entry)
	addTouch(change, c, false)
	return c, nil
}
