package webhook_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/bus"
)

// bottomless is a bus that takes what can be encoded, as the real one does.
type bottomless struct{ facts int }

func (b *bottomless) Publish(_ context.Context, entries []bus.Entry) error {
	for _, e := range entries {
		text, err := json.Marshal(e.Detail)
		if err != nil {
			return err
		}
		var detail struct{ Facts []json.RawMessage }
		if err := json.Unmarshal(text, &detail); err != nil {
			return err
		}
		b.facts += len(detail.Facts)
	}
	return nil
}

// FuzzWebhook sends any body with the right secret: the provider is answered 200, 400 or 413 and never told to try
// again, and as many facts are on the bus as the answer says. Without the secret, any call is 401.
func FuzzWebhook(f *testing.F) {
	for _, seed := range []string{``, `[]`, `{}`, `null`, `[1,{"specversion":"1.0"}]`, "\xff",
		`[{"specversion":"1.0","id":"1","type":"com.origo.mi.user","time":"2026-11-20T10:12:05Z",` +
			`"data":{"userId":"103367","status":"USER_DELETED"}}]`,
		`[{"specversion":"1.0","id":"1","type":"com.origo.mi.user","time":"9999-12-31T23:59:59-23:59",` +
			`"data":{"userId":"103367","status":"USER_DELETED"}}]`} {
		f.Add("acme-origo", seed, false)
		f.Add("acme-origo", seed, true)
	}
	batch, err := os.ReadFile("../provider/origo/testdata/events-batch.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("acme-origo", string(batch), false)
	f.Add("an other", "[]", false)
	f.Fuzz(func(t *testing.T, account, body string, encoded bool) {
		w, b := newWorld(), &bottomless{}
		w.Handler.Bus, w.Handler.Log = b, slog.New(slog.NewTextHandler(io.Discard, nil))
		req := events.APIGatewayV2HTTPRequest{Body: body, IsBase64Encoded: encoded,
			PathParameters: map[string]string{"account": account},
			Headers:        map[string]string{"x-webhook-secret": "guessed", "content-type": "application/json"}}
		if res, err := w.Handle(t.Context(), req); err != nil || res.StatusCode != 401 || b.facts != 0 {
			t.Fatalf("a forged call is answered %d %v", res.StatusCode, err)
		}
		req.Headers["x-webhook-secret"] = "CANARY-current-secret"
		res, err := w.Handle(t.Context(), req)
		if err != nil || !json.Valid([]byte(res.Body)) {
			t.Fatalf("%d %q %v", res.StatusCode, res.Body, err)
		}
		var done struct{ Accepted, Rejected int }
		switch _ = json.Unmarshal([]byte(res.Body), &done); {
		case account != "acme-origo" && res.StatusCode == 401:
		case account != "acme-origo":
			t.Fatalf("account %q is answered %d", account, res.StatusCode)
		case res.StatusCode == 200 && b.facts <= done.Accepted:
		case res.StatusCode == 400 || res.StatusCode == 413:
		default:
			t.Fatalf("%d %s with %d facts on the bus", res.StatusCode, res.Body, b.facts)
		}
	})
}
