// Package memory is the store kept in a map: for tests of packages that use a store, and as the model with which the
// real store is compared.
//
// What belongs here is what the store's methods mean, and nothing of how DynamoDB does it; package storetest checks
// that both stores agree. Nothing here outlives the process.
package memory

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// maxItems is what one transaction may hold, as in DynamoDB.
const maxItems = 100

// maxExamined is how many rows one call of ListCredentials looks at.
const maxExamined = 1000

// Store implements the ports of package store and the lists that webapi's lookups read. The zero value is an empty
// store; it may be used by many goroutines. Values are copied in and out, with times in UTC, cut to milliseconds.
type Store struct {
	// Fail, when set, is called with the name of every method before it does anything, and of every writing method once
	// more, as in "Commit after", when its effect is there: a non-nil error is what the caller gets. It is called
	// without a lock held, so it may use the store itself, to play another process that was faster.
	Fail func(op string) error

	mu    sync.Mutex
	items map[string]any
}

// Kinds of items, the first part of a key.
const (
	kindProfile     = "profile"
	kindHolder      = "holder"
	kindPicture     = "picture"
	kindCredential  = "credential"
	kindHistory     = "history"
	kindOwner       = "owner"
	kindRef         = "ref"
	kindSlot        = "slot"
	kindSeen        = "seen"
	kindIdempotency = "idempotency"
	kindWork        = "work"
	kindStock       = "stock"
	kindBookmark    = "bookmark"
	kindOutage      = "outage"
	kindBudget      = "budget"
	kindWarned      = "warned"
)

func key(parts ...string) string { return strings.Join(parts, "\x00") }

// action is what a transaction does to one item: if allow accepts the stored item (nil for none), the item becomes what
// then returns (nil removes it).
type action struct {
	key   string
	allow func(old any) bool
	then  func(old any) any
}

func put(key string, item any, allow func(old any) bool) action {
	item = clone(item)
	return action{key, allow, func(any) any { return item }}
}

func remove(key string, allow func(old any) bool) action {
	return action{key, allow, func(any) any { return nil }}
}

func always(any) bool     { return true }
func absent(old any) bool { return old == nil }

// before accepts a stored item whose revision is one less than the given one; for revision 1, only that there is no
// item.
func before(revision int64) func(old any) bool {
	return func(old any) bool {
		switch o := old.(type) {
		case credential.Profile:
			return o.Revision == revision-1
		case credential.Holder:
			return o.Revision == revision-1
		case credential.Credential:
			return o.Revision == revision-1
		case credential.Owner:
			return o.Revision == revision-1
		}
		return revision == 1
	}
}

// replaces accepts the stored owner that a new one may replace.
func replaces(o credential.Owner) func(old any) bool {
	if o.OverSighting == "" {
		return before(o.Revision)
	}
	return func(old any) bool {
		seen, _ := old.(credential.Owner)
		isSighting := seen.State == credential.OwnerForeign && seen.UserID == o.OverSighting
		return before(o.Revision-1)(old) || isSighting && seen.Revision < o.Revision
	}
}

