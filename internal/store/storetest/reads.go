package storetest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// testFields stores items with every field set, however deep, and reads them back.
func testFields(t *testing.T, s Store) {
	ctx := t.Context()
	profile, holder, owner := fill[credential.Profile](), fill[credential.Holder](), fill[credential.Owner]()
	owner.OverSighting = "" // no field of the item
	row := fill[credential.Credential]()
	profile.Revision, holder.Revision, owner.Revision, row.Revision = 1, 1, 1, 1
	picture, entry, ref, slot := fill[credential.Picture](), fill[credential.HistoryEntry](), fill[credential.Ref](),
		fill[credential.Slot]()
	remembered, stock, outage := fill[credential.Idempotency](), fill[credential.Stock](), fill[credential.Outage]()
	commit(t, s, change{
		Profile: &profile, Holder: &holder, Picture: &picture, Credentials: []credential.Credential{row},
		Idempotency: &remembered,
		History:     []credential.HistoryEntry{entry}, Owners: []credential.Owner{owner}, Refs: []credential.Ref{ref},
		Slots: []credential.Slot{slot},
	})
	if err := errors.Join(s.PutStock(ctx, stock), s.SetOutage(ctx, "acme", outage)); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, read[credential.Profile](t)(s.Profile(ctx, profile.ID)), profile)
	wantEqual(t, read[credential.Holder](t)(s.Holder(ctx, holder.ID)), holder)
	wantEqual(t, read[credential.Picture](t)(s.Picture(ctx, picture.HolderID)), picture)
	wantEqual(t, read[credential.Credential](t)(s.Credential(ctx, row.HolderID, row.ID)), row)
	wantEqual(t, read[[]credential.HistoryEntry](t)(s.History(ctx, entry.HolderID, entry.CredentialID)),
		[]credential.HistoryEntry{entry})
	wantEqual(t, read[credential.Owner](t)(s.Owner(ctx, owner.Account, owner.MobileID)), owner)
	wantEqual(t, read[credential.Ref](t)(s.Ref(ctx, ref.Account, ref.Kind, ref.ID)), ref)
	wantEqual(t, read[credential.Slot](t)(s.Slot(ctx, slot.Account, slot.DeviceID, slot.ProfileID)), slot)
	wantEqual(t, read[credential.Idempotency](t)(s.Idempotency(ctx, remembered.HolderID, remembered.Hash)), remembered)
	wantEqual(t, read[credential.Stock](t)(s.Stock(ctx, stock.Account, stock.PartNumber)), stock)
	wantEqual(t, read[credential.Outage](t)(s.Outage(ctx, "acme")), outage)
	// A Secret prints as something else; what is stored is the text.
	if got := read[credential.Credential](t)(s.Credential(ctx, row.HolderID,
		row.ID)).Invitation.Code.Reveal(); !strings.HasPrefix(got, "text") {
		t.Errorf("the code came back as %q", got)
	}

	wantError(t, s.SetOutage(ctx, "acme", credential.Outage{}), nil)
	wantEqual(t, read[credential.Outage](t)(s.Outage(ctx, "acme")), credential.Outage{})
}

// testTimes: a time comes back in UTC, in whole milliseconds.
func testTimes(t *testing.T, s Store) {
	zone := time.FixedZone("east", 5*3600+1800)
	for i, tt := range []struct{ in, want time.Time }{
		{noon, noon},
		{noon.In(zone), noon},
		{noon.Add(1999999), noon.Add(time.Millisecond)},
		{noon.Add(999 * time.Millisecond), noon.Add(999 * time.Millisecond)},
		{time.Time{}, time.Time{}},
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		id := fmt.Sprint("h", i)
		h := holder(id, 1)
		h.CreatedAt, h.ValidUntil = tt.in, &tt.in
		commit(t, s, change{Holder: h})
		got := read[credential.Holder](t)(s.Holder(t.Context(), id))
		if !reflect.DeepEqual(got.CreatedAt, tt.want) || !reflect.DeepEqual(got.ValidUntil, &tt.want) {
			t.Errorf("%v came back as %v and %v", tt.in, got.CreatedAt, got.ValidUntil)
		}
	}
}

