package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

func claim(id string, d time.Duration) credential.Claim {
	return credential.Claim{ID: id, Until: *after(d)}
}

// claimed returns the work item of h1 at acme, added to once and claimed by "me" until a minute past noon.
func claimed(t *testing.T, s Store) credential.WorkItem {
	t.Helper()
	commit(t, s, touch(false))
	return read[credential.WorkItem](t)(s.Claim(t.Context(), "h1", "acme", claim("me", time.Minute), noon, false))
}

func workItem(t *testing.T, s Store) credential.WorkItem {
	t.Helper()
	return read[credential.WorkItem](t)(s.WorkItem(t.Context(), "h1", "acme"))
}

func testClaim(t *testing.T, open func(*testing.T) Store) {
	// The work item is due at noon, unless idle, and claimed until a minute past when held.
	tests := []struct {
		name                string
		absent, idle, held  bool
		now                 time.Duration
		onlyDue, mine, want bool
	}{
		{name: "absent", absent: true},
		{name: "free and due", want: true},
		{name: "free and due, asked whether due", onlyDue: true, want: true},
		{name: "free, not due yet", now: -time.Millisecond, want: true},
		{name: "free, not due yet, asked whether due", now: -time.Millisecond, onlyDue: true},
		{name: "nothing to do", idle: true, want: true},
		{name: "nothing to do, asked whether due", idle: true, onlyDue: true},
		{name: "held", held: true, now: time.Minute - time.Millisecond},
		{name: "held, just over", held: true, now: time.Minute, want: true},
		{name: "held, just over, asked whether due", held: true, now: time.Minute, onlyDue: true, want: true},
		{name: "held by oneself", held: true, mine: true, want: true},
		{name: "held by oneself, asked whether due", held: true, mine: true, onlyDue: true, want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			if !tt.absent {
				commit(t, s, touch(false))
			}
			if tt.held || tt.idle {
				w := read[credential.WorkItem](t)(s.Claim(t.Context(), "h1", "acme",
					claim("other", time.Minute), noon, false))
				if w.DueAt = nil; tt.idle {
					wantError(t, s.Release(t.Context(), w, false), nil)
				}
			}
			before := read[[]credential.WorkItem](t)(s.WorkItems(t.Context(), "h1"))
			mine := claim("me", 2*time.Minute)
			if tt.mine {
				mine = claim("other", time.Minute)
			}
			got, err := s.Claim(t.Context(), "h1", "acme", mine, noon.Add(tt.now), tt.onlyDue)
			if !tt.want {
				wantError(t, err, store.ErrConflict)
				wantEqual(t, read[[]credential.WorkItem](t)(s.WorkItems(t.Context(), "h1")), before)
				return
			}
			wantError(t, err, nil)
			wantEqual(t, got, credential.WorkItem{HolderID: "h1", Account: "acme", Added: 1, Claim: &mine,
				DueAt: &mine.Until})
			wantEqual(t, workItem(t, s), got)
		})
	}
}

