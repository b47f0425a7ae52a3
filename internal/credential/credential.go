// Package credential holds the rules of mobile credentials: the types, the states of a credential and the transitions
// between them (Apply), what has to be done next (Next), and the shape of a change to the stored truth (Change).
//
// What belongs here is whatever is true without a network, a clock or a database: every function is pure and takes the
// time it needs. What does not: calling providers, storing, mailing, HTTP. Only the standard library is imported.
//
// The business rules R1 to R12 are named where they are enforced.
package credential

import (
	"fmt"
	"log/slog"
	"time"
)

// Status is where the story of a credential stands, as operators know it.
type Status string

// StatusActive is the only live status; every other one is final.
const (
	StatusActive     Status = "active"
	StatusDeclined   Status = "declined"
	StatusExpired    Status = "expired"
	StatusReassigned Status = "reassigned"
	StatusRevoked    Status = "revoked"
	StatusLost       Status = "lost"
	StatusStolen     Status = "stolen"
	StatusFailed     Status = "failed"
)

// Statuses lists every status, the live one first.
var Statuses = []Status{
	StatusActive,
	StatusDeclined,
	StatusExpired,
	StatusReassigned,
	StatusRevoked,
	StatusLost,
	StatusStolen,
	StatusFailed,
}

// Stage is how far the phone of a live credential is; it is empty once the credential is final.
type Stage string

// The stages, in their order.
const (
	StageInvited    Stage = "invited"
	StageActivating Stage = "activating" // accepted, not on the device yet
	StageActivated  Stage = "activated"  // on the device
)

// Want is what we desire of a credential; what is known of it are its other fields.
type Want string

// A credential is wanted live from assignment until it is final, and gone from then on.
const (
	WantLive Want = "live"
	WantGone Want = "gone"
)

// Reservation is what we know of the mobile ID we asked the provider for.
type Reservation string

// ReservationInDoubt stands from before the provider is asked until its answer is recorded; ReservationHeld until its
// release is confirmed by reading the provider.
const (
	ReservationNone     Reservation = "none"
	ReservationInDoubt  Reservation = "inDoubt"
	ReservationHeld     Reservation = "held"
	ReservationReleased Reservation = "released"
)

// InvitationStatus is what became of the invitation.
type InvitationStatus string

// The states of an invitation.
const (
	InvitationPending   InvitationStatus = "pending"
	InvitationSent      InvitationStatus = "sent"
	InvitationBounced   InvitationStatus = "bounced"
	InvitationAccepted  InvitationStatus = "accepted"
	InvitationDeclined  InvitationStatus = "declined"
	InvitationExpired   InvitationStatus = "expired"
	InvitationCancelled InvitationStatus = "cancelled"
)

// Reasons (statusReason) beside a final status.
const (
	ReasonCancelledAtProvider  = "cancelled_at_provider"
	ReasonDeclinedByHolder     = "declined_by_holder"
	ReasonInvitationExpired    = "invitation_expired"
	ReasonVisitEnded           = "visit_ended"
	ReasonGivenToAnother       = "given_to_another"
	ReasonTakenOver            = "taken_over"
	ReasonMissingAtProvider    = "missing_at_provider"
	ReasonRevokedAtProvider    = "revoked_at_provider"
	ReasonDeviceRemoved        = "device_removed"
	ReasonUserDeleted          = "user_deleted"
	ReasonDeviceHasProfile     = "device_has_profile"
	ReasonDeleted              = "deleted"
	ReasonLost                 = "lost"
	ReasonStolen               = "stolen"
	ReasonReplaced             = "replaced"
	ReasonHolderErased         = "holder_erased"
	ReasonNoLicenceLeft        = "no_licence_left"
	ReasonEmailInUse           = "email_in_use_at_provider"
	ReasonRefusedByProvider    = "refused_by_provider"
	ReasonOnlySpentIDsOffered  = "only_spent_ids_offered"
	ReasonAcceptedAfterEnd     = "accepted_after_end"
	ReasonActivatedAfterEnd    = "activated_after_end"
	ReasonActivatedElsewhere   = "activated_elsewhere"
	ReasonSpentIDOffered       = "spent_id_offered"
	ReasonContradictedByReport = "contradicted_by_report"
)

