package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// asideLimit is how many spent mobile IDs are kept aside before giving up on the provider's pool (R5).
const asideLimit = 3

// obtainedRetry is how soon a take-over that has to wait for the loser's claim is tried again.
const obtainedRetry = 5 * time.Second

// issue reserves a mobile ID. Before the provider is asked, the row says so and what the provider's user already had: whatever
// becomes of the answer, settle can then find out what it was.
func (r *run) issue(ctx context.Context, c credential.Credential) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	before, err := r.user(ctx)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		before = provider.User{}
	case errors.Is(err, provider.ErrEmailInUse):
		return r.fail(ctx, c, credential.ReasonEmailInUse)
	case err != nil:
		return err
	}
	doubt := &credential.Doubt{ID: r.NewID(), At: r.Now(), UserID: before.ID}
	for _, i := range before.Invitations {
		doubt.Invitations = append(doubt.Invitations, i.ID)
	}
	for _, k := range before.Credentials {
		doubt.Credentials = append(doubt.Credentials, k.ID)
	}
	c.Reservation, c.Doubt = credential.ReservationInDoubt, doubt
	if err := r.Store.Commit(ctx, r.rowChange(&c)); err != nil {
		return err
	}

	reserved, err := p.Reserve(ctx, before.ID, person(r.holder), c.PartNumber)
	switch r.heard(err); {
	case err == nil:
		if before.ID == "" {
			if err := r.knowUser(ctx, reserved.UserID, personHash(r.holder)); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
		return r.obtained(ctx, c, reserved)
	case errors.Is(err, provider.ErrUnavailable), errors.Is(err, provider.ErrOverLimit):
		// Over the limit means that nothing was done, says the provider; but it says so with a status that gateways in front of it use
		// as well, and a doubt costs one reading.
		return err
	}
	// Nothing was reserved.
	if undo := r.undoubt(ctx, c); undo != nil {
		return undo
	}
	switch {
	case errors.Is(err, provider.ErrEmpty):
		return r.fail(ctx, c, credential.ReasonNoLicenceLeft)
	case errors.Is(err, provider.ErrEmailInUse):
		return r.fail(ctx, c, credential.ReasonEmailInUse)
	case errors.Is(err, provider.ErrNotFound):
		// The user was deleted between the reading and the request.
		return errors.Join(r.knowUser(ctx, "", ""), err)
	case errors.Is(err, provider.ErrRefused):
		return r.fail(ctx, c, credential.ReasonRefusedByProvider)
	}
	return err
}

// undoubt ends a doubt that turned out to stand for nothing.
func (r *run) undoubt(ctx context.Context, c credential.Credential) error {
	return r.change(ctx, c, func(fresh *credential.Credential) bool {
		if !sameDoubt(*fresh, c) {
			return false
		}
		fresh.Reservation, fresh.Doubt = credential.ReservationNone, nil
		return true
	})
}

func sameDoubt(a, b credential.Credential) bool {
	return a.Doubt != nil && b.Doubt != nil && a.Doubt.ID == b.Doubt.ID
}

// fail ends a credential the provider refuses for good.
func (r *run) fail(ctx context.Context, c credential.Credential, reason string) error {
	_, err := r.commitEvent(ctx, c, credential.Event{Kind: credential.EventRefused, Reason: reason, Actor: r.actor}, nil)
	if err == nil {
		r.Count(MetricFailed)
	}
	return err
}

