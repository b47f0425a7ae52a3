// Package cleanup is the function cleanup: it hears from the bus that a provider reported a change, asks the provider
// for the truth and brings the credentials concerned in line with it. It also does what the function directory makes
// due, as soon as the bus tells.
//
// What belongs here is how the function is put together from its environment. What it does is for issuance.
package cleanup

import (
	"context"
	"io"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/issuing"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

// Handler is what the function hands to lambda.Start. An error has Lambda try the event again, and keep it among the
// failed ones in the end.
type Handler = func(context.Context, events.EventBridgeEvent) error

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and each event ends in wiring.ErrUnconfigured.
func New(getenv func(string) string, out io.Writer) Handler {
	base := wiring.New(getenv, out)
	adapters := issuing.Connect(base, clients.Background)
	if !base.Ready() {
		return func(context.Context, events.EventBridgeEvent) error { return wiring.ErrUnconfigured }
	}
	return handler(base, adapters)
}

func handler(base *wiring.Base, adapters issuing.Adapters) Handler {
	service := issuing.Service(base, adapters)
	return func(ctx context.Context, event events.EventBridgeEvent) error {
		ctx, stop := wiring.InTime(ctx)
		defer stop()
		if event.DetailType == envelope.WorkDue {
			work, err := envelope.DueWork(event)
			if err != nil {
				return err
			}
			return service.Wake(ctx, work.HolderID, work.Account)
		}
		facts, err := envelope.Provider(event)
		if err != nil {
			return err
		}
		return service.Refresh(ctx, facts)
	}
}
