package issuance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// seenFor is how long an anomaly is remembered, so that the same one is not noted twice.
const seenFor = 30 * 24 * time.Hour

// Refresh hears what a provider reports of one of its users: it asks the provider for the truth, once, and brings the rows of that
// user, and of whoever else is concerned, in line with it; then it does what that has made due. Order and repetition of reports do
// not matter. An error means that it should be told again: a kind of package provider when the provider is in trouble, anything else
// when the store is.
func (s *Service) Refresh(ctx context.Context, facts provider.UserFacts) error {
	concerned := map[string]bool{}
	err := s.again(ctx, func() error { return s.refresh(ctx, facts, concerned) })
	for holderID := range concerned {
		if _, e := s.work(ctx, holderID, facts.Account, providerActor(facts.Account), false); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

func providerActor(account string) credential.Actor {
	return credential.Actor{Type: credential.ActorProvider, ID: account}
}

func (s *Service) refresh(ctx context.Context, facts provider.UserFacts, concerned map[string]bool) error {
	rows, err := s.rowsOfUser(ctx, facts.Account, facts.UserID)
	if err != nil {
		return err
	}
	if err := s.refreshByMobileID(ctx, facts, concerned); err != nil {
		return err
	}
	if facts.UserID == "" || !slices.ContainsFunc(facts.Facts, func(f provider.Fact) bool { return isNews(f, rows) }) {
		return nil
	}
	p, err := s.Providers.Provider(ctx, facts.Account)
	if err != nil {
		return err
	}
	u, err := readUserOf(ctx, p, facts.UserID)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if err := s.applyTo(ctx, c, u, reading{facts: facts.Facts}, concerned); err != nil {
			return err
		}
	}
	if u == nil {
		return nil
	}
	for _, k := range u.Credentials {
		unnamed := k.MobileID.Number == ""
		if unnamed || slices.ContainsFunc(rows, func(c credential.Credential) bool { return accountsFor(c, k) }) {
			continue
		}
		if err := s.elsewhere(ctx, facts.Account, p, u, k, len(rows) > 0, concerned); err != nil {
			return err
		}
	}
	return nil
}

// readUserOf reads a provider's user; nil when it was deleted.
func readUserOf(ctx context.Context, p provider.Provider, userID string) (*provider.User, error) {
	u, err := p.User(ctx, userID)
	if errors.Is(err, provider.ErrNotFound) {
		return nil, nil
	}
	return &u, err
}

// rowsOfUser lists our rows of a provider's user: those that have it, and those in doubt whether they have.
func (s *Service) rowsOfUser(ctx context.Context, account, userID string) ([]credential.Credential, error) {
	if userID == "" {
		return nil, nil
	}
	ref, err := s.Store.Ref(ctx, account, credential.RefUser, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := s.Store.Credentials(ctx, ref.HolderID)
	return slices.DeleteFunc(rows, func(c credential.Credential) bool {
		return c.Account != account || c.UserID != userID && c.Reservation != credential.ReservationInDoubt
	}), err
}

// accountsFor says whether a row explains a credential in its user: as its own, put aside or to be released, or as what a doubt may
// still turn out to be.
func accountsFor(c credential.Credential, k provider.Credential) bool {
	for _, r := range append(append([]credential.Reserved{c.Reserved()}, c.Aside...), c.Strays...) {
		if r.CredentialRef != "" && r.CredentialRef == k.ID || r.Mobile != nil && r.Mobile.ID == k.MobileID.ID {
			return true
		}
	}
	return c.Reservation == credential.ReservationInDoubt && c.PartNumber == k.PartNumber
}

// refreshByMobileID reads whoever of ours has a mobile ID that is reported without a user, or of a user that is another's: by the
// time we ask, that one may not have it any more, and ours neither.
func (s *Service) refreshByMobileID(ctx context.Context, facts provider.UserFacts, concerned map[string]bool) error {
	checked := map[string]bool{}
	for _, f := range facts.Facts {
		if f.MobileID == "" || checked[f.MobileID] {
			continue
		}
		checked[f.MobileID] = true
		c, err := s.ownerOf(ctx, facts.Account, f.MobileID)
		if err != nil {
			return err
		}
		elsewhere := facts.UserID != ""
		if c == nil || c.UserID == facts.UserID || elsewhere && c.Stage != credential.StageInvited ||
			!elsewhere && c.Stage == credential.StageActivated && f.Status == provider.FactReserved {
			continue // nobody's of ours; told with its user; or nothing that could change it
		}
		p, err := s.Providers.Provider(ctx, facts.Account)
		if err != nil {
			return err
		}
		u, err := readUserOf(ctx, p, c.UserID)
		if err != nil {
			return err
		}
		told := reading{facts: facts.Facts, elsewhere: elsewhere}
		if elsewhere {
			told.facts = nil // they are about somebody else's records
		}
		if err := s.applyTo(ctx, *c, u, told, concerned); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf finds the credential that has a mobile ID, or had it last; nil for none.
func (s *Service) ownerOf(ctx context.Context, account, mobileID string) (*credential.Credential, error) {
	owner, err := s.Store.Owner(ctx, account, mobileID)
	if errors.Is(err, store.ErrNotFound) || err == nil && owner.CredentialID == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := s.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &c, err
}

// elsewhere is for a mobile ID seen in a user where none of our rows explains it: it is somebody else's, and no longer that of
// whoever of ours had it, unless it was accepted (R5, R10). ours says that the user itself is a holder of ours: then it is reported,
// and left alone.
func (s *Service) elsewhere(ctx context.Context, account string, p provider.Provider, u *provider.User, k provider.Credential, ours bool, concerned map[string]bool) error {
	if ours {
		s.Count(MetricUnexplained)
		s.Log.WarnContext(ctx, "reservation of somebody else", "account", account, "userId", u.ID, "credentialRef", k.ID)
	}
	owner, err := s.Store.Owner(ctx, account, k.MobileID.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	becomesForeign := func() error {
		foreign := credential.Owner{Account: account, MobileID: k.MobileID.ID, State: credential.OwnerForeign, UpdatedAt: s.Now(), Revision: owner.Revision + 1}
		return s.Store.Commit(ctx, credential.Change{At: foreign.UpdatedAt, Owners: []credential.Owner{foreign}})
	}
	switch owner.State {
	case credential.OwnerForeign:
		return nil
	case credential.OwnerHeld, credential.OwnerSpent:
	default:
		return becomesForeign()
	}
	c, err := s.Store.Credential(ctx, owner.HolderID, owner.CredentialID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner.State == credential.OwnerHeld && !c.IsLive() { // or our own next, which waits for its answer, would not know
		if err := becomesForeign(); err != nil {
			return err
		}
	}
	rd := reading{elsewhere: true}
	if c.IsLive() && c.Stage == credential.StageInvited {
		own, err := readUserOf(ctx, p, c.UserID)
		if err != nil || own != nil && hasCredential(*own, c.CredentialRef, c.Mobile.ID) {
			return err
		}
		return s.applyTo(ctx, c, own, rd, concerned)
	}
	e := credential.Event{Kind: credential.EventGivenToAnother, Reason: credential.ReasonGivenToAnother}
	if k.Device != nil && !k.Issuing && c.Stage == credential.StageActivated {
		e = credential.Event{Kind: credential.EventActivated, Reason: credential.ReasonActivatedElsewhere, Device: k.Device}
	}
	_, err = s.applyObserved(ctx, c, nil, e, providerActor(account))
	return err
}

// applyTo applies a reading to a row and notes its holder if anything came of it.
func (s *Service) applyTo(ctx context.Context, c credential.Credential, u *provider.User, rd reading, concerned map[string]bool) error {
	before := c.Revision
	err := s.applyReading(ctx, &c, u, rd, providerActor(c.Account))
	if c.Revision != before {
		concerned[c.HolderID] = true
	}
	return err
}

// applyReading writes what a reading means for a row, on the revision of the row that was read before it, and updates c.
func (s *Service) applyReading(ctx context.Context, c *credential.Credential, u *provider.User, rd reading, actor credential.Actor) error {
	for _, e := range observe(*c, u, rd) {
		after, err := s.applyObserved(ctx, *c, u, e, actor)
		if err != nil {
			return err
		}
		*c = after
	}
	return nil
}

// applyObserved writes one event that was observed of a row, with everything that has to change together with it: the owner of the
// mobile ID, the device's slot and the credential that loses it, and, if the reading shows it, the release.
func (s *Service) applyObserved(ctx context.Context, c credential.Credential, u *provider.User, e credential.Event, actor credential.Actor) (credential.Credential, error) {
	e.Actor = actor
	change := credential.Change{At: s.Now()}
	if e.Kind == credential.EventActivated && c.IsLive() && c.Stage != credential.StageActivated {
		return s.activate(ctx, &change, c, e)
	}
	after, entry, err := credential.Apply(c, e, change.At)
	if err != nil || entry == nil {
		return c, err
	}
	if entry.Anomaly || entry.Late {
		hash := factHash(c, e)
		seen, err := s.Store.Seen(ctx, c.ID, hash)
		// Told again, it is news only while there is something to release again.
		if err != nil || seen && (after.Reservation == c.Reservation || u == nil || !isHeld(*u, c.Reserved())) {
			return c, err
		}
		if !seen {
			change.Seen = []credential.Seen{{CredentialID: c.ID, Hash: hash, ExpiresAt: change.At.Add(seenFor)}}
		}
	}
	if c.IsLive() && !after.IsLive() {
		if err := s.freeSlot(ctx, &change, c); err != nil {
			return c, err
		}
		if u == nil || !isHeld(*u, c.Reserved()) {
			after.Reservation = credential.ReservationReleased
		}
		if change.Owners, err = s.ownerAfter(ctx, after, e); err != nil {
			return c, err
		}
	}
	change.Credentials = append(change.Credentials, after)
	change.History = append(change.History, *entry)
	addTouch(&change, after, false)
	if err := s.Store.Commit(ctx, change); err != nil {
		return c, err
	}
	if entry.Anomaly {
		s.anomaly(ctx, *entry)
	}
	return after, nil
}

// ownerAfter is the owner item of a mobile ID whose credential has just ended by what was read.
func (s *Service) ownerAfter(ctx context.Context, c credential.Credential, e credential.Event) ([]credential.Owner, error) {
	if e.Kind != credential.EventGivenToAnother && e.Kind != credential.EventMissingAtProvider && c.Reservation != credential.ReservationReleased {
		return nil, nil
	}
	owners, err := s.ownerReleased(ctx, c)
	if len(owners) == 1 && (e.Kind == credential.EventGivenToAnother || e.Kind == credential.EventMissingAtProvider) {
		owners[0].State, owners[0].HolderID, owners[0].CredentialID = credential.OwnerForeign, "", ""
	}
	return owners, err
}

// activate records that a credential is on a device. The mobile ID is spent for ever (R5). If the device's slot for the profile is
// taken, the credential that the provider lists first on the device keeps it, and the other ends (R4).
func (s *Service) activate(ctx context.Context, change *credential.Change, c credential.Credential, e credential.Event) (credential.Credential, error) {
	if e.CredentialRef != "" && e.CredentialRef != c.CredentialRef {
		c.CredentialRef = e.CredentialRef
		change.Refs = refsOf(c)
	}
	slot := credential.Slot{
		Account: c.Account, DeviceID: e.Device.ID, ProfileID: c.ProfileID, HolderID: c.HolderID, CredentialID: c.ID, CredentialRef: c.CredentialRef,
	}
	hasProfile := credential.Event{Kind: credential.EventDeviceHasProfile, Reason: credential.ReasonDeviceHasProfile, Actor: e.Actor}
	taken, err := s.Store.Slot(ctx, c.Account, e.Device.ID, c.ProfileID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return c, err
	}
	if err == nil && taken.CredentialID != c.ID {
		other, err := s.Store.Credential(ctx, taken.HolderID, taken.CredentialID)
		if err != nil {
			return c, err
		}
		if other.IsLive() {
			if !listedBefore(c.CredentialRef, other.CredentialRef) {
				slot = taken
				e = hasProfile
			} else if _, err := addEvent(change, other, hasProfile); err != nil {
				return c, err
			}
		}
		if slot != taken {
			change.ReplacesSlot = taken.CredentialID
		}
	}
	device := e.Device
	after, err := addEvent(change, c, e)
	if err != nil {
		return c, err
	}
	if slot.CredentialID == c.ID {
		change.Slots = []credential.Slot{slot}
		after.Device = device
	}
	owner, err := s.Store.Owner(ctx, c.Account, c.Mobile.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return c, err
	}
	if owner.State != credential.OwnerSpent {
		change.Owners = []credential.Owner{{
			Account: c.Account, MobileID: c.Mobile.ID, State: credential.OwnerSpent, HolderID: c.HolderID, CredentialID: c.ID,
			UpdatedAt: change.At, Revision: owner.Revision + 1,
		}}
	}
	return after, s.Store.Commit(ctx, *change)
}

// listedBefore orders a provider's credential ids as the provider does: numbers by value.
func listedBefore(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	if errX == nil && errY == nil {
		return x < y
	}
	return a < b
}

// factHash identifies what happened, whoever tells it and however often.
func factHash(c credential.Credential, e credential.Event) string {
	device := ""
	if e.Device != nil {
		device = e.Device.ID
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{string(e.Kind), e.Reason, c.InvitationRef, c.CredentialRef, device}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// anomaly makes an anomaly count and be seen.
func (s *Service) anomaly(ctx context.Context, entry credential.HistoryEntry) {
	s.Count(MetricAnomaly)
	s.Log.WarnContext(ctx, "anomaly", "holderId", entry.HolderID, "credentialId", entry.CredentialID, "event", entry.Event, "reason", entry.Reason)
}

// commitEvent applies an event that is true whatever else happens to the row meanwhile; edit, if given, adds to what the event changes.
func (s *Service) commitEvent(ctx context.Context, c credential.Credential, e credential.Event, edit func(*credential.Credential)) (after credential.Credential, err error) {
	err = s.again(ctx, func() error {
		fresh, err := s.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		change := credential.Change{At: s.Now()}
		if e.Kind != credential.EventMailed {
			if err := s.freeSlot(ctx, &change, fresh); err != nil {
				return err
			}
		}
		if edit != nil {
			edit(&fresh)
		}
		if after, err = addEvent(&change, fresh, e); err != nil || len(change.Credentials) == 0 {
			return err
		}
		change.Touch = nil // done under the claim, whose holder looks again by itself
		return s.Store.Commit(ctx, change)
	})
	return after, err
}
