package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// asideLimit is how many spent mobile IDs are kept aside before giving up on the provider's pool (R5).
const asideLimit = 3

// takeOverRetry is how soon a take-over that has to wait for the loser's claim is tried again.
const takeOverRetry = 5 * time.Second

// issue reserves a mobile ID. Before the provider is asked, the row says so and what the provider's user already had:
// whatever becomes of the answer, settle can then find out what it was.
func (r *run) issue(ctx context.Context, c credential.Credential) error {
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	leaves, err := r.leavesThePool(ctx, c)
	if err != nil {
		return err
	}
	if leaves {
		return r.noLicence(ctx, c)
	}
	before, err := r.findUser(ctx)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		before = provider.User{}
	case errors.Is(err, provider.ErrEmailInUse):
		return r.fail(ctx, c, credential.ReasonEmailInUse)
	case err != nil:
		return err
	}
	if reopened, err := r.reopen(ctx, c, before); reopened || err != nil {
		return err
	}
	c.Reservation, c.Doubt = credential.ReservationInDoubt, newDoubt(r.NewID(), r.Now(), before)
	if err := r.save(ctx, &c); err != nil {
		return err
	}
	reserved, err := p.Reserve(ctx, before.ID, person(r.holder), c.PartNumber)
	if r.noteAnswer(err) != nil {
		if errors.Is(err, provider.ErrEmailInUse) && before.ID == "" && !r.isEmailInUseForLong(c) {
			// The search may not find yet what was made a moment ago, by a request of ours that was carried out late.
			if err := r.withdrawDoubt(ctx, c); err != nil {
				return err
			}
			return r.postpone(ctx, c, credential.StepIssue, credential.ReasonEmailInUse)
		}
		return r.notReserved(ctx, c, err)
	}
	if before.ID == "" {
		err := r.rememberUser(ctx, reserved.UserID, personHash(r.holder))
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return r.recordAnswer(ctx, c, reserved)
}

// emailInUseFor is how long an e-mail that no search finds has to be refused before that is believed.
const emailInUseFor = 10 * time.Minute

func (r *run) isEmailInUseForLong(c credential.Credential) bool {
	isAgain := c.Retry.For == credential.StepIssue && c.Retry.Error == credential.ReasonEmailInUse &&
		c.Retry.HolderRevision == r.holder.Revision
	return isAgain && r.Now().Sub(c.Retry.Since) >= emailInUseFor
}

// newDoubt notes what the provider's user had before the provider was asked to reserve.
func newDoubt(id string, now time.Time, before provider.User) *credential.Doubt {
	doubt := &credential.Doubt{ID: id, At: now, UserID: before.ID}
	for _, i := range before.Invitations {
		doubt.Invitations = append(doubt.Invitations, i.ID)
	}
	for _, k := range before.Credentials {
		doubt.Credentials = append(doubt.Credentials, k.ID)
	}
	return doubt
}

// notReserved is for a reservation that ended in an error. Only a definite no takes the doubt back.
func (r *run) notReserved(ctx context.Context, c credential.Credential, err error) error {
	if errors.Is(err, provider.ErrHeldBack) { // it was not asked
		return errors.Join(r.withdrawDoubt(ctx, c), err)
	}
	if errors.Is(err, provider.ErrUnavailable) || errors.Is(err, provider.ErrOverLimit) {
		// Over the limit means that nothing was done, says the provider; but it says so with a status that gateways in
		// front of it use as well, and a doubt costs one reading.
		return err
	}
	if err := r.withdrawDoubt(ctx, c); err != nil {
		return err
	}
	switch {
	case errors.Is(err, provider.ErrEmpty):
		if err := r.noteEmpty(ctx, c); err != nil {
			return err
		}
		return r.noLicence(ctx, c)
	case errors.Is(err, provider.ErrEmailInUse):
		return r.fail(ctx, c, credential.ReasonEmailInUse)
	case errors.Is(err, provider.ErrNotFound):
		// The user was deleted between the reading and the request.
		return errors.Join(r.rememberUser(ctx, "", ""), err)
	case errors.Is(err, provider.ErrRefused):
		return r.fail(ctx, c, credential.ReasonRefusedByProvider)
	}
	return err
}

