package credential

import (
	"fmt"
	"time"
)

// EventKind is something that happened to a credential, as the history names it.
type EventKind string

// The events. EventAssigned and EventReserved are written when a credential is created and when its mobile ID is known;
// all the others go through Apply.
const (
	EventAssigned          EventKind = "assigned"
	EventReserved          EventKind = "reserved"
	EventMailed            EventKind = "mailed"
	EventBounced           EventKind = "bounced"
	EventResent            EventKind = "resent"
	EventAccepted          EventKind = "accepted"
	EventActivated         EventKind = "activated"
	EventDeclined          EventKind = "declined" // by the holder, or cancelled at the provider though we did not ask
	EventExpired           EventKind = "expired"
	EventGivenToAnother    EventKind = "given_to_another"
	EventRevokedAtProvider EventKind = "revoked_at_provider"
	EventMissingAtProvider EventKind = "missing_at_provider" // the mobile ID, without a word why
	EventRevoke            EventKind = "revoke"              // an operator's, or the holder is erased
	EventLost              EventKind = "lost"
	EventStolen            EventKind = "stolen"
	EventVisitEnded        EventKind = "visit_ended"
	EventRefused           EventKind = "refused" // by the provider, for good
	EventDeviceHasProfile  EventKind = "device_has_profile"
	EventSpentIDOffered    EventKind = "spent_id_offered" // R5: noted with the holder the ID was spent by
)

// Event is one occurrence for Apply. Reason becomes the statusReason of an end. Device belongs to EventActivated, and
// where it is known to EventAccepted; CredentialRef belongs to EventActivated, because the provider may list what is on
// a device under another reference than what it reserved.
type Event struct {
	Kind          EventKind
	Reason        string
	Actor         Actor
	Device        *Device
	CredentialRef string
	// AskedAt belongs to EventMailed: which request for a mail it answers. A mail of an older request closes no newer
	// one.
	AskedAt time.Time
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

// matrix is the whole of what may happen to a credential: every event in every state. R5 is in its third column:
// nothing that is said of an activated mobile ID moves it.
var matrix = map[EventKind]row{
	EventMailed:            {[3]cell{to(StageInvited), just(nothing), just(nothing)}, just(late)},
	EventBounced:           {[3]cell{to(StageInvited), just(nothing), just(nothing)}, just(late)},
	EventResent:            {[3]cell{to(StageInvited), just(nothing), just(nothing)}, just(late)},
	EventAccepted:          {[3]cell{to(StageActivating), just(nothing), just(nothing)}, just(again)},
	EventActivated:         {[3]cell{to(StageActivated), to(StageActivated), just(device)}, just(again)},
	EventDeclined:          {only(StatusDeclined), just(late)},
	EventExpired:           {only(StatusExpired), just(late)},
	EventGivenToAnother:    {only(StatusReassigned), just(late)},
	EventRevokedAtProvider: {all(StatusRevoked), just(nothing)},
	EventMissingAtProvider: {only(StatusReassigned), just(nothing)},
	EventRevoke:            {all(StatusRevoked), just(nothing)},
	EventLost:              {all(StatusLost), just(operator)},
	EventStolen:            {all(StatusStolen), just(operator)},
	EventVisitEnded:        {all(StatusExpired), just(nothing)},
	EventRefused:           {[3]cell{ends(StatusFailed), just(nothing), just(nothing)}, just(nothing)},
	// Only an activation can find the slot taken, so the first two columns are the moment just before it.
	EventDeviceHasProfile: {all(StatusRevoked), just(nothing)},
	EventSpentIDOffered:   {[3]cell{just(anomaly), just(anomaly), just(anomaly)}, just(anomaly)},
}

var stageColumn = map[Stage]int{StageInvited: 0, StageActivating: 1, StageActivated: 2}

// firstLook is how soon the provider is asked again about an accepted credential that no report has put on a device.
const firstLook = time.Minute

// Apply says what an event does to a credential. It returns the credential as it shall be, with its revision raised,
// and the history entry to write with it; the entry is nil, and the credential unchanged, when the event changes
// nothing. It refuses with CodeInvalidState what an operator cannot ask for in this state.
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
		if c.Status != StatusRevoked {
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
		c = endWith(c, what.status, e, now)
	case again:
		if c.InvitationRef != "" || c.CredentialRef != "" {
			c.Reservation = ReservationHeld
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
	case EventMailed:
		if e.AskedAt.Equal(c.Invitation.AskedAt) {
			c.Invitation.Status = InvitationSent
			c.Invitation.Doubts = 0
		}
		c.Invitation.SentAt = &now
		c.Invitation.MailingAt = nil
		c.Retry = Retry{}
	case EventBounced:
		c.Invitation.Status = InvitationBounced
	case EventResent:
		c.Invitation.Status = InvitationPending
		c.Invitation.AskedAt, c.Invitation.Doubts, c.Invitation.MailingAt = now, 0, nil
		c.Retry = Retry{}
	case EventAccepted:
		c = forgetCode(c, InvitationAccepted)
		if e.Device != nil {
			c.AcceptedOn = e.Device.ID
		}
		c.AcceptedAt = &now
		look := now.Add(firstLook)
		c.LookAt, c.Looks = &look, 0
	case EventActivated:
		c = forgetCode(c, InvitationAccepted)
		c.Device = e.Device
		if e.CredentialRef != "" {
			c.CredentialRef = e.CredentialRef
		}
		c.ActivatedAt = &now
		if len(c.Reports) == 0 {
			c.LookAt = nil
		}
	}
	return c
}

// ended says what an end makes of an invitation that was not accepted.
var ended = map[Status]InvitationStatus{StatusDeclined: InvitationDeclined, StatusExpired: InvitationExpired}

func endWith(c Credential, status Status, e Event, now time.Time) Credential {
	invitation := InvitationAccepted
	// What finds the slot of its device taken was redeemed, whether or not its acceptance had been seen.
	if c.Stage == StageInvited && e.Kind != EventDeviceHasProfile {
		invitation = InvitationCancelled
		if s, ok := ended[status]; ok && e.Kind != EventVisitEnded {
			invitation = s
		}
	}
	c = forgetCode(c, invitation)
	c.Status, c.Reason, c.Stage, c.Want = status, e.Reason, "", WantGone
	c.EndedAt = &now
	c.Retry = Retry{}
	if len(c.Reports) == 0 {
		c.LookAt = nil
	}
	return c
}

func forgetCode(c Credential, status InvitationStatus) Credential {
	c.Invitation.Status = status
	c.Invitation.Code = ""
	c.Invitation.MailingAt = nil
	c.Invitation.Expiring = false
	return c
}