func testNilAndEmpty(t *testing.T, s Store) {
	empty := ""
	bare, hollow := row("c1", 1), row("c2", 1)
	hollow.Mobile, hollow.Device, hollow.Doubt = &credential.MobileID{}, &credential.Device{},
		&credential.Doubt{Invitations: []string{}}
	hollow.Strays = []credential.Reserved{{}}
	without, with := profile("p1", 1), profile("p2", 1)
	with.Sender.LogoURL = &empty
	commit(t, s, change{Profile: without, Credentials: []credential.Credential{bare, hollow}}, change{Profile: with})
	wantEqual(t, read[credential.Credential](t)(s.Credential(t.Context(), "h1", "c1")), bare)
	wantEqual(t, read[credential.Credential](t)(s.Credential(t.Context(), "h1", "c2")), hollow)
	wantEqual(t, read[credential.Profile](t)(s.Profile(t.Context(), "p1")), *without)
	wantEqual(t, read[credential.Profile](t)(s.Profile(t.Context(), "p2")), *with)
}

// testAbsent reads from an empty store.
func testAbsent(t *testing.T, s Store) {
	ctx := t.Context()
	for name, get := range map[string]func() error{
		"profile":     func() error { _, err := s.Profile(ctx, "x"); return err },
		"holder":      func() error { _, err := s.Holder(ctx, "x"); return err },
		"picture":     func() error { _, err := s.Picture(ctx, "x"); return err },
		"credential":  func() error { _, err := s.Credential(ctx, "x", "x"); return err },
		"owner":       func() error { _, err := s.Owner(ctx, "x", "x"); return err },
		"ref":         func() error { _, err := s.Ref(ctx, "x", "x", "x"); return err },
		"slot":        func() error { _, err := s.Slot(ctx, "x", "x", "x"); return err },
		"idempotency": func() error { _, err := s.Idempotency(ctx, "x", "x"); return err },
		"work item":   func() error { _, err := s.WorkItem(ctx, "x", "x"); return err },
		"stock":       func() error { _, err := s.Stock(ctx, "x", "x"); return err },
	} {
		if err := get(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	profiles := read[[]credential.Profile](t)(s.Profiles(ctx))
	rows := read[[]credential.Credential](t)(s.Credentials(ctx, "x"))
	items := read[[]credential.WorkItem](t)(s.WorkItems(ctx, "x"))
	history := read[[]credential.HistoryEntry](t)(s.History(ctx, "x", "x"))
	due := read[[]credential.WorkRef](t)(s.Due(ctx, "x", noon, 10))
	list := read[[]credential.Credential](t)(everything(ctx, s, credential.Page{ProfileID: "x", Limit: 10}))
	if n := len(profiles) + len(rows) + len(items) + len(history) + len(due) + len(list); n > 0 {
		t.Errorf("%d items in an empty store", n)
	}
	wantEqual(t, read[bool](t)(s.Seen(ctx, "x", "x")), false)
	wantEqual(t, read[string](t)(s.Bookmark(ctx, "x")), "")
	wantEqual(t, read[credential.Outage](t)(s.Outage(ctx, "x")), credential.Outage{})
}

// testOrders: the lists of a holder are complete, in order, and hold nothing of another holder. The history is longer
// than one answer of DynamoDB.
func testOrders(t *testing.T, s Store) {
	ctx := t.Context()
	long := strings.Repeat("x", 100_000)
	for i := range 20 {
		e := entry(int64(20 - i))
		e.Reason = long
		commit(t, s, change{History: []credential.HistoryEntry{e}})
	}
	other, longer := entry(3), entry(3)
	other.HolderID, longer.CredentialID = "h2", "c11"
	commit(t, s, change{History: []credential.HistoryEntry{other, longer}})
	var revisions []int64
	for _, e := range read[[]credential.HistoryEntry](t)(s.History(ctx, "h1", "c1")) {
		revisions = append(revisions, e.Revision)
	}
	if len(revisions) != 20 || !slices.IsSorted(revisions) {
		t.Errorf("history of revisions %v, want 1 to 20", revisions)
	}

	var ids []string
	for id, at := range map[string]time.Duration{"c3": 0, "c1": time.Hour, "c2": time.Minute, "c4": time.Hour} {
		c := row(id, 1)
		c.CreatedAt = noon.Add(at)
		commit(t, s, change{Credentials: []credential.Credential{c},
			Touch: []credential.Touch{{HolderID: "h1", Account: id}}, Profile: profile(id, 1)})
	}
	foreign := row("c5", 1)
	foreign.HolderID = "h11"
	commit(t, s, change{Credentials: []credential.Credential{foreign},
		Touch: []credential.Touch{{HolderID: "h11", Account: "acme"}}})
	for _, c := range read[[]credential.Credential](t)(s.Credentials(ctx, "h1")) {
		ids = append(ids, c.ID)
	}
	wantEqual(t, ids, []string{"c3", "c2", "c1", "c4"})
	ids = nil
	for _, w := range read[[]credential.WorkItem](t)(s.WorkItems(ctx, "h1")) {
		ids = append(ids, w.Account)
	}
	wantEqual(t, ids, []string{"c1", "c2", "c3", "c4"})
	ids = nil
	for _, p := range read[[]credential.Profile](t)(s.Profiles(ctx)) {
		ids = append(ids, p.ID)
	}
	wantEqual(t, ids, []string{"c1", "c2", "c3", "c4"})
}

// many stores n rows of profile p1, each created later than the one before; every third has the second status. Ids are
// 000 and on.
func many(t *testing.T, s Store, n int, statuses ...credential.Status) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var rows []credential.Credential
		for j := i; j < min(n, i+100); j++ {
			c := row(fmt.Sprintf("%03d", j), 1)
			c.CreatedAt = noon.Add(time.Duration(j) * time.Millisecond)
			c.Status = statuses[0]
			if j%3 == 0 {
				c.Status = statuses[1]
			}
			rows = append(rows, c)
		}
		commit(t, s, change{Credentials: rows})
	}
}

