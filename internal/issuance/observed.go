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
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// seenFor is how long an anomaly is remembered, so that the same one is not noted twice.
const seenFor = 30 * 24 * time.Hour

// applyReading writes what a reading means for a row, on the revision of the row that was read before it, and updates
// c. A mobile ID that is not listed has the provider read once more before that means anything.
func (s *Service) applyReading(
	ctx context.Context, c *credential.Credential, r observe.Reading, actor credential.Actor,
) error {
	r.At = s.Now()
	seen, err := s.withoutSiblings(ctx, *c, r.User)
	if err != nil {
		return err
	}
	if r.ListsReserved, err = s.learnListing(ctx, *c, r.User); err != nil {
		return err
	}
	events := observe.Events(seen, r)
	before := *c
	*c = observe.Remember(*c, r)
	for _, e := range events {
		after, err := s.applyObserved(ctx, *c, r.User, e, actor)
		if err != nil {
			return err
		}
		*c = after
	}
	if c.Revision != before.Revision || isSameMoment(c.MissingAt, before.MissingAt) {
		return nil
	}
	if c.MissingAt != nil {
		look := r.At.Add(observe.AbsentFor)
		if c.LookAt == nil || c.LookAt.After(look) {
			c.LookAt = &look
		}
	}
	ch := s.begin()
	*c = ch.row(*c)
	ch.touch(*c)
	return ch.commit(ctx)
}

// learnListing notes, once for an account, that its provider lists mobile IDs that are only reserved, and says whether
// it is known to, if that matters for a row.
func (s *Service) learnListing(ctx context.Context, c credential.Credential, u *provider.User) (bool, error) {
	if u == nil {
		return false, nil
	}
	isReserved := func(k provider.Credential) bool { return k.Device == nil && !k.Issuing && !k.Revoking }
	lists, err := s.listsReserved(ctx, c.Account)
	if err != nil || lists || !slices.ContainsFunc(u.Credentials, isReserved) {
		return lists, err
	}
	outage, err := s.Store.Outage(ctx, c.Account)
	if err != nil {
		return false, err
	}
	outage.ListsReserved = true
	return true, s.Store.SetOutage(ctx, c.Account, outage)
}