// actions translates a change.
func actions(c credential.Change) []action {
	var as []action
	add := func(a action) { as = append(as, a) }
	if p := c.Profile; p != nil {
		add(put(key(kindProfile, p.ID), *p, before(p.Revision)))
	}
	if h := c.Holder; h != nil {
		add(put(key(kindHolder, h.ID), *h, func(old any) bool {
			read, there := old.(credential.Holder)
			return before(h.Revision)(old) && (!there || read.Assigned == h.Assigned)
		}))
	}
	if c.HolderAt != "" && (c.Holder == nil || c.Holder.ID != c.HolderAt) {
		add(action{key(kindHolder, c.HolderAt), func(old any) bool {
			h, ok := old.(credential.Holder)
			return ok && !h.Erasing && (c.HolderRevision == 0 || c.HolderRevision == h.Revision)
		}, func(old any) any {
			h := old.(credential.Holder)
			h.Assigned++
			return h
		}})
	}
	if c.EraseHolder != "" {
		add(remove(key(kindHolder, c.EraseHolder), func(old any) bool {
			h, ok := old.(credential.Holder)
			return ok && h.Erasing
		}))
		add(remove(key(kindPicture, c.EraseHolder), always))
	}
	if p := c.Picture; p != nil {
		add(put(key(kindPicture, p.HolderID), *p, always))
	}
	if c.DropPicture != "" && c.DropPicture != c.EraseHolder {
		add(remove(key(kindPicture, c.DropPicture), always))
	}
	for _, row := range c.Credentials {
		add(put(key(kindCredential, row.HolderID, row.ID), row, before(row.Revision)))
	}
	for _, h := range c.History {
		add(put(historyKey(h), h, absent))
	}
	for _, o := range c.Owners {
		allow := replaces(o)
		o.OverSighting = ""
		add(put(key(kindOwner, o.Account, o.MobileID), o, allow))
	}
	for _, r := range c.Refs {
		add(put(key(kindRef, r.Account, string(r.Kind), r.ID), r, func(old any) bool {
			return old == nil ||
				old == any(r)
		}))
	}
	for _, s := range c.Slots {
		add(put(slotKey(s), s, func(old any) bool {
			if c.ReplacesSlot != "" {
				return takenBy(old, c.ReplacesSlot)
			}
			return old == nil || takenBy(old, s.CredentialID)
		}))
	}
	for _, s := range c.FreeSlots {
		add(remove(slotKey(s), func(old any) bool { return takenBy(old, s.CredentialID) }))
	}
	for _, s := range c.Seen {
		add(put(key(kindSeen, s.CredentialID, s.Hash), s, absent))
	}
	for _, w := range c.Warned {
		add(put(warnedKey(w), w, always))
	}
	for _, w := range c.Unwarned {
		add(remove(warnedKey(w), always))
	}
	if i := c.Idempotency; i != nil {
		add(put(key(kindIdempotency, i.HolderID, i.Hash), *i, func(old any) bool {
			o, there := old.(credential.Idempotency)
			return !there || !o.ExpiresAt.After(cut(c.At))
		}))
	}
	for _, t := range c.Touches() {
		add(action{workKey(t.HolderID, t.Account), func(old any) bool {
			o, _ := old.(credential.WorkItem)
			return (!t.Unclaimed || !o.Claim.Active(cut(c.At))) && (t.Added == nil || *t.Added == o.Added)
		}, func(old any) any {
			o, _ := old.(credential.WorkItem)
			at := cut(c.At)
			o.HolderID, o.Account, o.DueAt = t.HolderID, t.Account, &at
			if t.Wake {
				o.Wake = &at
			}
			o.Added++
			return o
		}})
	}
	return as
}

func takenBy(old any, credentialID string) bool {
	s, ok := old.(credential.Slot)
	return ok && s.CredentialID == credentialID
}

func historyKey(h credential.HistoryEntry) string {
	return key(kindHistory, h.HolderID, h.CredentialID, strconv.FormatInt(h.Revision, 10))
}

func warnedKey(w credential.Warned) string {
	return key(kindWarned, w.HolderID, w.CredentialID, string(w.Code))
}

func slotKey(s credential.Slot) string { return key(kindSlot, s.Account, s.DeviceID, s.ProfileID) }

func workKey(holderID, account string) string { return key(kindWork, holderID, account) }

// Commit implements store.Rows. A change that acts twice on one item, or on more than 100, is an error, not a conflict.
func (s *Store) Commit(ctx context.Context, change credential.Change) error {
	as := actions(change)
	if len(as) > maxItems {
		return errors.New("memory: a change of more than 100 items")
	}
	touched := map[string]bool{}
	for _, a := range as {
		if touched[a.key] {
			return errors.New("memory: a change that acts twice on one item")
		}
		touched[a.key] = true
	}
	return s.write(ctx, "Commit", func() error {
		for _, a := range as {
			if !a.allow(s.items[a.key]) {
				return store.ErrConflict
			}
		}
		for _, a := range as {
			s.set(a.key, a.then(s.items[a.key]))
		}
		return nil
	})
}

// set stores an item, or removes it when nil. Values in the map are never written to afterwards.
func (s *Store) set(key string, item any) {
	if item == nil {
		delete(s.items, key)
		return
	}
	if s.items == nil {
		s.items = map[string]any{}
	}
	s.items[key] = item
}

func (s *Store) fail(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fail == nil {
		return nil
	}
	return s.Fail(op)
}

func (s *Store) write(ctx context.Context, op string, do func() error) error {
	if err := s.fail(ctx, op); err != nil {
		return err
	}
	s.mu.Lock()
	err := do()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.fail(ctx, op+" after")
}