// obtained records what the provider gave us for the doubt of a row: in one transaction the mobile ID is ours, and no longer that of
// whoever had it before (R10). A spent one is kept aside instead (R5). It is recorded whatever the row has come to want: a row that
// is to be gone has to know what to give back.
func (r *run) obtained(ctx context.Context, c credential.Credential, got credential.Reserved) error {
	return r.again(ctx, func() error {
		row, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		if !sameDoubt(row, c) {
			return r.recordStray(ctx, row, got)
		}
		if ours, err := r.unclaimed(ctx, row, credential.RefInvitation, got.InvitationRef); err != nil {
			return err
		} else if !ours { // another doubt of this holder was settled with it meanwhile
			return r.undoubt(ctx, row)
		}
		owner, err := r.Store.Owner(ctx, row.Account, got.Mobile.ID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		switch {
		case owner.State == credential.OwnerSpent:
			return r.keepAside(ctx, row, got, nil)
		case owner.State == credential.OwnerForeign:
			return r.obtainedFromForeign(ctx, row, got, owner)
		case owner.State == credential.OwnerHeld && owner.CredentialID != row.ID:
			return r.takeOver(ctx, row, got, owner)
		}
		return r.recordReserved(ctx, row, got, owner, nil)
	})
}

// recordStray keeps an answer that came when the row had been settled without it, so that it is released; unless it is what the row
// has been settled with.
func (s *Service) recordStray(ctx context.Context, row credential.Credential, got credential.Reserved) error {
	if row.InvitationRef == got.InvitationRef {
		return nil
	}
	row.Strays = append(slices.Clone(row.Strays), got)
	change := s.rowChange(&row)
	addTouch(&change, row, false)
	return s.Store.Commit(ctx, change)
}

// keepAside holds on to a mobile ID that must not be used, so that the provider offers another; after three it gives up. loser is the
// credential that has it, when that is worth a note in its history.
func (r *run) keepAside(ctx context.Context, row credential.Credential, got credential.Reserved, loser *credential.Credential) error {
	row.Aside = append(slices.Clone(row.Aside), got)
	row.Reservation, row.Doubt = credential.ReservationNone, nil
	if row.UserID == "" {
		row.UserID = got.UserID
	}
	event := credential.Event{Kind: credential.EventSpentIDOffered, Reason: credential.ReasonSpentIDOffered, Actor: r.actor}
	change := credential.Change{At: r.Now()}
	after, entry, err := credential.Apply(row, event, change.At)
	if err != nil {
		return err
	}
	entry.Mobile = got.Mobile
	change.Credentials = append(change.Credentials, after)
	change.History = append(change.History, *entry)
	if loser != nil {
		if _, err := addEvent(&change, *loser, credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother, Actor: r.actor}); err != nil {
			return err
		}
	}
	if err := r.Store.Commit(ctx, change); err != nil {
		return err
	}
	r.anomaly(ctx, *entry)
	if after.IsLive() && len(after.Aside) >= asideLimit {
		return r.fail(ctx, after, credential.ReasonOnlySpentIDsOffered)
	}
	return nil
}

// obtainedFromForeign is for a mobile ID that we believe to be somebody else's. Either the provider has given it to us since, or it
// took it from us before we even knew; the user tells.
func (r *run) obtainedFromForeign(ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	u, err := p.User(ctx, got.UserID)
	if err := r.heard(err); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err // still in doubt, and settled later
	}
	if hasCredential(u, got.CredentialRef, got.Mobile.ID) {
		return r.recordReserved(ctx, row, got, owner, nil)
	}
	row = withReservation(row, got)
	change := credential.Change{At: r.Now(), Refs: refsOf(row)}
	after, err := addEvent(&change, row, credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother, Actor: r.actor})
	if err != nil {
		return err
	}
	if len(change.Credentials) == 0 { // final already
		change = r.rowChange(&after)
	}
	return r.Store.Commit(ctx, change)
}

