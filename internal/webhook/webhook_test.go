package webhook_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/webhook"
)

// world is everything around the handler.
type world struct {
	webhook.Handler
	account   accounts.Account
	secretErr error
	published []provider.UserFacts
	busErr    error
	counted   map[string]int
	log       bytes.Buffer
}

func newWorld() *world {
	w := &world{counted: map[string]int{}, account: accounts.Account{Name: "acme-origo", Type: accounts.Origo,
		WebhookHeader:  "X-Webhook-Secret",
		WebhookSecrets: []credential.Secret{"CANARY-current-secret", "CANARY-previous-secret"}}}
	w.Handler = webhook.Handler{Accounts: w, Bus: w, Count: func(name string) { w.counted[name]++ },
		Log: slog.New(slog.NewJSONHandler(&w.log, nil))}
	return w
}

func (w *world) Account(_ context.Context, name string) (accounts.Account, error) {
	if name != w.account.Name {
		return accounts.Account{}, accounts.ErrUnknown
	}
	return w.account, w.secretErr
}

func (w *world) Publish(_ context.Context, entries []bus.Entry) error {
	if w.busErr != nil {
		return w.busErr
	}
	for _, e := range entries {
		if e.DetailType != envelope.ProviderUserChanged {
			return fmt.Errorf("detail type %q", e.DetailType)
		}
		w.published = append(w.published, e.Detail.(provider.UserFacts))
	}
	return nil
}

func post(body string) events.APIGatewayV2HTTPRequest {
	req := events.APIGatewayV2HTTPRequest{RouteKey: "POST /v1/webhooks/{account}",
		PathParameters: map[string]string{"account": "acme-origo"},
		Headers: map[string]string{"x-webhook-secret": "CANARY-current-secret",
			"content-type": "application/cloudevents-batch+json"}, Body: body}
	req.RequestContext.RequestID = "r-1"
	return req
}

func batch(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../provider/origo/testdata/events-batch.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// ask returns the status and the code of a problem, or the body of a success, and checks that neither answer nor log
// tells a secret.
func (w *world) ask(t *testing.T, req events.APIGatewayV2HTTPRequest) (int, string) {
	t.Helper()
	res, err := w.Handle(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"CANARY", "Aimée", "Tremblay", "example.com", "BPEX", "iPhone"} {
		if said := fmt.Sprint(res, w.log.String(), w.published); strings.Contains(said, private) {
			t.Errorf("%s is told: %s", private, said)
		}
	}
	if res.StatusCode == 200 {
		if res.Headers["Content-Type"] != "application/json" {
			t.Errorf("headers %v", res.Headers)
		}
		return 200, res.Body
	}
	var problem struct {
		Code      string
		RequestID string
	}
	if res.Headers["Content-Type"] != "application/problem+json" || json.Unmarshal([]byte(res.Body), &problem) != nil ||
		problem.RequestID != "r-1" {
		t.Errorf("%d is no problem document: %v %s", res.StatusCode, res.Headers, res.Body)
	}
	if (res.StatusCode == 503) != (res.Headers["Retry-After"] != "") {
		t.Errorf("%d with Retry-After %q", res.StatusCode, res.Headers["Retry-After"])
	}
	return res.StatusCode, problem.Code
}

func TestBatchIsOnTheBusOneEntryForEachUser(t *testing.T) {
	encoded := post(base64.StdEncoding.EncodeToString([]byte(batch(t))))
	encoded.IsBase64Encoded = true
	previous := post(batch(t))
	previous.Headers = map[string]string{"X-WEBHOOK-SECRET": "CANARY-previous-secret"}
	for name, req := range map[string]events.APIGatewayV2HTTPRequest{"as text": post(batch(t)), "as base64": encoded,
		"with the previous secret": previous} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if status, body := w.ask(t, req); status != 200 || body != `{"accepted":5,"rejected":0}` {
				t.Fatal(status, body)
			}
			if len(w.published) != 2 || w.published[0].UserID != "103367" || len(w.published[0].Facts) != 4 ||
				w.published[1].UserID != "" ||
				w.published[1].Facts[0].MobileID != "MID-SUB-CRD_FTPN_1001:56" ||
				w.published[0].Account != "acme-origo" {
				t.Errorf("%+v", w.published)
			}
			if len(w.counted) != 0 {
				t.Errorf("counted %v", w.counted)
			}
		})
	}
}

