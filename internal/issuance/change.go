package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// change builds what one transaction writes. It is the only way to make a credential.Change, so that what belongs
// together is written together: a row with its revision raised, what happened to it in its history, the wish for the
// work that follows, and what the row has besides (references, owner, device slot).
type change struct {
	store   Store
	written credential.Change
	wakes   bool
}

// begin begins a change at the present moment.
func (s *Service) begin() *change {
	return &change{store: s.Store, written: credential.Change{At: s.Now()}}
}

// commit writes the change. store.ErrConflict: something it rests on has changed.
func (ch *change) commit(ctx context.Context) error {
	written := ch.written
	written.Touch = slices.Clone(ch.written.Touch)
	for i := range written.Touch {
		written.Touch[i].Wake = ch.wakes
	}
	return ch.store.Commit(ctx, written)
}

// wake has the function cleanup come at once for the work that the change makes due: the function that writes it calls
// no provider.
func (ch *change) wake() { ch.wakes = true }

// at is the moment of the change.
func (ch *change) at() time.Time { return ch.written.At }

// isEmpty says whether the change alters no credential and remembers no request.
func (ch *change) isEmpty() bool {
	return len(ch.written.Credentials) == 0 && ch.written.Idempotency == nil
}

// holder stores a holder, whose revision is raised.
func (ch *change) holder(h credential.Holder) credential.Holder {
	if h.Revision == 0 {
		h.CreatedAt = ch.written.At
	}
	h.UpdatedAt = ch.written.At
	h.Revision++
	ch.written.Holder, ch.written.HolderAt, ch.written.HolderRevision = &h, "", 0
	return h
}

// onHolder makes the change, which assigns a credential or ends a visit, depend on the holder as it was read. A change
// of the holder that was decided before it conflicts.
func (ch *change) onHolder(h credential.Holder) {
	ch.written.HolderAt, ch.written.HolderRevision = h.ID, h.Revision
}

// picture stores the picture of a holder that is stored in the same change.
func (ch *change) picture(p credential.Picture) { ch.written.Picture = &p }

// dropPicture removes the picture of a holder that is stored in the same change.
func (ch *change) dropPicture(holderID string) { ch.written.DropPicture = holderID }

// eraseHolder removes a holder that is being erased.
func (ch *change) eraseHolder(holderID string) { ch.written.EraseHolder = holderID }

// profile stores a profile, whose revision is raised. claimsPart takes its part number, which must be free.
func (ch *change) profile(p credential.Profile, claimsPart bool) credential.Profile {
	if p.Revision == 0 {
		p.CreatedAt = ch.written.At
	}
	p.UpdatedAt = ch.written.At
	p.Revision++
	ch.written.Profile = &p
	if claimsPart {
		ch.written.Refs = append(ch.written.Refs, credential.Ref{
			Account: p.Account, Kind: credential.RefPart, ID: p.PartNumber, ProfileID: p.ID,
		})
	}
	return p
}

// remember keeps what a request with an Idempotency-Key did.
func (ch *change) remember(record *credential.Idempotency) { ch.written.Idempotency = record }

// create adds a new credential, with what happened to it and the wish for work.
func (ch *change) create(c credential.Credential, actor credential.Actor) credential.Credential {
	c.CreatedAt, c.UpdatedAt, c.Revision = ch.written.At, ch.written.At, 1
	ch.written.Credentials = append(ch.written.Credentials, c)
	ch.note(credential.Entry(c, credential.Event{Kind: credential.EventAssigned, Actor: actor}, "", ch.written.At))
	ch.touch(c)
	return c
}

// row stores a row with its revision raised: what we know of it has changed, and nothing has happened to it that its
// history tells.
func (ch *change) row(c credential.Credential) credential.Credential {
	c.UpdatedAt = ch.written.At
	c.Revision++
	c = ch.list(c)
	ch.written.Credentials = append(ch.written.Credentials, c)
	return c
}

