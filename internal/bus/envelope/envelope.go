// Package envelope names the events that cross the bus, and reads those that come from it.
//
// Both ends use it: functions that publish take the names from here, functions that receive read events with it, and
// neither links the other's client.
package envelope

import (
	"encoding/json"
	"errors"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/provider"
)

// The sources of events, and the detail type of what a provider says.
const (
	SourceMobilecred    = "mobilecred"          // what happened to credentials, for the portal and other receivers
	SourceProvider      = "mobilecred.provider" // what providers say, for ourselves
	ProviderUserChanged = "Provider User Changed"
)

// Provider reads the facts about one provider user out of an event that webhook published. The error says that the
// event is not one of those, and quotes nothing.
func Provider(event events.EventBridgeEvent) (provider.UserFacts, error) {
	var facts provider.UserFacts
	if event.Source != SourceProvider || event.DetailType != ProviderUserChanged {
		return facts, errors.New("envelope: not an event of a provider")
	}
	if json.Unmarshal(event.Detail, &facts) != nil || facts.Account == "" || len(facts.Facts) == 0 {
		return provider.UserFacts{}, errors.New("envelope: the event of a provider holds no facts")
	}
	return facts, nil
}
