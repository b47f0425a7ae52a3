package issuance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// errNotGoneYet: we asked the provider to end something and it is still there.
var errNotGoneYet = errors.New("still at the provider")

// isTrouble says whether a failure belongs to the account, not to the row.
func isTrouble(err error) bool {
	return errors.Is(err, provider.ErrUnavailable) || errors.Is(err, provider.ErrOverLimit) ||
		errors.Is(err, provider.ErrNotOurs) || errors.Is(err, provider.ErrNoAccess)
}

// isOfRow says whether trouble is the row's own, because a call for the account was answered just before: then the row
// backs off alone.
func (r *run) isOfRow(err error) bool {
	isForbidden := errors.Is(err, provider.ErrOverLimit) && !errors.Is(err, provider.ErrHeldBack)
	return r.unit.accountAnswers && (errors.Is(err, provider.ErrUnavailable) || isForbidden)
}

func rowTroubleCode(err error) string {
	if errors.Is(err, provider.ErrOverLimit) {
		return "forbidden_by_provider"
	}
	return "unreadable_at_provider"
}

func troubleCode(err error) string {
	switch {
	case errors.Is(err, provider.ErrOverLimit):
		return credential.TroubleLimit
	case errors.Is(err, provider.ErrNotOurs):
		return credential.TroubleAccessDenied
	}
	return credential.TroubleUnavailable
}

// isRefusal says whether a failure is a definite no to one row or user.
func isRefusal(err error) bool {
	return errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrNotFound) ||
		errors.Is(err, provider.ErrEmpty) || errors.Is(err, provider.ErrEmailInUse) || errors.Is(err, errNotGoneYet)
}

func refusalCode(err error) string {
	switch {
	case errors.Is(err, errNotGoneYet):
		return "still_at_provider"
	case errors.Is(err, provider.ErrNotFound):
		return "not_found_at_provider"
	case errors.Is(err, provider.ErrEmailInUse):
		return credential.ReasonEmailInUse
	}
	return credential.ReasonRefusedByProvider
}

// noteTrouble shows trouble of the account on a row, without making the row wait for it.
func (r *run) noteTrouble(ctx context.Context, c credential.Credential, step credential.StepKind, code string) error {
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		if c.Retry.For == step && c.Retry.Error == code {
			return false
		}
		if c.Retry.For != step {
			c.Retry = credential.Retry{For: step}
		}
		if c.Retry.Since.IsZero() {
			c.Retry.Since = r.Now()
		}
		c.Retry.Attempts, c.Retry.At, c.Retry.Error = max(c.Retry.Attempts, 1), time.Time{}, code
		return true
	})
}

// postpone makes one step of a row wait after a refusal.
func (r *run) postpone(ctx context.Context, c credential.Credential, step credential.StepKind, code string) error {
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		if step == credential.StepIssue && c.Reservation == credential.ReservationHeld {
			return false // it comes too late: another process has reserved meanwhile
		}
		c.Retry = credential.Postpone(c.Retry, step, r.holder, code, r.Now())
		if c.Retry.Attempts == credential.RefusalLimit {
			r.reportStuck(ctx, c.ID, step, code)
		}
		return true
	})
}

// reportStuck makes a step that was refused RefusalLimit times count and be seen. credentialID is empty for a step of
// the provider's user.
func (r *run) reportStuck(ctx context.Context, credentialID string, step credential.StepKind, code string) {
	r.Count(MetricStuck)
	r.Log.ErrorContext(ctx, "refused repeatedly",
		"holderId", r.item.HolderID, "credentialId", credentialID, "step", step, "code", code)
}

// connect returns the provider of the account.
func (r *run) connect(ctx context.Context) (provider.Provider, error) {
	if r.provider == nil {
		p, err := r.Providers.Provider(ctx, r.item.Account)
		if err != nil {
			r.Log.ErrorContext(ctx, "account cannot be used", "account", r.item.Account, "error", err)
			return nil, fmt.Errorf("account %s: %w", r.item.Account, provider.ErrNoAccess)
		}
		r.provider = p
	}
	return r.provider, nil
}

// noteAnswer notes whether the provider answered a call that ended in err, and passes err on.
func (r *run) noteAnswer(err error) error {
	if err == nil || !isTrouble(err) {
		r.answered, r.unanswered, r.trouble = true, 0, nil
	}
	return err
}
