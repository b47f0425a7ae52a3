// Package backoff waits before a call is made again: twice as long each time, and by a random share of that (full
// jitter), so that processes which were refused at the same moment do not all come back at the same moment.
//
// What belongs here is the waiting. Which errors are worth another attempt, and how many, is for the caller to say.
// Waits of minutes and hours, which are stored in work items, belong to package credential.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait: a random time up to a limit, which starts at First and doubles with each attempt, up
// to Most. It may be used concurrently.
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
