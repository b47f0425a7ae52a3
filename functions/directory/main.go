// The function directory stores profiles, holders and their pictures. What follows from a change outside, the sweep does.
package main

import (
	"os"
	_ "time/tzdata" // to check the names of time zones, which Lambda's base image does not promise to have

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/picture"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/table"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	store, accounts := table.Store(base), base.Accounts()
	base.Must()
	service := &issuance.Service{Store: store, Now: base.Now, NewID: base.NewID, Log: base.Log, Count: base.Count}
	lambda.Start(webapi.NewDirectory(service, store, accounts, picture.Normalize, base.Now))
}