// takeOver is for a mobile ID that another credential of ours has. If that one is not accepted, it loses it in this transaction; if
// it is, the offer is the provider's mistake. While somebody acts for the loser, the answer is parked.
func (r *run) takeOver(ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner) error {
	loser, err := r.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if errors.Is(err, store.ErrNotFound) {
		return r.recordReserved(ctx, row, got, owner, nil)
	}
	if err != nil {
		return err
	}
	if !loser.IsLive() {
		return r.recordReserved(ctx, row, got, owner, nil)
	}
	if loser.Stage != credential.StageInvited {
		return r.keepAside(ctx, row, got, &loser)
	}
	if loser.HolderID == row.HolderID { // the claim is ours
		return r.recordReserved(ctx, row, got, owner, &loser)
	}
	item, err := r.Store.WorkItem(ctx, loser.HolderID, loser.Account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if item.Claim.Active(r.Now()) {
		row.Doubt.Obtained = &got
		row.Retry = credential.Retry{For: credential.StepSettle, At: r.Now().Add(obtainedRetry)}
		return r.Store.Commit(ctx, r.rowChange(&row))
	}
	return r.recordReserved(ctx, row, got, owner, &loser)
}

// recordReserved makes a mobile ID the row's own. owner is what was read of it, with revision 0 for nothing; loser, if any, ends
// reassigned in the same transaction.
func (r *run) recordReserved(ctx context.Context, row credential.Credential, got credential.Reserved, owner credential.Owner, loser *credential.Credential) error {
	change := credential.Change{At: r.Now()}
	from := row.State()
	row = withReservation(row, got)
	row.UpdatedAt = change.At
	row.Revision++
	entry := credential.Entry(row, credential.Event{Kind: credential.EventReserved, Actor: r.actor}, from, change.At)
	if row.IsLive() {
		profile, err := r.Store.Profile(ctx, row.ProfileID)
		if err != nil {
			return err
		}
		deadline := change.At.AddDate(0, 0, profile.InvitationDays)
		if got.ExpiresAt != nil && got.ExpiresAt.Before(deadline) {
			deadline = got.ExpiresAt.UTC().Truncate(time.Millisecond)
		}
		row.Invitation.ExpiresAt = &deadline
		row.Invitation.Code = got.Code
		row.Invitation.CodeHint = codeHint(got.Code)
	}
	if loser != nil {
		entry.PreviousHolderID, entry.PreviousCredentialID = loser.HolderID, loser.ID
		e := credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonTakenOver, Actor: r.actor}
		if _, err := addEvent(&change, *loser, e); err != nil {
			return err
		}
		change.Touch[len(change.Touch)-1].Unclaimed = loser.HolderID != row.HolderID
	}
	if row.IsLive() && row.Replaces != "" {
		if err := r.endReplaced(ctx, &change, row); err != nil {
			return err
		}
	}
	change.Credentials = append(change.Credentials, row)
	change.History = append(change.History, entry)
	change.Refs = refsOf(row)
	change.Owners = append(change.Owners, credential.Owner{
		Account: row.Account, MobileID: got.Mobile.ID, State: credential.OwnerHeld,
		HolderID: row.HolderID, CredentialID: row.ID, UpdatedAt: change.At, Revision: owner.Revision + 1,
	})
	return r.Store.Commit(ctx, change)
}

// endReplaced ends the credential that an upgrade replaces.
func (r *run) endReplaced(ctx context.Context, change *credential.Change, row credential.Credential) error {
	old, err := r.Store.Credential(ctx, row.HolderID, row.Replaces)
	if errors.Is(err, store.ErrNotFound) || err == nil && !old.IsLive() {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range change.Credentials {
		if c.ID == old.ID { // lost to the take-over in this very transaction
			return nil
		}
	}
	_, err = r.addEnd(ctx, change, old, credential.EndUpgrade, r.actor)
	return err
}

// withReservation makes a reservation the row's own. What was kept aside is of no more use and has to be released.
func withReservation(row credential.Credential, got credential.Reserved) credential.Credential {
	row.Reservation, row.Doubt = credential.ReservationHeld, nil
	row.UserID, row.InvitationRef, row.CredentialRef, row.Mobile = got.UserID, got.InvitationRef, got.CredentialRef, got.Mobile
	row.Strays = append(slices.Clone(row.Strays), row.Aside...)
	row.Aside = nil
	row.Retry = credential.Retry{}
	return row
}

func refsOf(c credential.Credential) []credential.Ref {
	refs := []credential.Ref{{Account: c.Account, Kind: credential.RefUser, ID: c.UserID, HolderID: c.HolderID}}
	for _, r := range []credential.Ref{{Kind: credential.RefInvitation, ID: c.InvitationRef}, {Kind: credential.RefCredential, ID: c.CredentialRef}} {
		if r.ID != "" {
			r.Account, r.HolderID, r.CredentialID = c.Account, c.HolderID, c.ID
			refs = append(refs, r)
		}
	}
	return refs
}

// settle finds out what became of a reservation whose answer was lost: whatever the provider's user has now, did not have before, and
// nobody else claims, is ours.
func (r *run) settle(ctx context.Context, c credential.Credential) error {
	if c.Doubt.Obtained != nil {
		return r.obtained(ctx, c, *c.Doubt.Obtained)
	}
	u, err := r.user(ctx)
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrEmailInUse) {
		return r.undoubt(ctx, c)
	}
	if err != nil {
		return err
	}
	invitations, credentials, err := r.unexplained(ctx, c, u)
	if err != nil {
		return err
	}
	switch {
	case len(invitations) == 0 && len(credentials) == 0:
		return r.undoubt(ctx, c)
	case len(invitations) == 1 && len(credentials) == 1:
		return r.obtained(ctx, c, r.reservedOf(ctx, c, u, invitations[0], credentials[0]))
	}
	// The provider does not say which invitation goes with which mobile ID, so one can be picked only when there is one. All of
	// them go back, and a new one is asked for.
	return r.change(ctx, c, func(fresh *credential.Credential) bool {
		if !sameDoubt(*fresh, c) {
			return false
		}
		for i := range max(len(invitations), len(credentials)) {
			stray := credential.Reserved{UserID: u.ID}
			if i < len(invitations) {
				stray.InvitationRef = invitations[i].ID
			}
			if i < len(credentials) {
				stray.CredentialRef, stray.Mobile = credentials[i].ID, &credentials[i].MobileID
			}
			fresh.Strays = append(fresh.Strays, stray)
		}
		fresh.Reservation, fresh.Doubt = credential.ReservationNone, nil
		return true
	})
}

