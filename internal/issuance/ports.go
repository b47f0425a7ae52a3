// Package issuance is what mobilecred does: assign, end, replace and resend credentials, store profiles and holders, hear what
// providers report, and sweep up whatever is left. It decides the order of outside calls and writes; what is right to do it asks
// package credential.
//
// What belongs here: use cases, and the ports they need. What does not: rules about states (credential), how a store, provider or
// mailer is spoken to (their adapters), and how people call in (webapi).
package issuance

import (
	"context"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Store is all of the stored truth that the use cases need.
type Store interface {
	store.Rows
	store.Work
	store.AccountState
}

// Letter is an invitation to be mailed.
type Letter struct {
	Holder     credential.Holder
	Profile    credential.Profile
	Credential credential.Credential
}

// MailOutcome says what became of a letter.
type MailOutcome int

// A mail is never retried blindly: only MailNotSent is tried again at once, MailInDoubt after a wait.
const (
	MailSent MailOutcome = iota
	MailNotSent
	MailInDoubt
)

// Mailer sends invitations. reason is a word for why not, without address or code.
type Mailer interface {
	Send(ctx context.Context, letter Letter) (outcome MailOutcome, reason string)
}

// IDs makes identifiers: 128 random bits, in the alphabet of ids.
type IDs func() string
