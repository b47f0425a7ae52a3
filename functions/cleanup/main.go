// The function cleanup hears what providers report: it asks them for the truth and brings the credentials concerned in line with it.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/outside"
)

func main() {
	base := setup.New(os.Getenv, os.Stdout)
	service := outside.Service(base, clients.Background)
	base.Must()
	lambda.Start(func(ctx context.Context, event events.EventBridgeEvent) error {
		facts, err := envelope.Provider(event)
		if err != nil {
			return err
		}
		return service.Refresh(ctx, facts)
	})
}
