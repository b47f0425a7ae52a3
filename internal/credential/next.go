package credential

import "time"

// StepKind is something that has to be done outside for a credential.
type StepKind string

// The steps, in the order in which they are taken.
const (
	StepNone StepKind = ""
	// the visit is over (R11) or the holder is being erased; nothing outside, but it decides what follows
	StepEnd     StepKind = "end"
	StepSettle  StepKind = "settle"  // find out what became of a reservation in doubt
	StepRelease StepKind = "release" // give back what must not be kept, and see it gone
	StepIssue   StepKind = "issue"   // reserve a mobile ID
	StepMail    StepKind = "mail"    // send the invitation (R7)
	StepPicture StepKind = "picture" // make the provider show the holder's picture, or none (R8)
	StepRecheck StepKind = "recheck" // a doubt was settled without its answer: was the request carried out late?
	StepLook    StepKind = "look"    // accepted, but not seen on a device, or a report waits: read the provider
	StepNote    StepKind = "note"    // a warning begins that comes with time alone: list it
	StepExpire  StepKind = "expire"  // the deadline has passed: cancel, and believe what the provider then says
	StepUser    StepKind = "user"    // of a work item, not of a row: what the provider's user needs
)

// Step is what has to be done and the earliest moment for it.
type Step struct {
	Kind StepKind
	At   time.Time
}

// mailDoubt is how long a mail whose answer was lost is waited for before it is sent once more; twice as long after
// each further one, at most mailDoubtMost.
const (
	mailDoubt     = time.Minute
	mailDoubtMost = time.Hour
)

// MailDoubtLimit is how many mails may be in doubt for one request: each may have arrived, so there is no sixth.
const MailDoubtLimit = 5

// settleAfter is how long a reservation without an answer is left alone: a request we gave up on may still be on its
// way in, and what it reserves after we have looked would belong to no row.
const settleAfter = 10 * time.Second

// Next says what has to be done for a credential: the first step that can be taken now, or else the earliest later one,
// or StepNone. It is the only place that knows, for the request, the clean-up and the sweep alike.
func Next(c Credential, h Holder, now time.Time) Step {
	soonest := Step{}
	for _, s := range outstanding(c, h) {
		if until := c.Retry.Waits(s.Kind, h); s.At.Before(until) {
			s.At = until
		}
		if !s.At.After(now) {
			return s
		}
		if soonest.Kind == StepNone || s.At.Before(soonest.At) {
			soonest = s
		}
	}
	return soonest
}

// outstanding lists the steps of a row in their order, each with its own earliest moment, refusals aside.
func outstanding(c Credential, h Holder) []Step {
	var steps []Step
	add := func(kind StepKind, at time.Time) { steps = append(steps, Step{kind, at}) }
	always := time.Time{}

	if c.Want == WantLive && h.Erasing {
		add(StepEnd, always)
	}
	if c.Want == WantLive && h.Kind == Visitor && h.ValidUntil != nil {
		add(StepEnd, *h.ValidUntil)
	}
	if c.Reservation == ReservationInDoubt {
		at := always
		if c.Doubt != nil && c.Doubt.Answer == nil {
			at = c.Doubt.At.Add(settleAfter)
		}
		add(StepSettle, at)
	}
	if len(c.Strays) > 0 ||
		c.Want == WantGone &&
			(c.Reservation == ReservationHeld || c.Reservation != ReservationInDoubt && len(c.Aside) > 0) {
		at := always
		if c.ReleaseAt != nil {
			at = *c.ReleaseAt
		}
		add(StepRelease, at)
	}
	for _, d := range c.Unanswered {
		if d.Rechecked {
			continue
		}
		at := d.At.Add(LateFor)
		if at.Before(d.RecheckAt) {
			at = d.RecheckAt
		}
		add(StepRecheck, at)
	}
	isReleased := c.Reservation == ReservationReleased && !h.Erasing
	if c.LookAt != nil && (c.Reservation == ReservationHeld || isReleased) {
		add(StepLook, *c.LookAt)
	}
	if c.Want == WantGone {
		return steps
	}
	if c.Reservation == ReservationNone {
		add(StepIssue, always)
	}
	if c.Reservation != ReservationHeld {
		return steps
	}
	switch c.Stage {
	case StageInvited:
		deadline := c.Deadline(h)
		if c.Invitation.ExpiresAt != nil {
			add(StepExpire, *c.Invitation.ExpiresAt)
		}
		if c.Invitation.Status == InvitationPending {
			at := always
			if c.Invitation.MailingAt != nil {
				at = c.Invitation.MailingAt.Add(backoff(mailDoubt, max(0, c.Invitation.Doubts-1), mailDoubtMost))
			}
			// After the deadline the code is dead, and a mail about it would mislead.
			inTime := deadline == nil || at.Before(*deadline)
			if inTime && c.Invitation.Doubts < MailDoubtLimit {
				add(StepMail, at)
			}
		}
	case StageActivated:
		if c.PictureHash != h.PictureHash {
			add(StepPicture, always)
		}
	}
	if at := NextWarning(c); !at.IsZero() {
		add(StepNote, at)
	}
	return steps
}

