package credential

import (
	"fmt"
	"time"
)

// EventKind is something that happened to a credential, as the history names it.
type EventKind string

// The events. Assigned and Reserved are written when a credential is created and when its mobile ID is known; all the others go
// through Apply.
const (
	Assigned          EventKind = "assigned"
	ReservedID        EventKind = "reserved"
	Mailed            EventKind = "mailed"
	Bounced           EventKind = "bounced"
	Resent            EventKind = "resent"
	Accepted          EventKind = "accepted"
	ActivatedOnDevice EventKind = "activated"
	DeclinedEvent     EventKind = "declined" // by the holder, or cancelled at the provider though we did not ask
	ExpiredEvent      EventKind = "expired"
	GivenToAnother    EventKind = "given_to_another"
	RevokedAtProvider EventKind = "revoked_at_provider"
	MissingAtProvider EventKind = "missing_at_provider" // the mobile ID, without a word why
	Revoke            EventKind = "revoke"              // an operator's, or the holder is erased
	LostEvent         EventKind = "lost"
	StolenEvent       EventKind = "stolen"
	VisitEnded        EventKind = "visit_ended"
	Refused           EventKind = "refused" // by the provider, for good
	DeviceHasProfile  EventKind = "device_has_profile"
	SpentIDOffered    EventKind = "spent_id_offered" // R5: noted with the holder the ID was spent by
)

// Event is one occurrence for Apply. Reason becomes the statusReason of an end. Device belongs to ActivatedOnDevice, and where it is
// known to Accepted; CredentialRef belongs to ActivatedOnDevice: the provider may list what is on a device under another reference than what it reserved.
type Event struct {
	Kind          EventKind
	Reason        string
	Actor         Actor
	Device        *Device
	CredentialRef string
}

// verdict is what a cell of the matrix says.
type verdict int

const (
	nothing  verdict = iota // no change, no error
	advance                 // live on, in the cell's stage; the same stage is only noted
	end                     // final, with the cell's status
	note                    // an entry in the history and nothing else
	late                    // the same, flagged late
	anomaly                 // the same, flagged and alarmed
	again                   // an anomaly; the phone must not keep it, so release again
	device                  // the same device: nothing; another: anomaly
	operator                // revoked: note; any other final status: refused
)

type cell struct {
	verdict verdict
	stage   Stage
	status  Status
}

func to(s Stage) cell       { return cell{verdict: advance, stage: s} }
func ends(s Status) cell    { return cell{verdict: end, status: s} }
func just(v verdict) cell   { return cell{verdict: v} }
func all(s Status) [3]cell  { return [3]cell{ends(s), ends(s), ends(s)} }
func only(s Status) [3]cell { return [3]cell{ends(s), just(anomaly), just(anomaly)} }

// row is the columns invited, activating, activated, and final.
type row struct {
	live  [3]cell
	final cell
}

// matrix is the whole of what may happen to a credential: every event in every state. R5 is in its third column: nothing that is
// said of an activated mobile ID moves it.
var matrix = map[EventKind]row{
	Mailed:            {[3]cell{to(Invited), just(nothing), just(nothing)}, just(late)},
	Bounced:           {[3]cell{to(Invited), just(nothing), just(nothing)}, just(late)},
	Resent:            {[3]cell{to(Invited), just(nothing), just(nothing)}, just(late)},
	Accepted:          {[3]cell{to(Activating), just(nothing), just(nothing)}, just(again)},
	ActivatedOnDevice: {[3]cell{to(Activated), to(Activated), just(device)}, just(again)},
	DeclinedEvent:     {only(Declined), just(late)},
	ExpiredEvent:      {only(Expired), just(late)},
	GivenToAnother:    {only(Reassigned), just(late)},
	RevokedAtProvider: {all(Revoked), just(nothing)},
	MissingAtProvider: {only(Reassigned), just(nothing)},
	Revoke:            {all(Revoked), just(nothing)},
	LostEvent:         {all(Lost), just(operator)},
	StolenEvent:       {all(Stolen), just(operator)},
	VisitEnded:        {all(Expired), just(nothing)},
	Refused:           {[3]cell{ends(Failed), just(nothing), just(nothing)}, just(nothing)},
	// Only an activation can find the slot taken, so the first two columns are the moment just before it.
	DeviceHasProfile: {all(Revoked), just(nothing)},
	SpentIDOffered:   {[3]cell{just(anomaly), just(anomaly), just(anomaly)}, just(anomaly)},
}

