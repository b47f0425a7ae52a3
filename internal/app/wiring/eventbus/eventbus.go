// Package eventbus connects functions that publish events to the bus. What events say is for the functions that publish
// them.
package eventbus

import (
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/bus"
)

// Connect returns the bus that BUS_NAME names, for events of one source; package envelope has the sources.
func Connect(b *wiring.Base, source string) *bus.Bus {
	return bus.New(eventbridge.NewFromConfig(b.AWS(awsconf.EventBridge)), b.Required("BUS_NAME"), source)
}