// NextReleaseLook is how long to wait before asking again whether a release that the provider has begun is done, after
// that many times.
func NextReleaseLook(looks int) time.Duration {
	first := []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}
	switch {
	case looks < len(first):
		return first[looks]
	case looks < len(first)+7*24: // a week
		return time.Hour
	}
	return 24 * time.Hour
}

// NextLook is how long to wait before reading the provider again, after that many readings.
func NextLook(looks int) time.Duration { return backoff(firstLook, looks, time.Hour) }

// RefusalLimit is the number of refusals of one step after which a credential is shown as failed at the provider. It is
// still tried, slowly.
const RefusalLimit = 5

// Postpone notes that a step for a holder was refused: only that step waits, twice as long each time, at most six
// hours, one for mails. code says why, in a word of ours.
func Postpone(r Retry, kind StepKind, h Holder, code string, now time.Time) Retry {
	revision := int64(0)
	if kind.concernsHolder() {
		revision = h.Revision
	}
	if r.For != kind || r.HolderRevision != 0 && r.HolderRevision != revision {
		r = Retry{For: kind}
	}
	r.HolderRevision = revision
	if r.Attempts == 0 || r.Since.IsZero() {
		r.Since = now
	}
	most := 6 * time.Hour
	if kind == StepMail { // a refusal of mails is mostly mended within the day, and the holder waits
		most = time.Hour
	}
	r.At = now.Add(backoff(time.Minute, r.Attempts, most))
	r.Attempts++
	r.Error = code
	return r
}

func backoff(first time.Duration, times int, most time.Duration) time.Duration {
	d := first
	for range times {
		if d >= most {
			return most
		}
		d *= 2
	}
	return min(d, most)
}

// SyncState is how the provider stands to what we want.
type SyncState string

// SyncFailed means: refused repeatedly, still tried, slowly, and alarmed.
const (
	SyncSynced  SyncState = "synced"
	SyncPending SyncState = "pending"
	SyncFailed  SyncState = "failed"
)

// Sync says how the provider stands to what we want of a credential and its holder, and the code of the last refusal
// while it is behind.
func Sync(c Credential, h Holder, now time.Time) (SyncState, string) {
	for _, s := range outstanding(c, h) {
		// While a reservation is in doubt the provider may have it, however long the doubt still has to be left alone.
		later := s.At.After(now) && s.Kind != StepSettle && s.Kind != StepRelease
		if s.Kind == StepMail || s.Kind == StepLook || s.Kind == StepRecheck || s.Kind == StepNote || later {
			continue
		}
		if c.Retry.For == s.Kind && c.Retry.Error != "" {
			if c.Retry.Attempts >= RefusalLimit {
				return SyncFailed, c.Retry.Error
			}
			return SyncPending, c.Retry.Error
		}
		return SyncPending, ""
	}
	if c.IsLive() && c.HolderRetry.Attempts > 0 {
		if c.HolderRetry.Attempts >= RefusalLimit {
			return SyncFailed, c.HolderRetry.Error
		}
		return SyncPending, c.HolderRetry.Error
	}
	return SyncSynced, ""
}
