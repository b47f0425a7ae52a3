package credential

import (
	"slices"
	"time"
)

// WarningCode is something about a credential that the operator should know, and in most cases do something about.
type WarningCode string

// The warnings, a closed set.
const (
	WarnMailNotSent         WarningCode = "mail_not_sent"         // the mail service refused the invitation
	WarnMailInDoubt         WarningCode = "mail_in_doubt"         // the mail service did not say whether it was sent
	WarnMailBounced         WarningCode = "mail_bounced"          // it did not reach the holder
	WarnProviderUnreachable WarningCode = "provider_unreachable"  // the account is in trouble; tried once a minute
	WarnProviderRefuses     WarningCode = "provider_refuses"      // the provider refuses a step; tried ever more slowly
	WarnReleasePending      WarningCode = "release_pending"       // ended here; the phone may still have it
	WarnReservationInDoubt  WarningCode = "reservation_in_doubt"  // the provider did not say whether it reserved
	WarnNotOnDeviceYet      WarningCode = "not_on_device_yet"     // accepted long ago; the phone has not fetched it
	WarnHolderChangeRefused WarningCode = "holder_change_refused" // the provider keeps the holder's old description
	WarnExpiresSoon         WarningCode = "expires_soon"          // not redeemed, and its deadline is near
	WarnPictureMissing      WarningCode = "picture_missing"       // on a phone, and the holder has no picture
	WarnPictureRefused      WarningCode = "picture_refused"       // the provider refuses the holder's picture
	WarnAccountUnknown      WarningCode = "account_unknown"       // its account is no longer configured
	WarnWaitingForLicence   WarningCode = "waiting_for_licence"   // the pool is empty; it gets the next ID, in its turn
)

// WarningCodes lists every warning.
var WarningCodes = []WarningCode{
	WarnMailNotSent, WarnMailInDoubt, WarnMailBounced, WarnProviderUnreachable, WarnProviderRefuses, WarnReleasePending,
	WarnReservationInDoubt, WarnNotOnDeviceYet, WarnHolderChangeRefused, WarnExpiresSoon, WarnPictureMissing,
	WarnPictureRefused, WarnAccountUnknown, WarnWaitingForLicence,
}

// Warning is one of them, since when it holds, and a code of ours that says more, empty for none.
type Warning struct {
	Code   WarningCode `json:"code"`
	Since  time.Time   `json:"since"`
	Detail string      `json:"detail,omitempty"`
}

// Standing is how a credential's account stands.
type Standing struct {
	Outage         Outage
	AccountUnknown bool // it is not configured (any more)
}

const (
	// slowDevice is how long after acceptance a phone is expected to have fetched the mobile ID.
	slowDevice = 30 * time.Minute
	// soonExpired is how long before its deadline an invitation is said to expire soon.
	soonExpired = 24 * time.Hour
	// unheard is how long the mail service may take to answer before a mail is in doubt.
	unheard = 10 * time.Second
	// unpictured is how long after activation a badge is expected to show its picture.
	unpictured = 5 * time.Minute
)

// Warnings lists what the operator should know of a credential, in the order of WarningCodes.
func Warnings(c Credential, h Holder, s Standing, now time.Time) []Warning {
	var all []Warning
	add := func(holds bool, code WarningCode, since time.Time, detail string) {
		if holds {
			all = append(all, Warning{code, since, detail})
		}
	}
	state, _ := Sync(c, h, now)
	waits := state != SyncSynced
	isHeld := c.Reservation == ReservationHeld || c.Reservation == ReservationInDoubt
	all = append(all, ofRow(c, now)...)
	if s.Outage.IsOpen() {
		add(waits, WarnProviderUnreachable, s.Outage.Since, s.Outage.Reason)
	} else {
		add(waits && c.Retry.isOfAccount(), WarnProviderUnreachable, c.Retry.since(c.UpdatedAt), c.Retry.Error)
	}
	isNamed := func(code WarningCode) bool {
		return slices.ContainsFunc(all, func(w Warning) bool { return w.Code == code })
	}
	add(c.Invitation.MailingAt != nil && now.Sub(moment(c.Invitation.MailingAt)) > unheard && c.isToBeMailed() &&
		!isNamed(WarnMailInDoubt), WarnMailInDoubt, moment(c.Invitation.MailingAt), "")
	add(c.Want == WantGone && isHeld && !isNamed(WarnReleasePending), WarnReleasePending, moment(c.EndedAt), "")
	if c.Reservation == ReservationInDoubt && c.Doubt != nil {
		add(!isNamed(WarnReservationInDoubt), WarnReservationInDoubt, c.Doubt.At, "")
	}
	add(s.AccountUnknown && (c.IsLive() || isHeld), WarnAccountUnknown, c.CreatedAt, "")
	slices.SortStableFunc(all, func(a, b Warning) int {
		return slices.Index(WarningCodes, a.Code) - slices.Index(WarningCodes, b.Code)
	})
	return all
}