// list brings the list of lasting warnings in line with a row.
func (ch *change) list(c credential.Credential) credential.Credential {
	item := func(w credential.Warning) credential.Warned {
		return credential.Warned{
			HolderID: c.HolderID, CredentialID: c.ID, ProfileID: c.ProfileID, Code: w.Code, Since: w.Since,
		}
	}
	lasting := credential.Lasting(c, ch.written.At)
	for i, w := range lasting {
		at := slices.IndexFunc(c.Warned, func(was credential.Warning) bool { return was.Code == w.Code })
		if at >= 0 {
			lasting[i].Since = c.Warned[at].Since
			continue
		}
		ch.written.Warned = append(ch.written.Warned, item(w))
	}
	for _, was := range c.Warned {
		if !slices.ContainsFunc(lasting, func(w credential.Warning) bool { return w.Code == was.Code }) {
			ch.written.Unwarned = append(ch.written.Unwarned, item(was))
		}
	}
	c.Warned = lasting
	return c
}

// record adds what an event does to a credential: the row and its history entry. It returns the credential as it will
// be; the entry is nil when the event changes nothing, and then nothing is added. The process that works on the row
// itself records, for it looks at the row again anyway; every other one applies.
func (ch *change) record(
	c credential.Credential,
	e credential.Event,
) (credential.Credential, *credential.HistoryEntry, error) {
	c, entry, err := credential.Apply(c, e, ch.written.At)
	if err != nil || entry == nil {
		return c, nil, err
	}
	c = ch.list(c)
	ch.written.Credentials = append(ch.written.Credentials, c)
	ch.note(*entry)
	return c, entry, nil
}

// apply adds what record does, and the wish for the work that follows.
func (ch *change) apply(
	c credential.Credential,
	e credential.Event,
) (credential.Credential, *credential.HistoryEntry, error) {
	c, entry, err := ch.record(c, e)
	if entry != nil {
		ch.touch(c)
	}
	return c, entry, err
}

// end adds what apply does for an event that may end a credential, and frees the device slot of one that ends.
func (ch *change) end(ctx context.Context, c credential.Credential, e credential.Event) (credential.Credential, error) {
	after, _, err := ch.apply(c, e)
	if err != nil {
		return after, err
	}
	return after, ch.freeSlot(ctx, c, after)
}

// freeSlot frees the device slot of a credential if it was live before the change and is final after it.
func (ch *change) freeSlot(ctx context.Context, before, after credential.Credential) error {
	if !before.IsLive() || after.IsLive() || before.Device == nil {
		return nil
	}
	slot, err := ch.store.Slot(ctx, before.Account, before.Device.ID, before.ProfileID)
	if errors.Is(err, store.ErrNotFound) || err == nil && slot.CredentialID != before.ID {
		return nil
	}
	if err == nil {
		ch.written.FreeSlots = append(ch.written.FreeSlots, slot)
	}
	return err
}

// takeSlot takes a device's slot for a credential; replaces names the credential that has it so far, if any.
func (ch *change) takeSlot(slot credential.Slot, replaces string) {
	ch.written.Slots, ch.written.ReplacesSlot = append(ch.written.Slots, slot), replaces
}

// reserve gives a credential its reservation: the references that lead to it, and the mobile ID. owner is what was read
// of the mobile ID, with revision 0 for nothing.
func (ch *change) reserve(c credential.Credential, owner credential.Owner) {
	ch.refer(c)
	// The provider's own report of this reservation may be here before its answer: it is a sighting with the user that
	// it was made for, and must not cost a transaction.
	ch.owner(credential.Owner{
		Account: c.Account, MobileID: c.Mobile.ID, State: credential.OwnerHeld, HolderID: c.HolderID,
		CredentialID: c.ID, Revision: owner.Revision + 1, OverSighting: c.UserID,
	})
}

// refer makes the provider's references of a credential lead to it.
func (ch *change) refer(c credential.Credential) {
	refs := []credential.Ref{{Kind: credential.RefUser, ID: c.UserID}}
	if c.InvitationRef != "" {
		refs = append(refs, credential.Ref{Kind: credential.RefInvitation, ID: c.InvitationRef, CredentialID: c.ID})
	}
	if c.CredentialRef != "" {
		refs = append(refs, credential.Ref{Kind: credential.RefCredential, ID: c.CredentialRef, CredentialID: c.ID})
	}
	for _, r := range refs {
		r.Account, r.HolderID = c.Account, c.HolderID
		ch.written.Refs = append(ch.written.Refs, r)
	}
}

