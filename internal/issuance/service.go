package issuance

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/backoff"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Service carries out the use cases. All fields are required but Providers and Mailer, which only the use cases that
// act outside need: Assign, Resend, Replace, End, Erase, Refresh, Wake and Sweep.
type Service struct {
	Store     Store
	Providers provider.Providers
	Accounts  []string // the names of the accounts that are configured
	Mailer    mail.Mailer
	Now       func() time.Time // whole milliseconds, UTC
	NewID     IDs
	Log       *slog.Logger
	// Count raises a metric by one. The names are the Metric constants.
	Count func(metric string)
	// Gauge says how things stand, by the Gauge constants; nil for a function that does not sweep.
	Gauge func(metric string, value float64)
	// Pause waits a random while before a conflicting write is tried again, attempt counting from 0; nil for a few
	// milliseconds of real time.
	Pause func(ctx context.Context, attempt int) error

	mu        sync.Mutex
	heldFeeds map[string]heldFeed // by account
	listing   map[string]bool     // by account: its provider is known to list what is only reserved
}

// The metrics.
const (
	MetricAnomaly     = "Anomalies"
	MetricFailed      = "FailedCredentials"
	MetricUnexplained = "UnexplainedReservations" // in a user of ours, made by another system
	MetricStuck       = "StuckSteps"              // refused RefusalLimit times
	MetricPoison      = "PoisonItems"
	MetricLowStock    = "LowStock"
)

const conflictTries = 12

var conflictBackoff = backoff.Backoff{First: 10 * time.Millisecond, Most: 640 * time.Millisecond}

// untilNoConflict runs f until it meets no conflict, so that f reads and decides anew each time. After too many
// conflicts the caller is asked to try later.
func (s *Service) untilNoConflict(ctx context.Context, f func() error) error {
	for attempt := range conflictTries {
		err := f()
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := s.pause(ctx, attempt); err != nil {
			return err
		}
	}
	return &credential.Error{
		Code: credential.CodeTryLater, Detail: "Too many changes at once; nothing was changed.", RetryAfter: 1,
	}
}

func (s *Service) pause(ctx context.Context, attempt int) error {
	if s.Pause != nil {
		return s.Pause(ctx, attempt)
	}
	return conflictBackoff.Wait(ctx, attempt)
}

// edit changes the newest version of a row, without a history entry; f returns false to leave it as it is.
func (s *Service) edit(ctx context.Context, c credential.Credential, f func(c *credential.Credential) bool) error {
	return s.untilNoConflict(ctx, func() error {
		newest, err := s.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil || !f(&newest) {
			return err
		}
		return s.save(ctx, &newest)
	})
}

// save stores a row on the revision it was read with, and raises it.
func (s *Service) save(ctx context.Context, c *credential.Credential) error {
	ch := s.begin()
	*c = ch.row(*c)
	return ch.commit(ctx)
}

// holder reads a holder for a command.
func (s *Service) holder(ctx context.Context, holderID string) (credential.Holder, error) {
	h, err := s.Store.Holder(ctx, holderID)
	if errors.Is(err, store.ErrNotFound) {
		return h, credential.Refuse(credential.CodeHolderNotFound, "There is no holder with this id.")
	}
	return h, err
}

// credential reads a holder and one of its credentials for a command.
func (s *Service) credential(
	ctx context.Context, holderID, credentialID string,
) (credential.Holder, credential.Credential, error) {
	h, err := s.holder(ctx, holderID)
	if err != nil {
		return h, credential.Credential{}, err
	}
	c, err := s.Store.Credential(ctx, holderID, credentialID)
	if errors.Is(err, store.ErrNotFound) || err == nil && c.Erased {
		err = credential.Refuse(credential.CodeCredentialNotFound, "The holder has no credential with this id.")
	}
	return h, c, err
}

// standing reads how a credential's account stands.
func (s *Service) standing(ctx context.Context, c credential.Credential) (credential.Standing, error) {
	outage, err := s.Store.Outage(ctx, c.Account)
	if err != nil {
		return credential.Standing{}, err
	}
	isUnknown := !slices.Contains(s.Accounts, c.Account)
	return credential.Standing{Outage: outage, AccountUnknown: isUnknown}, nil
}
