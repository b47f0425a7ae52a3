// Package overhttp is what functions that answer HTTP share beyond package wiring: an answer of ours in time, whatever
// hangs or fails, and the answer while the configuration is wrong. Routes and requests are for webapi and webhook.
package overhttp

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
)

// Handler is what a function that answers HTTP hands to lambda.Start. Its error is always nil: every outcome is an
// answer.
type Handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// grace is how long a handler whose time is over may take to answer by itself. What it then says is worth more than an
// answer for it: it knows what is stored, and it writes the audit line.
const grace = 250 * time.Millisecond

// InTime has a handler answer before its function's time limit. The handler gets a context that ends a second before
// it, as wiring.InTime says. Should it not answer then, because what it calls does not heed the context, the caller
// gets the problem document of code try_later, status 503: what is stored stays stored, and the sweep goes on with it.
// A panic is answered with code internal, status 500.
func InTime(h Handler) Handler {
	return func(ctx context.Context, req events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		ctx, stop := wiring.InTime(ctx)
		defer stop()
		answered := make(chan events.APIGatewayV2HTTPResponse, 1)
		go func() {
			defer func() {
				if p := recover(); p != nil {
					// Its type only: the value may quote personal data.
					slog.ErrorContext(ctx, "panic", "route", req.RouteKey,
						"requestId", req.RequestContext.RequestID,
						"cause", fmt.Sprintf("panic of type %T\n%s", p, debug.Stack()))
					answered <- problem.Answer(req, problem.Fault("panic"))
				}
			}()
			res, err := h(ctx, req)
			if err != nil {
				res = problem.Answer(req, err)
			}
			answered <- res
		}()
		select {
		case res := <-answered:
			return res, nil
		case <-ctx.Done():
		}
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case res := <-answered:
			return res, nil
		case <-late.C:
			slog.ErrorContext(ctx, "given up before the time limit", "route", req.RouteKey,
				"requestId", req.RequestContext.RequestID)
			return problem.Answer(req, credential.Refuse(credential.CodeTryLater, "")), nil
		}
	}
}

// Unconfigured answers any request with the problem document of code internal, status 500. It does not say what is
// wrong: that is in the log, once, and no business of a caller.
func Unconfigured(
	_ context.Context, req events.APIGatewayV2HTTPRequest,
) (events.APIGatewayV2HTTPResponse, error) {
	return problem.Answer(req, problem.Fault("the function is not configured")), nil
}
