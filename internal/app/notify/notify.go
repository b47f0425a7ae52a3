// Package notify is the function notify: it publishes the history of credentials, as it leaves through the table's
// stream, on the bus.
//
// What belongs here is how the function is put together from its environment. What it publishes is for internal/notify.
package notify

import (
	"context"
	"io"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/eventbus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/notify"
)

// Handler is what the function hands to lambda.Start. An error has Lambda try the whole batch again.
type Handler = func(context.Context, events.DynamoDBEvent) (events.DynamoDBEventResponse, error)

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and each batch ends in wiring.ErrUnconfigured.
func New(getenv func(string) string, out io.Writer) Handler {
	base := wiring.New(getenv, out)
	bus := eventbus.Connect(base, envelope.SourceMobilecred)
	if !base.Ready() {
		return func(context.Context, events.DynamoDBEvent) (events.DynamoDBEventResponse, error) {
			return events.DynamoDBEventResponse{}, wiring.ErrUnconfigured
		}
	}
	return handler(bus)
}

func handler(publisher notify.Publisher) Handler {
	publish := notify.Handler(publisher)
	return func(ctx context.Context, batch events.DynamoDBEvent) (events.DynamoDBEventResponse, error) {
		ctx, stop := wiring.InTime(ctx)
		defer stop()
		return publish(ctx, batch)
	}
}
