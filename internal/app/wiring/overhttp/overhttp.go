// Package overhttp is what functions that answer HTTP share beyond package wiring: the answer while the configuration
// is wrong. Routes and requests are for webapi and webhook.
package overhttp

import (
	"context"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/problem"
)

// Handler is what a function that answers HTTP hands to lambda.Start. Its error is always nil: every outcome is an
// answer.
type Handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Unconfigured answers any request with the problem document of code internal, status 500. It does not say what is
// wrong: that is in the log, once, and no business of a caller.
func Unconfigured(
	_ context.Context, req events.APIGatewayV2HTTPRequest,
) (events.APIGatewayV2HTTPResponse, error) {
	return problem.Answer(req, problem.Fault("the function is not configured")), nil
}
