// Package store is the port to the stored truth: what a store has to do for the use cases, in three parts, and the two
// outcomes that callers act on.
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

// The two outcomes that callers act on. Any other error of any method means that the store is unwell: nothing is known,
// and a write may or may not have happened.
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
	Profile(ctx context.Context, profileID string) (credential.Profile, error)
	Profiles(ctx context.Context) ([]credential.Profile, error) // by id
	Holder(ctx context.Context, holderID string) (credential.Holder, error)
	Picture(ctx context.Context, holderID string) (credential.Picture, error)
	Credential(ctx context.Context, holderID, credentialID string) (credential.Credential, error)
	Credentials(ctx context.Context, holderID string) ([]credential.Credential, error) // oldest first
	Owner(ctx context.Context, account, mobileID string) (credential.Owner, error)
	Ref(ctx context.Context, account string, kind credential.RefKind, id string) (credential.Ref, error)
	Slot(ctx context.Context, account, deviceID, profileID string) (credential.Slot, error)
	Seen(ctx context.Context, credentialID, hash string) (bool, error)
	// Idempotency may still find what has expired.
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
	// Claim takes the claim of a work item, moving DueAt to its end, and returns the item. Taking the claim one has
	// already succeeds, because its first answer may have been lost. ErrConflict: another process has it at now, or,
	// with onlyDue, it is not due at now (any more).
	Claim(ctx context.Context, holderID, account string, claim credential.Claim, now time.Time,
		onlyDue bool) (credential.WorkItem, error)
	// SaveWork stores UserID, PersonHash, PictureRef and Retry of an item whose claim is still item.Claim; ErrConflict
	// otherwise.
	SaveWork(ctx context.Context, item credential.WorkItem) error
	// Release gives the claim item.Claim back, with item.DueAt as the next moment, if Added is still item.Added;
	// ErrConflict otherwise. It succeeds, too, when the item already is as it would leave it. drop removes the item
	// altogether.
	Release(ctx context.Context, item credential.WorkItem, drop bool) error
	// Due lists up to limit work items due at now, the longest due first. It may lag: claim before believing.
	Due(ctx context.Context, account string, now time.Time, limit int) ([]credential.WorkRef, error)
}

// AccountState keeps what is known of an account as a whole.
type AccountState interface {
	// Stock is how many mobile IDs a part number had when last seen. ErrNotFound: it never was.
	Stock(ctx context.Context, account, partNumber string) (credential.Stock, error)
	PutStock(ctx context.Context, stock credential.Stock) error
	// Bookmark is where the account's feed is read on from; empty at first.
	Bookmark(ctx context.Context, account string) (string, error)
	// SetBookmark moves the bookmark from one value to another, and succeeds when it is there already. ErrConflict:
	// another process moved it.
	SetBookmark(ctx context.Context, account, from, to string) error
	// Outage is the trouble an account has; the zero value for none.
	Outage(ctx context.Context, account string) (credential.Outage, error)
	// SetOutage stores the trouble of an account; the zero value ends it.
	SetOutage(ctx context.Context, account string, outage credential.Outage) error
}