// IsListed says whether the credentials with a warning are listed by the items of Lasting. What concerns a whole
// account is derived from the account instead.
func (code WarningCode) IsListed() bool {
	return code != WarnProviderUnreachable && code != WarnAccountUnknown
}

// Lasting lists the warnings of a credential by which it is listed: those that its row tells by itself and that do not
// pass with the next step.
func Lasting(c Credential, now time.Time) []Warning { return ofRow(c, now) }

// NextWarning is when the next warning begins that comes with time alone; the zero value for none.
func NextWarning(c Credential) time.Time {
	var next time.Time
	for code, at := range timed(c) {
		isListed := slices.ContainsFunc(c.Warned, func(w Warning) bool { return w.Code == code })
		if !isListed && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// timed are the warnings that come with time alone, and when.
func timed(c Credential) map[WarningCode]time.Time {
	all := map[WarningCode]time.Time{}
	switch {
	case !c.IsLive():
	case c.Stage == StageInvited && c.Invitation.ExpiresAt != nil:
		all[WarnExpiresSoon] = c.Invitation.ExpiresAt.Add(-soonExpired)
	case c.Stage == StageActivating && c.AcceptedAt != nil:
		all[WarnNotOnDeviceYet] = c.AcceptedAt.Add(slowDevice)
	case c.Stage == StageActivated && c.ActivatedAt != nil && c.PictureHash == "":
		all[WarnPictureMissing] = c.ActivatedAt.Add(unpictured)
	}
	return all
}

// isToBeMailed says whether the invitation of a credential is still to be mailed.
func (c Credential) isToBeMailed() bool {
	return c.IsLive() && c.Stage == StageInvited && c.Reservation == ReservationHeld &&
		c.Invitation.Status == InvitationPending
}

// isOfAccount says whether it was trouble of the account, and no refusal.
func (r Retry) isOfAccount() bool {
	return r.Error == TroubleUnavailable || r.Error == TroubleAccessDenied || r.Error == TroubleLimit
}

// ofRow lists the warnings that a row tells by itself.
func ofRow(c Credential, now time.Time) []Warning {
	var all []Warning
	add := func(holds bool, code WarningCode, since time.Time, detail string) {
		if holds {
			all = append(all, Warning{code, since, detail})
		}
	}
	isRefused := c.Retry.Attempts > 0 && !c.Retry.isOfAccount()
	refusedSince := c.Retry.since(c.UpdatedAt)
	at := c.Invitation.MailingAt
	add(c.isToBeMailed() && isRefused && c.Retry.For == StepMail, WarnMailNotSent, refusedSince, c.Retry.Error)
	add(c.isToBeMailed() && at != nil && c.Invitation.Doubts > 1, WarnMailInDoubt, moment(at), "")
	add(c.IsLive() && c.Stage == StageInvited && c.Invitation.Status == InvitationBounced, WarnMailBounced,
		c.UpdatedAt, "")
	add(isRefused && c.Retry.For != StepMail && c.Retry.For != StepPicture, WarnProviderRefuses, refusedSince,
		c.Retry.Error)
	isHeld := c.Reservation == ReservationHeld || c.Reservation == ReservationInDoubt
	add(c.Want == WantGone && isHeld && (c.ReleaseAt != nil || c.Retry.Attempts > 0), WarnReleasePending,
		moment(c.EndedAt), "")
	if c.Reservation == ReservationInDoubt && c.Doubt != nil {
		add(c.Retry.Attempts > 0, WarnReservationInDoubt, c.Doubt.At, "")
	}
	add(c.IsLive() && c.HolderRetry.Attempts > 0, WarnHolderChangeRefused, c.HolderRetry.since(c.UpdatedAt),
		c.HolderRetry.Error)
	add(c.IsWaiting(), WarnWaitingForLicence, c.CreatedAt, "")
	for code, begins := range timed(c) {
		add(!now.Before(begins), code, begins, "")
	}
	add(c.Stage == StageActivated && isRefused && c.Retry.For == StepPicture, WarnPictureRefused, refusedSince,
		c.Retry.Error)
	return all
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
