// Package mail is the port for mailing invitations (rule R7): what a letter says, and what can become of it.
//
// What belongs here are the words for both, which the use cases, the adapters and the tests share. What does not: how a
// letter is written and sent (ses, beneath); when it is due, how often it is tried, and what its outcome does to a
// credential (issuance).
package mail

import (
	"context"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Letter is an invitation to be mailed. Its texts were entered in the portal and may hold any character; the adapter
// makes them safe.
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

	// HolderID and CredentialID go with the mail as tags, so that reports of bounces can name the credential. They say
	// nothing about the person.
	HolderID, CredentialID string
}

// NewLetter returns the letter for the invitation of a credential. The holder's own language and time zone come before
// the profile's. ExpiresAt is zero when the credential's invitation has no deadline yet.
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
	if deadline := c.Deadline(h); deadline != nil {
		l.ExpiresAt = *deadline
	}
	return l
}

// Fate says what became of a letter.
type Fate int

// The fates. Only InDoubt leaves it open whether the mail was sent; issuance waits before it sends such a letter again.
const (
	Sent Fate = iota
	// Throttled: certainly not sent, and nothing is wrong with the letter. Try later.
	Throttled
	// Rejected: the mail service answered with an error. Mostly another attempt is rejected, too, until the operator
	// has changed the sender, the address, the profile or the account, or until the mail service is well again.
	Rejected
	// InDoubt: it may have been sent. The answer was lost or late.
	InDoubt
)

// Outcome is what became of a letter.
type Outcome struct {
	Fate Fate
	// MessageID is the mail service's id for a mail that was sent; empty otherwise.
	MessageID string
	// Reason is one word for why it was not, or is in doubt. It never holds an address, a name or a code.
	Reason string
}

// Mailer sends invitations. It tries a letter again only when it knows that the attempt before did not send it. Every
// failure is an Outcome; Send returns when the context ends.
type Mailer interface {
	Send(ctx context.Context, letter Letter) Outcome
}
