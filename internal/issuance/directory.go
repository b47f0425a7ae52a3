package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// PutProfile creates or replaces a profile; putting a retired one brings it back. Refusals: CodeImmutable when account or part number
// would change, CodePartNumberInUse, CodeRevisionMismatch.
func (s *Service) PutProfile(ctx context.Context, cmd credential.PutProfile) (p credential.Profile, created bool, err error) {
	err = s.again(ctx, func() error {
		known, err := s.Store.Profile(ctx, cmd.Profile.ID)
		created = errors.Is(err, store.ErrNotFound)
		if err != nil && !created {
			return err
		}
		if cmd.IfRevision != 0 && cmd.IfRevision != known.Revision {
			return revisionMismatch
		}
		p = cmd.Profile
		change := credential.Change{At: s.Now(), Profile: &p}
		p.CreatedAt, p.UpdatedAt, p.Revision = change.At, change.At, known.Revision+1
		if created {
			part := credential.Ref{Account: p.Account, Kind: credential.RefPart, ID: p.PartNumber, ProfileID: p.ID}
			taken, err := s.Store.Ref(ctx, p.Account, credential.RefPart, p.PartNumber)
			if err == nil && taken.ProfileID != p.ID {
				return credential.Refuse(credential.CodePartNumberInUse, "Another profile draws from this part number.")
			}
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			change.Refs = []credential.Ref{part}
		} else {
			if immutable := changedForEver(known, p); immutable != nil {
				return &credential.Error{Code: credential.CodeImmutable, Detail: "Account and part number of a profile cannot change.", Fields: immutable}
			}
			p.CreatedAt = known.CreatedAt
			if same := p; sameProfile(same, known) {
				p = known
				return nil
			}
		}
		return s.Store.Commit(ctx, change)
	})
	return p, created, err
}

var revisionMismatch = credential.Refuse(credential.CodeRevisionMismatch, "It has been changed since the revision in If-Match.")

func changedForEver(known, p credential.Profile) []credential.FieldError {
	var fields []credential.FieldError
	for _, f := range []struct{ pointer, was, is string }{{"/account", known.Account, p.Account}, {"/partNumber", known.PartNumber, p.PartNumber}} {
		if f.was != f.is {
			fields = append(fields, credential.FieldError{Pointer: f.pointer, Code: "immutable", Detail: "It cannot change once the profile exists."})
		}
	}
	return fields
}

func sameProfile(a, b credential.Profile) bool {
	if (a.Sender.LogoURL == nil) != (b.Sender.LogoURL == nil) || a.Sender.LogoURL != nil && *a.Sender.LogoURL != *b.Sender.LogoURL {
		return false
	}
	a.Sender.LogoURL = b.Sender.LogoURL
	a.CreatedAt, a.UpdatedAt, a.Revision = b.CreatedAt, b.UpdatedAt, b.Revision
	return a == b
}

// RetireProfile ends new assignments from a profile; live credentials stay. Refusal: CodeProfileNotFound.
func (s *Service) RetireProfile(ctx context.Context, profileID string, _ credential.Request) error {
	return s.again(ctx, func() error {
		p, err := s.Store.Profile(ctx, profileID)
		if errors.Is(err, store.ErrNotFound) {
			return credential.Refuse(credential.CodeProfileNotFound, "There is no such profile.")
		}
		if err != nil || p.Retired {
			return err
		}
		p.Retired, p.UpdatedAt = true, s.Now()
		p.Revision++
		return s.Store.Commit(ctx, credential.Change{At: p.UpdatedAt, Profile: &p})
	})
}

// describe returns a holder as the portal now describes it, with its revision raised if that changes anything.
func describe(known, described credential.Holder, now time.Time) credential.Holder {
	h := known
	h.ID, h.Kind = described.ID, described.Kind
	h.FirstName, h.LastName, h.Email = described.FirstName, described.LastName, described.Email
	if known.Email != "" && known.Email != h.Email {
		h.FormerEmail = known.Email
	}
	h.Locale, h.TimeZone, h.ValidUntil = described.Locale, described.TimeZone, described.ValidUntil
	if known.Revision == 0 {
		h.CreatedAt = now
	} else if sameUntil := known.ValidUntil == h.ValidUntil || known.ValidUntil != nil && h.ValidUntil != nil && known.ValidUntil.Equal(*h.ValidUntil); sameUntil {
		h.ValidUntil = known.ValidUntil
		h.ID = known.ID
		if h == known {
			return known
		}
	}
	h.UpdatedAt = now
	h.Revision++
	return h
}

