package envelope

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

func TestEventsThatAreNotAProviders(t *testing.T) {
	const good = `{"account":"a","facts":[{"what":"user","status":"deleted"}]}`
	for _, e := range []events.EventBridgeEvent{
		{},
		{Source: SourceMobilecred, DetailType: ProviderUserChanged, Detail: json.RawMessage(good)},
		{Source: SourceProvider, DetailType: "Other", Detail: json.RawMessage(good)},
		{Source: SourceProvider, DetailType: ProviderUserChanged},
		{Source: SourceProvider, DetailType: ProviderUserChanged, Detail: json.RawMessage(`"CANARY"`)},
		{Source: SourceProvider, DetailType: ProviderUserChanged,
			Detail: json.RawMessage(`{"account":"a","facts":[]}`)},
		{Source: SourceProvider, DetailType: ProviderUserChanged,
			Detail: json.RawMessage(`{"facts":[{"what":"user"}]}`)},
	} {
		if facts, err := Provider(e); err == nil || facts.Account != "" || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}
