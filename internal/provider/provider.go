// Package provider is what mobilecred knows of any provider of mobile IDs: the people, reservations and devices it can
// read there, the events it receives, and the kinds of refusal that callers act on.
//
// What belongs here is true of every provider. How one provider's interface looks belongs to a package of its own
// beneath (origo); what follows from what was read belongs to issuance.
package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// The kinds of failure. An adapter returns errors that wrap exactly one of them and say nothing personal or secret.
var (
	// ErrUnavailable: there was no answer, or one that reports a failure inside the provider. The provider may have
	// done what was asked.
	ErrUnavailable = errors.New("provider unavailable")
	// ErrNoAccess: the account's secret cannot be read, or the provider gives no token. Nothing was asked for; it is
	// the account's trouble, not the row's.
	ErrNoAccess = errors.New("no access to the provider")
	// ErrOverLimit: the call was over the provider's rate limit or over our own budget for the account. It had no
	// effect.
	ErrOverLimit = errors.New("over the call limit")
	// ErrHeldBack is ErrOverLimit for a call that our own budget did not let out: it was not made.
	ErrHeldBack = fmt.Errorf("%w: held back", ErrOverLimit)
	// ErrNotFound: the record asked for is not there (any more).
	ErrNotFound = errors.New("not found at the provider")
	// ErrEmpty: the part number has no mobile ID left.
	ErrEmpty = errors.New("no mobile ID left")
	// ErrEmailInUse: a user with this e-mail exists and is not this holder.
	ErrEmailInUse = errors.New("e-mail in use at the provider")
	// ErrRefused: the provider refused this one request for good. It had no effect.
	ErrRefused = errors.New("refused by the provider")
	// ErrNotOurs: the account's client secret or permissions are wrong. The request had no effect, and every other
	// request of the account would fare the same: the fault lies with the account, not with one credential.
	ErrNotOurs = errors.New("access to the provider denied")
)

// Provider is one account at a provider. Errors wrap exactly one of the kinds above; where a method names some of them,
// those are the ones with a meaning of their own. Each call ends within five seconds.
type Provider interface {
	// FindUser returns the user of a person, found by e-mail and checked by ExternalID. ErrNotFound: there is none.
	// ErrEmailInUse: another user has the e-mail.
	FindUser(ctx context.Context, person Person) (User, error)
	// FindUsers returns all users of a person, found likewise, the oldest first: a provider may make a second one with
	// the same e-mail. None is no error.
	FindUsers(ctx context.Context, person Person) ([]User, error)
	// User reads a user. ErrNotFound: deleted.
	User(ctx context.Context, userID string) (User, error)
	// Reserve creates an invitation with a reserved mobile ID for a user, and the user in the same call when userID is
	// empty. Format and facility code of the mobile ID come with it. ErrEmpty, ErrEmailInUse, ErrNotFound, ErrNotOurs
	// and ErrRefused: nothing was reserved.
	Reserve(ctx context.Context, userID string, person Person, partNumber string) (credential.Reserved, error)
	// Cancel cancels an invitation. Nil or ErrNotFound when there is none to cancel; ErrRefused when it cannot be, such
	// as an accepted one. Only reading the user afterwards tells what is true.
	Cancel(ctx context.Context, invitationRef string) error
	// Revoke begins to take a credential from its device, or frees a reserved one. Nil, too, when that has begun
	// already; only reading the user afterwards tells when it is done. ErrNotFound when there is none.
	Revoke(ctx context.Context, credentialRef string) error
	// UpdateUser replaces name, e-mail and ExternalID of a user. ErrNotFound: deleted. ErrEmailInUse: another user has
	// the e-mail.
	UpdateUser(ctx context.Context, userID string, person Person) error
	// DeleteUser removes a user with everything it has. ErrNotFound: there is none.

	DeleteUser(ctx context.Context, userID string) error
	// SetPhoto makes the user's badges show a picture and returns the picture's reference. ErrNotFound: the user was
	// deleted. ErrRefused: the provider does not take the picture.
	SetPhoto(ctx context.Context, userID string, picture credential.Picture) (string, error)
	// RemovePhoto removes the picture with that reference. ErrNotFound: there is none.
	RemovePhoto(ctx context.Context, userID, photoRef string) error
	// Stock reads what a part number has left. ErrNotFound: the account has no such part number.
	Stock(ctx context.Context, partNumber string) (Stock, error)
	// Feed reads the provider's own record of events, from a bookmark on; with an empty bookmark, from the moment since
	// on: at most so many events, 0 for as many as the provider gives at once.
	Feed(ctx context.Context, bookmark string, since time.Time, atMost int) (Feed, error)
}

