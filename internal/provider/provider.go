// Package provider is what mobilecred knows of any provider of mobile IDs: the people, reservations and devices it can
// read there, the events it hears, and the kinds of refusal it acts on.
//
// What belongs here is neutral. What one provider's interface looks like belongs to its own package beneath (origo),
// and what to do with what is read belongs to issuance.
package provider

import (
	"context"
	"errors"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// The kinds of failure. An adapter returns errors that wrap exactly one of them and say nothing personal or secret.
var (
	// ErrUnavailable: no answer, or one that says the provider is unwell. What was asked for may have happened.
	ErrUnavailable = errors.New("provider unavailable")
	// ErrOverLimit: over the provider's rate or our own budget for the account. What was asked for did not happen.
	ErrOverLimit = errors.New("over the call limit")
	// ErrNotFound: the record asked for is not there (any more).
	ErrNotFound = errors.New("not found at the provider")
	// ErrEmpty: the part number has no mobile ID left.
	ErrEmpty = errors.New("no mobile ID left")
	// ErrEmailInUse: a user with this e-mail exists and is not this holder.
	ErrEmailInUse = errors.New("e-mail in use at the provider")
	// ErrRefused: a definite no to this one request, which did not happen.
	ErrRefused = errors.New("refused by the provider")
	// ErrNotOurs: the account's credentials or permissions are wrong. Nothing happened; it is the account's trouble,
	// not the row's.
	ErrNotOurs = errors.New("access to the provider denied")
)

// Provider is one account at a provider. Errors wrap one of the kinds above. Calls are bounded to five seconds.
type Provider interface {
	// FindUser returns the user of a person, found by e-mail and checked by ExternalID. ErrNotFound: none;
	// ErrEmailInUse: the e-mail is another's.
	FindUser(ctx context.Context, person Person) (User, error)
	// User reads a user. ErrNotFound: deleted.
	User(ctx context.Context, userID string) (User, error)
	// Reserve creates an invitation with a reserved mobile ID for a user, and the user in the same call when userID is
	// empty. Format and facility code of the mobile ID come with it. ErrEmpty, ErrEmailInUse, ErrNotFound, ErrNotOurs
	// and ErrRefused: nothing was reserved.
	Reserve(ctx context.Context, userID string, person Person, partNumber string) (credential.Reserved, error)
	// Cancel cancels an invitation. Nil or ErrNotFound when there is none to cancel; ErrRefused when it cannot be, such
	// as an accepted one. Only reading the user afterwards tells what is true.
	Cancel(ctx context.Context, invitationRef string) error
	// Revoke takes a credential from its device, or frees a reserved one. ErrNotFound when there is none.
	Revoke(ctx context.Context, credentialRef string) error
	UpdateUser(ctx context.Context, userID string, person Person) error
	DeleteUser(ctx context.Context, userID string) error
	// SetPhoto makes the user's badges show a picture and returns its reference; RemovePhoto ends that.
	SetPhoto(ctx context.Context, userID string, picture credential.Picture) (string, error)
	RemovePhoto(ctx context.Context, userID, photoRef string) error
	Stock(ctx context.Context, partNumber string) (Stock, error)
	// Feed reads on from a bookmark; the empty one starts at since.
	Feed(ctx context.Context, bookmark string, since time.Time) (Feed, error)
}

// Providers finds the provider of an account by its name; an error for an account that is not configured.
type Providers interface {
	Provider(ctx context.Context, account string) (Provider, error)
}

// Person is what a provider is told of a holder. ExternalID is our holder id.
type Person struct {
	ExternalID string
	FirstName  string
	LastName   string
	Email      string
}

// InvitationStatus is the provider's word for an invitation, translated.
type InvitationStatus string

// The states an invitation can have at the provider.
const (
	InvitationPending   InvitationStatus = "pending"
	InvitationAccepted  InvitationStatus = "accepted"
	InvitationCancelled InvitationStatus = "cancelled"
	InvitationExpired   InvitationStatus = "expired"
)

// Invitation is an invitation as read at the provider. ID is a reference.
type Invitation struct {
	ID        string
	Status    InvitationStatus
	Code      credential.Secret
	ExpiresAt *time.Time
	CreatedAt time.Time
}

// Credential is a mobile ID as read in a user. ID is a reference; Device is nil while it is reserved. Issuing means
// that it is on its way to the device, which may not be known yet.
type Credential struct {
	ID         string
	PartNumber string
	MobileID   credential.MobileID // Format and FacilityCode are empty in a user
	Device     *credential.Device
	Issuing    bool
}

// User is the current truth about one user.
type User struct {
	ID          string
	ExternalID  string
	Invitations []Invitation
	Credentials []Credential
}

// Stock is what a part number has left, and what its cards look like.
type Stock struct {
	PartNumber   string
	Available    int
	Format       string
	FacilityCode string
}

// What says what kind of record a fact is about.
type What string

// The kinds of records that events speak of.
const (
	AboutUser       What = "user"
	AboutInvitation What = "invitation"
	AboutCredential What = "credential"
	AboutEndpoint   What = "endpoint"
)

// FactStatus is what an event says has become of a record.
type FactStatus string

// The statuses an event can carry, translated. FactOther is any other status; no use case acts on it.
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
	FactOther     FactStatus = "other"
)

// Fact is what one event says, cut down to what may travel: no code, name or address. Every field but What and Status
// may be empty. MobileID is set when the event names part number and card.
type Fact struct {
	What     What       `json:"what"`
	Ref      string     `json:"ref,omitempty"`
	Status   FactStatus `json:"status"`
	DeviceID string     `json:"deviceId,omitempty"`
	MobileID string     `json:"mobileId,omitempty"`
	At       time.Time  `json:"at"`
}

// UserFacts are the facts about one user, in the order they were told. UserID is empty for facts that name none: they
// lead to a credential by MobileID only.
type UserFacts struct {
	Account string `json:"account"`
	UserID  string `json:"userId,omitempty"`
	Facts   []Fact `json:"facts"`
}

// Feed is a part of the provider's own record of events. Next is the bookmark to go on from; More says there is more
// already.
type Feed struct {
	Users []UserFacts
	Next  string
	More  bool
}
