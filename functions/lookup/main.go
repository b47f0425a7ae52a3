// The function lookup answers every GET of the API. It has rights to read only, and links no provider.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/table"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	store := table.Store(base)
	base.Must()
	lambda.Start(webapi.NewLookup(store, base.Now))
}
