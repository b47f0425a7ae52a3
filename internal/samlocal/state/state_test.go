package state_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/mobilecred/mobilecred/internal/samlocal/state"
)

func TestWhatIsWrittenIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	db, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(dir); !errors.Is(err, state.ErrInUse) {
		t.Errorf("a second opener got %v, want ErrInUse", err)
	}
	var keys []string
	for _, v := range []string{"a", "b", "c"} {
		key, err := db.Add("list", v)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if err := errors.Join(db.Put("kv", "k", map[string]int{"n": 1}), db.Delete("list", keys[1]),
		db.Delete("none", "x")); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no")
	if err := db.Write(func(tx *state.Tx) error {
		_ = tx.Put("kv", "k", map[string]int{"n": 2})
		return failure
	}); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db, err = state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var kv map[string]int
	if ok, err := db.Get("kv", "k", &kv); !ok || err != nil || kv["n"] != 1 {
		t.Errorf("got %v %v %v", kv, ok, err)
	}
	if ok, err := db.Get("kv", "other", &kv); ok || err != nil {
		t.Errorf("absent: got %v %v", ok, err)
	}
	entries, err := state.List[string](db, "list")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Value)
	}
	if !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("got %v", got)
	}
	if key, _ := db.Add("list", "d"); key <= keys[2] {
		t.Errorf("key %s does not sort after %s", key, keys[2])
	}
}

func TestWritesMadeAtTheSameTimeDoNotSpoilEachOther(t *testing.T) {
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	refused := errors.New("refused")
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			err := db.Write(func(tx *state.Tx) error {
				if _, err := tx.Add("numbers", i); err != nil {
					return err
				}
				if i%4 == 0 {
					return refused
				}
				return nil
			})
			if (err != nil) != (i%4 == 0) || err != nil && !errors.Is(err, refused) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	group.Wait()
	entries, err := state.List[int](db, "numbers")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Value%4 == 0 {
			t.Errorf("%d was written though its write failed", e.Value)
		}
	}
	if n, err := db.Added("numbers"); len(entries) != 30 || n != 30 || err != nil {
		t.Errorf("%d values, %d ever added, %v", len(entries), n, err)
	}
	newest, err := state.Newest(db, "numbers", 3, func(n int) bool { return n%2 == 1 }, nil)
	if err != nil || len(newest) != 3 || newest[0].Key <= newest[1].Key || newest[1].Value%2 != 1 {
		t.Errorf("newest: %v %v", newest, err)
	}
}
