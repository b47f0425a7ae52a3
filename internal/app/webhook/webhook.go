// Package webhook is the function webhook: it takes what a provider reports, verifies and translates it, and puts it on
// the bus. It stores nothing.
//
// What belongs here is how the function is put together from its environment. What it does is for internal/webhook.
package webhook

import (
	"io"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/eventbus"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
	"github.com/mobilecred/mobilecred/internal/app/wiring/secrets"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/webhook"
)

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and the function answers each call with 500, after which the provider tries again.
func New(getenv func(string) string, out io.Writer) overhttp.Handler {
	base := wiring.New(getenv, out)
	accounts, bus := secrets.Connect(base), eventbus.Connect(base, envelope.SourceProvider)
	if !base.Ready() {
		return overhttp.Unconfigured
	}
	return handler(base, accounts, bus)
}

func handler(base *wiring.Base, accounts webhook.Accounts, bus webhook.Bus) overhttp.Handler {
	h := &webhook.Handler{Accounts: accounts, Bus: bus, Count: base.Count, Log: base.Log}
	return overhttp.InTime(h.Handle)
}
