// Package apptest is what the tests of the packages app/<name> share: the environment template.yaml gives a function,
// AWS and a provider on a local port, and the cases of a wrong configuration that every function has to name.
//
// What belongs here tests how functions are put together. What they then do is tested where it is written; no function
// links this package.
package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
)

// Now is when the tests take place.
var Now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// Environment is a function's whole environment.
type Environment map[string]string

// Get reads a variable, as os.Getenv does.
func (e Environment) Get(name string) string { return e[name] }

// With returns a copy in which one variable has another value; an empty one is as good as none.
func (e Environment) With(name, value string) Environment {
	e = maps.Clone(e)
	e[name] = value
	return e
}

// The variables that every function needs, those that the functions with the table and the bus need, and all of those
// that act at providers and send mail.
var (
	Basics  = []string{"AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_SECRET_ACCESS_KEY"}
	Table   = append(slices.Clone(Basics), "TABLE_NAME")
	Bus     = append(slices.Clone(Basics), "BUS_NAME")
	Issuing = append(slices.Clone(Table), "ACCOUNTS", "MAIL_FROM", "SECRETS_PREFIX")
)

// AWS plays the AWS services, and the provider of every account, for one test. It may be called concurrently.
type AWS struct {
	// Environment is a good environment, whose endpoints lead here. No two values in it are the same.
	Environment Environment

	mu      sync.Mutex
	answers map[string]string
	hanging map[string]bool
	asked   map[string][]string
}

// Start starts AWS, until the test ends. It holds an empty table, and the secret of every account.
func Start(t *testing.T) *AWS {
	t.Helper()
	a := &AWS{answers: map[string]string{}, hanging: map[string]bool{}, asked: map[string][]string{}}
	server := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(server.Close)
	a.Environment = Environment{
		"AWS_REGION": "eu-central-2", "AWS_ACCESS_KEY_ID": "the-key-id", "AWS_SECRET_ACCESS_KEY": "the-key",
		"AWS_SESSION_TOKEN": "the-session", "TABLE_NAME": "the-table", "BUS_NAME": "the-bus", "ACCOUNTS": "acme-origo",
		"SECRETS_PREFIX": "the/prefix/", "MAIL_FROM": "badges@example.com", "MAIL_CONFIGURATION_SET": "the-set",
	}
	for _, service := range []string{"DYNAMODB", "SESV2", "EVENTBRIDGE", "SECRETS_MANAGER"} {
		a.Environment["AWS_ENDPOINT_URL_"+service] = server.URL
	}
	secret, err := json.Marshal(map[string]any{
		"type": "origo", "organizationId": "1", "clientId": "client", "clientSecret": "secret",
		"applicationId": "application", "applicationVersion": "1",
		"webhookHeader": "X-Webhook-Secret", "webhookSecrets": []string{WebhookSecret},
		"endpoints": map[string]string{"token": server.URL, "management": server.URL, "events": server.URL},
	})
	if err != nil {
		t.Fatal(err)
	}
	value, err := json.Marshal(map[string]string{"SecretString": string(secret)})
	if err != nil {
		t.Fatal(err)
	}
	a.Answer("GetSecretValue", string(value))
	return a
}

// WebhookSecret is what the provider of every account sends in the header X-Webhook-Secret.
const WebhookSecret = "the-secret-of-the-webhook"

// Answer has every call of an operation answered with a body from now on. An operation is named as AWS names it, such
// as GetItem, and a call without such a name by method and path. Without an answer, AWS returns an empty JSON object,
// which for a read says that nothing is there.
func (a *AWS) Answer(operation, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[operation] = body
}

// Hang has every call of an operation hang from now on, until the caller gives it up. An operation is named as for
// Answer.
func (a *AWS) Hang(operation string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hanging[operation] = true
}

// Asked returns the bodies of the calls of an operation so far, oldest first.
func (a *AWS) Asked(operation string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked[operation])
}