// noteEmpty keeps that the provider has no mobile ID of a part number left, and reports it like a reading of the stock:
// the next reading may be minutes away.
func (r *run) noteEmpty(ctx context.Context, c credential.Credential) error {
	profile, err := r.Store.Profile(ctx, c.ProfileID)
	if err != nil {
		return err
	}
	return r.noteStock(ctx, profile, 0)
}

// withdrawDoubt ends a doubt that turned out to stand for nothing.
func (r *run) withdrawDoubt(ctx context.Context, c credential.Credential) error {
	return r.edit(ctx, c, func(newest *credential.Credential) bool {
		if !isSameDoubt(*newest, c) {
			return false
		}
		newest.Reservation, newest.Doubt = credential.ReservationNone, nil
		return true
	})
}

func isSameDoubt(a, b credential.Credential) bool {
	return a.Doubt != nil && b.Doubt != nil && a.Doubt.ID == b.Doubt.ID
}

// fail ends a credential that the provider refuses for good.
func (r *run) fail(ctx context.Context, c credential.Credential, reason string) error {
	e := credential.Event{Kind: credential.EventRefused, Reason: reason, Actor: r.actor}
	failed := false
	err := r.untilNoConflict(ctx, func() error {
		newest, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		// A refusal that comes too late says nothing of what another process has asked for since.
		if err != nil || newest.Reservation != credential.ReservationNone && !isSameDoubt(newest, c) {
			return err
		}
		ch := r.begin()
		_, entry, err := ch.apply(newest, e)
		if err != nil || entry == nil {
			return err
		}
		failed = true
		return ch.commit(ctx)
	})
	if err == nil && failed {
		r.Count(MetricFailed)
	}
	return err
}

