package state_test

import (
	"errors"
	"slices"
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
	if err := errors.Join(db.Put("kv", "k", map[string]int{"n": 1}), db.Delete("list", keys[1]), db.Delete("none", "x")); err != nil {
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
