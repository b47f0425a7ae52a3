package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

type change = credential.Change

func profile(id string, revision int64) *credential.Profile {
	return &credential.Profile{ID: id, Name: fmt.Sprint("revision ", revision), CreatedAt: noon, Revision: revision}
}

func holder(id string, revision int64) *credential.Holder {
	return &credential.Holder{ID: id, FirstName: fmt.Sprint("revision ", revision), CreatedAt: noon, Revision: revision}
}

func erasing(id string, revision int64) *credential.Holder {
	h := holder(id, revision)
	h.Erasing = true
	return h
}

func row(id string, revision int64) credential.Credential {
	return credential.Credential{ID: id, HolderID: "h1", ProfileID: "p1", Status: credential.StatusActive,
		Reason: fmt.Sprint("revision ", revision), CreatedAt: noon, Revision: revision}
}

func owner(revision int64) credential.Owner {
	return credential.Owner{Account: "acme", MobileID: "m:1", State: credential.OwnerHeld,
		CredentialID: fmt.Sprint("revision ", revision), Revision: revision}
}

func picture(holderID, data string) *credential.Picture {
	return &credential.Picture{HolderID: holderID, ContentType: "image/jpeg", Data: []byte(data),
		Hash: "hash of " + data}
}

func entry(revision int64) credential.HistoryEntry {
	return credential.HistoryEntry{ID: "c1-1", HolderID: "h1", CredentialID: "c1", At: noon,
		Event: credential.EventAssigned, Revision: revision}
}

func ref(holderID, credentialID, profileID string) change {
	return change{Refs: []credential.Ref{{Account: "acme", Kind: credential.RefUser, ID: "r1",
		HolderID: holderID, CredentialID: credentialID, ProfileID: profileID}}}
}

func slot(credentialID string) credential.Slot {
	return credential.Slot{Account: "acme", DeviceID: "d1", ProfileID: "p1", HolderID: "h1", CredentialID: credentialID,
		CredentialRef: "of " + credentialID}
}

func idempotency(payload string, expires time.Time) change {
	return change{Idempotency: &credential.Idempotency{HolderID: "h1", Hash: "x1", Payload: payload, CredentialID: "c1",
		ExpiresAt: expires}}
}

func touch(unclaimed ...bool) change {
	c := change{}
	for _, u := range unclaimed {
		c.Touch = append(c.Touch, credential.Touch{HolderID: "h1", Account: "acme", Unclaimed: u})
	}
	return c
}

