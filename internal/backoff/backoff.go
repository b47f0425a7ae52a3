// Package backoff waits before something is tried again: exponentially longer, with full jitter, so that those who met
// the same trouble do not meet again.
//
// What belongs here is the waiting. What is worth another try, and how often, belongs to the caller; waits of minutes
// and hours that are stored with what waits belong to package credential.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long waits get: anything up to a limit that starts at First and doubles with each attempt, up to
// Most.
type Backoff struct {
	First time.Duration
	Most  time.Duration
	// Rand returns a number in [0, 1); nil for a random one.
	Rand func() float64
	// Sleep waits, or returns the context's error once it has ended; nil for real time.
	Sleep func(context.Context, time.Duration) error
}

// Delay returns the wait after a failed attempt; the first is attempt 0.
func (b Backoff) Delay(attempt int) time.Duration {
	random := rand.Float64
	if b.Rand != nil {
		random = b.Rand
	}
	// Shifting further than this would overflow before Most could bound it.
	limit := min(b.First<<min(attempt, 20), b.Most)
	return time.Duration(random() * float64(limit))
}

// Wait waits after a failed attempt; the first is attempt 0. It returns the context's error if that ends first.
func (b Backoff) Wait(ctx context.Context, attempt int) error {
	if b.Sleep != nil {
		return b.Sleep(ctx, b.Delay(attempt))
	}
	timer := time.NewTimer(b.Delay(attempt))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