func testSaveWork(t *testing.T, open func(*testing.T) Store) {
	retry := credential.Retry{For: credential.StepIssue, Attempts: 2, At: noon, Error: "refused"}
	for name, tt := range map[string]struct {
		claim *credential.Claim
		want  error
	}{
		"mine":      {&credential.Claim{ID: "me"}, nil},
		"another's": {&credential.Claim{ID: "other"}, store.ErrConflict},
		"none":      {nil, store.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			before := claimed(t, s)
			w := credential.WorkItem{HolderID: "h1", Account: "acme", Claim: tt.claim, Added: 7, UserID: "u",
				PersonHash: "p", PictureRef: "f", Retry: retry}
			wantError(t, s.SaveWork(t.Context(), w), tt.want)
			want := before
			if tt.want == nil {
				want.UserID, want.PersonHash, want.PictureRef, want.Retry = "u", "p", "f", retry
			}
			wantEqual(t, workItem(t, s), want)
			if tt.want == nil {
				w.UserID, w.PersonHash, w.PictureRef, w.Retry = "", "", "", credential.Retry{}
				wantError(t, s.SaveWork(t.Context(), w), nil)
				wantEqual(t, workItem(t, s), before)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		w := credential.WorkItem{HolderID: "h1", Account: "acme", Claim: &credential.Claim{ID: "me"}}
		wantError(t, open(t).SaveWork(t.Context(), w), store.ErrConflict)
	})
}

func testRelease(t *testing.T, open func(*testing.T) Store) {
	tests := []struct {
		name  string
		setup func(t *testing.T, s Store, w *credential.WorkItem)
		want  error
	}{
		{name: "mine"},
		{name: "not due again", setup: func(_ *testing.T, _ Store, w *credential.WorkItem) { w.DueAt = nil }},
		{name: "touched meanwhile", setup: func(t *testing.T, s Store, _ *credential.WorkItem) {
			commit(t, s,
				touch(false))
		}, want: store.ErrConflict},
		{name: "touched and known", setup: func(t *testing.T, s Store, w *credential.WorkItem) {
			commit(t, s, touch(false))
			w.Added++
		}},
		{name: "over, but not taken by another", setup: func(t *testing.T, s Store, _ *credential.WorkItem) {
			commit(t, s,
				change{At: noon.Add(time.Hour)})
		}},
		{name: "over and taken by another", setup: func(t *testing.T, s Store, _ *credential.WorkItem) {
			read[credential.WorkItem](t)(s.Claim(t.Context(), "h1", "acme", claim("other", time.Hour),
				noon.Add(time.Minute), false))
		}, want: store.ErrConflict},
		{name: "no claim given", setup: func(_ *testing.T, _ Store, w *credential.WorkItem) { w.Claim = nil },
			want: store.ErrConflict},
	}
	for _, tt := range tests {
		for _, drop := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", drop ", drop), func(t *testing.T) {
				s := open(t)
				w := claimed(t, s)
				w.DueAt = after(time.Hour)
				if tt.setup != nil {
					tt.setup(t, s, &w)
				}
				before := workItem(t, s)
				wantError(t, s.Release(t.Context(), w, drop), tt.want)
				if tt.want != nil {
					wantEqual(t, workItem(t, s), before)
					return
				}
				for range 2 { // the second time it is so already
					if drop {
						_, err := s.WorkItem(t.Context(), "h1", "acme")
						wantError(t, err, store.ErrNotFound)
					} else {
						wantEqual(t, workItem(t, s), credential.WorkItem{HolderID: "h1", Account: "acme",
							Added: w.Added, DueAt: w.DueAt})
					}
					wantError(t, s.Release(t.Context(), w, drop), nil)
				}
			})
		}
	}
	t.Run("absent", func(t *testing.T) {
		w := credential.WorkItem{HolderID: "h1", Account: "acme", Claim: &credential.Claim{ID: "me"}}
		wantError(t, open(t).Release(t.Context(), w, false), store.ErrConflict)
	})
	t.Run("already, but otherwise", func(t *testing.T) {
		s := open(t)
		w := claimed(t, s)
		w.DueAt = nil
		wantError(t, s.Release(t.Context(), w, false), nil)
		w.DueAt = after(time.Hour)
		wantError(t, s.Release(t.Context(), w, false), store.ErrConflict)
	})
}

// testDue: the index holds work items with something due, and nothing else that has an account.
func testDue(t *testing.T, s Store) {
	ctx := t.Context()
	for i, id := range []string{"h3", "h1", "h2", "h4", "h5"} {
		commit(t, s, change{At: noon.Add(time.Duration(i) * time.Minute),
			Touch: []credential.Touch{{HolderID: id, Account: "acme"}}})
	}
	r := row("c1", 1)
	r.Account = "acme"
	commit(t, s, change{Credentials: []credential.Credential{r}, Profile: profile("p1", 1),
		Touch: []credential.Touch{{HolderID: "h9", Account: "acme2"}}})
	if err := s.PutStock(ctx, credential.Stock{Account: "acme", PartNumber: "part", AsOf: noon}); err != nil {
		t.Fatal(err)
	}
	want := func(now time.Duration, limit int, ids ...string) {
		t.Helper()
		var got []credential.WorkRef
		eventually(t, func() bool {
			got = read[[]credential.WorkRef](t)(s.Due(ctx, "acme", noon.Add(now), limit))
			return len(got) == len(ids)
		})
		for i := range min(len(ids), len(got)) {
			if got[i].HolderID != ids[i] || got[i].Account != "acme" || i > 0 && got[i].DueAt.Before(got[i-1].DueAt) {
				t.Errorf("due: %+v, want %v", got, ids)
				return
			}
		}
	}
	want(-time.Millisecond, 10)
	want(0, 10, "h3")
	want(time.Hour, 10, "h3", "h1", "h2", "h4", "h5")
	want(time.Hour, 2, "h3", "h1")
	want(time.Hour, 0)

	w := read[credential.WorkItem](t)(s.Claim(ctx, "h3", "acme", claim("me", 2*time.Hour), noon, true))
	want(time.Hour, 10, "h1", "h2", "h4", "h5")
	want(2*time.Hour, 10, "h1", "h2", "h4", "h5", "h3")
	w.DueAt = nil
	wantError(t, s.Release(ctx, w, false), nil)
	want(3*time.Hour, 10, "h1", "h2", "h4", "h5")
	w = read[credential.WorkItem](t)(s.Claim(ctx, "h1", "acme", claim("me", 2*time.Hour), *after(time.Hour), true))
	wantError(t, s.Release(ctx, w, true), nil)
	want(3*time.Hour, 10, "h2", "h4", "h5")
}

