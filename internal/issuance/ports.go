// Package issuance is what mobilecred does: assign, end, replace and resend credentials, store profiles and holders, hear what
// providers report, and sweep up whatever is left. It decides the order of outside calls and writes; what is right to do it asks
// package credential.
//
// What belongs here: use cases, and the ports they need. What does not: rules about states (credential), how a store, provider or
// mailer is spoken to (their adapters), and how people call in (webapi).
package issuance

import (
	"github.com/mobilecred/mobilecred/internal/store"
)

// Store is all of the stored truth that the use cases need.
type Store interface {
	store.Rows
	store.Work
	store.AccountState
}

// IDs makes identifiers: 128 random bits, in the alphabet of ids.
type IDs func() string
