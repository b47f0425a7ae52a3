// The function assign assigns credentials, mails their invitations again and replaces them.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/outside"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	service := outside.Service(base, clients.Interactive)
	base.Must()
	lambda.Start(webapi.NewAssign(service, base.Now))
}
