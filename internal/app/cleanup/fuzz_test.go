package cleanup

import (
	"encoding/json"
	"io"
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// FuzzCleanup delivers any facts: an event that holds facts of an account never fails, because it would be delivered
// again and again, and end among the dead letters.
func FuzzCleanup(f *testing.F) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	for _, seed := range []string{
		string(reserved.Detail), `{"account":"acme-origo","facts":[{}]}`,
		`{"account":"acme-origo","userId":"103367","facts":[{"what":"user","status":"deleted"}]}`,
		`{"account":"another","userId":"#","facts":[{"what":"x","status":"y","ref":"\u0000","deviceId":"d"}]}`,
		`{"account":"acme-origo","facts":[{"what":"credential","status":"issued","mobileId":"P:56","ref":"1"}]}`,
	} {
		f.Add(seed)
	}
	spent := credential.Owner{Account: "acme-origo", MobileID: "P:56", State: credential.OwnerSpent, Revision: 1}
	f.Fuzz(func(t *testing.T, detail string) {
		if !json.Valid([]byte(detail)) {
			return
		}
		outside := apptest.NewOutside()
		outside.Describe(t)
		change := credential.Change{Owners: []credential.Owner{spent}}
		if err := outside.Store.Commit(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		event := events.EventBridgeEvent{Source: reserved.Source, DetailType: reserved.DetailType,
			Detail: json.RawMessage(detail)}
		base := apptest.Base(t)
		err := handler(base, outside.Adapters())(t.Context(), event)
		var facts provider.UserFacts
		isRead := json.Unmarshal([]byte(detail), &facts) == nil && facts.Account != "" && len(facts.Facts) > 0
		if err != nil && isRead {
			t.Fatalf("%s is delivered for ever: %v", detail, err)
		}
	})
}