func (a *AWS) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	operation := r.Method + " " + r.URL.Path
	if _, name, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
		operation = name
	}
	a.mu.Lock()
	a.asked[operation] = append(a.asked[operation], string(body))
	answer, ok := a.answers[operation]
	hangs := a.hanging[operation]
	a.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	if !ok {
		answer = "{}"
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// Base is a configured function on the tests' clock, whose ids are all the same.
func Base(t *testing.T) *wiring.Base {
	t.Helper()
	base := wiring.New(Environment{}.Get, io.Discard)
	base.Now = func() time.Time { return Now }
	base.NewID = func() string { return "the-id" }
	return base
}

// Request is a call of the portal by a route key such as "GET /v1/profiles/{profileId}". Parameters are the names and
// values in the path, in turns; body is JSON, or empty for none.
func Request(route, body string, parameters ...string) events.APIGatewayV2HTTPRequest {
	req := events.APIGatewayV2HTTPRequest{RouteKey: route, Body: body, Headers: map[string]string{},
		PathParameters: map[string]string{}}
	if body != "" {
		req.Headers["content-type"] = "application/json"
	}
	for i := 0; i+1 < len(parameters); i += 2 {
		req.PathParameters[parameters[i]] = parameters[i+1]
	}
	req.RequestContext.RequestID = "request-1"
	req.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: map[string]string{"sub": "portal"}}}
	return req
}

// Ask calls a function over HTTP and fails the test unless it answers with a status and, where code is not empty, a
// problem document of that code.
func Ask(t *testing.T, h overhttp.Handler, req events.APIGatewayV2HTTPRequest, status int, code string) string {
	t.Helper()
	res, err := h(t.Context(), req)
	if err != nil {
		t.Fatalf("%s ends in the error %v instead of an answer", req.RouteKey, err)
	}
	var document struct {
		Code      string `json:"code"`
		RequestID string `json:"requestId"`
	}
	if code != "" {
		if err := json.Unmarshal([]byte(res.Body), &document); err != nil || document.RequestID != "request-1" ||
			res.Headers["Content-Type"] != "application/problem+json" {
			t.Errorf("%s answers with no problem document: %v", req.RouteKey, res)
		}
	}
	if res.StatusCode != status || document.Code != code {
		t.Errorf("%s answers %d %s, want %d %s", req.RouteKey, res.StatusCode, res.Body, status, code)
	}
	return res.Body
}

// Spare is how much time the tests leave a function before it has to give up what hangs.
const Spare = 200 * time.Millisecond

// Limited is the context of an invocation that has Spare, and after that the second that a function keeps for its
// answer.
func Limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wiring.Reserve+Spare)
	t.Cleanup(cancel)
	return ctx
}

// InTime calls a function over HTTP while something it depends on hangs. It fails the test unless the function answers
// 503 try_later, with Retry-After, before its time limit.
func InTime(t *testing.T, h overhttp.Handler, req events.APIGatewayV2HTTPRequest) {
	t.Helper()
	ctx := Limited(t)
	limited := func(_ context.Context, req events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		res, err := h(ctx, req)
		if err == nil && res.Headers["Retry-After"] == "" {
			t.Errorf("%s does not say when to try again: %v", req.RouteKey, res.Headers)
		}
		return res, err
	}
	Ask(t, limited, req, http.StatusServiceUnavailable, "try_later")
	if ctx.Err() != nil {
		t.Errorf("%s was answered after the time limit", req.RouteKey)
	}
}

// EndsInTime runs one invocation of a function that handles events while something it depends on hangs. It fails the
// test unless the invocation ends before its time limit.
func EndsInTime(t *testing.T, invoke func(context.Context)) {
	t.Helper()
	ctx := Limited(t)
	invoke(ctx)
	if ctx.Err() != nil {
		t.Error("the invocation ended after its time limit")
	}
}

// malformed has a bad value for each variable that is looked at more closely than for being there.
var malformed = map[string]string{
	"ACCOUNTS":                         "acme-origo,, acme",
	"MAIL_FROM":                        "badges at example.com",
	"AWS_ENDPOINT_URL_DYNAMODB":        "dynamodb.local",
	"AWS_ENDPOINT_URL_EVENTBRIDGE":     "eventbridge.local",
	"AWS_ENDPOINT_URL_SECRETS_MANAGER": "secrets.local",
	"AWS_ENDPOINT_URL_SESV2":           "ses.local",
	// Refused, because the endpoint of the database is not on this machine.
	"MOBILECRED_CLOCK": "/nowhere/clock",
}