// unexplained lists what a user has that a doubt explains: new since, of its part number, and in nobody's name.
func (r *run) unexplained(ctx context.Context, c credential.Credential, u provider.User) (invitations []provider.Invitation, credentials []provider.Credential, err error) {
	rows, err := r.Store.Credentials(ctx, c.HolderID)
	if err != nil {
		return nil, nil, err
	}
	// What another row knows of without having it as its own, such as an answer that waits for a take-over.
	noted := map[string]bool{}
	for _, row := range rows {
		if row.ID == c.ID || row.Account != c.Account {
			continue
		}
		of := append(slices.Clone(row.Aside), row.Strays...)
		if row.Doubt != nil && row.Doubt.Obtained != nil {
			of = append(of, *row.Doubt.Obtained)
		}
		for _, t := range of {
			noted["i"+t.InvitationRef], noted["c"+t.CredentialRef] = true, true
		}
	}
	for _, i := range u.Invitations {
		if noted["i"+i.ID] || slices.Contains(c.Doubt.Invitations, i.ID) || i.Status != provider.InvitationPending && i.Status != provider.InvitationAccepted {
			continue
		}
		if free, err := r.unclaimed(ctx, c, credential.RefInvitation, i.ID); err != nil {
			return nil, nil, err
		} else if free {
			invitations = append(invitations, i)
		}
	}
	for _, k := range u.Credentials {
		if noted["c"+k.ID] || slices.Contains(c.Doubt.Credentials, k.ID) || k.PartNumber != c.PartNumber {
			continue
		}
		if free, err := r.unclaimed(ctx, c, credential.RefCredential, k.ID); err != nil {
			return nil, nil, err
		} else if free {
			credentials = append(credentials, k)
		}
	}
	return invitations, credentials, nil
}

// unclaimed says whether no other credential of ours has a provider's record.
func (r *run) unclaimed(ctx context.Context, c credential.Credential, kind credential.RefKind, id string) (bool, error) {
	ref, err := r.Store.Ref(ctx, c.Account, kind, id)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return ref.CredentialID == c.ID, err
}

// reservedOf puts a reservation together from what was read of it.
func (r *run) reservedOf(ctx context.Context, c credential.Credential, u provider.User, i provider.Invitation, k provider.Credential) credential.Reserved {
	mobile := k.MobileID
	if p, err := r.at(ctx); err == nil && mobile.Format == "" {
		// What is printed on the card is worth a call, not a failure.
		if stock, err := p.Stock(ctx, c.PartNumber); err == nil {
			mobile.Format, mobile.FacilityCode = stock.Format, stock.FacilityCode
		}
	}
	return credential.Reserved{UserID: u.ID, InvitationRef: i.ID, CredentialRef: k.ID, Mobile: &mobile, Code: i.Code, ExpiresAt: i.ExpiresAt}
}

func hasCredential(u provider.User, ref, mobileID string) bool {
	return slices.ContainsFunc(u.Credentials, func(k provider.Credential) bool { return k.ID == ref || k.MobileID.ID == mobileID })
}
