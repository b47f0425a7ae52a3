package envelope

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// FuzzProvider reads any envelope: what is taken names an account and holds facts, and comes from webhook.
func FuzzProvider(f *testing.F) {
	for _, seed := range []string{
		`{"source":"mobilecred.provider","detail-type":"Provider User Changed","detail":` +
			`{"account":"a","userId":"5","facts":[{"what":"user","status":"deleted","at":"2026-11-20T10:12:05Z"}]}}`,
		`{"source":"mobilecred","detail-type":"Provider User Changed","detail":{"account":"a","facts":[{}]}}`,
		`{"source":"mobilecred.provider","detail-type":"Provider User Changed","detail":null}`,
		`{"source":"mobilecred.provider","detail-type":"Provider User Changed","detail":{"account":"a","facts":[null]}}`,
		`{}`, `[]`, `null`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var event events.EventBridgeEvent
		if json.Unmarshal(text, &event) != nil {
			return // Lambda's own runtime refuses it
		}
		facts, err := Provider(event)
		if err != nil {
			if facts.Account != "" || facts.Facts != nil {
				t.Fatalf("refused, and %+v is returned", facts)
			}
			return
		}
		if event.Source != SourceProvider || event.DetailType != ProviderUserChanged || facts.Account == "" ||
			len(facts.Facts) == 0 {
			t.Fatalf("taken: %+v", facts)
		}
	})
}
