// The function notify publishes the history of credentials, as it leaves through the table's stream, on the bus.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/notify"
	"github.com/mobilecred/mobilecred/internal/setup"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	events := bus.New(eventbridge.NewFromConfig(base.AWS(awsconf.EventBridge)), base.Env("BUS_NAME"), envelope.SourceMobilecred)
	base.Must()
	lambda.Start(notify.Handler(events))
}