// Secret is text that must not reach a log, an error, an event or an API answer; every way of printing it says so
// instead.
type Secret string

// Reveal returns the text itself, for the mail and the provider only.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MobileID is the thing in the provider's pool: what doors see. ID is its identity, for HID part number and card number
// joined by a colon; the other fields are printed on the card.
type MobileID struct {
	ID           string `json:"id"`
	Number       string `json:"number"`
	Format       string `json:"format,omitempty"`
	FacilityCode string `json:"facilityCode,omitempty"`
}

// Device is the phone a credential is on. ID is the provider's.
type Device struct {
	ID       string `json:"id"`
	Model    string `json:"model,omitempty"`
	Platform string `json:"platform,omitempty"`
}

// Invitation is the code that lets the holder redeem the mobile ID, and what became of it. Code is erased at acceptance
// or end.
type Invitation struct {
	Status   InvitationStatus `json:"status"`
	Code     Secret           `json:"code,omitempty"`
	CodeHint string           `json:"codeHint,omitempty"`
	SentTo   string           `json:"sentTo,omitempty"` // masked
	SentAt   *time.Time       `json:"sentAt,omitempty"`
	// the deadline: the earlier of the profile's days and the provider's
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	// Mails counts the mails that were sent or may have been: each is counted before it is handed over, and no longer
	// once the mail service is known not to have sent it.
	Mails int `json:"mails"`
	// MailingAt is set before the mail is handed over and cleared when its fate is known: while it is set, a mail may
	// be out.
	MailingAt *time.Time `json:"mailingAt,omitempty"`
	// Doubts counts the mails of the newest request whose fate is unknown. Each is counted before it is handed over.
	Doubts int `json:"doubts,omitempty"`
	// Expiring is set before we cancel an invitation whose deadline has passed, so that its cancellation is known to be
	// ours.
	Expiring bool `json:"expiring,omitempty"`
	// AskedAt is when the newest mail was asked for, by assignment or resend; a resend is possible once a minute.
	AskedAt time.Time `json:"askedAt"`
}

// Reserved names one reservation at the provider by its references; it is what an answer to a reservation holds.
type Reserved struct {
	UserID        string     `json:"userId"`
	InvitationRef string     `json:"invitationRef,omitempty"`
	CredentialRef string     `json:"credentialRef,omitempty"`
	Mobile        *MobileID  `json:"mobile,omitempty"`
	Code          Secret     `json:"code,omitempty"`
	ExpiresAt     *time.Time `json:"expiresAt,omitempty"`
}

// Doubt is written before the provider is asked to reserve: what its user already had, so that whatever is new
// afterwards is ours.
type Doubt struct {
	ID          string    `json:"id"`
	At          time.Time `json:"at"`
	UserID      string    `json:"userId,omitempty"` // empty: the provider had no such user
	Invitations []string  `json:"invitations,omitempty"`
	Credentials []string  `json:"credentials,omitempty"`
	// Answer is set when the answer is known but cannot be acted on yet, because another process is working for the
	// loser of a take-over.
	Answer *Reserved `json:"obtained,omitempty"`
	// Explained says that a reservation was found that the request made late: it explains no other.
	Explained bool `json:"explained,omitempty"`
	// Rechecked says that the provider was read again LateFor after a doubt that was settled without its answer.
	Rechecked bool `json:"rechecked,omitempty"`
	// RecheckAt is set when that reading could not tell yet: the moment for the next.
	RecheckAt time.Time `json:"recheckAt,omitzero"`
}

// LateFor is how long after its doubt a request that got no answer may still be carried out.
const LateFor = 15 * time.Minute

// UnansweredFor is how long a doubt that was settled without its answer is remembered.
const UnansweredFor = 7 * 24 * time.Hour

// Retry counts refusals of one kind of step; only that step waits.
type Retry struct {
	For      StepKind  `json:"for,omitempty"`
	Attempts int       `json:"attempts,omitempty"`
	At       time.Time `json:"at"`
	Error    string    `json:"error,omitempty"` // a code, never a provider's text
	Since    time.Time `json:"since,omitzero"`  // the first refusal
	// HolderRevision is the revision of the holder that was refused, if the refusal may be over once the holder
	// changes.
	HolderRevision int64 `json:"holderRevision,omitempty"`
}