const event = `{"specversion":"1.0","id":"e-1","type":"com.origo.mi.user","data":{"userId":"5",
	"status":"USER_UPDATED"}}`

func TestSingleEventAndEmptyBatch(t *testing.T) {
	w := newWorld()
	if status, body := w.ask(t, post(event)); status != 200 || body != `{"accepted":1,"rejected":0}` ||
		len(w.published) != 1 {
		t.Error(status, body, w.published)
	}
	if status, body := w.ask(t, post("[]")); status != 200 || body != `{"accepted":0,"rejected":0}` ||
		len(w.published) != 1 {
		t.Error(status, body, w.published)
	}
}

func TestBadWebhooks(t *testing.T) {
	with := func(change func(*events.APIGatewayV2HTTPRequest)) events.APIGatewayV2HTTPRequest {
		req := post(batch(t))
		change(&req)
		return req
	}
	header := func(headers map[string]string) events.APIGatewayV2HTTPRequest {
		return with(func(r *events.APIGatewayV2HTTPRequest) { r.Headers = headers })
	}
	to := func(account string) events.APIGatewayV2HTTPRequest {
		return with(func(r *events.APIGatewayV2HTTPRequest) {
			r.PathParameters = map[string]string{
				"account": account}
		})
	}
	for _, tt := range []struct {
		name   string
		req    events.APIGatewayV2HTTPRequest
		status int
		code   string
	}{
		{"no header", header(nil), 401, "wrong_secret"},
		{"empty header", header(map[string]string{"x-webhook-secret": ""}), 401, "wrong_secret"},
		{"wrong secret", header(map[string]string{"x-webhook-secret": "wrong"}), 401, "wrong_secret"},
		{"beginning of the secret", header(map[string]string{"x-webhook-secret": "CANARY-current-secre"}), 401,
			"wrong_secret"},
		{"secret and more", header(map[string]string{"x-webhook-secret": "CANARY-current-secret "}), 401,
			"wrong_secret"},
		{"secret twice", header(map[string]string{"x-webhook-secret": "CANARY-current-secret,CANARY-current-secret"}),
			401, "wrong_secret"},
		{"secret in another header", header(map[string]string{"authorization": "CANARY-current-secret"}), 401,
			"wrong_secret"},
		{"other case", header(map[string]string{"x-webhook-secret": "canary-current-secret"}), 401, "wrong_secret"},
		{"its digest", header(map[string]string{"x-webhook-secret": string(make([]byte, 32))}), 401, "wrong_secret"},
		{"unknown account", to("other"), 401, "wrong_secret"},
		{"no account", to(""), 401, "wrong_secret"},
		{"account to be searched for in the log", to("Aimée Tremblay\n\"CANARY\""), 401, "wrong_secret"},
		{"unknown account with an empty header name", with(func(r *events.APIGatewayV2HTTPRequest) {
			r.PathParameters, r.Headers = nil, map[string]string{"": ""}
		}), 401, "wrong_secret"},
		{"empty body", post(""), 400, "malformed_json"},
		{"null", post("null"), 400, "malformed_json"},
		{"a number", post("7"), 400, "malformed_json"},
		{"text", post(`"CANARY"`), 400, "malformed_json"},
		{"no JSON", post("CANARY"), 400, "malformed_json"},
		{"half a batch", post(batch(t)[:500]), 400, "malformed_json"},
		{"two batches", post("[] []"), 400, "malformed_json"},
		{"an event and more", post(event + event), 400, "malformed_json"},
		{"a form", post("id=1&status=USER_UPDATED"), 400, "malformed_json"},
		{"no UTF-8", post("\xff\xfe"), 400, "malformed_json"},
		{"too deep", post(strings.Repeat("[", 100_000)), 400, "malformed_json"},
		{"damaged base64", with(func(r *events.APIGatewayV2HTTPRequest) { r.IsBase64Encoded = true }), 400,
			"malformed_json"},
		{"too large", post("[" + strings.Repeat(" ", 1<<20) + "]"), 413, "too_large"},
		{"too large, wrong secret", with(func(r *events.APIGatewayV2HTTPRequest) {
			r.Headers, r.Body = nil,
				strings.Repeat(" ", 2<<20)
		}), 401, "wrong_secret"},
		{"no JSON, wrong secret", with(func(r *events.APIGatewayV2HTTPRequest) { r.Headers, r.Body = nil, "CANARY" }),
			401, "wrong_secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			status, code := w.ask(t, tt.req)
			if status != tt.status || code != tt.code {
				t.Errorf("%d %s, want %d %s", status, code, tt.status, tt.code)
			}
			if len(w.published) != 0 {
				t.Errorf("published %v", w.published)
			}
			if forged := w.counted[webhook.Forged]; forged != 1 && status == 401 || forged != 0 && status != 401 {
				t.Errorf("counted %v", w.counted)
			}
		})
	}
}

