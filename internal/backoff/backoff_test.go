package backoff_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/backoff"
)

func TestDelayDoublesUpToMost(t *testing.T) {
	b := backoff.Backoff{First: 10 * time.Millisecond, Most: time.Second, Rand: func() float64 { return 1 }}
	want := []time.Duration{10, 20, 40, 80, 160, 320, 640, 1000, 1000}
	for attempt, ms := range want {
		if got := b.Delay(attempt); got != ms*time.Millisecond {
			t.Errorf("after attempt %d: %v, want %v", attempt, got, ms*time.Millisecond)
		}
	}
	if got := b.Delay(1000); got != time.Second {
		t.Errorf("after attempt 1000: %v", got)
	}
}

func TestDelayIsSpreadOverTheWholeRange(t *testing.T) {
	b := backoff.Backoff{First: time.Second, Most: time.Second}
	low, high := 0, 0
	for range 1000 {
		switch d := b.Delay(0); {
		case d < 0 || d >= time.Second:
			t.Fatalf("%v is out of range", d)
		case d < time.Second/4:
			low++
		case d >= 3*time.Second/4:
			high++
		}
	}
	if low < 100 || high < 100 {
		t.Errorf("of 1000 delays %d are short and %d long", low, high)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := backoff.Backoff{First: time.Hour, Most: time.Hour, Rand: func() float64 { return 1 }}
	if err := b.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := (backoff.Backoff{First: time.Nanosecond, Most: time.Nanosecond}).Wait(t.Context(), 0); err != nil {
		t.Errorf("got %v after the wait", err)
	}
}
