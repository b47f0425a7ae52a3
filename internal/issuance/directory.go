package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

var (
	errRevisionMismatch = credential.Refuse(credential.CodeRevisionMismatch,
		"It has been changed since the revision in If-Match.")
	errExists = credential.Refuse(credential.CodeRevisionMismatch,
		"It exists already, and If-None-Match: * asks to create it.")
	errBeingErased = credential.Refuse(credential.CodeHolderBeingErased, "The holder is being erased.")
	errNoHolder    = credential.Refuse(credential.CodeHolderNotFound, "There is no holder with this id.")
)

// PutProfile creates or replaces a profile; putting a retired one brings it back. Refusals: CodeImmutable when account
// or part number would change, CodePartNumberInUse, CodeRevisionMismatch (also for what exists when it should be new).
func (s *Service) PutProfile(
	ctx context.Context, cmd credential.PutProfile,
) (p credential.Profile, created bool, err error) {
	err = s.untilNoConflict(ctx, func() error {
		known, err := s.Store.Profile(ctx, cmd.Profile.ID)
		created = errors.Is(err, store.ErrNotFound)
		if err != nil && !created {
			return err
		}
		if err := atRevision(known.Revision, cmd.IfRevision, cmd.IfNew); err != nil {
			return err
		}
		p = cmd.Profile
		p.CreatedAt, p.Revision = known.CreatedAt, known.Revision
		if created {
			if err := s.partNumberIsFree(ctx, p); err != nil {
				return err
			}
		} else {
			if fields := immutableFields(known, p); fields != nil {
				return &credential.Error{
					Code: credential.CodeImmutable, Detail: "Account and part number of a profile cannot change.",
					Fields: fields,
				}
			}
			if isSameProfile(p, known) {
				p = known
				return nil
			}
		}
		ch := s.begin()
		p = ch.profile(p, created)
		return ch.commit(ctx)
	})
	return p, created, err
}

// partNumberIsFree refuses a part number that another profile draws from.
func (s *Service) partNumberIsFree(ctx context.Context, p credential.Profile) error {
	taken, err := s.Store.Ref(ctx, p.Account, credential.RefPart, p.PartNumber)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && taken.ProfileID != p.ID {
		return credential.Refuse(credential.CodePartNumberInUse, "Another profile draws from this part number.")
	}
	return err
}

// immutableFields names the fields that a change of a profile must not touch.
func immutableFields(known, p credential.Profile) []credential.FieldError {
	var fields []credential.FieldError
	for _, f := range []struct{ pointer, was, is string }{
		{"/account", known.Account, p.Account}, {"/partNumber", known.PartNumber, p.PartNumber},
	} {
		if f.was != f.is {
			fields = append(fields, credential.FieldError{
				Pointer: f.pointer, Code: "immutable", Detail: "It cannot change once the profile exists.",
			})
		}
	}
	return fields
}

// isSameProfile compares everything that the portal describes.
func isSameProfile(a, b credential.Profile) bool {
	logoA, logoB := a.Sender.LogoURL, b.Sender.LogoURL
	if (logoA == nil) != (logoB == nil) || logoA != nil && *logoA != *logoB {
		return false
	}
	a.Sender.LogoURL = logoB
	a.CreatedAt, a.UpdatedAt, a.Revision = b.CreatedAt, b.UpdatedAt, b.Revision
	return a == b
}

// RetireProfile ends new assignments from a profile; live credentials stay. Refusal: CodeProfileNotFound.
func (s *Service) RetireProfile(ctx context.Context, profileID string, _ credential.Request) error {
	return s.untilNoConflict(ctx, func() error {
		p, err := s.Store.Profile(ctx, profileID)
		if errors.Is(err, store.ErrNotFound) {
			return credential.Refuse(credential.CodeProfileNotFound, "There is no such profile.")
		}
		if err != nil || p.Retired {
			return err
		}
		p.Retired = true
		ch := s.begin()
		ch.profile(p, false)
		return ch.commit(ctx)
	})
}

// describedAs returns a holder as the portal now describes it, and whether that changes anything. known has revision 0
// when the holder is new.
func describedAs(known, described credential.Holder, holderID string) (h credential.Holder, changed bool) {
	h = known
	h.ID, h.Kind = holderID, described.Kind
	h.FirstName, h.LastName, h.Email = described.FirstName, described.LastName, described.Email
	if known.Email != "" && known.Email != h.Email {
		h.FormerEmail = known.Email
	}
	h.Locale, h.TimeZone, h.ValidUntil = described.Locale, described.TimeZone, described.ValidUntil
	if isSameMoment(known.ValidUntil, h.ValidUntil) {
		h.ValidUntil = known.ValidUntil
	}
	return h, h != known
}