func testAccount(t *testing.T, s Store) {
	ctx := t.Context()
	for _, step := range []struct {
		from, to string
		want     error
		at       string
	}{
		{"x", "a", store.ErrConflict, ""},
		{"", "a", nil, "a"},
		{"", "b", store.ErrConflict, "a"},
		{"a", "b", nil, "b"},
		{"a", "b", nil, "b"}, // as an attempt whose first answer was lost
		{"a", "c", store.ErrConflict, "b"},
		{"b", "", nil, ""},
		{"", "c", nil, "c"},
	} {
		wantError(t, s.SetBookmark(ctx, "acme", step.from, step.to), step.want)
		wantEqual(t, read[string](t)(s.Bookmark(ctx, "acme")), step.at)
	}
	wantEqual(t, read[string](t)(s.Bookmark(ctx, "beta")), "")

	for n := range 5 {
		wantEqual(t, read[bool](t)(s.Spend(ctx, "acme", noon, 3)), n < 3)
	}
	wantEqual(t, read[bool](t)(s.Spend(ctx, "acme", noon, 4)), true)
	wantEqual(t, read[bool](t)(s.Spend(ctx, "acme", *after(time.Minute), 1)), true)
	wantEqual(t, read[bool](t)(s.Spend(ctx, "beta", noon, 1)), true)
	wantEqual(t, read[bool](t)(s.Spend(ctx, "gamma", noon, 0)), false)
}

// testRaces: of 20 processes that try the same write at once, exactly one succeeds.
func testRaces(t *testing.T, open func(*testing.T) Store) {
	one := func(name string, before []change, do func(t *testing.T, s Store, worker int) error) {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			commit(t, s, before...)
			if won := race(t, func(worker int) error { return do(t, s, worker) }); won != 1 {
				t.Errorf("%d won, want 1", won)
			}
		})
	}
	one("claim", []change{touch(false)}, func(t *testing.T, s Store, worker int) error {
		_, err := s.Claim(t.Context(), "h1", "acme", claim(fmt.Sprint(worker), time.Minute), noon, true)
		return err
	})
	one("create", nil, func(t *testing.T, s Store, _ int) error {
		return s.Commit(t.Context(), change{At: noon, Profile: profile("p1", 1)})
	})
	one("same revision", []change{{Credentials: []credential.Credential{row("c1", 1)}}},
		func(t *testing.T, s Store, worker int) error {
			c := row("c1", 2)
			c.Reason = fmt.Sprint(worker)
			return s.Commit(t.Context(), change{At: noon, Credentials: []credential.Credential{c},
				History: []credential.HistoryEntry{entry(2)}})
		})
	one("idempotency", nil, func(t *testing.T, s Store, worker int) error {
		return s.Commit(t.Context(), idempotency(fmt.Sprint(worker), *after(time.Hour)))
	})
	one("bookmark", nil, func(t *testing.T, s Store, worker int) error {
		return s.SetBookmark(t.Context(), "acme", "", fmt.Sprint(worker))
	})
	t.Run("owner taken over", func(t *testing.T) {
		s := open(t)
		first := credential.Owner{Account: "acme", MobileID: "m:1", State: credential.OwnerHeld, HolderID: "h1",
			CredentialID: "c1", Revision: 1}
		commit(t, s, change{Owners: []credential.Owner{first}, Credentials: []credential.Credential{row("c1", 1)}})
		mobile := &credential.MobileID{ID: "m:1"}
		won := race(t, func(worker int) error {
			loser, winner, taken := row("c1", 2), row(fmt.Sprint("w", worker), 1), first
			loser.Status, winner.Mobile = credential.StatusReassigned, mobile
			taken.CredentialID, taken.Revision = winner.ID, 2
			return s.Commit(t.Context(), change{At: noon, Owners: []credential.Owner{taken},
				Credentials: []credential.Credential{loser, winner}})
		})
		has := read[credential.Owner](t)(s.Owner(t.Context(), "acme", "m:1"))
		var live []string
		for _, c := range read[[]credential.Credential](t)(s.Credentials(t.Context(), "h1")) {
			if c.IsLive() {
				live = append(live, c.ID)
			}
		}
		if won != 1 || len(live) != 1 || has.CredentialID != live[0] {
			t.Errorf("%d won; live: %v; owner: %s", won, live, has.CredentialID)
		}
	})
	t.Run("touch", func(t *testing.T) {
		s := open(t)
		if won := race(t, func(int) error {
			c := touch(false)
			c.At = noon
			return s.Commit(t.Context(),
				c)
		}); won != 20 {
			t.Errorf("%d won, want all", won)
		}
		wantEqual(t, workItem(t, s).Added, int64(20))
	})
	t.Run("spend", func(t *testing.T) {
		s := open(t)
		var within atomic.Int32
		race(t, func(int) error {
			ok, err := s.Spend(t.Context(), "acme", noon, 7)
			if ok {
				within.Add(1)
			}
			return err
		})
		wantEqual(t, within.Load(), int32(7))
	})
}
