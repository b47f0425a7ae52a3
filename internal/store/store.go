// Package store is the port to the database: what a store does for the use cases, in three interfaces, and the two
// errors that callers act on.
//
// What belongs here is the contract: which method, which error, when. Both stores implement it, on DynamoDB
// (store/dynamo) and in memory (store/memory), and package storetest holds both to it. What a change may hold is said
// at credential.Change. What does not belong here: how a store keeps its promises, and deciding anything about
// credentials.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// The two errors that callers act on. Any other error, of any method, means that the database failed: a read tells
// nothing, and a write may or may not have taken effect.
var (
	// ErrNotFound is returned by a read of one item that is not there.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned by a write whose condition no longer holds, because another process was faster. Nothing
	// was written; read again.
	ErrConflict = errors.New("changed by another process")
)

// Rows keeps profiles, holders, credentials and everything that is written in one transaction with them. Every read is
// strongly consistent. Reads of one item return ErrNotFound.
type Rows interface {
	// Profile, Holder, Picture, Credential, Owner, Ref and Slot read one item by its key, and Profiles and Credentials
	// all items of a kind or of a holder, in the order noted.
	Profile(ctx context.Context, profileID string) (credential.Profile, error)
	Profiles(ctx context.Context) ([]credential.Profile, error) // by id
	Holder(ctx context.Context, holderID string) (credential.Holder, error)
	Picture(ctx context.Context, holderID string) (credential.Picture, error)
	Credential(ctx context.Context, holderID, credentialID string) (credential.Credential, error)
	Credentials(ctx context.Context, holderID string) ([]credential.Credential, error) // oldest first
	Owner(ctx context.Context, account, mobileID string) (credential.Owner, error)
	Ref(ctx context.Context, account string, kind credential.RefKind, id string) (credential.Ref, error)
	Slot(ctx context.Context, account, deviceID, profileID string) (credential.Slot, error)
	// ListCredentials returns up to page.Limit credentials of a profile, the newest first, or those with a lasting
	// warning, the oldest warning first, and the cursor of the next page, empty at the end. A page may be short, or
	// empty, before the end. The list may be some seconds old.
	ListCredentials(ctx context.Context, page credential.Page) (rows []credential.Credential, next string, err error)
	// Seen reports whether a provider's report with that hash was already recorded for the credential.
	Seen(ctx context.Context, credentialID, hash string) (bool, error)
	// Idempotency returns what a key of the portal led to before. It may still return one that has expired.
	Idempotency(ctx context.Context, holderID, hash string) (credential.Idempotency, error)

	// Commit writes a whole change or nothing. ErrConflict: one of its conditions does not hold. A change that acts
	// twice on one item, or on more than 100, is an error of another kind.
	Commit(ctx context.Context, change credential.Change) error
}

// Work keeps the work items: what is due for each holder and account, and which process has the claim to do it.
type Work interface {
	// WorkItem reads one work item. ErrNotFound: there is none.
	WorkItem(ctx context.Context, holderID, account string) (credential.WorkItem, error)
	// WorkItems reads all of a holder's, ordered by account.
	WorkItems(ctx context.Context, holderID string) ([]credential.WorkItem, error)
	// Claim takes the claim of a work item, moving DueAt to its end, and returns the item. Taking a claim that the
	// caller already has succeeds, because the first answer may have been lost. ErrConflict: another process has the
	// claim at now, or onlyDue is set and the item is not due at now (any more).
	Claim(ctx context.Context, holderID, account string, claim credential.Claim, now time.Time,
		onlyDue bool) (credential.WorkItem, error)
	// SaveWork stores UserID, PersonHash, PictureRef and Retry of an item whose claim is still item.Claim; ErrConflict
	// otherwise.
	SaveWork(ctx context.Context, item credential.WorkItem) error
	// Release gives the claim item.Claim back, with item.DueAt as the next moment, if Added is still item.Added;
	// ErrConflict otherwise. It also succeeds when the item is already in that state. With drop, it removes the item.
	Release(ctx context.Context, item credential.WorkItem, drop bool) error
	// Due lists up to limit work items due at now, the longest due first. The list may be some seconds old, so a caller
	// has to take the claim of an item before it acts on it.
	Due(ctx context.Context, account string, now time.Time, limit int) ([]credential.WorkRef, error)
}

// AccountState keeps what is known about an account as a whole.
type AccountState interface {
	// Stock is how many mobile IDs a part number had when the provider was last asked. ErrNotFound: it was never asked.
	Stock(ctx context.Context, account, partNumber string) (credential.Stock, error)
	// PutStock replaces what is known of a part number's stock.
	PutStock(ctx context.Context, stock credential.Stock) error
	// Bookmark is the place in the account's feed from which to read on; empty at first.
	Bookmark(ctx context.Context, account string) (string, error)
	// SetBookmark moves the bookmark from one value to another, and also succeeds when it already has the new value.
	// ErrConflict: another process moved it elsewhere.
	SetBookmark(ctx context.Context, account, from, to string) error
	// Outage says why calls of an account fail and since when; the zero value when they do not.
	Outage(ctx context.Context, account string) (credential.Outage, error)
	// SetOutage stores the outage of an account; the zero value ends it.
	SetOutage(ctx context.Context, account string, outage credential.Outage) error
}