// testChanges tries each part of a change on every state in which the stored item can be. Every change also stores a
// picture, a part without a condition of its own: it is there afterwards exactly when the change was possible.
func testChanges(t *testing.T, open func(*testing.T) Store) {
	type test struct {
		name   string
		before []change
		claim  *time.Time // when set, the work item is claimed until then
		change change
		want   error
		check  func(t *testing.T, s Store)
	}
	var tests []test

	for _, v := range []struct {
		name string
		at   func(revision int64) change
	}{
		{"profile", func(r int64) change { return change{Profile: profile("p1", r)} }},
		{"holder", func(r int64) change { return change{Holder: holder("h1", r)} }},
		{"credential", func(r int64) change { return change{Credentials: []credential.Credential{row("c1", r)}} }},
		{"owner", func(r int64) change { return change{Owners: []credential.Owner{owner(r)}} }},
	} {
		tests = append(tests,
			test{name: v.name + " created", change: v.at(1)},
			test{name: v.name + " created twice", before: []change{v.at(1)}, change: v.at(1), want: store.ErrConflict},
			test{name: v.name + " changed", before: []change{v.at(1)}, change: v.at(2)},
			test{name: v.name + " changed twice", before: []change{v.at(1), v.at(2)}, change: v.at(2),
				want: store.ErrConflict},
			test{name: v.name + " changed from the future", before: []change{v.at(1)}, change: v.at(3),
				want: store.ErrConflict},
			test{name: v.name + " changed while absent", change: v.at(2), want: store.ErrConflict},
		)
	}

	stored := func(c change) func(*testing.T, Store) {
		return func(t *testing.T, s Store) {
			switch {
			case len(c.Refs) > 0:
				wantEqual(t, read[credential.Ref](t)(s.Ref(t.Context(), "acme", credential.RefUser, "r1")), c.Refs[0])
			case len(c.Slots) > 0:
				wantEqual(t, read[credential.Slot](t)(s.Slot(t.Context(), "acme", "d1", "p1")), c.Slots[0])
			case c.Idempotency != nil:
				wantEqual(t, read[credential.Idempotency](t)(s.Idempotency(t.Context(), "h1", "x1")), *c.Idempotency)
			}
		}
	}
	freed := func(t *testing.T, s Store) {
		_, err := s.Slot(t.Context(), "acme", "d1", "p1")
		wantError(t, err, store.ErrNotFound)
	}
	erased := func(t *testing.T, s Store) {
		_, err := s.Holder(t.Context(), "h1")
		wantError(t, err, store.ErrNotFound)
		_, err = s.Picture(t.Context(), "h1")
		wantError(t, err, store.ErrNotFound)
	}
	assigned := func(want int64) func(*testing.T, Store) {
		return func(t *testing.T, s Store) {
			h := read[credential.Holder](t)(s.Holder(t.Context(), "h1"))
			if h.Assigned != want || h.Revision != 1 {
				t.Errorf("holder %+v, want assigned %d in revision 1", h, want)
			}
		}
	}
	assignedHolder := func(revision, assigned int64) *credential.Holder {
		h := holder("h1", revision)
		h.Assigned = assigned
		return h
	}
	added := func(want int64) func(*testing.T, Store) {
		return func(t *testing.T, s Store) {
			w := read[credential.WorkItem](t)(s.WorkItem(t.Context(), "h1", "acme"))
			if w.Added != want || w.DueAt == nil || !w.DueAt.Equal(noon) || w.HolderID != "h1" || w.Account != "acme" {
				t.Errorf("work item %+v, want added %d and due at noon", w, want)
			}
		}
	}
	taken := func(by string) change { return change{Slots: []credential.Slot{slot(by)}} }
	replaces := func(by, of string) change {
		return change{Slots: []credential.Slot{slot(by)}, ReplacesSlot: of}
	}
	free := func(by string) change { return change{FreeSlots: []credential.Slot{slot(by)}} }
	seen := change{Seen: []credential.Seen{{CredentialID: "c1", Hash: "x1", ExpiresAt: noon}}}
	history := change{History: []credential.HistoryEntry{entry(1)}}
	exists, leaving := change{Holder: holder("h1", 1)}, change{Holder: erasing("h1", 1), Picture: picture("h1", "old")}

	tests = append(tests, []test{
		{name: "empty change"},
		{name: "at a holder", before: []change{exists}, change: change{HolderAt: "h1"}, check: assigned(1)},
		{name: "at a holder of a revision", before: []change{exists}, change: change{HolderAt: "h1", HolderRevision: 1},
			check: assigned(1)},
		{name: "at a holder of another revision", before: []change{exists},
			change: change{HolderAt: "h1", HolderRevision: 2}, want: store.ErrConflict},
		{name: "at a holder again", before: []change{exists, {HolderAt: "h1"}},
			change: change{HolderAt: "h1", HolderRevision: 1}, check: assigned(2)},
		{name: "a holder read before an assignment", before: []change{exists, {HolderAt: "h1"}},
			change: change{Holder: holder("h1", 2)}, want: store.ErrConflict},
		{name: "a holder read after an assignment", before: []change{exists, {HolderAt: "h1"}},
			change: change{Holder: assignedHolder(2, 1)}},
		{name: "a holder read between two assignments", before: []change{exists, {HolderAt: "h1"}, {HolderAt: "h1"}},
			change: change{Holder: assignedHolder(2, 1)}, want: store.ErrConflict},
		{name: "at no holder", change: change{HolderAt: "h1"}, want: store.ErrConflict},
		{name: "at a holder being erased", before: []change{leaving}, change: change{HolderAt: "h1"},
			want: store.ErrConflict},
		{name: "at the holder it creates", change: change{HolderAt: "h1", Holder: holder("h1", 1)}},
		{name: "at the holder it changes", before: []change{exists},
			change: change{HolderAt: "h1", Holder: holder("h1", 3)}, want: store.ErrConflict},
		{name: "at a holder while changing another", change: change{HolderAt: "h1", Holder: holder("h2", 1)},
			want: store.ErrConflict},

		{name: "erase", before: []change{leaving}, change: change{EraseHolder: "h1"}, check: erased},
		{name: "erase with the picture dropped", before: []change{leaving}, change: change{EraseHolder: "h1",
			DropPicture: "h1"}, check: erased},
		{name: "erase unasked", before: []change{exists}, change: change{EraseHolder: "h1"}, want: store.ErrConflict},
		{name: "erase a holder that is not there", change: change{EraseHolder: "h1"}, want: store.ErrConflict},

		{name: "drop a picture", before: []change{{Picture: picture("h1", "old")}}, change: change{DropPicture: "h1"},
			check: func(t *testing.T, s Store) {
				_, err := s.Picture(t.Context(), "h1")
				wantError(t, err, store.ErrNotFound)
			}},
		{name: "drop no picture", change: change{DropPicture: "h1"}},
		{name: "replace a picture", before: []change{{Picture: picture("h1", "old")}},
			change: change{Picture: picture("h1", "new")}, check: func(t *testing.T, s Store) {
				wantEqual(t, read[credential.Picture](t)(s.Picture(t.Context(), "h1")), *picture("h1", "new"))
			}},

		{name: "history", change: history, check: func(t *testing.T, s Store) {
			wantEqual(t, read[[]credential.HistoryEntry](t)(s.History(t.Context(), "h1", "c1")), history.History)
		}},
		{name: "history is not overwritten", before: []change{history}, change: history, want: store.ErrConflict},

		{name: "reference", change: ref("h1", "c1", ""), check: stored(ref("h1", "c1", ""))},
		{name: "reference again", before: []change{ref("h1", "c1", "")}, change: ref("h1", "c1", "")},
		{name: "reference without ids again", before: []change{ref("", "", "")}, change: ref("", "", "")},
		{name: "reference to another credential", before: []change{ref("h1", "c1", "")}, change: ref("h1", "c2", ""),
			want: store.ErrConflict},
		{name: "reference to another holder", before: []change{ref("h1", "", "")}, change: ref("h2", "", ""),
			want: store.ErrConflict},
		{name: "reference to another profile", before: []change{ref("", "", "p1")}, change: ref("", "", "p2"),
			want: store.ErrConflict},
		{name: "reference to less", before: []change{ref("h1", "c1", "")}, change: ref("h1", "", ""),
			want: store.ErrConflict},
		{name: "reference to more", before: []change{ref("h1", "", "")}, change: ref("h1", "c1", ""),
			want: store.ErrConflict},

		{name: "slot", change: taken("c1"), check: stored(taken("c1"))},
		{name: "slot again", before: []change{taken("c1")}, change: taken("c1")},
		{name: "slot of another", before: []change{taken("c1")}, change: taken("c2"), want: store.ErrConflict},
		{name: "slot taken over", before: []change{taken("c1")}, change: replaces("c2", "c1"),
			check: stored(taken("c2"))},
		{name: "slot taken over that is free", change: replaces("c2", "c1"), want: store.ErrConflict},
		{name: "slot taken over from the wrong one", before: []change{taken("c1")}, change: replaces("c2", "c3"),
			want: store.ErrConflict},
		{name: "slot freed", before: []change{taken("c1")}, change: free("c1"), check: freed},
		{name: "slot of another freed", before: []change{taken("c1")}, change: free("c2"), want: store.ErrConflict},
		{name: "free slot freed", change: free("c1"), want: store.ErrConflict},

		{name: "seen", change: seen, check: func(t *testing.T, s Store) {
			wantEqual(t, read[bool](t)(s.Seen(t.Context(), "c1", "x1")), true)
			wantEqual(t, read[bool](t)(s.Seen(t.Context(), "c1", "x2")), false)
		}},
		{name: "seen twice", before: []change{seen}, change: seen, want: store.ErrConflict},

		{name: "idempotency", change: idempotency("a", *after(time.Hour)),
			check: stored(idempotency("a", *after(time.Hour)))},
		{name: "idempotency twice", before: []change{idempotency("a", *after(time.Hour))},
			change: idempotency("a", *after(time.Hour)), want: store.ErrConflict},
		{name: "idempotency before it expires", before: []change{idempotency("a", *after(time.Millisecond))},
			change: idempotency("b", *after(time.Hour)), want: store.ErrConflict},
		{name: "idempotency when it expires", before: []change{idempotency("a", noon)},
			change: idempotency("b", *after(time.Hour)), check: stored(idempotency("b", *after(time.Hour)))},

		{name: "touch", change: touch(false), check: added(1)},
		{name: "touch again", before: []change{touch(false)}, change: touch(false), check: added(2)},
		{name: "touch twice at once", change: touch(false, false), check: added(1)},
		{name: "touch of two accounts", change: change{Touch: []credential.Touch{{HolderID: "h1", Account: "acme"},
			{HolderID: "h1", Account: "beta"}}}, check: added(1)},
		{name: "touch what is claimed", before: []change{touch(false)}, claim: after(time.Minute), change: touch(false),
			check: added(2)},
		{name: "touch unless claimed, new", change: touch(true), check: added(1)},
		{name: "touch unless claimed, not", before: []change{touch(false)}, change: touch(true), check: added(2)},
		{name: "touch unless claimed, claimed", before: []change{touch(false)}, claim: after(time.Millisecond),
			change: touch(true), want: store.ErrConflict},
		{name: "touch unless claimed, no longer", before: []change{touch(false)}, claim: after(-time.Millisecond),
			change: touch(true), check: added(2)},
		{name: "touch unless claimed, just over", before: []change{touch(false)}, claim: &noon, change: touch(true),
			check: added(2)},
		{name: "two touches, one unless claimed", before: []change{touch(false)}, claim: after(time.Minute),
			change: touch(false, true), want: store.ErrConflict},
		{name: "many parts, one impossible", before: []change{taken("c1"), exists}, change: change{
			Profile: profile("p1", 1), HolderAt: "h1", Credentials: []credential.Credential{row("c1", 1), row("c2", 1)},
			History: history.History,
			Owners:  []credential.Owner{owner(1)}, Refs: ref("h1", "c1", "").Refs, Slots: taken("c2").Slots,
			Seen:        seen.Seen,
			Idempotency: idempotency("a", noon).Idempotency, Touch: touch(false).Touch,
		}, want: store.ErrConflict},
	}...)

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			commit(t, s, tt.before...)
			if tt.claim != nil {
				claim := credential.Claim{ID: "another", Until: *tt.claim}
				if _, err := s.Claim(t.Context(), "h1", "acme", claim, noon.Add(-time.Hour), false); err != nil {
					t.Fatal(err)
				}
			}
			tt.change.At = noon
			if tt.change.Picture == nil {
				tt.change.Picture = picture("witness", "there")
			}
			if tt.want != nil {
				before := snapshot(t.Context(), s)
				wantError(t, s.Commit(t.Context(), tt.change), tt.want)
				wantEqual(t, snapshot(t.Context(), s), before)
				return
			}
			wantError(t, s.Commit(t.Context(), tt.change), nil)
			wantEqual(t, read[credential.Picture](t)(s.Picture(t.Context(), tt.change.Picture.HolderID)),
				*tt.change.Picture)
			switch c := tt.change; {
			case c.Profile != nil:
				wantEqual(t, read[credential.Profile](t)(s.Profile(t.Context(), "p1")), *c.Profile)
			case c.Holder != nil:
				wantEqual(t, read[credential.Holder](t)(s.Holder(t.Context(), "h1")), *c.Holder)
			case len(c.Credentials) > 0:
				wantEqual(t, read[credential.Credential](t)(s.Credential(t.Context(), "h1", "c1")), c.Credentials[0])
			case len(c.Owners) > 0:
				wantEqual(t, read[credential.Owner](t)(s.Owner(t.Context(), "acme", "m:1")), c.Owners[0])
			}
			if tt.check != nil {
				tt.check(t, s)
			}
		})
	}
}

