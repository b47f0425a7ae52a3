package wiring

import (
	"context"
	"testing"
	"time"
)

func TestTheWorkOfAnInvocationEndsASecondBeforeTheTimeLimit(t *testing.T) {
	limit := time.Now().Add(time.Hour)
	invocation, cancel := context.WithDeadline(t.Context(), limit)
	defer cancel()
	ctx, stop := InTime(invocation)
	defer stop()
	if end, ok := ctx.Deadline(); !ok || limit.Sub(end) != time.Second {
		t.Errorf("the work ends at %v with the limit at %v, want a second before it", end, limit)
	}
}

func TestWithoutATimeLimitTheWorkEndsWithTheInvocation(t *testing.T) {
	invocation, cancel := context.WithCancel(t.Context())
	ctx, stop := InTime(invocation)
	defer stop()
	if end, ok := ctx.Deadline(); ok {
		t.Errorf("the work ends at %v although there is no limit", end)
	}
	cancel()
	if ctx.Err() == nil {
		t.Error("the invocation is over and its work goes on")
	}
}
