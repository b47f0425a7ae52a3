package issuance

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/backoff"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Service carries out the use cases. All fields are required but Providers and Mailer, which only the use cases that act outside
// need: Assign, Resend, Replace, End, Erase, Refresh and Sweep.
type Service struct {
	Store     Store
	Providers provider.Providers
	Mailer    mail.Mailer
	Now       func() time.Time // whole milliseconds, UTC
	NewID     IDs
	Log       *slog.Logger
	// Count raises a metric by one. The names are the Metric constants.
	Count func(metric string)
	// Pause waits a random while before a conflicting write is tried again; nil for a few milliseconds of real time.
	Pause func(ctx context.Context, attempt int) error

	mu        sync.Mutex
	unapplied map[string]feedStop // by account
}

// The metrics.
const (
	MetricAnomaly     = "Anomalies"
	MetricFailed      = "FailedCredentials"
	MetricUnexplained = "UnexplainedReservations" // somebody else's, in a user of ours
	MetricStuck       = "StuckSteps"              // refused RefusalLimit times
	MetricPoison      = "PoisonItems"
	MetricLowStock    = "LowStock"
)

const conflictTries = 12

var conflictBackoff = backoff.Backoff{First: 10 * time.Millisecond, Most: 640 * time.Millisecond}

// again runs f until it no longer meets a conflict, so that f reads and decides anew each time. After too many conflicts the caller
// is asked to try later.
func (s *Service) again(ctx context.Context, f func() error) error {
	for attempt := range conflictTries {
		err := f()
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := s.pause(ctx, attempt); err != nil {
			return err
		}
	}
	return &credential.Error{Code: credential.CodeTryLater, Detail: "Too many changes at once; nothing was changed.", RetryAfter: 1}
}

func (s *Service) pause(ctx context.Context, attempt int) error {
	if s.Pause != nil {
		return s.Pause(ctx, attempt)
	}
	return conflictBackoff.Wait(ctx, attempt)
}

// holder reads a holder for a command.
func (s *Service) holder(ctx context.Context, holderID string) (credential.Holder, error) {
	h, err := s.Store.Holder(ctx, holderID)
	if errors.Is(err, store.ErrNotFound) {
		return h, credential.Refuse(credential.CodeHolderNotFound, "There is no holder with this id.")
	}
	return h, err
}

// credential reads a holder and one credential of it for a command.
func (s *Service) credential(ctx context.Context, holderID, credentialID string) (credential.Holder, credential.Credential, error) {
	h, err := s.holder(ctx, holderID)
	if err != nil {
		return h, credential.Credential{}, err
	}
	c, err := s.Store.Credential(ctx, holderID, credentialID)
	if errors.Is(err, store.ErrNotFound) {
		err = credential.Refuse(credential.CodeCredentialNotFound, "The holder has no credential with this id.")
	}
	return h, c, err
}