// listsReserved says whether the provider of an account was ever seen to list a mobile ID that was only reserved.
func (s *Service) listsReserved(ctx context.Context, account string) (bool, error) {
	s.mu.Lock()
	known := s.listing[account]
	s.mu.Unlock()
	if known {
		return true, nil
	}
	outage, err := s.Store.Outage(ctx, account)
	if err != nil || !outage.ListsReserved {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listing == nil {
		s.listing = map[string]bool{}
	}
	s.listing[account] = true
	return true, nil
}

// withoutSiblings returns a final row as its user is to be looked at for it: by reference only, when what the user
// lists under its mobile ID is by now another credential's of the holder.
func (s *Service) withoutSiblings(
	ctx context.Context, c credential.Credential, u *provider.User,
) (credential.Credential, error) {
	if c.IsLive() || c.Mobile == nil || u == nil {
		return c, nil
	}
	k, listed := u.Credential(c.Reserved())
	if !listed || k.ID == c.CredentialRef {
		return c, nil
	}
	t := c.Reserved()
	err := s.onlyOurs(ctx, c, &t)
	ref, e := s.Store.Ref(ctx, c.Account, credential.RefCredential, k.ID)
	if e != nil && !errors.Is(e, store.ErrNotFound) {
		return c, errors.Join(err, e)
	}
	if t.Mobile == nil || e == nil && ref.CredentialID != c.ID {
		c.Mobile = nil
	}
	return c, err
}

// applyObserved writes one event that was observed of a row, with everything that has to change together with it: the
// owner of the mobile ID, the device's slot and the credential that loses it, and, if the reading shows it, the
// release. u is the row's own user as it was read, nil when it was deleted or not read.
func (s *Service) applyObserved(
	ctx context.Context, c credential.Credential, u *provider.User, e credential.Event, actor credential.Actor,
) (credential.Credential, error) {
	e.Actor = actor
	if e.Kind == credential.EventActivated && c.IsLive() && c.Stage != credential.StageActivated {
		return s.activate(ctx, c, e)
	}
	ch := s.begin()
	after, entry, err := ch.apply(c, e)
	if err != nil || entry == nil {
		return c, err
	}
	isHeld := u != nil && u.Holds(c.Reserved())
	if entry.Anomaly || entry.Late {
		hash := factHash(c, e)
		seen, err := s.Store.Seen(ctx, c.ID, hash)
		if err != nil {
			return c, err
		}
		// Reported again, it is news only while there is something to release again.
		if seen && (after.Reservation == c.Reservation || !isHeld) {
			return c, nil
		}
		if !seen {
			ch.seen(c.ID, hash)
		}
	}
	if c.IsLive() && !after.IsLive() {
		if err := ch.freeSlot(ctx, c, after); err != nil {
			return c, err
		}
		// That it is not listed in one reading proves nothing, unless it is with another.
		if !isHeld && after.Status == credential.StatusReassigned {
			after.Reservation = credential.ReservationReleased
			ch.amend(c.ID, func(row *credential.Credential, _ *credential.HistoryEntry) { *row = after })
		}
		if err := disownObserved(ctx, ch, after, e); err != nil {
			return c, err
		}
	}
	if err := ch.commit(ctx); err != nil {
		return c, err
	}
	if entry.Anomaly {
		s.reportAnomaly(ctx, *entry)
	}
	return after, nil
}

// disownObserved writes what becomes of the owner of a mobile ID whose credential has just ended by what was read.
func disownObserved(ctx context.Context, ch *change, c credential.Credential, e credential.Event) error {
	switch {
	case e.Kind == credential.EventGivenToAnother, e.Kind == credential.EventMissingAtProvider:
		return ch.disown(ctx, c, credential.OwnerForeign)
	case c.Reservation == credential.ReservationReleased:
		return ch.disown(ctx, c, credential.OwnerReleased)
	}
	return nil
}

// activate records that a credential is on a device. The mobile ID is spent for ever (R5). If the device's slot for the
// profile is taken, the credential that the provider lists first on the device keeps it, and the other ends (R4).
func (s *Service) activate(
	ctx context.Context, c credential.Credential, e credential.Event,
) (credential.Credential, error) {
	ch := s.begin()
	if e.CredentialRef != "" && e.CredentialRef != c.CredentialRef {
		c.CredentialRef = e.CredentialRef
		ch.refer(c)
	}
	slot := credential.Slot{
		Account: c.Account, DeviceID: e.Device.ID, ProfileID: c.ProfileID,
		HolderID: c.HolderID, CredentialID: c.ID, CredentialRef: c.CredentialRef,
	}
	keepsSlot, err := s.contestSlot(ctx, ch, slot, e.Actor)
	if err != nil {
		return c, err
	}
	if !keepsSlot {
		e = deviceHasProfile(e.Actor)
	}
	after, _, err := ch.apply(c, e)
	if err != nil {
		return c, err
	}
	owner, err := s.Store.Owner(ctx, c.Account, c.Mobile.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return c, err
	}
	if owner.State != credential.OwnerSpent {
		ch.own(c, credential.OwnerSpent, owner.Revision)
	}
	return after, ch.commit(ctx)
}

func deviceHasProfile(actor credential.Actor) credential.Event {
	return credential.Event{
		Kind: credential.EventDeviceHasProfile, Reason: credential.ReasonDeviceHasProfile, Actor: actor,
	}
}

// contestSlot takes a device's slot for a credential, which may have to end another for it, and says whether it got it.
func (s *Service) contestSlot(
	ctx context.Context, ch *change, slot credential.Slot, actor credential.Actor,
) (bool, error) {
	taken, err := s.Store.Slot(ctx, slot.Account, slot.DeviceID, slot.ProfileID)
	if errors.Is(err, store.ErrNotFound) || err == nil && taken.CredentialID == slot.CredentialID {
		ch.takeSlot(slot, "")
		return true, nil
	}
	if err != nil {
		return false, err
	}
	other, err := s.Store.Credential(ctx, taken.HolderID, taken.CredentialID)
	if err != nil {
		return false, err
	}
	if other.IsLive() {
		if !isListedBefore(slot.CredentialRef, other.CredentialRef) {
			return false, nil
		}
		if _, _, err := ch.apply(other, deviceHasProfile(actor)); err != nil {
			return false, err
		}
	}
	ch.takeSlot(slot, taken.CredentialID)
	return true, nil
}

// isListedBefore orders a provider's credential ids as the provider does: numbers by value.
func isListedBefore(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	if errX == nil && errY == nil {
		return x < y
	}
	return a < b
}

// factHash identifies what happened, however often and by whichever report it is told.
func factHash(c credential.Credential, e credential.Event) string {
	device := ""
	if e.Device != nil {
		device = e.Device.ID
	}
	parts := []string{string(e.Kind), e.Reason, c.InvitationRef, c.CredentialRef, device}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// reportAnomaly makes an anomaly count and be seen.
func (s *Service) reportAnomaly(ctx context.Context, entry credential.HistoryEntry) {
	s.Count(MetricAnomaly)
	s.Log.WarnContext(ctx, "anomaly",
		"holderId", entry.HolderID, "credentialId", entry.CredentialID, "event", entry.Event, "reason", entry.Reason)
}
