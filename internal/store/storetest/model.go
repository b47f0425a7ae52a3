package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// RunModel makes the same random calls to a store and to a model of it. It compares every answer and, at the end,
// everything that is stored. Both openers return an empty store.
func RunModel(t *testing.T, open, model func(t *testing.T) Store) {
	rapid.Check(t, func(rt *rapid.T) {
		m := machine{t: rt, store: open(t), model: model(t)}
		rt.Repeat(map[string]func(*rapid.T){
			"commit":   m.commit,
			"claim":    m.claim,
			"save":     m.save,
			"release":  m.release,
			"spend":    m.spend,
			"bookmark": m.bookmark,
			"outage":   m.outage,
			"stock":    m.stock,
		})
		got, want := snapshot(t.Context(), m.store), snapshot(t.Context(), m.model)
		for name := range want {
			if !reflect.DeepEqual(got[name], want[name]) {
				rt.Errorf("%s:\ngot  %s\nwant %s", name, show(got[name]), show(want[name]))
			}
			delete(got, name)
		}
		for name, g := range got {
			rt.Errorf("%s: got %s, want nothing", name, show(g))
		}
	})
}

// holderOf gives every id of a credential to one holder, as the service does: a list breaks ties of its moment by the
// id, and an engine may put what ties altogether in any order.
var holderOf = map[string]string{"c1": "h1", "c2": "h2", "c3": "h1"}

// machine keeps the two stores. It looks at the model to draw changes that are mostly, but not always, possible.
type machine struct {
	t            *rapid.T
	store, model Store
}

// both compares what an operation answers.
func (m *machine) both(t *rapid.T, do func(s Store) (any, error)) {
	t.Helper()
	got, gotErr := do(m.store)
	want, wantErr := do(m.model)
	if kind(gotErr) != kind(wantErr) {
		t.Fatalf("got error %v, want %v", gotErr, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %s\nwant %s", show(got), show(want))
	}
}

// show prints what is behind pointers, too.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func kind(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, store.ErrConflict):
		return "conflict"
	case errors.Is(err, store.ErrNotFound):
		return "not found"
	}
	return "other"
}

func pick[T any](t *rapid.T, from []T, label string) T { return rapid.SampledFrom(from).Draw(t, label) }

// now draws one of the moments everything happens at.
func now(t *rapid.T) time.Time {
	return noon.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "minute")) * time.Minute)
}

func moment(t *rapid.T) *time.Time {
	if !rapid.Bool().Draw(t, "has a moment") {
		return nil
	}
	at := now(t)
	return &at
}

// next draws the revision after the stored one, mostly.
func next(t *rapid.T, stored int64) int64 {
	if rapid.IntRange(0, 4).Draw(t, "odd revision") == 0 {
		return int64(rapid.IntRange(1, 4).Draw(t, "revision"))
	}
	return stored + 1
}

func (m *machine) commit(t *rapid.T) {
	ctx := t.Context()
	c := credential.Change{At: now(t)}
	parts := []func(){
		func() {
			p := *profile(pick(t, profileIDs, "profile"), 0)
			old, _ := m.model.Profile(ctx, p.ID)
			p.Revision, p.Retired = next(t, old.Revision), rapid.Bool().Draw(t, "retired")
			c.Profile = &p
		},
		func() {
			h := *holder(pick(t, holderIDs, "holder"), 0)
			old, _ := m.model.Holder(ctx, h.ID)
			h.Revision, h.Erasing, h.ValidUntil = next(t, old.Revision), rapid.Bool().Draw(t, "erasing"), moment(t)
			if old.Revision != 0 && rapid.IntRange(0, 4).Draw(t, "read before an assignment") > 0 {
				h.Assigned = old.Assigned
			}
			c.Holder = &h
		},
		func() {
			c.HolderAt = pick(t, holderIDs, "holder at")
			if rapid.Bool().Draw(t, "as read") {
				old, _ := m.model.Holder(ctx, c.HolderAt)
				c.HolderRevision = next(t, old.Revision) - 1
			}
		},
		func() { c.EraseHolder = pick(t, holderIDs, "erase") },
		func() { c.Picture = picture(pick(t, holderIDs, "picture"), fmt.Sprint(now(t))) },
		func() { c.DropPicture = pick(t, holderIDs, "drop picture") },
		func() {
			r := row(pick(t, credentialIDs, "credential"), 0)
			r.HolderID = holderOf[r.ID]
			old, err := m.model.Credential(ctx, r.HolderID, r.ID)
			if err != nil {
				old.ProfileID, old.CreatedAt = pick(t, profileIDs, "profile"), now(t)
			}
			r.ProfileID, r.CreatedAt, r.Revision, r.LookAt = old.ProfileID, old.CreatedAt,
				next(t, old.Revision), moment(t)
			c.Credentials = append(c.Credentials, r)
			e := entry(r.Revision)
			e.HolderID, e.CredentialID = r.HolderID, r.ID
			c.History = append(c.History, e)
		},
		func() {
			o := credential.Owner{Account: pick(t, accounts, "account"), MobileID: pick(t, mobileIDs, "mobile id"),
				UpdatedAt: now(t)}
			old, _ := m.model.Owner(ctx, o.Account, o.MobileID)
			o.Revision, o.CredentialID = next(t, old.Revision), pick(t, credentialIDs, "credential")
			c.Owners = append(c.Owners, o)
		},
		func() {
			c.Refs = append(c.Refs, credential.Ref{Account: pick(t, accounts, "account"),
				Kind: pick(t, refKinds, "kind"),
				ID:   pick(t, refIDs, "id"), HolderID: pick(t, []string{"", "h1"}, "holder"),
				CredentialID: pick(t, []string{"", "c1"}, "credential"),
				ProfileID:    pick(t, []string{"", "p1"}, "profile")})
		},
		func() {
			s := slot(pick(t, credentialIDs, "taker"))
			s.DeviceID, s.ProfileID = pick(t, deviceIDs, "device"), pick(t, profileIDs, "profile")
			c.Slots = append(c.Slots, s)
			if old, err := m.model.Slot(ctx, s.Account, s.DeviceID, s.ProfileID); err == nil &&
				rapid.Bool().Draw(t, "replace") {
				c.ReplacesSlot = old.CredentialID
			}
		},
		func() {
			s := slot(pick(t, credentialIDs, "leaver"))
			s.DeviceID, s.ProfileID = pick(t, deviceIDs, "device"), pick(t, profileIDs, "profile")
			c.FreeSlots = append(c.FreeSlots, s)
		},
		func() {
			c.Seen = append(c.Seen, credential.Seen{CredentialID: pick(t, credentialIDs, "credential"),
				Hash: pick(t, hashes, "hash"), ExpiresAt: now(t)})
		},
		func() {
			c.Idempotency = &credential.Idempotency{HolderID: pick(t, holderIDs, "holder"),
				Hash:    pick(t, hashes, "hash"),
				Payload: fmt.Sprint(c.At), ExpiresAt: now(t)}
		},
		func() {
			touch := credential.Touch{HolderID: pick(t, holderIDs, "holder"),
				Account:   pick(t, accounts, "account"),
				Unclaimed: rapid.Bool().Draw(t, "unclaimed"), Wake: rapid.Bool().Draw(t, "wake")}
			if rapid.Bool().Draw(t, "as read") {
				item, _ := m.model.WorkItem(ctx, touch.HolderID, touch.Account)
				added := item.Added + int64(rapid.IntRange(0, 4).Draw(t, "added since")/4)
				touch.Added = &added
			}
			c.Touch = append(c.Touch, touch)
		},
	}
	for range rapid.IntRange(0, 4).Draw(t, "parts") {
		pick(t, parts, "part")()
	}
	m.both(t, func(s Store) (any, error) { return nil, s.Commit(ctx, c) })
}