// wholeList waits until an index that lags knows of n rows, and returns their ids.
func wholeList(t *testing.T, s Store, n int, page credential.Page) []string {
	t.Helper()
	var ids []string
	eventually(t, func() bool {
		ids = nil
		for _, c := range read[[]credential.Credential](t)(everything(t.Context(), s, page)) {
			ids = append(ids, c.ID)
		}
		return len(ids) == n
	})
	return ids
}

// eventually asks again until done, because indexes may be some seconds behind.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Error("still not so after 5 s")
			return
		}
	}
}

func testLists(t *testing.T, s Store) {
	ctx := t.Context()
	many(t, s, 25, credential.StatusActive, credential.StatusRevoked)
	other := row("other", 1)
	other.ProfileID = "p11"
	commit(t, s, change{Credentials: []credential.Credential{other}})
	var newest, revoked []string
	for i := 24; i >= 0; i-- {
		id := fmt.Sprintf("%03d", i)
		newest = append(newest, id)
		if i%3 == 0 {
			revoked = append(revoked, id)
		}
	}
	for _, limit := range []int{1, 4, 5, 9, 24, 25, 26, 200} {
		wantEqual(t, wholeList(t, s, 25, credential.Page{ProfileID: "p1", Limit: limit}), newest)
		wantEqual(t, wholeList(t, s, 9, credential.Page{ProfileID: "p1", Limit: limit,
			Status: credential.StatusRevoked}), revoked)
	}

	for _, tt := range []struct {
		page  credential.Page
		items int
		more  bool
	}{
		{credential.Page{ProfileID: "p1", Limit: 24}, 24, true},
		{credential.Page{ProfileID: "p1", Limit: 25}, 25, false},
		{credential.Page{ProfileID: "p1", Limit: 26}, 25, false},
		{credential.Page{ProfileID: "p1", Limit: 9, Status: credential.StatusRevoked}, 9, false},
		{credential.Page{ProfileID: "p1", Limit: 8, Status: credential.StatusRevoked}, 8, true},
		{credential.Page{ProfileID: "p1", Limit: 8, Status: credential.StatusLost}, 0, false},
	} {
		items, next, err := s.ListCredentials(ctx, tt.page)
		if err != nil || len(items) != tt.items || (next != "") != tt.more {
			t.Errorf("%+v: %d items, cursor %q, %v; want %d items, more %v", tt.page, len(items), next, err,
				tt.items, tt.more)
		}
	}

	// What a row says is read from the row: a status that changes between two pages counts.
	_, next, err := s.ListCredentials(ctx, credential.Page{ProfileID: "p1", Limit: 20, Status: credential.StatusActive})
	if err != nil {
		t.Fatal(err)
	}
	page := credential.Page{ProfileID: "p1", Limit: 1}
	first, _, err := s.ListCredentials(ctx, page)
	if err != nil {
		t.Fatal(err)
	}
	changed := first[0]
	changed.Status, changed.Revision = credential.StatusLost, 2
	commit(t, s, change{Credentials: []credential.Credential{changed}})
	page.Status = credential.StatusLost
	lost, _, err := s.ListCredentials(ctx, page)
	if err != nil || next != "" || len(lost) != 1 || lost[0].ID != changed.ID {
		t.Errorf("the row that was changed: got %v, %v, and cursor %q for the last page", lost, err, next)
	}
}