// PutHolder creates or replaces a holder. The change reaches live credentials and the provider with the next sweep; a visit moved
// into the past ends here at once (R11). Refusals: CodeHolderBeingErased, CodeRevisionMismatch.
func (s *Service) PutHolder(ctx context.Context, cmd credential.PutHolder) (h credential.Holder, created bool, err error) {
	err = s.changeHolder(ctx, cmd.Holder.ID, func(known credential.Holder, change *credential.Change) (bool, error) {
		created = known.Revision == 0
		if cmd.IfRevision != 0 && cmd.IfRevision != known.Revision {
			return false, revisionMismatch
		}
		h = describe(known, cmd.Holder, change.At)
		change.Holder = &h
		return h.Revision != known.Revision, nil
	})
	if err == nil && h.Ended(s.Now()) {
		err = s.endVisit(ctx, h, cmd.Actor)
	}
	return h, created, err
}

func (s *Service) endVisit(ctx context.Context, h credential.Holder, actor credential.Actor) error {
	rows, err := s.Store.Credentials(ctx, h.ID)
	if err != nil {
		return err
	}
	for _, c := range rows {
		err := s.again(ctx, func() error {
			c, err := s.Store.Credential(ctx, h.ID, c.ID)
			if err != nil || !c.IsLive() {
				return err
			}
			change := credential.Change{At: s.Now()}
			if err := s.freeSlot(ctx, &change, c); err != nil {
				return err
			}
			if _, err := addEvent(&change, c, credential.Event{Kind: credential.EventVisitEnded, Reason: credential.ReasonVisitEnded, Actor: actor}); err != nil {
				return err
			}
			return s.Store.Commit(ctx, change)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// PutPicture stores a holder's picture. Refusals: CodeHolderNotFound, CodeHolderBeingErased.
func (s *Service) PutPicture(ctx context.Context, holderID string, p credential.Picture, _ credential.Request) error {
	return s.changeHolder(ctx, holderID, func(h credential.Holder, change *credential.Change) (bool, error) {
		if h.Revision == 0 {
			return false, credential.Refuse(credential.CodeHolderNotFound, "There is no holder with this id.")
		}
		if h.PictureHash == p.Hash {
			return false, nil
		}
		h.PictureHash, h.UpdatedAt = p.Hash, change.At
		h.Revision++
		p.HolderID = holderID
		change.Holder, change.Picture = &h, &p
		return true, nil
	})
}

// RemovePicture removes a holder's picture; there need not be one. Refusals: CodeHolderNotFound, CodeHolderBeingErased.
func (s *Service) RemovePicture(ctx context.Context, holderID string, _ credential.Request) error {
	return s.changeHolder(ctx, holderID, func(h credential.Holder, change *credential.Change) (bool, error) {
		if h.Revision == 0 {
			return false, credential.Refuse(credential.CodeHolderNotFound, "There is no holder with this id.")
		}
		if h.PictureHash == "" {
			return false, nil
		}
		h.PictureHash, h.UpdatedAt = "", change.At
		h.Revision++
		change.Holder, change.DropPicture = &h, holderID
		return true, nil
	})
}

// changeHolder commits what edit makes of a holder, which has revision 0 when it is new, and asks for work wherever it has
// credentials. edit says whether there is anything to write.
func (s *Service) changeHolder(ctx context.Context, holderID string, edit func(known credential.Holder, change *credential.Change) (bool, error)) error {
	return s.again(ctx, func() error {
		known, err := s.Store.Holder(ctx, holderID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if known.Erasing {
			return credential.Refuse(credential.CodeHolderBeingErased, "The holder is being erased.")
		}
		change := credential.Change{At: s.Now()}
		changed, err := edit(known, &change)
		if err != nil || !changed {
			return err
		}
		if err := s.touchAll(ctx, &change, holderID); err != nil {
			return err
		}
		if err := s.Store.Commit(ctx, change); err != nil {
			return err
		}
		return s.touchLate(ctx, change, holderID)
	})
}

// touchLate asks for work at accounts that the holder became known at while its change was being decided: who works there may have
// read the holder as it was before.
func (s *Service) touchLate(ctx context.Context, change credential.Change, holderID string) error {
	late := credential.Change{At: s.Now()}
	if err := s.touchAll(ctx, &late, holderID); err != nil {
		return err
	}
	late.Touch = slices.DeleteFunc(late.Touch, func(t credential.Touch) bool { return slices.Contains(change.Touch, t) })
	if len(late.Touch) == 0 {
		return nil
	}
	return s.Store.Commit(ctx, late)
}

// touchAll asks for work at every account the holder is known at.
func (s *Service) touchAll(ctx context.Context, change *credential.Change, holderID string) error {
	items, err := s.Store.WorkItems(ctx, holderID)
	for _, item := range items {
		change.Touch = append(change.Touch, credential.Touch{HolderID: holderID, Account: item.Account})
	}
	return err
}
