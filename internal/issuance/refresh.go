package issuance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Refresh learns what a provider reports of one of its users: it asks the provider for the truth, once, and brings the
// rows of that user, and of every other holder concerned, in line with it; then it does what that has made due. Order
// and repetition of reports do not matter. While the provider cannot be asked, the reports are kept on the rows they
// may concern, which are looked at later; what concerns no row of ours comes again with the feed. So an error means
// that the store is unwell, and that the report should come again.
func (s *Service) Refresh(ctx context.Context, facts provider.UserFacts) error {
	concerned := map[string]bool{}
	outage, err := s.Store.Outage(ctx, facts.Account)
	if err != nil {
		return err
	}
	var trouble error
	err = s.untilNoConflict(ctx, func() error {
		rf := &refresh{Service: s, reported: facts, actor: providerActor(facts.Account), concerned: concerned}
		if trouble = nil; !outage.IsOpen() {
			err := rf.run(ctx)
			if !isTrouble(err) {
				return err
			}
			trouble = err
		}
		return rf.keepForLater(ctx)
	})
	if trouble != nil && err == nil {
		s.Log.WarnContext(
			ctx,
			"report kept for later",
			"account",
			facts.Account,
			"userId",
			facts.UserID,
			"code",
			troubleCode(trouble),
		)
		err = s.changeOutage(ctx, facts.Account, outage, s.afterTrouble(outage, facts.UserID, trouble))
	}
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
	if len(rows) == 0 {
		mayHaveOurs, err := rf.ofStranger(ctx)
		if err != nil || !mayHaveOurs {
			return err
		}
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
		if c.Reservation == credential.ReservationInDoubt && slices.ContainsFunc(rf.reported.Facts, observe.Ends) {
			// It may be about the very answer that the row still waits for.
			if err := rf.keepReports(ctx, c, rf.Now()); err != nil {
				return err
			}
			continue
		}
		if err := rf.apply(ctx, c, observe.Reading{User: u, Facts: rf.reported.Facts}); err != nil {
			return err
		}
		if err := rf.hasten(ctx, c, u); err != nil {
			return err
		}
	}
	if u == nil {
		return nil
	}
	all := rows
	if len(rows) > 0 {
		if all, err = rf.recordLate(ctx, rows[0].HolderID, *u); err != nil {
			return err
		}
	}
	for _, k := range u.Credentials {
		isUnnamed := k.MobileID.Number == ""
		explains := func(c credential.Credential) bool { return observe.Explains(c, k) }
		if isUnnamed || slices.ContainsFunc(all, explains) {
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

// hasten has a release that waits for a phone looked at now, when a reading no longer shows what is released.
func (rf *refresh) hasten(ctx context.Context, c credential.Credential, u *provider.User) error {
	if c.IsLive() || c.ReleaseAt == nil || u != nil && u.Holds(c.Reserved()) {
		return nil
	}
	ch := rf.begin()
	c.ReleaseAt = nil
	ch.touch(ch.row(c))
	rf.concerned[c.HolderID] = true
	return ch.commit(ctx)
}

// recordLate has released what a user of ours has because a request was carried out long after we gave it up, and
// returns all rows of the holder as they then are.
func (rf *refresh) recordLate(ctx context.Context, holderID string, u provider.User) ([]credential.Credential, error) {
	rows, err := rf.Store.Credentials(ctx, holderID)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(c credential.Credential) bool { return c.Account != rf.reported.Account })
	for i, c := range rows {
		strays, explained, _ := observe.Late(c, rows, u)
		if len(strays) == 0 || !addStrays(strays, explained)(&c) {
			continue
		}
		ch := rf.begin()
		rows[i] = ch.row(c)
		ch.touch(c)
		if err := ch.commit(ctx); err != nil {
			return nil, err
		}
		rf.concerned[holderID] = true
	}
	return rows, nil
}

// ofStranger is for a report of a user that none of our rows has. The provider is not asked about strangers: their
// facts and our own items tell what there is to know. It notes which mobile IDs they have that are none of ours, and
// says whether they may have one that is.
func (rf *refresh) ofStranger(ctx context.Context) (mayHaveOurs bool, err error) {
	noted := map[string]bool{}
	for _, f := range rf.reported.Facts {
		if rf.reported.UserID == "" || f.MobileID == "" || noted[f.MobileID] || !observe.Gives(f) {
			continue
		}
		noted[f.MobileID] = true
		owner, err := rf.Store.Owner(ctx, rf.reported.Account, f.MobileID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		switch owner.State {
		case credential.OwnerHeld, credential.OwnerSpent:
			mayHaveOurs = true
			continue
		case credential.OwnerForeign: // seen last with the one that the provider named last
			if owner.UserID == rf.reported.UserID || f.At.Before(owner.SeenAt) {
				continue
			}
		}
		user := rf.reported.UserID
		if f.At.Equal(owner.SeenAt) { // which of the two came last, only a reading tells
			user = ""
		}
		if err := rf.recordForeign(ctx, f.MobileID, user, f.At, owner.Revision); err != nil {
			return false, err
		}
	}
	return mayHaveOurs, nil
}

// keepForLater keeps what was reported on the rows that it may concern, and asks for a look at them.
func (rf *refresh) keepForLater(ctx context.Context) error {
	rows, err := rf.rowsOfUser(ctx)
	if err != nil {
		return err
	}
	for _, f := range rf.reported.Facts {
		if f.MobileID == "" {
			continue
		}
		c, err := rf.lastOwner(ctx, f.MobileID)
		if err != nil {
			return err
		}
		known := func(row credential.Credential) bool { return row.ID == c.ID }
		if c != nil && rf.mayConcern(f, *c) && !slices.ContainsFunc(rows, known) {
			rows = append(rows, *c)
		}
	}
	for _, c := range rows {
		if err := rf.keepReports(ctx, c, rf.Now()); err != nil {
			return err
		}
	}
	return nil
}

// keepReports keeps what was reported on one row, as far as it fits and is not kept already, and asks for a look at it.
func (rf *refresh) keepReports(ctx context.Context, c credential.Credential, look time.Time) error {
	ch := rf.begin()
	c.Reports = slices.Clone(c.Reports)
	kept := len(c.Reports)
	ofAnother := rf.reported.UserID != "" && rf.reported.UserID != c.UserID &&
		c.Reservation != credential.ReservationInDoubt // which does not know its user yet
	for _, f := range rf.reported.Facts {
		// Another user's records explain nothing of this row, but that they have its mobile ID.
		if ofAnother && (c.Mobile == nil || f.MobileID != c.Mobile.ID) {
			continue
		}
		r := credential.Report{
			What: string(
				f.What,
			), Ref: f.Ref, Status: string(f.Status), DeviceID: f.DeviceID, MobileID: f.MobileID, At: f.At,
		}
		if ofAnother {
			r.OtherUserID = rf.reported.UserID
		}
		if len(c.Reports) < credential.ReportLimit && f.Status != provider.FactOther && !slices.Contains(c.Reports, r) {
			c.Reports = append(c.Reports, r)
		}
	}
	isKept := kept == len(c.Reports)
	if isKept && c.LookAt != nil && !c.LookAt.After(look) {
		return nil
	}
	if c.LookAt == nil || c.LookAt.After(look) {
		c.LookAt = &look
	}
	ch.touch(ch.row(c))
	return ch.commit(ctx)
}

// reportedOf are the facts that were kept on a row of its own user's records, and what was reported of other users that
// may have its mobile ID.
func reportedOf(c credential.Credential) (facts []provider.Fact, others []credential.Report) {
	for _, r := range c.Reports {
		if r.OtherUserID != "" {
			others = append(others, r)
			continue
		}
		facts = append(facts, provider.Fact{
			What: provider.What(r.What), Ref: r.Ref, Status: provider.FactStatus(r.Status),
			DeviceID: r.DeviceID, MobileID: r.MobileID, At: r.At,
		})
	}
	return facts, others
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
		if r.User, err = readUser(ctx, p, c.UserID); err != nil {
			return err
		}
		isOfOther := rf.reported.UserID != ""
		if isOfOther { // then the facts are about another user's records
			r.Facts = nil
			r.WithAnother, err = rf.isWithOther(ctx, p, *c, r.User, rf.reported.UserID, f.At)
			if err != nil {
				return err
			}
		}
		if err := rf.apply(ctx, *c, r); err != nil {
			return err
		}
		if isOfOther && !r.WithAnother && !isListed(r.User, *c) { // one of the two readings is an old one
			if err := rf.lookAgain(ctx, *c); err != nil {
				return err
			}
		}
	}
	return nil
}

// isListed says whether a credential's own user lists its mobile ID.
func isListed(u *provider.User, c credential.Credential) bool {
	if u == nil {
		return false
	}
	_, listed := u.Credential(c.Reserved())
	return listed
}

// isWithOther says whether another user, of whom that was reported for a moment, has a credential's mobile ID, and its
// own user, as it was read, does not. The report alone is believed only where the provider is not known to list what
// is only reserved: if it is not older than our reservation, and the second reading does not list the mobile ID either.
func (s *Service) isWithOther(
	ctx context.Context, p provider.Provider, c credential.Credential, own *provider.User, otherID string, at time.Time,
) (bool, error) {
	if isListed(own, c) {
		return false, nil
	}
	lists, err := s.listsReserved(ctx, c.Account)
	if err != nil {
		return false, err
	}
	if !lists && c.MissingAt != nil && s.Now().Sub(*c.MissingAt) >= observe.AbsentFor {
		owner, err := s.Store.Owner(ctx, c.Account, c.Mobile.ID)
		if err != nil {
			return false, err
		}
		if at.After(reservedBefore(c, own, owner)) {
			return true, nil
		}
	}
	other, err := readUser(ctx, p, otherID)
	if err != nil || other == nil {
		return false, err
	}
	return slices.ContainsFunc(other.Credentials, func(k provider.Credential) bool {
		return k.MobileID.ID == c.Mobile.ID
	}), nil
}

// reservedBefore is a moment at which our reservation of a credential's mobile ID had been made: by the provider's word
// for its invitation, to the second, or else when we recorded it, which may have been long after.
func reservedBefore(c credential.Credential, own *provider.User, owner credential.Owner) time.Time {
	recorded := owner.UpdatedAt
	if own == nil {
		return recorded
	}
	for _, i := range own.Invitations {
		made := i.CreatedAt.Add(time.Second)
		if i.ID == c.InvitationRef && !i.CreatedAt.IsZero() && made.Before(recorded) {
			return made
		}
	}
	return recorded
}

// lookAgain keeps what was reported on a row and has the provider read again a while later.
func (rf *refresh) lookAgain(ctx context.Context, c credential.Credential) error {
	newest, err := rf.Store.Credential(ctx, c.HolderID, c.ID)
	if err != nil {
		return err
	}
	return rf.keepReports(ctx, newest, rf.Now().Add(observe.AbsentFor))
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
		return rf.recordForeign(ctx, k.MobileID.ID, rf.reported.UserID, rf.Now(), owner.Revision)
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
		if err := rf.recordForeign(ctx, k.MobileID.ID, rf.reported.UserID, rf.Now(), owner.Revision); err != nil {
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

// recordForeign notes that a user unknown to us had a mobile ID at a moment. revision is what was read of its owner.
func (rf *refresh) recordForeign(ctx context.Context, mobileID, userID string, at time.Time, revision int64) error {
	ch := rf.begin()
	ch.owner(credential.Owner{
		Account: rf.reported.Account, MobileID: mobileID, State: credential.OwnerForeign, UserID: userID,
		SeenAt: at, Revision: revision,
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
