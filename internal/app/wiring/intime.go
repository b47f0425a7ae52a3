package wiring

import (
	"context"
	"time"
)

// Reserve is how long before its time limit a function stops what it is doing. Lambda kills a function at the limit:
// the caller then gets the gateway's bare 500 and the log gets no line of ours.
const Reserve = time.Second

// InTime returns a context for the work of one invocation. It ends Reserve before the time limit, which Lambda gives as
// the deadline of ctx; without a deadline it ends with ctx. Call the second result when the work is done.
func InTime(ctx context.Context) (context.Context, context.CancelFunc) {
	limit, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, limit.Add(-Reserve))
}