// Misconfigured checks what becomes of a function, given by its New, while its configuration is wrong. It must not need
// any variable but needs and must look closely at those of checks: for each that is missing or malformed, and for all
// of them at once, it has to write one line that names every one of them and no value, and answer every invocation.
// invoke makes one invocation, checks that it is answered as refused, and returns the answer's text.
func Misconfigured[Handler any](
	t *testing.T, start func(getenv func(string) string, out io.Writer) Handler,
	needs, checks []string, invoke func(*testing.T, Handler) string,
) {
	good := Environment{}
	for name, value := range Start(t).Environment {
		if slices.Contains(needs, name) {
			good[name] = value
		}
	}
	var out bytes.Buffer
	if start(good.Get, &out); out.Len() > 0 {
		t.Errorf("With %v and nothing else it says: %s", needs, out.String())
	}

	type wrong struct {
		name  string
		env   Environment
		names []string // of the variables at fault
	}
	cases := []wrong{{"nothing is set", Environment{}, needs}}
	everything := wrong{"everything is malformed or missing", Environment{}, slices.Clone(needs)}
	for _, name := range needs {
		cases = append(cases, wrong{name + " is missing", good.With(name, ""), []string{name}})
	}
	for _, name := range append([]string{"MOBILECRED_CLOCK"}, checks...) {
		cases = append(cases, wrong{name + " is malformed", good.With(name, malformed[name]), []string{name}})
		everything.env[name] = malformed[name]
		if !slices.Contains(everything.names, name) {
			everything.names = append(everything.names, name)
		}
	}
	for _, c := range append(cases, everything) {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			handler := start(c.env.Get, &out)
			for range 2 {
				answer := invoke(t, handler)
				for _, name := range c.names {
					if strings.Contains(answer, name) {
						t.Errorf("the answer names %s: %s", name, answer)
					}
				}
			}
			problems, err := told(out.Bytes())
			if err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			for _, name := range c.names {
				if n := count(problems, name); n != 1 {
					t.Errorf("%s is named %d times, want once: %q", name, n, problems)
				}
			}
			if len(problems) != len(c.names) {
				t.Errorf("%d problems are told, want one for each of %v: %q", len(problems), c.names, problems)
			}
			for _, name := range c.names {
				if value := c.env[name]; value != "" && strings.Contains(out.String(), value) {
					t.Errorf("the log tells the value of %s: %s", name, out.String())
				}
			}
		})
	}
}

// told reads the problems out of a log that must hold one line, an error.
func told(log []byte) ([]string, error) {
	var line struct {
		Level    string   `json:"level"`
		Problems []string `json:"problems"`
	}
	if bytes.Count(log, []byte("\n")) != 1 {
		return nil, errors.New("the log does not hold exactly one line")
	}
	if err := json.Unmarshal(log, &line); err != nil {
		return nil, err
	}
	if line.Level != "ERROR" {
		return nil, errors.New("the line is no error")
	}
	return line.Problems, nil
}

// count says how many of the problems name a variable.
func count(problems []string, name string) (n int) {
	for _, p := range problems {
		if slices.Contains(strings.FieldsFunc(p, func(r rune) bool { return r == ' ' || r == ':' || r == ',' }), name) {
			n++
		}
	}
	return n
}

// RefusedOverHTTP makes one invocation of a function that answers HTTP, for Misconfigured.
func RefusedOverHTTP(t *testing.T, h overhttp.Handler) string {
	t.Helper()
	return Ask(t, h, Request("GET /v1/profiles", ""), http.StatusInternalServerError, "internal")
}

// Refused checks the outcome of one invocation of a function that handles events, for Misconfigured.
func Refused(t *testing.T, err error) string {
	t.Helper()
	if !errors.Is(err, wiring.ErrUnconfigured) {
		t.Errorf("the event ends in %v, want an error, so that it is tried again", err)
		return ""
	}
	return err.Error()
}