var stageColumn = map[Stage]int{Invited: 0, Activating: 1, Activated: 2}

// firstLook is how soon the provider is asked again about an accepted credential that no report has put on a device.
const firstLook = time.Minute

// Apply says what an event does to a credential. It returns the credential as it shall be, with its revision raised, and the
// history entry to write with it; the entry is nil, and the credential unchanged, when the event changes nothing. It refuses with
// CodeInvalidState what an operator cannot ask for in this state.
func Apply(c Credential, e Event, now time.Time) (Credential, *HistoryEntry, error) {
	r, known := matrix[e.Kind]
	if !known {
		return c, nil, fmt.Errorf("event %q has no row in the matrix", e.Kind)
	}
	what := r.final
	if c.IsLive() {
		what = r.live[stageColumn[c.Stage]]
	}
	if what.verdict == device {
		what.verdict = anomaly
		if c.Device != nil && e.Device != nil && c.Device.ID == e.Device.ID {
			what.verdict = nothing
		}
	}
	if what.verdict == operator {
		if c.Status != Revoked {
			return c, nil, Refuse(CodeInvalidState, "The credential is "+string(c.Status)+" already.")
		}
		what.verdict = note
	}
	if what.verdict == nothing {
		return c, nil, nil
	}

	from := c.State()
	switch what.verdict {
	case advance:
		c = advanceTo(c, what.stage, e, now)
	case end:
		c = endWith(c, what.status, e)
	case again:
		if c.InvitationRef != "" || c.CredentialRef != "" {
			c.Reservation = Held
		}
	}
	c.UpdatedAt = now
	c.Revision++
	entry := Entry(c, e, from, now)
	entry.Late = what.verdict == late
	entry.Anomaly = what.verdict == anomaly || what.verdict == again
	return c, &entry, nil
}

// Entry builds the history entry of a credential's newest revision. from is the state before.
func Entry(c Credential, e Event, from string, now time.Time) HistoryEntry {
	return HistoryEntry{
		ID:           fmt.Sprintf("%s-%d", c.ID, c.Revision),
		HolderID:     c.HolderID,
		CredentialID: c.ID,
		ProfileID:    c.ProfileID,
		Account:      c.Account,
		At:           now,
		Event:        e.Kind,
		From:         from,
		To:           c.State(),
		Reason:       e.Reason,
		Actor:        e.Actor,
		Revision:     c.Revision,
		Mobile:       c.Mobile,
	}
}

func advanceTo(c Credential, stage Stage, e Event, now time.Time) Credential {
	c.Stage = stage
	switch e.Kind {
	case Mailed:
		c.Invitation.Status = InvitationSent
		c.Invitation.SentAt = &now
		c.Invitation.Mails++
		c.Invitation.MailingAt = nil
		c.Retry = Retry{}
	case Bounced:
		c.Invitation.Status = InvitationBounced
	case Resent:
		c.Invitation.Status = InvitationPending
		c.Invitation.AskedAt = now
		c.Retry = Retry{}
	case Accepted:
		c = forgetCode(c, InvitationAccepted)
		if e.Device != nil {
			c.AcceptedOn = e.Device.ID
		}
		look := now.Add(firstLook)
		c.LookAt, c.Looks = &look, 0
	case ActivatedOnDevice:
		c = forgetCode(c, InvitationAccepted)
		c.Device = e.Device
		if e.CredentialRef != "" {
			c.CredentialRef = e.CredentialRef
		}
		c.ActivatedAt = &now
		c.LookAt = nil
	}
	return c
}

// ended says what an end makes of an invitation that was not accepted.
var ended = map[Status]InvitationStatus{Declined: InvitationDeclined, Expired: InvitationExpired}

func endWith(c Credential, status Status, e Event) Credential {
	invitation := InvitationAccepted
	// What finds the slot of its device taken was redeemed, whether or not its acceptance had been seen.
	if c.Stage == Invited && e.Kind != DeviceHasProfile {
		invitation = InvitationCancelled
		if s, ok := ended[status]; ok && e.Kind != VisitEnded {
			invitation = s
		}
	}
	c = forgetCode(c, invitation)
	c.Status, c.Reason, c.Stage, c.Want = status, e.Reason, "", Gone
	c.Retry = Retry{}
	c.LookAt = nil
	return c
}

func forgetCode(c Credential, status InvitationStatus) Credential {
	c.Invitation.Status = status
	c.Invitation.Code = ""
	c.Invitation.MailingAt = nil
	c.Invitation.Expiring = false
	return c
}