// concernsHolder says whether a refusal of a step may be over once the holder has changed: another address, another
// picture.
func (k StepKind) concernsHolder() bool {
	return k == StepIssue || k == StepMail || k == StepPicture || k == StepUser
}

// Waits is until when a step of a holder waits after its refusal; the zero value when it need not.
func (r Retry) Waits(kind StepKind, h Holder) time.Time {
	if r.For != kind || r.HolderRevision != 0 && r.HolderRevision != h.Revision {
		return time.Time{}
	}
	return r.At
}

// since is when the first refusal was, or a moment that stands for it where that is not known.
func (r Retry) since(otherwise time.Time) time.Time {
	if r.Since.IsZero() {
		return otherwise
	}
	return r.Since
}

// Credential is one assignment of one mobile ID to one holder: what we want and what we know, in one row. Revision is
// raised by one with every write.
type Credential struct {
	ID            string      `json:"id"`
	HolderID      string      `json:"holderId"`
	ProfileID     string      `json:"profileId"`
	ProfileName   string      `json:"profileName"`
	Account       string      `json:"account"`
	PartNumber    string      `json:"partNumber"`
	Status        Status      `json:"status"`
	Reason        string      `json:"reason,omitempty"`
	Stage         Stage       `json:"stage,omitempty"`
	Want          Want        `json:"want"`
	Reservation   Reservation `json:"reservation"`
	Doubt         *Doubt      `json:"doubt,omitempty"`
	UserID        string      `json:"userId,omitempty"` // the provider's user
	InvitationRef string      `json:"invitationRef,omitempty"`
	CredentialRef string      `json:"credentialRef,omitempty"`
	Mobile        *MobileID   `json:"mobile,omitempty"`
	Invitation    Invitation  `json:"invitation"`
	Device        *Device     `json:"device,omitempty"`
	// the device it is on its way to, by its id, where the provider says
	AcceptedOn  string     `json:"acceptedOn,omitempty"`
	AcceptedAt  *time.Time `json:"acceptedAt,omitempty"`
	ActivatedAt *time.Time `json:"activatedAt,omitempty"`
	EndedAt     *time.Time `json:"endedAt,omitempty"`
	PictureHash string     `json:"pictureHash,omitempty"` // the picture the provider shows; empty: none
	// Replaces is the credential in whose place this one was issued. An upgrade ends it, revoked, when this one's
	// reservation is recorded; it is final already otherwise.
	Replaces string `json:"replaces,omitempty"`
	// Wait says that it was assigned to wait for a mobile ID when the pool has none, and Waiting that it does.
	Wait    bool `json:"wait,omitempty"`
	Waiting bool `json:"waiting,omitempty"`
	// ReplacedBy is the newest credential issued in this one's place, and ReplacedFor why.
	ReplacedBy  string    `json:"replacedBy,omitempty"`
	ReplacedFor EndReason `json:"replacedFor,omitempty"`
	// Aside are spent mobile IDs the provider offered (R5): kept until another is obtained, then released.
	Aside []Reserved `json:"aside,omitempty"`
	// Unanswered are doubts that were settled without their answer, for UnansweredFor. The request may still be carried
	// out; each explains one reservation, once.
	Unanswered []Doubt `json:"unanswered,omitempty"`
	// Strays are reservations we caused and do not want; they must be released.
	Strays []Reserved `json:"strays,omitempty"`
	// ReleaseAt is when the provider is asked next whether a release that it has begun is done, and ReleaseLooks how
	// often it was: a phone that is offline can keep a credential for days.
	ReleaseAt    *time.Time `json:"releaseAt,omitempty"`
	ReleaseLooks int        `json:"releaseLooks,omitempty"`
	Retry        Retry      `json:"retry"`
	// HolderRetry shows, on a live credential, that the provider refuses the holder's present description; the retry
	// itself belongs to the work item.
	HolderRetry Retry `json:"holderRetry,omitzero"`
	// MissingAt is when the provider's user was first read without the mobile ID, since it was last read with it. One
	// reading proves no absence: it may be stale or partial.
	MissingAt *time.Time `json:"missingAt,omitempty"`
	// Warned are the lasting warnings of the row that are listed, see Lasting.
	Warned []Warning `json:"warned,omitempty"`
	// LookAt is when the provider is read next: while activating, and after a report that could not be applied. Reports
	// are those it is read for.
	LookAt  *time.Time `json:"lookAt,omitempty"`
	Reports []Report   `json:"reports,omitempty"`
	Looks   int        `json:"looks,omitempty"`
	// Erased says that the holder it was assigned to was erased. It is kept, with ids only, for what the provider may
	// still report of it, and belongs to no holder that comes under the same id later.
	Erased    bool      `json:"erased,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	Revision  int64     `json:"revision"`
}

// IsWaiting says whether the credential waits for a mobile ID to come free, and for nothing else: one that the provider
// refuses for a reason of its own, again and again, holds up no other.
func (c Credential) IsWaiting() bool {
	isRefused := c.Retry.For == StepIssue && c.Retry.Error != ReasonNoLicenceLeft && c.Retry.Attempts > 1 &&
		!c.Retry.isOfAccount()
	return c.Waiting && c.IsLive() && c.Reservation == ReservationNone && !isRefused
}

// Deadline is when the invitation ends: at the earlier of its own deadline and the end of the visit; nil while there is
// no reservation.
func (c Credential) Deadline(h Holder) *time.Time {
	at := c.Invitation.ExpiresAt
	if at != nil && h.Kind == Visitor && h.ValidUntil != nil && h.ValidUntil.Before(*at) {
		return h.ValidUntil
	}
	return at
}

// IsLive says whether the credential is assigned; otherwise its story is over.
func (c Credential) IsLive() bool { return c.Status == StatusActive }

// State is the one word for history and tables: the stage of a live credential, the status of a final one.
func (c Credential) State() string {
	if c.IsLive() {
		return string(c.Stage)
	}
	return string(c.Status)
}

// Name is what operators see: the profile's name, with the card number once it is known.
func (c Credential) Name() string {
	if c.Mobile == nil {
		return c.ProfileName
	}
	return c.ProfileName + " #" + c.Mobile.Number
}

// Reserved returns the row's own reservation.
func (c Credential) Reserved() Reserved {
	return Reserved{UserID: c.UserID, InvitationRef: c.InvitationRef, CredentialRef: c.CredentialRef, Mobile: c.Mobile}
}

// ActorType says who caused a change.
type ActorType string

// The actors.
const (
	ActorPortal   ActorType = "portal"
	ActorProvider ActorType = "provider"
	ActorSweep    ActorType = "sweep"
	ActorHolder   ActorType = "holder"
)

// Actor is who caused a change. ID is the token's subject for a portal and the account for a provider; Claimed is the
// portal's user as the portal says, not verified.
type Actor struct {
	Type    ActorType `json:"type"`
	ID      string    `json:"id,omitempty"`
	Claimed string    `json:"claimed,omitempty"`
}

// HistoryEntry is one line of a credential's history (R12): written in the transaction of the change it tells of, and
// what leaves as an event. ID is deterministic (credential and revision).
type HistoryEntry struct {
	ID           string    `json:"id"`
	HolderID     string    `json:"holderId"`
	CredentialID string    `json:"credentialId"`
	ProfileID    string    `json:"profileId"`
	Account      string    `json:"account"`
	At           time.Time `json:"at"`
	Event        EventKind `json:"event"`
	From         string    `json:"from,omitempty"`
	To           string    `json:"to"`
	Reason       string    `json:"reason,omitempty"`
	Actor        Actor     `json:"actor"`
	Anomaly      bool      `json:"anomaly,omitempty"`
	Late         bool      `json:"late,omitempty"`
	Revision     int64     `json:"revision"`
	Mobile       *MobileID `json:"mobile,omitempty"`
	// PreviousHolderID and PreviousCredentialID name the loser of a take-over (R10) in the winner's history.
	PreviousHolderID     string `json:"previousHolderId,omitempty"`
	PreviousCredentialID string `json:"previousCredentialId,omitempty"`
}
