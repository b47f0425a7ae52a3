// Package storetest checks that every store does what package store and credential.Change say: the one in memory, on
// which other packages' tests rely, and the one on DynamoDB.
//
// What belongs here is what any store must do. What only one of them can meet, such as throttling, is tested beside
// that one.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Store is all that a store can do: its port, what lookups read, and the call budget.
type Store interface {
	store.Rows
	store.Work
	store.AccountState
	History(ctx context.Context, holderID, credentialID string) ([]credential.HistoryEntry, error)
	ListCredentials(ctx context.Context, page credential.Page) (items []credential.Credential,
		nextCursor string, err error)
	Spend(ctx context.Context, account string, window time.Time, limit int) (ok bool, err error)
}

// Run is the conformance suite. open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Run("Changes", func(t *testing.T) { testChanges(t, open) })
	t.Run("Sightings", func(t *testing.T) { testSightings(t, open) })
	t.Run("BadChanges", func(t *testing.T) { testBadChanges(t, open(t)) })
	t.Run("Fields", func(t *testing.T) { testFields(t, open(t)) })
	t.Run("Times", func(t *testing.T) { testTimes(t, open(t)) })
	t.Run("NilAndEmpty", func(t *testing.T) { testNilAndEmpty(t, open(t)) })
	t.Run("Absent", func(t *testing.T) { testAbsent(t, open(t)) })
	t.Run("Orders", func(t *testing.T) { testOrders(t, open(t)) })
	t.Run("Lists", func(t *testing.T) { testLists(t, open(t)) })
	t.Run("LongList", func(t *testing.T) { testLongList(t, open(t)) })
	t.Run("Cursors", func(t *testing.T) { testCursors(t, open(t)) })
	t.Run("Claim", func(t *testing.T) { testClaim(t, open) })
	t.Run("SaveWork", func(t *testing.T) { testSaveWork(t, open) })
	t.Run("Release", func(t *testing.T) { testRelease(t, open) })
	t.Run("Due", func(t *testing.T) { testDue(t, open(t)) })
	t.Run("Account", func(t *testing.T) { testAccount(t, open(t)) })
	t.Run("Races", func(t *testing.T) { testRaces(t, open) })
}

// noon is when everything happens.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) *time.Time {
	at := noon.Add(d)
	return &at
}

func commit(t *testing.T, s Store, changes ...credential.Change) {
	t.Helper()
	for _, c := range changes {
		if c.At.IsZero() {
			c.At = noon
		}
		if err := s.Commit(t.Context(), c); err != nil {
			t.Fatalf("preparing: %v", err)
		}
	}
}

// read fails the test unless a read succeeds.
func read[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func wantEqual(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The ids that snapshot looks at; tests of changes use no others.
var (
	holderIDs     = []string{"h1", "h2", "witness"}
	accounts      = []string{"acme", "beta"}
	profileIDs    = []string{"p1", "p2"}
	credentialIDs = []string{"c1", "c2", "c3"}
	mobileIDs     = []string{"m:1", "m:2"}
	refIDs        = []string{"r1", "r2"}
	deviceIDs     = []string{"d1", "d2"}
	hashes        = []string{"x1", "x2"}
	refKinds      = []credential.RefKind{credential.RefUser, credential.RefPart}
)

// snapshot reads everything there is, by a name for each item. Reads that fail otherwise than with ErrNotFound are
// noted as such.
func snapshot(ctx context.Context, s Store) map[string]any {
	all := map[string]any{}
	note := func(v any, err error, name ...any) {
		switch {
		case err == nil:
			all[fmt.Sprint(name...)] = v
		case !errors.Is(err, store.ErrNotFound):
			all[fmt.Sprint(name...)] = err
		}
	}
	profiles, err := s.Profiles(ctx)
	note(len(profiles), err, "profiles")
	for _, p := range profileIDs {
		v, err := s.Profile(ctx, p)
		note(v, err, "profile ", p)
		list, err := everything(ctx, s, credential.Page{ProfileID: p, Limit: 2})
		note(list, err, "list ", p)
	}
	for _, h := range holderIDs {
		holder, err := s.Holder(ctx, h)
		note(holder, err, "holder ", h)
		picture, err := s.Picture(ctx, h)
		note(picture, err, "picture ", h)
		rows, err := s.Credentials(ctx, h)
		note(rows, err, "credentials ", h)
		work, err := s.WorkItems(ctx, h)
		note(work, err, "work ", h)
		for _, c := range credentialIDs {
			history, err := s.History(ctx, h, c)
			note(history, err, "history ", h, c)
		}
		for _, x := range hashes {
			i, err := s.Idempotency(ctx, h, x)
			note(i, err, "idempotency ", h, x)
		}
	}
	for _, c := range credentialIDs {
		for _, x := range hashes {
			seen, err := s.Seen(ctx, c, x)
			note(seen, err, "seen ", c, x)
		}
	}
	for _, a := range accounts {
		for _, m := range mobileIDs {
			owner, err := s.Owner(ctx, a, m)
			note(owner, err, "owner ", a, m)
		}
		for _, kind := range refKinds {
			for _, r := range refIDs {
				ref, err := s.Ref(ctx, a, kind, r)
				note(ref, err, "ref ", a, kind, r)
			}
		}
		for _, d := range deviceIDs {
			for _, p := range profileIDs {
				slot, err := s.Slot(ctx, a, d, p)
				note(slot, err, "slot ", a, d, p)
			}
		}
		bookmark, err := s.Bookmark(ctx, a)
		note(bookmark, err, "bookmark ", a)
		outage, err := s.Outage(ctx, a)
		note(outage, err, "outage ", a)
		stock, err := s.Stock(ctx, a, "part")
		note(stock, err, "stock ", a)
	}
	return all
}

// everything follows the cursors of a list to its end.
func everything(ctx context.Context, s Store, page credential.Page) ([]credential.Credential, error) {
	var all []credential.Credential
	for {
		items, next, err := s.ListCredentials(ctx, page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		page.Cursor = next
	}
}

// race runs 20 workers at once and returns how many got nil; the others must get ErrConflict.
func race(t *testing.T, do func(worker int) error) int {
	t.Helper()
	const workers = 20
	errs := make([]error, workers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			<-start
			errs[w] = do(w)
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantError(t, err, store.ErrConflict)
		}
	}
	return won
}

// fill sets every field of a struct, and all it leads to, to something that is not its zero value.
func fill[T any]() T {
	var v T
	n := 0
	var set func(v reflect.Value)
	set = func(v reflect.Value) {
		n++
		switch v.Kind() {
		case reflect.String:
			v.SetString(fmt.Sprintf("text%d", n))
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Uint8:
			v.SetUint(uint64(n % 256))
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			set(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			set(v.Index(0))
			set(v.Index(1))
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				v.Set(reflect.ValueOf(noon.Add(time.Duration(n) * 1001 * time.Millisecond)))
				break
			}
			for i := range v.NumField() {
				set(v.Field(i))
			}
		default:
			panic("fill: " + v.Kind().String())
		}
	}
	set(reflect.ValueOf(&v).Elem())
	return v
}
