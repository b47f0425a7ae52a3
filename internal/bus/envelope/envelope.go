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

// The sources of events, and the detail types of those that are for ourselves: what a provider says, and that a holder
// has work due that the function which made it due does not do.
const (
	SourceMobilecred    = "mobilecred"          // what happened to credentials, for the portal and other receivers
	SourceProvider      = "mobilecred.provider" // what providers say, for ourselves
	ProviderUserChanged = "Provider User Changed"
	WorkDue             = "Work Due"
)

// Work is the body of a Work Due event: which holder has work at which account. ID is the same each time the same
// request for work is sent.
type Work struct {
	ID       string `json:"id"`
	HolderID string `json:"holderId"`
	Account  string `json:"account"`
}

// DueWork reads a Work Due event. The error says that the event is not one, and quotes nothing.
func DueWork(event events.EventBridgeEvent) (Work, error) {
	var work Work
	if event.Source != SourceMobilecred || event.DetailType != WorkDue {
		return work, errors.New("envelope: not an event about work")
	}
	if json.Unmarshal(event.Detail, &work) != nil || work.HolderID == "" || work.Account == "" {
		return Work{}, errors.New("envelope: the event about work names no holder or no account")
	}
	return work, nil
}

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