func TestUnusableEventsAreCountedAndStopNoOther(t *testing.T) {
	w := newWorld()
	const wallet = `{"specversion":"1.0","id":"e-2","type":"origo.credential-management.events.pass",
		"data":{"userId":"9","status":"PASS_CREATED"}}`
	const personal = `{"specversion":"1.0","id":"Aimée","type":"com.origo.mi.user","data":{"userId":"aimee@example.com",
		"status":"USER_UPDATED"}}`
	status, body := w.ask(t, post("["+strings.Join([]string{event, wallet, `"CANARY"`, personal, event}, ",")+"]"))
	if status != 200 || body != `{"accepted":2,"rejected":3}` || len(w.published) != 1 ||
		len(w.published[0].Facts) != 2 {
		t.Error(status, body, w.published)
	}
	if w.counted[webhook.Rejected] != 3 || w.counted[webhook.Forged] != 0 {
		t.Errorf("counted %v", w.counted)
	}
	for _, line := range []string{`"type":"origo.credential-management.events.pass","id":"e-2","reason":"unknown_type"`,
		`"type":"","id":"","reason":"malformed"`,
		`"type":"com.origo.mi.user","id":"","reason":"no_subject"`} {
		if !strings.Contains(w.log.String(), line) {
			t.Errorf("not logged: %s", line)
		}
	}
}

func TestNonsenseDoesNotFloodTheLog(t *testing.T) {
	w := newWorld()
	status, body := w.ask(t, post("["+strings.Repeat("0,", 100_000)+event+"]"))
	if status != 200 || body != `{"accepted":1,"rejected":100000}` || strings.Count(w.log.String(), "\n") > 100 {
		t.Error(status, body, strings.Count(w.log.String(), "\n"))
	}
}

func TestWhatIsNotOnTheBusIsToBeSentAgain(t *testing.T) {
	w := newWorld()
	w.busErr = &bus.Error{Entries: 2, Failed: []int{1}, Codes: map[string]int{"ThrottlingException": 1}}
	if status, code := w.ask(t, post(batch(t))); status != 503 || code != "try_later" {
		t.Error(status, code)
	}
	if !strings.Contains(w.log.String(), "1 of 2 events not published (1 ThrottlingException)") {
		t.Errorf("log: %s", &w.log)
	}
}

func TestSecretThatCannotBeReadIsNoForgery(t *testing.T) {
	w := newWorld()
	w.secretErr = errors.New("Secrets Manager is down")
	if status, code := w.ask(t, post(batch(t))); status != 503 || code != "try_later" || len(w.counted) != 0 {
		t.Error(status, code, w.counted)
	}
}
