// Package mail is the port to the mailing of invitations (rule R7): what a letter says, and what can become of it.
//
// What belongs here is the one vocabulary for both, which the use cases, the adapters and the tests share. What does
// not: how a letter is written and sent (ses, beneath), and when it is due, how often it is tried and what its outcome
// does to a credential (issuance).
package mail

import (
	"context"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Letter is an invitation to be mailed. Its texts come from outside and may hold anything; the adapter makes them safe.
type Letter struct {
	HolderFirstName, HolderLastName string
	To                              string // one bare e-mail address

	ProfileName  string
	MobileIDName string // the credential's name, preferred over ProfileName
	App          credential.App

	Code      credential.Secret // required
	ExpiresAt time.Time         // required

	Locale   string // BCP 47, such as fr-CA; a language there are no words for becomes English
	TimeZone string // IANA name for telling ExpiresAt; unknown or empty: UTC, and the mail says so

	Sender credential.Sender

	// HolderID and CredentialID travel as tags, for feedback to name. They say nothing about the person.
	HolderID, CredentialID string
}

// NewLetter writes what the invitation of a credential says. The holder's own language and time zone come before the
// profile's.
func NewLetter(h credential.Holder, p credential.Profile, c credential.Credential) Letter {
	l := Letter{
		HolderFirstName: h.FirstName, HolderLastName: h.LastName, To: h.Email,
		ProfileName: p.Name, MobileIDName: c.Name(), App: p.App, Code: c.Invitation.Code,
		Locale: p.Locale, TimeZone: p.TimeZone, Sender: p.Sender, HolderID: h.ID, CredentialID: c.ID,
	}
	if h.Locale != "" {
		l.Locale = h.Locale
	}
	if h.TimeZone != "" {
		l.TimeZone = h.TimeZone
	}
	if c.Invitation.ExpiresAt != nil {
		l.ExpiresAt = *c.Invitation.ExpiresAt
	}
	return l
}

// Fate says what became of a letter.
type Fate int

// The fates. Only InDoubt leaves it open whether the mail is out, so such a letter is never sent again without a wait.
const (
	Sent Fate = iota
	// Throttled: certainly not sent, and nothing is wrong with the letter. Try later.
	Throttled
	// Rejected: certainly not sent, and trying again changes nothing until the operator changes the sender, the
	// address, the profile or the account.
	Rejected
	// InDoubt: it may have been sent. The answer was lost, late, or a failure inside the mail service.
	InDoubt
)

// Outcome is what became of a letter.
type Outcome struct {
	Fate Fate
	// MessageID is the mail service's name for a mail that was sent.
	MessageID string
	// Reason is one word for why it was not, or is in doubt. It never holds an address, a name or a code.
	Reason string
}

// Mailer sends invitations. It repeats a letter by itself only when it knows that the one before was not sent.
type Mailer interface {
	Send(ctx context.Context, letter Letter) Outcome
}
