// Package sweep is the function sweep: every minute it does what is due, reads the providers' own records of events and
// looks at their stock.
//
// What belongs here is how the function is put together from its environment. What it does is for issuance.
package sweep

import (
	"context"
	"io"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/issuing"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

// Handler is what the function hands to lambda.Start; it takes a tick of the schedule, whose content does not matter.
// The next tick is the retry of one that ended in an error.
type Handler = func(context.Context) (issuance.SweepReport, error)

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and each tick ends in wiring.ErrUnconfigured.
func New(getenv func(string) string, out io.Writer) Handler {
	base := wiring.New(getenv, out)
	adapters, accounts := issuing.Connect(base, clients.Background), base.Accounts()
	if !base.Ready() {
		return func(context.Context) (issuance.SweepReport, error) {
			return issuance.SweepReport{}, wiring.ErrUnconfigured
		}
	}
	return handler(base, adapters, accounts)
}

func handler(base *wiring.Base, adapters issuing.Adapters, accounts []string) Handler {
	service := issuing.Service(base, adapters)
	return func(ctx context.Context) (issuance.SweepReport, error) {
		ctx, stop := wiring.InTime(ctx)
		defer stop()
		return service.Sweep(ctx, accounts)
	}
}