// get reads one item. found is false, and the value zero, when there is none.
func get[T any](ctx context.Context, s *Store, op, key string) (item T, found bool, err error) {
	if err := s.fail(ctx, op); err != nil {
		return item, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	item, found = s.items[key].(T)
	return clone(item), found, nil
}

// getExisting is get for an item that a caller expects: store.ErrNotFound when it is not there.
func getExisting[T any](ctx context.Context, s *Store, op, key string) (T, error) {
	item, found, err := get[T](ctx, s, op, key)
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return item, err
}

// all reads the items of a type that keep wants, in the order of compare.
func all[T any](ctx context.Context, s *Store, op string, keep func(T) bool, compare func(a, b T) int) ([]T, error) {
	if err := s.fail(ctx, op); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []T
	for _, item := range s.items {
		if t, ok := item.(T); ok && keep(t) {
			found = append(found, clone(t))
		}
	}
	slices.SortFunc(found, compare)
	return found, nil
}

// Profile implements store.Rows.
func (s *Store) Profile(ctx context.Context, profileID string) (credential.Profile, error) {
	return getExisting[credential.Profile](ctx, s, "Profile", key(kindProfile, profileID))
}

// Profiles implements store.Rows.
func (s *Store) Profiles(ctx context.Context) ([]credential.Profile, error) {
	return all(ctx, s, "Profiles", func(credential.Profile) bool { return true },
		func(a, b credential.Profile) int { return cmp.Compare(a.ID, b.ID) })
}

// Holder implements store.Rows.
func (s *Store) Holder(ctx context.Context, holderID string) (credential.Holder, error) {
	return getExisting[credential.Holder](ctx, s, "Holder", key(kindHolder, holderID))
}

// Picture implements store.Rows.
func (s *Store) Picture(ctx context.Context, holderID string) (credential.Picture, error) {
	return getExisting[credential.Picture](ctx, s, "Picture", key(kindPicture, holderID))
}

// Credential implements store.Rows.
func (s *Store) Credential(ctx context.Context, holderID, credentialID string) (credential.Credential, error) {
	return getExisting[credential.Credential](ctx, s, "Credential", key(kindCredential, holderID, credentialID))
}

// Credentials implements store.Rows.
func (s *Store) Credentials(ctx context.Context, holderID string) ([]credential.Credential, error) {
	return all(ctx, s, "Credentials", func(c credential.Credential) bool { return c.HolderID == holderID }, byCreation)
}

func byCreation(a, b credential.Credential) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// Owner implements store.Rows.
func (s *Store) Owner(ctx context.Context, account, mobileID string) (credential.Owner, error) {
	return getExisting[credential.Owner](ctx, s, "Owner", key(kindOwner, account, mobileID))
}

// Ref implements store.Rows.
func (s *Store) Ref(ctx context.Context, account string, kind credential.RefKind, id string) (credential.Ref, error) {
	return getExisting[credential.Ref](ctx, s, "Ref", key(kindRef, account, string(kind), id))
}

// Slot implements store.Rows.
func (s *Store) Slot(ctx context.Context, account, deviceID, profileID string) (credential.Slot, error) {
	return getExisting[credential.Slot](ctx, s, "Slot", key(kindSlot, account, deviceID, profileID))
}

// Seen implements store.Rows.
func (s *Store) Seen(ctx context.Context, credentialID, hash string) (bool, error) {
	_, found, err := get[credential.Seen](ctx, s, "Seen", key(kindSeen, credentialID, hash))
	return found, err
}

// Idempotency implements store.Rows.
func (s *Store) Idempotency(ctx context.Context, holderID, hash string) (credential.Idempotency, error) {
	return getExisting[credential.Idempotency](ctx, s, "Idempotency", key(kindIdempotency, holderID, hash))
}

// WorkItem implements store.Work.
func (s *Store) WorkItem(ctx context.Context, holderID, account string) (credential.WorkItem, error) {
	return getExisting[credential.WorkItem](ctx, s, "WorkItem", workKey(holderID, account))
}

// WorkItems implements store.Work.
func (s *Store) WorkItems(ctx context.Context, holderID string) ([]credential.WorkItem, error) {
	return all(ctx, s, "WorkItems", func(w credential.WorkItem) bool { return w.HolderID == holderID },
		func(a, b credential.WorkItem) int { return cmp.Compare(a.Account, b.Account) })
}

// Claim implements store.Work. Taking a claim that the caller already has succeeds: the first answer may have been
// lost.
func (s *Store) Claim(ctx context.Context, holderID, account string, claim credential.Claim, now time.Time,
	onlyDue bool) (credential.WorkItem, error) {
	var taken credential.WorkItem
	err := s.write(ctx, "Claim", func() error {
		w, found := s.items[workKey(holderID, account)].(credential.WorkItem)
		now := cut(now)
		switch {
		case !found:
			return store.ErrConflict
		case w.Claim != nil && w.Claim.ID == claim.ID:
		case w.Claim.Active(now) || onlyDue && (w.DueAt == nil || w.DueAt.After(now)):
			return store.ErrConflict
		}
		w.Claim, w.DueAt, w.Wake = &claim, &claim.Until, nil
		taken = clone(w)
		s.set(workKey(holderID, account), clone(w))
		return nil
	})
	if err != nil {
		return credential.WorkItem{}, err
	}
	return taken, nil
}

// SaveWork implements store.Work.
func (s *Store) SaveWork(ctx context.Context, item credential.WorkItem) error {
	return s.write(ctx, "SaveWork", func() error {
		w, ok := s.claimed(item)
		if !ok {
			return store.ErrConflict
		}
		w.UserID, w.PersonHash, w.PictureRef, w.Retry = item.UserID, item.PersonHash, item.PictureRef, item.Retry
		s.set(workKey(item.HolderID, item.Account), clone(w))
		return nil
	})
}

// claimed returns the stored item if its claim is still that of the given one.
func (s *Store) claimed(item credential.WorkItem) (credential.WorkItem, bool) {
	w, _ := s.items[workKey(item.HolderID, item.Account)].(credential.WorkItem)
	return w, w.Claim != nil && item.Claim != nil && w.Claim.ID == item.Claim.ID
}

// Release implements store.Work. It succeeds, too, when the item already is as it would leave it.
func (s *Store) Release(ctx context.Context, item credential.WorkItem, drop bool) error {
	return s.write(ctx, "Release", func() error {
		k := workKey(item.HolderID, item.Account)
		w, found := s.items[k].(credential.WorkItem)
		due := clone(item.DueAt)
		if drop && !found || !drop && found && w.Claim == nil && w.Added == item.Added &&
			reflect.DeepEqual(w.DueAt, due) {
			return nil
		}
		if _, ok := s.claimed(item); !ok || w.Added != item.Added {
			return store.ErrConflict
		}
		if drop {
			s.set(k, nil)
			return nil
		}
		w.Claim, w.DueAt, w.Wake = nil, due, nil
		s.set(k, w)
		return nil
	})
}

// Due implements store.Work. It does not lag.
func (s *Store) Due(ctx context.Context, account string, now time.Time, limit int) ([]credential.WorkRef, error) {
	items, err := all(ctx, s, "Due", func(w credential.WorkItem) bool {
		return w.Account == account && w.DueAt != nil && !w.DueAt.After(cut(now))
	}, func(a, b credential.WorkItem) int {
		return cmp.Or(a.DueAt.Compare(*b.DueAt), cmp.Compare(a.HolderID, b.HolderID))
	})
	var refs []credential.WorkRef
	for _, w := range items[:min(len(items), limit)] {
		refs = append(refs, credential.WorkRef{HolderID: w.HolderID, Account: w.Account, DueAt: *w.DueAt})
	}
	return refs, err
}

// PutStock implements store.AccountState.
func (s *Store) PutStock(ctx context.Context, stock credential.Stock) error {
	return s.write(ctx, "PutStock", func() error {
		s.set(key(kindStock, stock.Account, stock.PartNumber), clone(stock))
		return nil
	})
}

// Stock returns the stock of a part number as last seen; store.ErrNotFound when it was never seen.
func (s *Store) Stock(ctx context.Context, account, partNumber string) (credential.Stock, error) {
	return getExisting[credential.Stock](ctx, s, "Stock", key(kindStock, account, partNumber))
}

// Bookmark implements store.AccountState.
func (s *Store) Bookmark(ctx context.Context, account string) (string, error) {
	bookmark, _, err := get[string](ctx, s, "Bookmark", key(kindBookmark, account))
	return bookmark, err
}

// SetBookmark implements store.AccountState. It succeeds, too, when the bookmark is at its aim already.
func (s *Store) SetBookmark(ctx context.Context, account, from, to string) error {
	return s.write(ctx, "SetBookmark", func() error {
		k := key(kindBookmark, account)
		if at, _ := s.items[k].(string); at != from && at != to {
			return store.ErrConflict
		}
		s.set(k, to)
		return nil
	})
}

// Outage implements store.AccountState.
func (s *Store) Outage(ctx context.Context, account string) (credential.Outage, error) {
	outage, _, err := get[credential.Outage](ctx, s, "Outage", key(kindOutage, account))
	return outage, err
}

// SetOutage implements store.AccountState.
func (s *Store) SetOutage(ctx context.Context, account string, outage credential.Outage) error {
	return s.write(ctx, "SetOutage", func() error {
		s.set(key(kindOutage, account), clone(outage))
		return nil
	})
}

// Spend counts one call of an account in the window that starts at a moment, and says whether that is within limit; a
// call beyond it is not counted.
func (s *Store) Spend(ctx context.Context, account string, window time.Time, limit int) (bool, error) {
	var ok bool
	err := s.write(ctx, "Spend", func() error {
		k := key(kindBudget, account, cut(window).String())
		n, _ := s.items[k].(int)
		if ok = n < limit; ok {
			s.set(k, n+1)
		}
		return nil
	})
	return ok && err == nil, err
}

// History returns the history of a credential, oldest first.
func (s *Store) History(ctx context.Context, holderID, credentialID string) ([]credential.HistoryEntry, error) {
	return all(ctx, s, "History", func(h credential.HistoryEntry) bool {
		return h.HolderID == holderID &&
			h.CredentialID == credentialID
	},
		func(a, b credential.HistoryEntry) int { return cmp.Compare(a.Revision, b.Revision) })
}

// ListCredentials returns up to page.Limit credentials of a profile, the newest first, and the cursor of what follows,
// empty at the end. A page may hold fewer, or none, before the end: one call examines at most 1000 rows for the status
// asked for. A cursor of another list, or one this method did not return, is refused with credential.CodeInvalidCursor.
func (s *Store) ListCredentials(ctx context.Context, page credential.Page) ([]credential.Credential, string, error) {
	after, err := page.Position()
	if err != nil {
		return nil, "", err
	}
	if page.Warning != "" {
		return s.listWarned(ctx, page, after)
	}
	rows, err := all(ctx, s, "ListCredentials", func(c credential.Credential) bool {
		return c.ProfileID == page.ProfileID && (after == "" || credential.ListKey(c) < after)
	}, func(a, b credential.Credential) int { return byCreation(b, a) })
	if err != nil {
		return nil, "", err
	}
	limit := max(page.Limit, 1)
	var items []credential.Credential
	for i, row := range rows {
		if len(items) == limit || i == maxExamined {
			return items, page.CursorAfter(credential.ListKey(rows[i-1])), nil
		}
		if page.Status == "" || row.Status == page.Status {
			items = append(items, row)
		}
	}
	return items, "", nil
}

// listWarned is ListCredentials for those with a lasting warning, the one that has had it longest first.
func (s *Store) listWarned(
	ctx context.Context, page credential.Page, after string,
) ([]credential.Credential, string, error) {
	listed, err := all(ctx, s, "ListCredentials", func(w credential.Warned) bool {
		return w.ProfileID == page.ProfileID && w.Code == page.Warning && w.ListKey() > after
	}, func(a, b credential.Warned) int { return strings.Compare(a.ListKey(), b.ListKey()) })
	if err != nil {
		return nil, "", err
	}
	var items []credential.Credential
	for i, w := range listed {
		if len(items) == max(page.Limit, 1) || i == maxExamined {
			return items, page.CursorAfter(listed[i-1].ListKey()), nil
		}
		s.mu.Lock()
		row, there := s.items[key(kindCredential, w.HolderID, w.CredentialID)].(credential.Credential)
		s.mu.Unlock()
		if there && (page.Status == "" || row.Status == page.Status) {
			items = append(items, clone(row))
		}
	}
	return items, "", nil
}

// cut brings a time into the form it is stored in.
func cut(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// clone copies a value with all it leads to, its times cut.
func clone[T any](v T) T {
	return deep(reflect.ValueOf(&v).Elem()).Interface().(T)
}

func deep(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Interface:
		c.Set(deep(v.Elem()))
	case reflect.Pointer:
		if !v.IsNil() {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(deep(v.Elem()))
		}
	case reflect.Slice:
		if v.IsNil() {
			break
		}
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			reflect.Copy(c, v)
			break
		}
		for i := range v.Len() {
			c.Index(i).Set(deep(v.Index(i)))
		}
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			c.Set(reflect.ValueOf(cut(t)))
			break
		}
		for i := range v.NumField() {
			c.Field(i).Set(deep(v.Field(i)))
		}
	default:
		c.Set(v)
	}
	return c
}