// workItem draws a work item as the model has it, or nearly.
func (m *machine) workItem(t *rapid.T) credential.WorkItem {
	holderID, account := pick(t, holderIDs, "holder"), pick(t, accounts, "account")
	w, _ := m.model.WorkItem(t.Context(), holderID, account)
	w.HolderID, w.Account = holderID, account
	if rapid.IntRange(0, 4).Draw(t, "odd") == 0 {
		w.Added += int64(rapid.IntRange(-1, 1).Draw(t, "off by"))
		w.Claim = pick(t, []*credential.Claim{nil, {ID: "a"}, {ID: "b"}}, "claim")
	}
	return w
}

func (m *machine) claim(t *rapid.T) {
	w, at, onlyDue := m.workItem(t), now(t), rapid.Bool().Draw(t, "only due")
	claim := credential.Claim{ID: pick(t, []string{"a", "b"}, "claim"), Until: at.Add(time.Minute)}
	m.both(t, func(s Store) (any, error) {
		return s.Claim(t.Context(), w.HolderID, w.Account, claim, at, onlyDue)
	})
}

func (m *machine) save(t *rapid.T) {
	w := m.workItem(t)
	w.UserID, w.PersonHash = pick(t, []string{"", "u"}, "user"), pick(t, hashes, "person")
	w.PictureRef = pick(t, []string{"", "f"}, "picture")
	w.Retry = credential.Retry{Attempts: 1, At: now(t)}
	m.both(t, func(s Store) (any, error) { return nil, s.SaveWork(t.Context(), w) })
}

func (m *machine) release(t *rapid.T) {
	w, drop := m.workItem(t), rapid.Bool().Draw(t, "drop")
	w.DueAt = moment(t)
	m.both(t, func(s Store) (any, error) { return nil, s.Release(t.Context(), w, drop) })
}

func (m *machine) spend(t *rapid.T) {
	account, window, limit := pick(t, accounts, "account"), now(t), rapid.IntRange(0, 3).Draw(t, "limit")
	m.both(t, func(s Store) (any, error) { return s.Spend(t.Context(), account, window, limit) })
}

func (m *machine) bookmark(t *rapid.T) {
	places := []string{"", "x", "y"}
	account, from, to := pick(t, accounts, "account"), pick(t, places, "from"), pick(t, places, "to")
	m.both(t, func(s Store) (any, error) { return nil, s.SetBookmark(t.Context(), account, from, to) })
}

func (m *machine) outage(t *rapid.T) {
	account, outage := pick(t, accounts, "account"), credential.Outage{}
	if at := moment(t); at != nil {
		outage = credential.Outage{Since: *at, NextProbe: now(t), Reason: "down"}
	}
	m.both(t, func(s Store) (any, error) { return nil, s.SetOutage(t.Context(), account, outage) })
}

func (m *machine) stock(t *rapid.T) {
	stock := credential.Stock{Account: pick(t, accounts, "account"), PartNumber: "part", AsOf: now(t)}
	m.both(t, func(s Store) (any, error) { return nil, s.PutStock(t.Context(), stock) })
}