func isSameMoment(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// atRevision refuses a stored revision, 0 for nothing, that is not the one a request asks for.
func atRevision(stored, ifRevision int64, ifNew bool) error {
	switch {
	case ifNew && stored != 0:
		return errExists
	case ifRevision != 0 && ifRevision != stored:
		return errRevisionMismatch
	}
	return nil
}

// PutHolder creates or replaces a holder. The change reaches live credentials and the provider by way of the function
// cleanup, which is woken; a visit moved into the past ends here at once (R11). Refusals: CodeHolderBeingErased,
// CodeRevisionMismatch (also for a holder that exists when it should be new), CodeValidationFailed for what is missing
// while credentials are live (R1).
func (s *Service) PutHolder(
	ctx context.Context, cmd credential.PutHolder,
) (h credential.Holder, created bool, err error) {
	h, err = s.describe(ctx, cmd.Holder.ID, cmd.Actor, func(known credential.Holder) (credential.Holder, error) {
		created = known.Revision == 0
		return cmd.Holder, atRevision(known.Revision, cmd.IfRevision, cmd.IfNew)
	})
	return h, created, err
}

// PatchHolder changes parts of a holder, with what PutHolder says of the result. Refusals: those of PutHolder and of
// the patch, and CodeHolderNotFound.
func (s *Service) PatchHolder(ctx context.Context, cmd credential.PatchHolder) (credential.Holder, error) {
	return s.describe(ctx, cmd.HolderID, cmd.Actor, func(known credential.Holder) (credential.Holder, error) {
		if known.Revision == 0 {
			return known, errNoHolder
		}
		if err := atRevision(known.Revision, cmd.IfRevision, false); err != nil {
			return known, err
		}
		return cmd.Patch(known)
	})
}

// describe stores a holder as the portal describes it now; how says that of the holder as it is stored, which has
// revision 0 when it is new.
func (s *Service) describe(
	ctx context.Context, holderID string, actor credential.Actor,
	how func(known credential.Holder) (credential.Holder, error),
) (h credential.Holder, err error) {
	err = s.changeHolder(ctx, holderID, func(known credential.Holder, ch *change) (changed bool, err error) {
		described, err := how(known)
		if err != nil {
			return false, err
		}
		h, changed = describedAs(known, described, holderID)
		if err := s.completeWhileLive(ctx, h); err != nil {
			return false, err
		}
		if changed {
			h = ch.holder(h)
		}
		return changed, nil
	})
	if err == nil && h.Ended(s.Now()) {
		err = s.endVisit(ctx, h, actor)
	}
	return h, err
}

// completeWhileLive refuses a holder that lacks what its live credentials need (R1). The credentials are read after the
// holder was: an assignment that comes between the two makes the change of the holder conflict.
func (s *Service) completeWhileLive(ctx context.Context, h credential.Holder) error {
	refusal := refuseIncomplete(h, "", "The holder has live credentials, which need first name, last name and e-mail.")
	if refusal == nil {
		return nil
	}
	rows, err := s.Store.Credentials(ctx, h.ID)
	if err != nil || !slices.ContainsFunc(rows, credential.Credential.IsLive) {
		return err
	}
	return refusal
}

// endVisit ends every live credential of a visitor whose time is over.
func (s *Service) endVisit(ctx context.Context, h credential.Holder, actor credential.Actor) error {
	rows, err := s.Store.Credentials(ctx, h.ID)
	if err != nil {
		return err
	}
	e := credential.Event{Kind: credential.EventVisitEnded, Reason: credential.ReasonVisitEnded, Actor: actor}
	for _, c := range rows {
		err := s.untilNoConflict(ctx, func() error {
			newest, err := s.holder(ctx, h.ID)
			if err != nil || newest.Erasing || !newest.Ended(s.Now()) { // another request has moved the end
				return err
			}
			c, err := s.Store.Credential(ctx, h.ID, c.ID)
			if err != nil || !c.IsLive() {
				return err
			}
			ch := s.begin()
			ch.onHolder(newest)
			ch.wake()
			if _, err := ch.end(ctx, c, e); err != nil {
				return err
			}
			return ch.commit(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// PutPicture stores a holder's picture. Refusals: CodeHolderNotFound, CodeHolderBeingErased.
func (s *Service) PutPicture(ctx context.Context, holderID string, p credential.Picture, _ credential.Request) error {
	return s.changeHolder(ctx, holderID, func(h credential.Holder, ch *change) (bool, error) {
		if h.Revision == 0 {
			return false, errNoHolder
		}
		if h.PictureHash == p.Hash {
			return false, nil
		}
		h.PictureHash, p.HolderID = p.Hash, holderID
		ch.holder(h)
		ch.picture(p)
		return true, nil
	})
}

// RemovePicture removes a holder's picture; there need not be one. Refusals: CodeHolderNotFound, CodeHolderBeingErased.
func (s *Service) RemovePicture(ctx context.Context, holderID string, _ credential.Request) error {
	return s.changeHolder(ctx, holderID, func(h credential.Holder, ch *change) (bool, error) {
		if h.Revision == 0 {
			return false, errNoHolder
		}
		if h.PictureHash == "" {
			return false, nil
		}
		h.PictureHash = ""
		ch.holder(h)
		ch.dropPicture(holderID)
		return true, nil
	})
}

// changeHolder commits what decide puts into a change for a holder, which has revision 0 when it is new, and asks for
// work wherever the holder has credentials. decide says whether there is anything to write.
func (s *Service) changeHolder(
	ctx context.Context, holderID string, decide func(known credential.Holder, ch *change) (bool, error),
) error {
	return s.untilNoConflict(ctx, func() error {
		known, err := s.Store.Holder(ctx, holderID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if known.Erasing {
			return errBeingErased
		}
		ch := s.begin()
		ch.wake()
		changed, err := decide(known, ch)
		if err != nil || !changed {
			return err
		}
		if _, err := ch.touchEveryAccount(ctx, holderID); err != nil {
			return err
		}
		if err := ch.commit(ctx); err != nil {
			return err
		}
		return s.touchNewAccounts(ctx, ch, holderID)
	})
}

// touchNewAccounts asks for work at accounts that the holder became known at while its change was being decided:
// another process at work there may have read the holder as it was before.
func (s *Service) touchNewAccounts(ctx context.Context, decided *change, holderID string) error {
	ch := s.begin()
	ch.wake()
	if _, err := ch.touchEveryAccount(ctx, holderID); err != nil {
		return err
	}
	if !ch.withoutTouchesOf(decided) {
		return nil
	}
	return ch.commit(ctx)
}
