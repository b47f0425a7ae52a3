package issuance

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Refresh learns what a provider reports of one of its users: it asks the provider for the truth, once, and brings the
// rows of that user, and of every other holder concerned, in line with it; then it does what that has made due. Order
// and repetition of reports do not matter. An error means that the report should come again: a kind of package provider
// when the provider is in trouble, anything else when the store is.
func (s *Service) Refresh(ctx context.Context, facts provider.UserFacts) error {
	concerned := map[string]bool{}
	err := s.untilNoConflict(ctx, func() error {
		rf := &refresh{Service: s, reported: facts, actor: providerActor(facts.Account), concerned: concerned}
		return rf.run(ctx)
	})
	// In one order, so that a failing life of the simulation can be played again.
	for _, holderID := range slices.Sorted(maps.Keys(concerned)) {
		if _, e := s.work(ctx, holderID, facts.Account, providerActor(facts.Account), false); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

func providerActor(account string) credential.Actor {
	return credential.Actor{Type: credential.ActorProvider, ID: account}
}

// refresh is one attempt to bring our rows in line with what was reported.
type refresh struct {
	*Service
	reported  provider.UserFacts
	actor     credential.Actor
	concerned map[string]bool // holders for whom something was written, by id
}

func (rf *refresh) run(ctx context.Context) error {
	rows, err := rf.rowsOfUser(ctx)
	if err != nil {
		return err
	}
	if err := rf.byMobileID(ctx); err != nil {
		return err
	}
	isNews := func(f provider.Fact) bool { return observe.IsNews(f, rows) }
	if rf.reported.UserID == "" || !slices.ContainsFunc(rf.reported.Facts, isNews) {
		return nil
	}
	p, err := rf.Providers.Provider(ctx, rf.reported.Account)
	if err != nil {
		return err
	}
	u, err := readUser(ctx, p, rf.reported.UserID)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if err := rf.apply(ctx, c, observe.Reading{User: u, Facts: rf.reported.Facts}); err != nil {
			return err
		}
	}
	if u == nil {
		return nil
	}
	for _, k := range u.Credentials {
		isUnnamed := k.MobileID.Number == ""
		explains := func(c credential.Credential) bool { return observe.Explains(c, k) }
		if isUnnamed || slices.ContainsFunc(rows, explains) {
			continue
		}
		if len(rows) > 0 {
			rf.Count(MetricUnexplained)
			rf.Log.WarnContext(ctx, "reservation of another system",
				"account", rf.reported.Account, "userId", u.ID, "credentialRef", k.ID)
		}
		if err := rf.withAnother(ctx, p, k); err != nil {
			return err
		}
	}
	return nil
}

// rowsOfUser lists our rows of the reported user: those that have it, and those in doubt whether they have.
func (rf *refresh) rowsOfUser(ctx context.Context) ([]credential.Credential, error) {
	account, userID := rf.reported.Account, rf.reported.UserID
	if userID == "" {
		return nil, nil
	}
	ref, err := rf.Store.Ref(ctx, account, credential.RefUser, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := rf.Store.Credentials(ctx, ref.HolderID)
	return slices.DeleteFunc(rows, func(c credential.Credential) bool {
		return c.Account != account || c.UserID != userID && c.Reservation != credential.ReservationInDoubt
	}), err
}

// byMobileID reads the users of our credentials whose mobile ID is reported without a user, or of a user that is not
// theirs: by the time we ask, that user may not have it any more, and ours neither.
func (rf *refresh) byMobileID(ctx context.Context) error {
	checked := map[string]bool{}
	for _, f := range rf.reported.Facts {
		if f.MobileID == "" || checked[f.MobileID] {
			continue
		}
		checked[f.MobileID] = true
		c, err := rf.lastOwner(ctx, f.MobileID)
		if err != nil {
			return err
		}
		if c == nil || !rf.mayConcern(f, *c) {
			continue
		}
		p, err := rf.Providers.Provider(ctx, rf.reported.Account)
		if err != nil {
			return err
		}
		r := observe.Reading{Facts: rf.reported.Facts}
		if rf.reported.UserID != "" { // then the facts are about another user's records
			r = observe.Reading{WithAnother: true}
		}
		if r.User, err = readUser(ctx, p, c.UserID); err != nil {
			return err
		}
		if err := rf.apply(ctx, *c, r); err != nil {
			return err
		}
	}
	return nil
}

// mayConcern says whether a fact about its mobile ID could change a credential whose own user it was not reported of.
func (rf *refresh) mayConcern(f provider.Fact, c credential.Credential) bool {
	switch rf.reported.UserID {
	case c.UserID:
		return false
	case "":
		return c.Stage != credential.StageActivated || f.Status != provider.FactReserved
	}
	return c.Stage == credential.StageInvited
}

// lastOwner finds the credential that has a mobile ID, or had it last; nil for none.
func (rf *refresh) lastOwner(ctx context.Context, mobileID string) (*credential.Credential, error) {
	owner, err := rf.Store.Owner(ctx, rf.reported.Account, mobileID)
	if errors.Is(err, store.ErrNotFound) || err == nil && owner.CredentialID == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := rf.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &c, err
}

// withAnother is for a credential seen in a user where none of our rows explains it: it is that user's, and its mobile
// ID no longer that of the credential of ours that had it, unless it was accepted (R5, R10).
func (rf *refresh) withAnother(ctx context.Context, p provider.Provider, k provider.Credential) error {
	owner, err := rf.Store.Owner(ctx, rf.reported.Account, k.MobileID.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if owner.State == credential.OwnerForeign {
		return nil
	}
	if owner.State != credential.OwnerHeld && owner.State != credential.OwnerSpent {
		return rf.recordForeign(ctx, k.MobileID.ID, owner.Revision)
	}
	c, err := rf.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner.State == credential.OwnerHeld && !c.IsLive() {
		// Otherwise a reservation of ours whose answer is under way would be taken for one that we were given.
		if err := rf.recordForeign(ctx, k.MobileID.ID, owner.Revision); err != nil {
			return err
		}
	}
	if c.IsLive() && c.Stage == credential.StageInvited {
		own, err := readUser(ctx, p, c.UserID)
		if err != nil {
			return err
		}
		if own != nil {
			if _, listed := own.Credential(c.Reserved()); listed {
				return nil
			}
		}
		return rf.apply(ctx, c, observe.Reading{User: own, WithAnother: true})
	}
	e := credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother}
	if k.Device != nil && !k.Issuing && c.Stage == credential.StageActivated {
		e = credential.Event{
			Kind: credential.EventActivated, Reason: credential.ReasonActivatedElsewhere, Device: k.Device,
		}
	}
	_, err = rf.applyObserved(ctx, c, nil, e, rf.actor)
	return err
}

// recordForeign notes that a user unknown to us has a mobile ID. revision is what was read of its owner.
func (rf *refresh) recordForeign(ctx context.Context, mobileID string, revision int64) error {
	ch := rf.begin()
	ch.owner(credential.Owner{
		Account: rf.reported.Account, MobileID: mobileID, State: credential.OwnerForeign, Revision: revision,
	})
	return ch.commit(ctx)
}

// apply applies a reading to a row and notes its holder if anything came of it.
func (rf *refresh) apply(ctx context.Context, c credential.Credential, r observe.Reading) error {
	before := c.Revision
	err := rf.applyReading(ctx, &c, r, rf.actor)
	if c.Revision != before {
		rf.concerned[c.HolderID] = true
	}
	return err
}
