package worldtest

import (
	"errors"
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Rows are all credentials of every account, of erased holders, too, the oldest first.
func (w *World) Rows() []credential.Credential {
	w.Helper()
	profiles, err := w.Store.Profiles(w.Ctx)
	if err != nil {
		w.Fatal(err)
	}
	var rows []credential.Credential
	for _, p := range profiles {
		of, _, err := w.Store.ListCredentials(w.Ctx, credential.Page{ProfileID: p.ID, Limit: 1000})
		if err != nil {
			w.Fatal(err)
		}
		slices.Reverse(of)
		rows = append(rows, of...)
	}
	return rows
}

// CheckAlways checks what must hold at every moment. It remembers what it saw, so that it also sees what must never
// change.
func (w *World) CheckAlways() {
	w.Helper()
	owners := map[string]string{}
	slots := map[string]string{}
	holders := map[string]credential.Holder{}
	for _, c := range w.Rows() {
		h, known := holders[c.HolderID]
		if !known {
			h = w.holderOf(c)
			holders[c.HolderID] = h
		}
		if was, known := w.ledger.last[c.ID]; !known || c.Revision != was.Revision {
			w.checkStep(was, c)
			w.ledger.last[c.ID] = c
		}
		w.checkNotForgotten(c, h)
		w.noteDoubts(c)
		w.checkNotTaken(c)
		if c.Mobile == nil {
			continue
		}
		w.checkOwner(c)
		if !c.IsLive() {
			continue
		}
		id := name(c.Account, c.Mobile.ID)
		if other := owners[id]; other != "" {
			w.Fatalf("%s belongs to %s and %s", id, other, c.ID)
		}
		owners[id] = c.ID
		if c.Device != nil {
			slot := name(c.Account, c.Device.ID, c.ProfileID)
			if other := slots[slot]; other != "" {
				w.Fatalf("%s has %s and %s", slot, other, c.ID)
			}
			slots[slot] = c.ID
			if s, err := w.Store.Slot(w.Ctx, c.Account, c.Device.ID, c.ProfileID); err != nil ||
				s.CredentialID != c.ID {
				w.Fatalf("%s is on %s, whose slot is %+v, %v", c.ID, c.Device.ID, s, err)
			}
		}
	}
}

// holderOf reads the holder of a row; the zero value when it is erased.
func (w *World) holderOf(c credential.Credential) credential.Holder {
	w.Helper()
	h, err := w.Store.Holder(w.Ctx, c.HolderID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.Fatal(err)
	}
	return h
}

// checkStep checks a row that has changed; was is how it was when last looked at, the zero value when it is new.
func (w *World) checkStep(was, c credential.Credential) {
	w.Helper()
	if c.Revision < was.Revision {
		w.Fatalf("%s: revision %d after %d", c.ID, c.Revision, was.Revision)
	}
	if was.ID != "" && !was.IsLive() && c.Status != was.Status {
		w.Fatalf("%s was %s and is %s", c.ID, was.Status, c.Status)
	}
	if c.ActivatedAt != nil && c.Mobile != nil {
		id := name(c.Account, c.Mobile.ID)
		if by, ok := w.ledger.spent[id]; ok && by != c.ID {
			w.Fatalf("%s was spent by %s and is activated by %s", id, by, c.ID)
		}
		w.ledger.spent[id] = c.ID
	}
	if c.Invitation.Code != "" && (!c.IsLive() || c.Stage != credential.StageInvited) {
		w.Fatalf("%s is %s and has its code", c.ID, c.State())
	}
	if c.Reason == credential.ReasonCancelledAtProvider && !w.ledger.wasCancelled(c.Account, c.InvitationRef) {
		w.Fatalf("%s is %s, and its invitation %s was cancelled by nothing but ourselves", c.ID, c.Status,
			c.InvitationRef)
	}
	w.checkHistory(was, c)
}

// checkHistory: each entry goes on from the one before, the last one ends in what the row is, and none is missing.
func (w *World) checkHistory(was, c credential.Credential) {
	w.Helper()
	entries, err := w.Store.History(w.Ctx, c.HolderID, c.ID)
	if err != nil {
		w.Fatal(err)
	}
	state, revision := "", int64(0)
	for _, e := range entries {
		if e.From != state || e.Revision <= revision {
			w.Fatalf("%s: %s from %q at revision %d, after %q at %d", c.ID, e.Event, e.From, e.Revision, state,
				revision)
		}
		state, revision = e.To, e.Revision
	}
	if state != c.State() || revision > c.Revision {
		w.Fatalf("%s is %q, and its history %q", c.ID, c.State(), state)
	}
	if c.State() != was.State() && revision != c.Revision && was.Revision == c.Revision-1 {
		w.Fatalf("%s became %q without an entry", c.ID, c.State())
	}
}

// checkNotForgotten: whatever is still to be done for a row, a work item says when.
func (w *World) checkNotForgotten(c credential.Credential, h credential.Holder) {
	w.Helper()
	if h.ID == "" {
		if c.IsLive() {
			w.Fatalf("%s is live and its holder is gone", c.ID)
		}
		return
	}
	item, err := w.Store.WorkItem(w.Ctx, c.HolderID, c.Account)
	w.ledger.record(item)
	if w.options.Watch != nil {
		w.options.Watch(c, h, item)
	}
	if step := credential.Next(c, h, w.Now()); step.Kind != credential.StepNone && (err != nil || item.DueAt == nil) {
		w.Fatalf("%s: %s is forgotten: %+v, %v", c.ID, step.Kind, item, err)
	}
}

// checkOwner: a mobile ID that was on a phone stays with the credential it was activated for, and the row of a live
// credential agrees with the owner of its mobile ID.
func (w *World) checkOwner(c credential.Credential) {
	w.Helper()
	owner, err := w.Store.Owner(w.Ctx, c.Account, c.Mobile.ID)
	if by := w.ledger.spent[name(c.Account, c.Mobile.ID)]; by != "" &&
		(err != nil || owner.State != credential.OwnerSpent || owner.CredentialID != by) {
		w.Fatalf("%s was spent by %s: %+v, %v", c.Mobile.ID, by, owner, err)
	}
	if owner.State == credential.OwnerHeld && owner.CredentialID == c.ID &&
		c.Reservation != credential.ReservationHeld {
		w.Fatalf("%s holds %s, which is %s", c.ID, c.Mobile.ID, c.Reservation)
	}
	if c.IsLive() && (err != nil || owner.CredentialID != c.ID ||
		c.Stage != credential.StageActivated && owner.State != credential.OwnerHeld) {
		w.Fatalf("%s (%s) does not own %s: %+v, %v", c.ID, c.State(), c.Mobile.ID, owner, err)
	}
}