// own writes that a credential has its mobile ID, held or spent. revision is what was read of the owner.
func (ch *change) own(c credential.Credential, state credential.OwnerState, revision int64) {
	ch.owner(credential.Owner{
		Account: c.Account, MobileID: c.Mobile.ID, State: state, HolderID: c.HolderID, CredentialID: c.ID,
		Revision: revision,
	})
}

// disown writes that a credential no longer has its mobile ID, which is released or foreign now. Nothing is written
// when another credential has it, or when it is spent (R5).
func (ch *change) disown(ctx context.Context, c credential.Credential, state credential.OwnerState) error {
	if c.Mobile == nil {
		return nil
	}
	owner, err := ch.store.Owner(ctx, c.Account, c.Mobile.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !owner.IsHeldBy(c) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner.State = state; state == credential.OwnerForeign {
		owner.HolderID, owner.CredentialID = "", ""
	}
	ch.owner(owner)
	return nil
}

// owner stores the owner of a mobile ID, whose revision is raised.
func (ch *change) owner(o credential.Owner) {
	o.UpdatedAt = ch.written.At
	o.Revision++
	ch.written.Owners = append(ch.written.Owners, o)
}

// seen keeps that a fact was noted for a credential, so that it is not noted twice.
func (ch *change) seen(credentialID, hash string) {
	ch.written.Seen = append(ch.written.Seen, credential.Seen{
		CredentialID: credentialID, Hash: hash, ExpiresAt: ch.written.At.Add(seenFor),
	})
}

// touch asks for work on a credential's behalf.
func (ch *change) touch(c credential.Credential) {
	ch.written.Touch = append(ch.written.Touch, credential.Touch{HolderID: c.HolderID, Account: c.Account})
}

// whileUnclaimed makes the change depend on no process having the claim to work for a credential's holder.
func (ch *change) whileUnclaimed(c credential.Credential) {
	ch.written.Touch = append(
		ch.written.Touch,
		credential.Touch{HolderID: c.HolderID, Account: c.Account, Unclaimed: true},
	)
}

// ifUntouched makes the change depend on a work item being as it was read, with its count of requests for work: no
// other request has assigned anything to the holder there since.
func (ch *change) ifUntouched(holderID, account string, added int64) {
	ch.written.Touch = append(ch.written.Touch, credential.Touch{HolderID: holderID, Account: account, Added: &added})
}

// touchAccount asks for work for a holder at one account.
func (ch *change) touchAccount(holderID, account string) {
	ch.written.Touch = append(ch.written.Touch, credential.Touch{HolderID: holderID, Account: account})
}

// touchEveryAccount asks for work at every account that the holder is known at, and says whether there is any.
func (ch *change) touchEveryAccount(ctx context.Context, holderID string) (bool, error) {
	items, err := ch.store.WorkItems(ctx, holderID)
	for _, item := range items {
		ch.touchAccount(holderID, item.Account)
	}
	return len(items) > 0, err
}

// withoutTouchesOf drops the wishes for work that another change has made already, and says whether any is left.
func (ch *change) withoutTouchesOf(other *change) bool {
	ch.written.Touch = slices.DeleteFunc(ch.written.Touch, func(t credential.Touch) bool {
		return slices.Contains(other.written.Touch, t)
	})
	return len(ch.written.Touch) > 0
}

// note adds a history entry.
func (ch *change) note(entry credential.HistoryEntry) {
	ch.written.History = append(ch.written.History, entry)
}

// amend edits the row and the history entry of a credential that the change already writes.
func (ch *change) amend(credentialID string, edit func(*credential.Credential, *credential.HistoryEntry)) {
	i := slices.IndexFunc(ch.written.Credentials, func(c credential.Credential) bool { return c.ID == credentialID })
	j := slices.IndexFunc(
		ch.written.History,
		func(e credential.HistoryEntry) bool { return e.CredentialID == credentialID },
	)
	edit(&ch.written.Credentials[i], &ch.written.History[j])
}

// writes says whether the change writes a credential.
func (ch *change) writes(credentialID string) bool {
	return slices.ContainsFunc(
		ch.written.Credentials,
		func(c credential.Credential) bool { return c.ID == credentialID },
	)
}
