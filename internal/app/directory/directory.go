// Package directory is the function directory: it stores profiles, holders and their pictures. It calls no provider and
// links none; what a change leads to there is left to the sweep.
//
// What belongs here is how the function is put together from its environment. What it does is for webapi and issuance.
package directory

import (
	"io"
	_ "time/tzdata" // to check the names of time zones, which Lambda's base image does not promise to have

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
	"github.com/mobilecred/mobilecred/internal/app/wiring/table"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/picture"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

// New returns the function as its environment configures it. When that is wrong, one line written to out names every
// problem, and the function answers each request with 500.
func New(getenv func(string) string, out io.Writer) overhttp.Handler {
	base := wiring.New(getenv, out)
	store, accounts := table.Connect(base), base.Accounts()
	if !base.Ready() {
		return overhttp.Unconfigured
	}
	return handler(base, store, accounts)
}

func handler(base *wiring.Base, store issuance.Store, accounts []string) overhttp.Handler {
	service := &issuance.Service{
		Store: store, Accounts: accounts, Now: base.Now, NewID: base.NewID, Log: base.Log, Count: base.Count,
	}
	return overhttp.InTime(webapi.NewDirectory(service, store, accounts, picture.Normalize, base.Now))
}
