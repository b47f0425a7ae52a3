// Package assign is the function assign: it assigns credentials, mails their invitations again and replaces them.
//
// What belongs here is how the function is put together from its environment. What it does is for webapi and issuance.
package assign

import (
	"io"
	_ "time/tzdata" // to check the names of time zones, which Lambda's base image does not promise to have

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/issuing"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and the function answers each request with 500.
func New(getenv func(string) string, out io.Writer) overhttp.Handler {
	base := wiring.New(getenv, out)
	adapters := issuing.Connect(base, clients.Interactive)
	if !base.Ready() {
		return overhttp.Unconfigured
	}
	return handler(base, adapters)
}

func handler(base *wiring.Base, adapters issuing.Adapters) overhttp.Handler {
	return overhttp.InTime(webapi.NewAssign(issuing.Service(base, adapters), base.Now))
}