// Providers finds the provider of an account by its name; an error for an account that is not configured.
type Providers interface {
	Provider(ctx context.Context, account string) (Provider, error)
}

// Person is what we tell a provider about a holder. ExternalID is our holder id.
type Person struct {
	ExternalID string
	FirstName  string
	LastName   string
	Email      string
}

// InvitationStatus is the state of an invitation at the provider, in the same words for every provider.
type InvitationStatus string

// The states an invitation can have at the provider.
const (
	InvitationPending   InvitationStatus = "pending"
	InvitationAccepted  InvitationStatus = "accepted"
	InvitationCancelled InvitationStatus = "cancelled"
	InvitationExpired   InvitationStatus = "expired"
)

// Invitation is an invitation as read at the provider. ID is the provider's reference, as in credential.RefInvitation.
type Invitation struct {
	ID        string
	Status    InvitationStatus
	Code      credential.Secret
	ExpiresAt *time.Time
	CreatedAt time.Time
}

// Credential is a mobile ID as read in a user. ID is a reference; Device is nil while it is reserved. Issuing says that
// the provider is still bringing it to the device; Device may then be nil.
type Credential struct {
	ID         string
	PartNumber string
	MobileID   credential.MobileID // Format and FacilityCode are empty in a user
	Device     *credential.Device
	Issuing    bool
	// Revoking: its revocation has begun. A phone that is offline can keep it for days.
	Revoking bool
}

// Ended is a credential that the provider still lists and says is over, and why: FactRevoked, or FactInactive when the
// device that it was on is not active any more.
type Ended struct {
	Credential
	Why FactStatus
}

// User is what the provider has stored for one user when it was read.
type User struct {
	ID          string
	ExternalID  string
	Invitations []Invitation
	Credentials []Credential
	Ended       []Ended
}

// Stock is how many mobile IDs a part number has left, and the format and facility code that all its cards share.
type Stock struct {
	PartNumber   string
	Available    int
	Format       string
	FacilityCode string
}

// What is the kind of record that a fact is about.
type What string

// The kinds of records that events speak of.
const (
	AboutUser       What = "user"
	AboutInvitation What = "invitation"
	AboutCredential What = "credential"
	AboutEndpoint   What = "endpoint"
)

// FactStatus is what an event says has happened to a record.
type FactStatus string

// The statuses an event can report, in the same words for every provider. FactOther is any other status; no use case
// acts on it.
const (
	FactCreated   FactStatus = "created"
	FactUpdated   FactStatus = "updated"
	FactDeleted   FactStatus = "deleted"
	FactPending   FactStatus = "pending"
	FactAccepted  FactStatus = "accepted"
	FactCancelled FactStatus = "cancelled"
	FactExpired   FactStatus = "expired"
	FactReserved  FactStatus = "reserved"
	FactIssued    FactStatus = "issued"
	FactRevoked   FactStatus = "revoked"
	FactActive    FactStatus = "active"
	FactInactive  FactStatus = "inactive"
	FactChanged   FactStatus = "changed" // in some way; reading tells
	FactOther     FactStatus = "other"
)

// Fact is what one event says, reduced to what may go over the bus: no code, name or address. Every field but What and
// Status may be empty. Ref and DeviceID are the provider's references; MobileID is set when the event names part number
// and card; At is the time the event gives, in UTC, and zero when it gives none.
type Fact struct {
	What     What       `json:"what"`
	Ref      string     `json:"ref,omitempty"`
	Status   FactStatus `json:"status"`
	DeviceID string     `json:"deviceId,omitempty"`
	MobileID string     `json:"mobileId,omitempty"`
	At       time.Time  `json:"at"`
}

// UserFacts are the facts about one user, in the order of their events. UserID is empty for facts that name no user:
// their credential can be found by MobileID only.
type UserFacts struct {
	Account string `json:"account"`
	UserID  string `json:"userId,omitempty"`
	Facts   []Fact `json:"facts"`
}

// Feed is a part of the provider's own record of events. Next is the bookmark from which to read on; More says that
// there are further events already.
type Feed struct {
	Users []UserFacts
	Next  string
	More  bool
}
