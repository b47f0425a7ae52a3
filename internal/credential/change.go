package credential

import (
	"cmp"
	"slices"
	"time"
)

// OwnerState says who has a mobile ID.
type OwnerState string

// Spent is for ever (R5); the item of a mobile ID is never deleted.
const (
	OwnerHeld     OwnerState = "held"
	OwnerReleased OwnerState = "released"
	OwnerForeign  OwnerState = "foreign" // a provider user unknown to us
	OwnerSpent    OwnerState = "spent"   // was activated once
)

// Owner says who has a mobile ID. HolderID and CredentialID name the one that has it, or had it last.
type Owner struct {
	Account      string     `json:"account"`
	MobileID     string     `json:"mobileId"`
	State        OwnerState `json:"state"`
	HolderID     string     `json:"holderId,omitempty"`
	CredentialID string     `json:"credentialId,omitempty"`
	// UserID is the provider's user that a foreign mobile ID was seen with, and SeenAt when it was, says the provider.
	UserID    string    `json:"userId,omitempty"`
	SeenAt    time.Time `json:"seenAt,omitzero"`
	UpdatedAt time.Time `json:"updatedAt"`
	Revision  int64     `json:"revision"`
	// OverSighting, in a Change, lets the write also replace a foreign owner that was seen with this provider's user
	// since the owner was read. Revision is then two more than what was read, so that it is new in either case.
	OverSighting string `json:"-"`
}

// IsHeldBy says whether a credential holds the mobile ID: it is reserved for it, and was never activated.
func (o Owner) IsHeldBy(c Credential) bool { return o.State == OwnerHeld && o.CredentialID == c.ID }

// RefKind is a kind of provider record.
type RefKind string

// The kinds of references. RefPart is the part number of an account, which one profile may draw from.
const (
	RefUser       RefKind = "user"
	RefInvitation RefKind = "invitation"
	RefCredential RefKind = "credential"
	RefPart       RefKind = "part"
)

// Ref leads from a provider's record to ours.
type Ref struct {
	Account      string  `json:"account"`
	Kind         RefKind `json:"kind"`
	ID           string  `json:"id"`
	HolderID     string  `json:"holderId,omitempty"`
	CredentialID string  `json:"credentialId,omitempty"`
	ProfileID    string  `json:"profileId,omitempty"`
}

// Slot is the place for one credential of a profile on one device (R4).
type Slot struct {
	Account       string `json:"account"`
	DeviceID      string `json:"deviceId"`
	ProfileID     string `json:"profileId"`
	HolderID      string `json:"holderId"`
	CredentialID  string `json:"credentialId"`
	CredentialRef string `json:"credentialRef"`
}

// Seen marks a provider's fact as applied to a credential; Hash identifies the fact, not the event that told it.
type Seen struct {
	CredentialID string    `json:"credentialId"`
	Hash         string    `json:"hash"`
	ExpiresAt    time.Time `json:"expiresAt"`
}

// Idempotency remembers what a request with an Idempotency-Key did. Hash is of client, route and key; Payload of the
// body.
type Idempotency struct {
	HolderID     string    `json:"holderId"`
	Hash         string    `json:"hash"`
	Payload      string    `json:"payload"`
	CredentialID string    `json:"credentialId"`
	ExpiresAt    time.Time `json:"expiresAt"`
}

// Claim is the right to act outside for one holder at one account, until a moment.
type Claim struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// Active says whether the claim still stands.
func (c *Claim) Active(now time.Time) bool { return c != nil && now.Before(c.Until) }

// WorkItem is the one place per holder and account that says when there is something to do, and who is doing it.
type WorkItem struct {
	HolderID string     `json:"holderId"`
	Account  string     `json:"account"`
	DueAt    *time.Time `json:"dueAt,omitempty"` // absent: nothing
	Claim    *Claim     `json:"claim,omitempty"`
	// Added counts what others asked to be done; a claim is released only at the count its holder has worked off.
	Added int64 `json:"added"`
	// UserID is the provider's user of this holder, PersonHash the description it was last given, PictureRef the
	// picture it shows on all of its badges.
	UserID     string `json:"userId,omitempty"`
	PersonHash string `json:"personHash,omitempty"`
	PictureRef string `json:"pictureRef,omitempty"`
	Retry      Retry  `json:"retry"`
	// Wake is when a function that calls no provider made the item due and asked for another to come at once; absent
	// once a process has taken the claim.
	Wake *time.Time `json:"wake,omitempty"`
}

// WorkRef names a work item, with the moment it is due, as the due index has it (which may lag).
type WorkRef struct {
	HolderID string
	Account  string
	DueAt    time.Time
}

// Touch asks for work on a work item: it makes it due at Change.At and raises Added; the item is created when absent.
type Touch struct {
	HolderID string
	Account  string
	// Unclaimed makes the whole change conditional on no process having a claim that stands at Change.At.
	Unclaimed bool
	// Added, when given, makes the whole change conditional on the count that the item had when it was read, 0 for no
	// item: no other process has asked for work for this holder there since, nor assigned anything.
	Added *int64
	// Wake asks for a process to come at once, because the one that writes the change will not do the work itself.
	Wake bool
}

// Versioned items in a Change carry the revision they shall have; the stored one must have the revision before it, and
// must not exist for revision 1. (One rule for all of them, so that "which revision did you read?" is never forgotten.)

