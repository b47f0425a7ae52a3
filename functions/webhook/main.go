// The function webhook takes what a provider reports: it verifies, translates and publishes, and stores nothing.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/webhook"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	secrets := accounts.New(secretsmanager.NewFromConfig(base.AWS(awsconf.SecretsManager)), base.Env("SECRETS_PREFIX"), base.Accounts(), base.Now)
	events := bus.New(eventbridge.NewFromConfig(base.AWS(awsconf.EventBridge)), base.Env("BUS_NAME"), envelope.SourceProvider)
	base.Must()
	handler := &webhook.Handler{Accounts: secrets, Bus: events, Count: base.Count, Log: base.Log}
	lambda.Start(handler.Handle)
}
