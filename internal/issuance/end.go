package issuance

import (
	"context"
	"errors"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// endings translates an operator's reason into the event and the statusReason.
var endings = map[credential.EndReason]credential.Event{
	credential.EndDeleted: {Kind: credential.EventRevoke, Reason: credential.ReasonDeleted},
	credential.EndLost:    {Kind: credential.EventLost, Reason: credential.ReasonLost},
	credential.EndStolen:  {Kind: credential.EventStolen, Reason: credential.ReasonStolen},
	credential.EndUpgrade: {Kind: credential.EventRevoke, Reason: credential.ReasonReplaced},
}

// End ends a credential, here at once and at the provider as soon as it answers. Ending a final credential by deletion changes
// nothing and is no error; lost and stolen are refused with CodeInvalidState unless it is revoked (R6). Other refusals:
// CodeHolderNotFound, CodeCredentialNotFound, CodeIdempotencyKeyReused.
func (s *Service) End(ctx context.Context, cmd credential.End) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(change *credential.Change) (credential.Credential, error) {
		_, c, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		return s.addEnd(ctx, change, c, cmd.Reason, cmd.Actor)
	})
}

// addEnd puts an operator's end of a credential into a change.
func (s *Service) addEnd(ctx context.Context, change *credential.Change, c credential.Credential, reason credential.EndReason, actor credential.Actor) (credential.Credential, error) {
	e := endings[reason]
	e.Actor = actor
	if err := s.freeSlot(ctx, change, c); err != nil {
		return c, err
	}
	return addEvent(change, c, e)
}

// freeSlot frees the device slot of a credential that ends.
func (s *Service) freeSlot(ctx context.Context, change *credential.Change, c credential.Credential) error {
	if !c.IsLive() || c.Device == nil {
		return nil
	}
	slot, err := s.Store.Slot(ctx, c.Account, c.Device.ID, c.ProfileID)
	if errors.Is(err, store.ErrNotFound) || err == nil && slot.CredentialID != c.ID {
		return nil
	}
	if err == nil {
		change.FreeSlots = append(change.FreeSlots, slot)
	}
	return err
}

// Replace issues a new credential of the same profile. Lost and stolen end the old one in the transaction that creates the new
// (R6); an upgrade ends it in the one that records the new reservation, so that running out of licences leaves it as it is.
// Refusals: as Assign, and CodeInvalidState when the old credential is final.
func (s *Service) Replace(ctx context.Context, cmd credential.Replace) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(change *credential.Change) (c credential.Credential, err error) {
		_, old, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		if !old.IsLive() {
			return c, credential.Refuse(credential.CodeInvalidState, "The credential is "+string(old.Status)+" already.")
		}
		holder, err := s.assignee(ctx, credential.Assign{HolderID: cmd.HolderID}, change)
		if err != nil {
			return c, err
		}
		if holder.Ended(change.At) {
			return c, credential.Refuse(credential.CodeInvalidState, "The visit is over.")
		}
		profile, err := s.profileFor(ctx, old.ProfileID)
		if err != nil {
			return c, err
		}
		c = s.newCredential(holder.ID, profile, change.At)
		if cmd.Reason == credential.EndUpgrade {
			c.Replaces = old.ID
		} else if _, err = s.addEnd(ctx, change, old, cmd.Reason, cmd.Actor); err != nil {
			return c, err
		}
		return s.addNew(change, c, cmd.Actor), nil
	})
}

// Erase begins to erase a holder: every credential is revoked at the provider, the provider's user removed, and then all personal
// data here. Until then the holder shows that it is being erased. Refusal: CodeHolderNotFound.
func (s *Service) Erase(ctx context.Context, holderID string, r credential.Request) error {
	err := s.again(ctx, func() error {
		holder, err := s.holder(ctx, holderID)
		if err != nil {
			return err
		}
		if holder.Erasing {
			return nil
		}
		change := credential.Change{At: s.Now()}
		holder.Erasing = true
		holder.UpdatedAt = change.At
		holder.Revision++
		change.Holder = &holder
		if err := s.touchAll(ctx, &change, holderID); err != nil {
			return err
		}
		if len(change.Touch) == 0 {
			// Never assigned anything. Some account's sweep must see to it all the same, should we not live to.
			profiles, err := s.Store.Profiles(ctx)
			if err != nil {
				return err
			}
			if len(profiles) > 0 {
				change.Touch = []credential.Touch{{HolderID: holderID, Account: profiles[0].Account}}
			}
		}
		return s.Store.Commit(ctx, change)
	})
	if err != nil {
		return err
	}
	items, err := s.Store.WorkItems(ctx, holderID)
	if err != nil {
		return err
	}
	for _, item := range items {
		if _, err := s.work(ctx, holderID, item.Account, r.Actor, false); err != nil {
			s.Log.ErrorContext(ctx, "left to the sweep", "holderId", holderID, "account", item.Account, "error", err)
		}
	}
	if len(items) == 0 {
		return s.forget(ctx, holderID)
	}
	return nil
}

// forget removes a holder that is being erased, once nothing is left to do anywhere.
func (s *Service) forget(ctx context.Context, holderID string) error {
	err := s.Store.Commit(ctx, credential.Change{At: s.Now(), EraseHolder: holderID})
	if errors.Is(err, store.ErrConflict) {
		return nil // gone already
	}
	return err
}
