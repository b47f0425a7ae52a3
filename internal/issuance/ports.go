// Package issuance is what mobilecred does: assign, end, replace and resend credentials, store profiles and holders, hear what
// providers report, and sweep up whatever is left. It decides the order of outside calls and writes; what is right to do it asks
// package credential.
//
// What belongs here: use cases, and the ports they need. What does not: rules about states (credential), how a store, provider or
// mailer is spoken to (their adapters), and how people call in (webapi).
package issuance

import (
	"context"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// Store keeps the truth. Every read is strongly consistent unless it says otherwise. Reads of one item return
// credential.ErrNotFound, Commit and Claim credential.ErrConflict; any other error means the store is unwell and nothing is known.
type Store interface {
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
	Idempotency(ctx context.Context, holderID, hash string) (credential.Idempotency, error)

	Commit(ctx context.Context, change credential.Change) error

	// WorkItem and WorkItems read one work item, or all of a holder's.
	WorkItem(ctx context.Context, holderID, account string) (credential.WorkItem, error)
	WorkItems(ctx context.Context, holderID string) ([]credential.WorkItem, error)
	// Claim takes the claim of a work item, moving DueAt to its end, and returns the item. ErrConflict: somebody has it at now, or,
	// with onlyDue, it is not due at now (any more).
	Claim(ctx context.Context, holderID, account string, claim credential.Claim, now time.Time, onlyDue bool) (credential.WorkItem, error)
	// SaveWork stores UserID, PersonHash, PictureRef and Retry of an item whose claim is still item.Claim; ErrConflict otherwise.
	SaveWork(ctx context.Context, item credential.WorkItem) error
	// Release gives the claim item.Claim back, with item.DueAt as the next moment, if Added is still item.Added; ErrConflict
	// otherwise. drop removes the item altogether.
	Release(ctx context.Context, item credential.WorkItem, drop bool) error
	// Due lists up to limit work items due at now, the longest due first. It may lag: claim before believing.
	Due(ctx context.Context, account string, now time.Time, limit int) ([]credential.WorkRef, error)

	Stock(ctx context.Context, account, partNumber string) (credential.Stock, error)
	PutStock(ctx context.Context, stock credential.Stock) error
	// Bookmark is where the account's feed is read on from; empty at first. SetBookmark moves it from one value to another,
	// ErrConflict when somebody else moved it.
	Bookmark(ctx context.Context, account string) (string, error)
	SetBookmark(ctx context.Context, account, from, to string) error
	// Outage is the trouble an account has; the zero value for none. SetOutage stores it, the zero value to end it.
	Outage(ctx context.Context, account string) (credential.Outage, error)
	SetOutage(ctx context.Context, account string, outage credential.Outage) error
}

// Provider is one account at a provider. Errors wrap one of package provider's kinds. Calls are bounded to five seconds.
type Provider interface {
	// FindUser returns the user of a person, found by e-mail and checked by ExternalID. ErrNotFound: none; ErrEmailInUse: the e-mail is
	// another's.
	FindUser(ctx context.Context, person provider.Person) (provider.User, error)
	// User reads a user. ErrNotFound: deleted.
	User(ctx context.Context, userID string) (provider.User, error)
	// Reserve creates an invitation with a reserved mobile ID for a user, and the user in the same call when userID is empty. Format and
	// facility code of the mobile ID come with it. ErrEmpty, ErrEmailInUse, ErrNotFound, ErrNotOurs and ErrRefused: nothing was reserved.
	Reserve(ctx context.Context, userID string, person provider.Person, partNumber string) (credential.Reserved, error)
	// Cancel cancels an invitation. Nil or ErrNotFound when there is none to cancel; ErrRefused when it cannot be, such as an accepted one.
	// Only reading the user afterwards tells what is true.
	Cancel(ctx context.Context, invitationRef string) error
	// Revoke takes a credential from its device, or frees a reserved one. ErrNotFound when there is none.
	Revoke(ctx context.Context, credentialRef string) error
	UpdateUser(ctx context.Context, userID string, person provider.Person) error
	DeleteUser(ctx context.Context, userID string) error
	// SetPhoto makes the user's badges show a picture and returns its reference; RemovePhoto ends that.
	SetPhoto(ctx context.Context, userID string, picture credential.Picture) (string, error)
	RemovePhoto(ctx context.Context, userID, photoRef string) error
	Stock(ctx context.Context, partNumber string) (provider.Stock, error)
	// Feed reads on from a bookmark; the empty one starts at since.
	Feed(ctx context.Context, bookmark string, since time.Time) (provider.Feed, error)
}

// Providers finds the provider of an account by its name; an error for an account that is not configured.
type Providers interface {
	Provider(ctx context.Context, account string) (Provider, error)
}

// Letter is an invitation to be mailed.
type Letter struct {
	Holder     credential.Holder
	Profile    credential.Profile
	Credential credential.Credential
}

// MailOutcome says what became of a letter.
type MailOutcome int

// A mail is never retried blindly: only MailNotSent is tried again at once, MailInDoubt after a wait.
const (
	MailSent MailOutcome = iota
	MailNotSent
	MailInDoubt
)

// Mailer sends invitations. reason is a word for why not, without address or code.
type Mailer interface {
	Send(ctx context.Context, letter Letter) (outcome MailOutcome, reason string)
}

// IDs makes identifiers: 128 random bits, in the alphabet of ids.
type IDs func() string