// recordAnswer records what the provider gave us for the doubt of a row: in one transaction the mobile ID is ours, and
// no longer that of the credential that had it before (R10). A spent one is kept aside instead (R5). It is recorded
// whatever the row has come to want: a row that is to be gone has to know what to give back.
func (r *run) recordAnswer(ctx context.Context, c credential.Credential, got credential.Reserved) error {
	return r.untilNoConflict(ctx, func() error {
		row, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		// Once the claim has run out, another process may be settling this very doubt, or have given back what we were
		// given: only the holder of the claim knows better than to release it.
		if !isSameDoubt(row, c) || !r.item.Claim.Active(r.Now()) {
			return r.recordStray(ctx, row, got)
		}
		free, err := r.isUnclaimed(ctx, row, credential.RefInvitation, got.InvitationRef)
		if err != nil {
			return err
		}
		if !free { // another doubt of this holder was settled with it meanwhile
			return r.withdrawDoubt(ctx, row)
		}
		owner, err := r.Store.Owner(ctx, row.Account, got.Mobile.ID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		switch {
		case owner.State == credential.OwnerSpent:
			return r.keepAside(ctx, row, got, nil)
		case owner.State == credential.OwnerForeign && owner.UserID != got.UserID:
			return r.recordFromForeign(ctx, row, got, owner)
		case owner.State == credential.OwnerHeld && owner.CredentialID != row.ID:
			return r.takeOver(ctx, row, got, owner)
		}
		return r.recordReserved(ctx, row, got, owner, nil)
	})
}

// recordStray keeps an answer that came when the row had been settled without it, or when the claim had run out, so
// that it is released; unless it is what the row has been settled with.
func (r *run) recordStray(ctx context.Context, row credential.Credential, got credential.Reserved) error {
	if row.InvitationRef == got.InvitationRef {
		return nil
	}
	row.Strays = append(slices.Clone(row.Strays), got)
	if row.UserID == "" { // an erasure has to find the user that this may have created
		row.UserID = got.UserID
	}
	ch := r.begin()
	ch.touch(ch.row(row))
	return ch.commit(ctx)
}

// keepAside holds on to a mobile ID that must not be used, so that the provider offers another; after three it gives
// up. loser is the credential that has it, when that is worth a note in its history.
func (r *run) keepAside(
	ctx context.Context, row credential.Credential, got credential.Reserved, loser *credential.Credential,
) error {
	row.Aside = append(slices.Clone(row.Aside), got)
	row.Reservation, row.Doubt = credential.ReservationNone, nil
	if row.UserID == "" {
		row.UserID = got.UserID
	}
	ch := r.begin()
	after, entry, err := ch.record(row, credential.Event{
		Kind: credential.EventSpentIDOffered, Reason: credential.ReasonSpentIDOffered, Actor: r.actor,
	})
	if err != nil {
		return err
	}
	ch.amend(row.ID, func(_ *credential.Credential, e *credential.HistoryEntry) { e.Mobile = got.Mobile })
	if loser != nil {
		if _, _, err := ch.apply(*loser, givenToAnother(credential.ReasonGivenToAnother, r.actor)); err != nil {
			return err
		}
	}
	if err := ch.commit(ctx); err != nil {
		return err
	}
	r.reportAnomaly(ctx, *entry)
	if after.IsLive() && len(after.Aside) >= asideLimit {
		return r.fail(ctx, after, credential.ReasonOnlySpentIDsOffered)
	}
	return nil
}

func givenToAnother(reason string, actor credential.Actor) credential.Event {
	return credential.Event{Kind: credential.EventGivenToAnother, Reason: reason, Actor: actor}
}

// recordFromForeign is for a mobile ID that we believe to be that of a user unknown to us. Either the provider has
// given it to us since, or it took it from us before we even knew; reading our user tells which.
func (r *run) recordFromForeign(
	ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner,
) error {
	if owner.SeenAt.Before(row.Doubt.At.Add(-observe.ClocksDiffer)) { // it had it before we asked
		return r.recordReserved(ctx, row, got, owner, nil)
	}
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	u, err := readUser(ctx, p, got.UserID)
	if r.noteAnswer(err) != nil {
		return err // still in doubt, and settled later
	}
	if u != nil {
		if _, listed := u.Credential(got); listed {
			return r.recordReserved(ctx, row, got, owner, nil)
		}
	}
	if again := row.Doubt.At.Add(observe.AbsentFor); r.Now().Before(again) { // the reading may be an old one
		row.Doubt.Answer = &got
		row.Retry = credential.Retry{For: credential.StepSettle, At: again}
		return r.save(ctx, &row)
	}
	row = withReservation(row, got)
	ch := r.begin()
	ch.refer(row)
	_, entry, err := ch.apply(row, givenToAnother(credential.ReasonGivenToAnother, r.actor))
	if err != nil {
		return err
	}
	if entry == nil { // final already
		ch = r.begin()
		ch.row(row)
	}
	return ch.commit(ctx)
}

// takeOver is for a mobile ID that another credential of ours has. If that one is not accepted, it loses the ID in this
// transaction; if it is, the offer is the provider's mistake. While another process acts for the loser, the answer
// waits on the row.
func (r *run) takeOver(
	ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner,
) error {
	loser, err := r.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	switch {
	case err != nil || !loser.IsLive():
		return r.recordReserved(ctx, row, got, owner, nil)
	case loser.Stage != credential.StageInvited:
		return r.keepAside(ctx, row, got, &loser)
	case loser.HolderID == row.HolderID: // the claim is ours
		return r.recordReserved(ctx, row, got, owner, &loser)
	}
	item, err := r.Store.WorkItem(ctx, loser.HolderID, loser.Account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if item.Claim.Active(r.Now()) {
		row.Doubt.Answer = &got
		row.Retry = credential.Retry{For: credential.StepSettle, At: r.Now().Add(takeOverRetry)}
		return r.save(ctx, &row)
	}
	return r.recordReserved(ctx, row, got, owner, &loser)
}

// recordReserved makes a mobile ID the row's own. owner is what was read of it, with revision 0 for nothing; loser, if
// any, ends reassigned in the same transaction.
func (r *run) recordReserved(
	ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner,
	loser *credential.Credential,
) error {
	ch := r.begin()
	from := row.State()
	row = withReservation(row, got)
	if row.IsLive() {
		profile, err := r.Store.Profile(ctx, row.ProfileID)
		if err != nil {
			return err
		}
		row.Invitation.ExpiresAt = deadline(ch.at(), profile, got)
		row.Invitation.Code = got.Code
		row.Invitation.CodeHint = codeHint(got.Code)
	}
	if loser != nil {
		if err := r.endLoser(ch, row, *loser); err != nil {
			return err
		}
	}
	if row.IsLive() && row.Replaces != "" {
		if err := r.endReplaced(ctx, ch, row); err != nil {
			return err
		}
	}
	row = ch.row(row)
	entry := credential.Entry(row, credential.Event{Kind: credential.EventReserved, Actor: r.actor}, from, ch.at())
	if loser != nil {
		entry.PreviousHolderID, entry.PreviousCredentialID = loser.HolderID, loser.ID
	}
	ch.note(entry)
	ch.reserve(row, owner)
	return ch.commit(ctx)
}

// endLoser ends the credential that loses its mobile ID to a row, provided that no process is acting for its holder.
func (r *run) endLoser(ch *change, row, loser credential.Credential) error {
	if loser, _, err := ch.apply(loser, givenToAnother(credential.ReasonTakenOver, r.actor)); err != nil {
		return err
	} else if loser.HolderID != row.HolderID {
		ch.whileUnclaimed(loser)
	}
	return nil
}

// deadline is when an invitation expires: after the profile's days, or when the provider says so if that is earlier.
func deadline(now time.Time, profile credential.Profile, got credential.Reserved) *time.Time {
	at := now.AddDate(0, 0, profile.InvitationDays)
	if got.ExpiresAt != nil && got.ExpiresAt.Before(at) {
		at = got.ExpiresAt.UTC().Truncate(time.Millisecond)
	}
	return &at
}

// codeHint is the end of an invitation code, for a person to compare.
func codeHint(code credential.Secret) string {
	text := code.Reveal()
	if len(text) < 8 {
		return ""
	}
	return "…" + text[len(text)-4:]
}

// endReplaced ends the credential that an upgrade replaces.
func (r *run) endReplaced(ctx context.Context, ch *change, row credential.Credential) error {
	old, err := r.Store.Credential(ctx, row.HolderID, row.Replaces)
	if errors.Is(err, store.ErrNotFound) || err == nil && !old.IsLive() {
		return nil
	}
	if err != nil || ch.writes(old.ID) { // lost to the take-over in this very transaction
		return err
	}
	_, err = ch.end(ctx, old, ending(credential.EndUpgrade, r.actor))
	return err
}

// withReservation makes a reservation the row's own. What was kept aside is of no more use and has to be released.
func withReservation(row credential.Credential, got credential.Reserved) credential.Credential {
	row.Reservation, row.Doubt = credential.ReservationHeld, nil
	row.UserID, row.InvitationRef, row.CredentialRef, row.Mobile = got.UserID, got.InvitationRef, got.CredentialRef,
		got.Mobile
	row.Strays = slices.DeleteFunc(slices.Concat(row.Strays, row.Aside), func(t credential.Reserved) bool {
		return t.InvitationRef != "" && t.InvitationRef == got.InvitationRef
	})
	row.Aside, row.Waiting = nil, false
	row.Retry = credential.Retry{}
	return row
}
