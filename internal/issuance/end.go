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

// ending is the event by which an actor ends a credential for a reason.
func ending(reason credential.EndReason, actor credential.Actor) credential.Event {
	e := endings[reason]
	e.Actor = actor
	return e
}

// End ends a credential, here at once and at the provider as soon as it answers. Ending a final credential by deletion
// changes nothing and is no error; lost and stolen are refused with CodeInvalidState unless it is revoked (R6). Other
// refusals: CodeHolderNotFound, CodeCredentialNotFound, CodeIdempotencyKeyReused.
func (s *Service) End(ctx context.Context, cmd credential.End) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(ch *change) (credential.Credential, error) {
		_, c, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		return ch.end(ctx, c, ending(cmd.Reason, cmd.Actor))
	})
}

// Replace issues a new credential of the same profile. Lost and stolen end the old one in the transaction that creates
// the new (R6); an upgrade ends it in the one that records the new reservation, so that running out of licences leaves
// it as it is. One at a time: while the newest replacement is live and not activated, asking again for the same reason
// changes nothing and returns it, and another reason is refused with CodeReplacementPending. Other refusals: as Assign,
// and CodeInvalidState when the old credential is final.
func (s *Service) Replace(ctx context.Context, cmd credential.Replace) (credential.Result, error) {
	return s.carryOut(ctx, cmd.Request, cmd.HolderID, func(ch *change) (c credential.Credential, err error) {
		_, old, err := s.credential(ctx, cmd.HolderID, cmd.CredentialID)
		if err != nil {
			return c, err
		}
		pending, err := s.pendingReplacement(ctx, old, cmd.Reason)
		if err != nil || pending != nil {
			return value(pending), err
		}
		if !old.IsLive() {
			return c, credential.Refuse(
				credential.CodeInvalidState,
				"The credential is "+string(old.Status)+" already.",
			)
		}
		holder, err := s.assignee(ctx, credential.Assign{HolderID: cmd.HolderID}, ch)
		if err != nil {
			return c, err
		}
		if holder.Ended(ch.at()) {
			return c, errVisitOver
		}
		profile, err := s.profileFor(ctx, old.ProfileID)
		if err != nil {
			return c, err
		}
		c = s.newCredential(holder.ID, profile, ch.at())
		c.Replaces = old.ID
		old.ReplacedBy, old.ReplacedFor = c.ID, cmd.Reason
		if cmd.Reason == credential.EndUpgrade {
			ch.row(old)
		} else if _, err = ch.end(ctx, old, ending(cmd.Reason, cmd.Actor)); err != nil {
			return c, err
		}
		return ch.create(c, cmd.Actor), nil
	})
}

// pendingReplacement returns the replacement of a credential that is still on its way to a phone, nil for none. It
// refuses one that was asked for with another reason.
func (s *Service) pendingReplacement(
	ctx context.Context, old credential.Credential, reason credential.EndReason,
) (*credential.Credential, error) {
	if old.ReplacedBy == "" {
		return nil, nil
	}
	c, err := s.Store.Credential(ctx, old.HolderID, old.ReplacedBy)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !c.IsLive() || c.Stage == credential.StageActivated {
		return nil, err
	}
	if old.ReplacedFor != reason {
		return nil, &credential.Error{
			Code: credential.CodeReplacementPending, CredentialID: c.ID,
			Detail: "The credential is being replaced already, as " + string(old.ReplacedFor) + ".",
		}
	}
	return &c, nil
}

func value(c *credential.Credential) credential.Credential {
	if c == nil {
		return credential.Credential{}
	}
	return *c
}

// Erase begins to erase a holder: every credential is revoked at the provider, the provider's user removed, and then
// all personal data here. Until then the holder shows that it is being erased. Refusal: CodeHolderNotFound.
func (s *Service) Erase(ctx context.Context, holderID string, r credential.Request) error {
	if err := s.untilNoConflict(ctx, func() error { return s.beginErasing(ctx, holderID) }); err != nil {
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

func (s *Service) beginErasing(ctx context.Context, holderID string) error {
	holder, err := s.holder(ctx, holderID)
	if err != nil || holder.Erasing {
		return err
	}
	holder.Erasing = true
	ch := s.begin()
	ch.holder(holder)
	known, err := ch.touchEveryAccount(ctx, holderID)
	if err != nil {
		return err
	}
	if !known {
		// The holder was never assigned anything. The sweep of some account must finish the erasure all the same,
		// should this process be killed before it does.
		profiles, err := s.Store.Profiles(ctx)
		if err != nil {
			return err
		}
		if len(profiles) > 0 {
			ch.touchAccount(holderID, profiles[0].Account)
		}
	}
	return ch.commit(ctx)
}

// forget removes a holder that is being erased, once nothing is left to do at any account.
func (s *Service) forget(ctx context.Context, holderID string) error {
	ch := s.begin()
	ch.eraseHolder(holderID)
	err := ch.commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return nil // gone already
	}
	return err
}
