package memory_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

func TestFailStrikesBeforeOrAfterTheEffect(t *testing.T) {
	down := errors.New("down")
	for _, tt := range []struct {
		op   string
		want string
	}{{"SetBookmark", ""}, {"SetBookmark after", "there"}} {
		t.Run(tt.op, func(t *testing.T) {
			store := memory.Store{Fail: func(op string) error {
				if op == tt.op {
					return down
				}
				return nil
			}}
			if err := store.SetBookmark(t.Context(), "acme", "", "there"); !errors.Is(err, down) {
				t.Errorf("got %v, want the fault", err)
			}
			if got, err := store.Bookmark(t.Context(), "acme"); got != tt.want || err != nil {
				t.Errorf("afterwards the bookmark is %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestFailMayBeTheOneWhoWasFaster(t *testing.T) {
	var s memory.Store
	profile := credential.Profile{ID: "hq", Revision: 1}
	s.Fail = func(op string) error {
		s.Fail = nil
		return s.Commit(context.Background(), credential.Change{Profile: &profile})
	}
	if err := s.Commit(t.Context(), credential.Change{Profile: &profile}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestNothingIsShared(t *testing.T) {
	var s memory.Store
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	row := credential.Credential{ID: "c", HolderID: "h", Revision: 1, ActivatedAt: &at,
		Mobile: &credential.MobileID{ID: "m"},
		Aside:  []credential.Reserved{{UserID: "u"}}}
	if err := s.Commit(t.Context(), credential.Change{Credentials: []credential.Credential{row}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		row.Mobile.ID, row.Aside[0].UserID, *row.ActivatedAt = "changed", "changed", at.AddDate(1, 0, 0)
		got, err := s.Credential(t.Context(), "h", "c")
		if err != nil || got.Mobile.ID != "m" || got.Aside[0].UserID != "u" || got.ActivatedAt.Year() != 2026 {
			t.Fatalf("a change outside reached the store: %+v, %v", got, err)
		}
		row = got
	}
}