// testLongList: one call looks at no more than 1000 rows, and the next goes on.
func testLongList(t *testing.T, s Store) {
	many(t, s, 1003, credential.StatusActive, credential.StatusActive)
	eventually(t, func() bool {
		items, err := everything(t.Context(), s, credential.Page{ProfileID: "p1", Limit: 500})
		return err == nil && len(items) == 1003
	})
	page := credential.Page{ProfileID: "p1", Status: credential.StatusLost, Limit: 10}
	items, next, err := s.ListCredentials(t.Context(), page)
	if err != nil || len(items) > 0 || next == "" {
		t.Fatalf("got %d items, cursor %q, %v; want none and a cursor", len(items), next, err)
	}
	page.Cursor, page.Status, page.Limit = next, "", 10
	items, next, err = s.ListCredentials(t.Context(), page)
	if err != nil || len(items) != 3 || next != "" || items[0].ID != "002" {
		t.Errorf("got %d items, cursor %q, %v; want the oldest 3 and the end", len(items), next, err)
	}
}

func testCursors(t *testing.T, s Store) {
	many(t, s, 3, credential.StatusActive, credential.StatusActive)
	wholeList(t, s, 3, credential.Page{ProfileID: "p1", Limit: 1})
	_, good, err := s.ListCredentials(t.Context(), credential.Page{ProfileID: "p1", Limit: 1})
	if err != nil || good == "" {
		t.Fatal(good, err)
	}
	for name, page := range map[string]credential.Page{
		"of another profile": {ProfileID: "p2", Cursor: good},
		"cut short":          {ProfileID: "p1", Cursor: good[:len(good)/4]},
		"not base64":         {ProfileID: "p1", Cursor: good[:4] + "!" + good[5:]},
		"of nothing":         {ProfileID: "p1", Cursor: base64.RawURLEncoding.EncodeToString([]byte("p1"))},
		"of junk": {ProfileID: "p1",
			Cursor: base64.RawURLEncoding.EncodeToString([]byte("p1\x00\xff\xfe#junk"))},
		"of too much": {ProfileID: "p1",
			Cursor: base64.RawURLEncoding.EncodeToString([]byte("p1\x002026-03-01T12:00:00.000Z#" +
				strings.Repeat("x", 4000)))},
	} {
		page.Limit = 1
		_, _, err := s.ListCredentials(t.Context(), page)
		if !errors.Is(err, credential.Refuse(credential.CodeInvalidCursor, "")) {
			t.Errorf("a cursor %s: got %v, want invalid_cursor", name, err)
		}
	}
}
