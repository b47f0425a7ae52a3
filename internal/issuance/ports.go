// Package issuance is what mobilecred does: it assigns, ends, replaces and resends credentials, stores profiles and
// holders, learns what providers report, and sweeps up whatever is left. It decides the order of outside calls and
// writes.
//
// What belongs here: the use cases, and what they ask of the outside world. What does not: rules about states, which
// are asked of package credential; what a reading of the provider means (observe); how a store, provider or mailer is
// spoken to (store, provider and mail with their adapters); and how the portal calls in (webapi).
package issuance

import "github.com/mobilecred/mobilecred/internal/store"

// Store is all of the stored truth that the use cases need.
type Store interface {
	store.Rows
	store.Work
	store.AccountState
}

// IDs makes identifiers: 128 random bits, in the alphabet of ids.
type IDs func() string