// Change is one transaction: all of it is written, or nothing, and the store reports a conflict. At most 100 items.
type Change struct {
	At time.Time

	Profile *Profile // versioned
	Holder  *Holder  // versioned; the stored one must also have its Assigned
	// HolderAt makes the change conditional on a holder that exists and is not being erased, and raises its Assigned:
	// the change assigns a credential to it. HolderRevision, where it is not zero, is the revision it must have. Both
	// say nothing more where the change also stores that holder.
	HolderAt       string
	HolderRevision int64
	// EraseHolder removes the holder item of that id, its picture with it; the holder must be Erasing.
	EraseHolder string
	Picture     *Picture // stored; never conditional, the holder's revision is
	DropPicture string   // holder id

	Credentials []Credential // versioned
	History     []HistoryEntry
	Owners      []Owner // versioned; see Owner.OverSighting
	Refs        []Ref   // must be absent or name the same credential, holder and profile
	// Slots must be absent or taken by the same credential; with ReplacesSlot, by that credential id.
	Slots        []Slot
	ReplacesSlot string
	FreeSlots    []Slot   // removed; must be taken by that credential
	Seen         []Seen   // must be absent
	Warned       []Warned // stored; never conditional, the row's revision is
	Unwarned     []Warned // removed
	Idempotency  *Idempotency
	Touch        []Touch
}

// Warned is a lasting warning of a credential, in the list of its profile.
type Warned struct {
	HolderID     string      `json:"holderId"`
	CredentialID string      `json:"credentialId"`
	ProfileID    string      `json:"-"`
	Code         WarningCode `json:"code"`
	Since        time.Time   `json:"since"`
}

// ListKey is the place of a warning in its profile's list, by its beginning.
func (w Warned) ListKey() string { return w.Since.UTC().Format(StampLayout) + "#" + w.CredentialID }

// Touches returns one touch for each work item: a transaction acts once on an item.
func (c Change) Touches() []Touch {
	var merged []Touch
	for _, t := range c.Touch {
		i := slices.IndexFunc(merged, func(m Touch) bool { return m.HolderID == t.HolderID && m.Account == t.Account })
		if i < 0 {
			merged = append(merged, t)
			continue
		}
		merged[i].Unclaimed = merged[i].Unclaimed || t.Unclaimed
		merged[i].Wake = merged[i].Wake || t.Wake
		merged[i].Added = cmp.Or(merged[i].Added, t.Added)
	}
	return merged
}

// Outage is an account's trouble: it belongs to the account, not to its rows. While it is open, no process calls the
// provider but the sweep's probe.
type Outage struct {
	Since     time.Time `json:"since"`     // zero: no outage
	NextProbe time.Time `json:"nextProbe"` // when the sweep may call the provider again
	Reason    string    `json:"reason"`    // one of the Trouble codes
	// Suspect is the holder whose user got no answer last, at SuspectAt; empty since a call was answered. A second one
	// within SuspectFor opens an outage.
	Suspect   string    `json:"suspect,omitempty"`
	SuspectAt time.Time `json:"suspectAt,omitzero"`
	// FeedBehind is since when the account's feed has not been read to its end; zero when it was.
	FeedBehind time.Time `json:"feedBehind,omitzero"`
	// ListsReserved says that the provider was seen to list a mobile ID that was only reserved: so one that it does not
	// list is missing. It has nothing to do with trouble, and outlasts it.
	ListsReserved bool `json:"listsReserved,omitempty"`
}

// Closed is the outage once the account is well.
func (o Outage) Closed() Outage { return Outage{ListsReserved: o.ListsReserved} }

// The reasons of an outage.
const (
	TroubleUnavailable  = "provider_unavailable"
	TroubleAccessDenied = "provider_access_denied"
	TroubleLimit        = "provider_call_limit" // of a row only: the account is well
)

// SuspectFor is how long a user without an answer casts doubt on the account.
const SuspectFor = time.Minute

// IsOpen says whether the account is in trouble.
func (o Outage) IsOpen() bool { return !o.Since.IsZero() }

// Answered is the outage after a call that the provider answered: nothing is suspected any more, and an open outage
// stays open, because only the probe closes it.
func (o Outage) Answered() Outage {
	o.Suspect, o.SuspectAt = "", time.Time{}
	return o
}

// Unanswered is the outage after a holder's user got no answer: it opens when another one got none shortly before,
// without an answer between.
func (o Outage) Unanswered(holderID string, now time.Time) Outage {
	other := o.Suspect != "" && o.Suspect != holderID && now.Sub(o.SuspectAt) <= SuspectFor
	o.Suspect, o.SuspectAt = holderID, now
	if other {
		return o.Open(TroubleUnavailable, now)
	}
	return o
}

// ProbeWait is how long an account in trouble is left alone before it is tried again: a little less than the schedule's
// minute, so that the next sweep is not just too early.
const ProbeWait = 55 * time.Second

// Open is the outage once the account is known to be in trouble.
func (o Outage) Open(reason string, now time.Time) Outage {
	if !o.IsOpen() {
		o.Since = now
	}
	if o.FeedBehind.IsZero() { // while the outage is open the feed is not read
		o.FeedBehind = now
	}
	o.Reason, o.NextProbe = reason, now.Add(ProbeWait)
	return o
}

// Report is what the provider reported of a credential while it could not be read, cut down to what explains a later
// reading. The fields are those of a provider's fact.
type Report struct {
	What     string    `json:"what"`
	Ref      string    `json:"ref,omitempty"`
	Status   string    `json:"status"`
	DeviceID string    `json:"deviceId,omitempty"`
	MobileID string    `json:"mobileId,omitempty"`
	At       time.Time `json:"at"`
	// OtherUserID is set when it tells of another user, which has this credential's mobile ID.
	OtherUserID string `json:"otherUserId,omitempty"`
}

// ReportLimit is how many reports a row keeps. Later ones only cause the look.
const ReportLimit = 20
