// Package lookup is the function lookup: it answers every GET of the API. It has rights to read only, and links no
// provider.
//
// What belongs here is how the function is put together from its environment. What it answers is for webapi.
package lookup

import (
	"io"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
	"github.com/mobilecred/mobilecred/internal/app/wiring/table"
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

func handler(base *wiring.Base, reader webapi.Reader, accounts []string) overhttp.Handler {
	return overhttp.InTime(webapi.NewLookup(reader, accounts, base.Now))
}