// testBadChanges: a change that no transaction can make is not made in part and is not reported as a conflict.
func testBadChanges(t *testing.T, s Store) {
	many := change{At: noon}
	for i := range 101 {
		many.Seen = append(many.Seen, credential.Seen{CredentialID: "c1", Hash: fmt.Sprint(i), ExpiresAt: noon})
	}
	commit(t, s, change{Holder: erasing("h1", 1)})
	for name, c := range map[string]change{
		"more than 100 items": many,
		"a row twice":         {At: noon, Credentials: []credential.Credential{row("c1", 1), row("c1", 1)}},
		"a slot taken and freed": {At: noon, Slots: []credential.Slot{slot("c1")},
			FreeSlots: []credential.Slot{slot("c1")}},
		"a holder erased and needed": {At: noon, EraseHolder: "h1", HolderAt: "h1"},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t.Context(), s)
			if err := s.Commit(t.Context(), c); err == nil || errors.Is(err, store.ErrConflict) {
				t.Errorf("got %v, want an error that is not ErrConflict", err)
			}
			wantEqual(t, snapshot(t.Context(), s), before)
		})
	}
	many.Seen = many.Seen[:100]
	wantError(t, s.Commit(t.Context(), many), nil)
}

// testSightings: the owner of a mobile ID is recorded over what was read of it, and over a sighting of it with the very
// user that has come since; over nothing else.
func testSightings(t *testing.T, open func(t *testing.T) Store) {
	of := func(state credential.OwnerState, userID string, revision int64) *credential.Owner {
		return &credential.Owner{Account: "acme", MobileID: "m:1", State: state, UserID: userID, UpdatedAt: noon,
			Revision: revision}
	}
	for _, tt := range []struct {
		name     string
		stored   []*credential.Owner
		revision int64 // that was read
		want     error
	}{
		{"absent", nil, 0, nil},
		{"as read", []*credential.Owner{of(credential.OwnerReleased, "", 1)}, 1, nil},
		{"seen with the user since", []*credential.Owner{of(credential.OwnerForeign, "u1", 1)}, 0, nil},
		{"released, and seen with the user since",
			[]*credential.Owner{of(credential.OwnerReleased, "", 1), of(credential.OwnerForeign, "u1", 2)}, 1, nil},
		{"seen with another user since", []*credential.Owner{of(credential.OwnerForeign, "u2", 1)}, 0,
			store.ErrConflict},
		{"held since", []*credential.Owner{of(credential.OwnerHeld, "", 1)}, 0, store.ErrConflict},
		{"held by another since",
			[]*credential.Owner{of(credential.OwnerReleased, "", 1), of(credential.OwnerHeld, "u1", 2)}, 1,
			store.ErrConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			for _, o := range tt.stored {
				commit(t, s, change{Owners: []credential.Owner{*o}})
			}
			held := *of(credential.OwnerHeld, "", tt.revision+2)
			held.OverSighting = "u1"
			err := s.Commit(t.Context(), change{At: noon, Owners: []credential.Owner{held}})
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if err == nil {
				held.OverSighting = ""
				wantEqual(t, read[credential.Owner](t)(s.Owner(t.Context(), "acme", "m:1")), held)
			}
		})
	}
}
