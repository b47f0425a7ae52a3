// The function sweep runs every minute: it does whatever is due, reads the providers' own records of events, and looks at their stock.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/outside"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	service, accounts := outside.Service(base, clients.Background), base.Accounts()
	base.Must()
	lambda.Start(func(ctx context.Context) (issuance.SweepReport, error) { return service.Sweep(ctx, accounts) })
}
