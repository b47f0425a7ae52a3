package webapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/aws/aws-lambda-go/events"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	yaml "go.yaml.in/yaml/v3"

	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/picture"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/webapi"
	"github.com/mobilecred/mobilecred/internal/webapi/openapi"
	"github.com/mobilecred/mobilecred/internal/webhook"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

const (
	account = "acme-origo"
	empty   = worldtest.Part2 // a part number without a mobile ID
)

// world is the API over the real use cases in the world that all tests share. No callback arrives in it. Every answer
// the API gives is checked against its document, and every request too unless it is meant to be wrong.
type world struct {
	*worldtest.World
	t        *testing.T
	busFails error
	handlers map[string]webapi.Handler // by function of the template
	routes   map[string]route
	log      bytes.Buffer
	requests int
	driven   map[string]map[int]bool // statuses seen by route key
}

// route is what the template says of a route key.
type route struct{ function, scope string }

func newWorld(t *testing.T) *world {
	w := &world{t: t, routes: templateRoutes(t), driven: map[string]map[int]bool{}}
	w.World = worldtest.New(t, func(o *worldtest.Options) {
		o.Accounts, o.Pools = []string{account}, map[string]int{worldtest.Part: 100, empty: 0}
		o.Start = time.Date(2030, 1, 10, 9, 0, 0, 0, time.UTC)
		o.Deaf, o.Log = true, slog.DiscardHandler
	})
	normal := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&w.log, nil)))
	t.Cleanup(func() {
		slog.SetDefault(normal)
		secrets := []string{"Lovelace", "Hopper", "example.com", "Bearer", "ada.user", "s3cret"}
		for _, letter := range w.Mailbox.Letters() {
			secrets = append(secrets, letter.Code.Reveal())
		}
		for _, secret := range secrets {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("%q is in the log", secret)
			}
		}
	})
	w.handlers = map[string]webapi.Handler{
		"AssignFunction": webapi.NewAssign(w.Service, w.Now),
		"RevokeFunction": webapi.NewRevoke(w.Service, w.Now),
		"DirectoryFunction": webapi.NewDirectory(w.Service, w.Store, []string{account, "other"}, picture.Normalize,
			w.Now),
		"LookupFunction": webapi.NewLookup(w.Store, []string{account}, w.Now),
		"WebhookFunction": (&webhook.Handler{Accounts: w, Bus: w, Count: func(string) {},
			Log: slog.Default()}).Handle,
	}
	return w
}

// Account and Publish make the world what the webhook needs.
func (w *world) Account(_ context.Context, name string) (accounts.Account, error) {
	if name != account {
		return accounts.Account{}, accounts.ErrUnknown
	}
	return accounts.Account{Name: account, Type: "origo", WebhookHeader: "X-Webhook-Secret",
		WebhookSecrets: []credential.Secret{"s3cret"}}, nil
}

func (w *world) Publish(context.Context, []bus.Entry) error { return w.busFails }

// providerDown makes every call of the provider fail until the world is mended.
func (w *world) providerDown() { w.Break("any", "error", "before", 1<<30) }

// mailDown makes the mail service refuse every letter, for now, until the world is mended.
func (w *world) mailDown() {
	w.Mailbox.Answer(func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.Throttled} })
}

// reservations is how many invitations the provider has made.
func (w *world) reservations() int {
	n := 0
	for _, u := range w.Sim.State().Users {
		n += len(u.Invitations)
	}
	return n
}

// templateRoutes reads from template.yaml which function answers which route key, with which scope; "" for none.
var templateRoutes = func() func(*testing.T) map[string]route {
	read := sync.OnceValues(func() (map[string]route, error) {
		data, err := os.ReadFile("../../template.yaml")
		if err != nil {
			return nil, err
		}
		var template struct {
			Resources map[string]struct {
				Properties struct {
					Events map[string]struct {
						Type       string `yaml:"Type"`
						Properties struct {
							Method string `yaml:"Method"`
							Path   string `yaml:"Path"`
							Auth   struct {
								Scopes []string `yaml:"AuthorizationScopes"`
							} `yaml:"Auth"`
						} `yaml:"Properties"`
					} `yaml:"Events"`
				} `yaml:"Properties"`
			} `yaml:"Resources"`
		}
		if err := yaml.Unmarshal(data, &template); err != nil {
			return nil, err
		}
		routes := map[string]route{}
		for name, resource := range template.Resources {
			for _, e := range resource.Properties.Events {
				if e.Type == "HttpApi" {
					routes[e.Properties.Method+" "+e.Properties.Path] = route{name,
						strings.Join(e.Properties.Auth.Scopes, " ")}
				}
			}
		}
		return routes, nil
	})
	return func(t *testing.T) map[string]route {
		t.Helper()
		routes, err := read()
		if err != nil || len(routes) == 0 {
			t.Fatalf("no routes in the template: %v", err)
		}
		return routes
	}
}()

// document builds the validator once: that takes a while.
var document = sync.OnceValue(func() validator.Validator {
	d, err := libopenapi.NewDocument(openapi.Document)
	if err != nil {
		panic(err)
	}
	v, errs := validator.NewValidator(d, config.WithFormatAssertions())
	if len(errs) > 0 {
		panic(errors.Join(errs...))
	}
	return v
})

// request is one call. The body is sent as JSON unless it is text or bytes; header names are as a client writes them.
type request struct {
	method, path string
	body         any
	header       map[string]string
	wrong        bool // it breaks the document on purpose
	noToken      bool
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return v
}

// at follows a path such as "provider.state" into the body.
func (a answer) at(t *testing.T, path string) any {
	t.Helper()
	var v any = a.json(t)
	for name := range strings.SplitSeq(path, ".") {
		v = v.(map[string]any)[name]
	}
	return v
}

func (w *world) do(r request) answer {
	w.t.Helper()
	raw, _, _ := strings.Cut(r.path, "?")
	key, params := w.match(r.method, raw)
	full, err := url.Parse("https://api.example.com" + r.path)
	if err != nil {
		w.t.Fatal(err)
	}
	body, contentType := encode(w.t, r.body)
	headers := map[string]string{"authorization": "Bearer token"}
	if contentType != "" {
		headers["content-type"] = contentType
	}
	for k, v := range r.header {
		if v == "-" {
			delete(headers, strings.ToLower(k))
			continue
		}
		headers[strings.ToLower(k)] = v
	}
	w.requests++
	event := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: key, RawPath: full.EscapedPath(), RawQueryString: full.RawQuery, Headers: headers,
		PathParameters: params, Body: string(body),
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: key, RequestID: fmt.Sprintf("request-%d", w.requests),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: r.method, Path: raw},
		},
	}
	// The gateway sends what it does not take for text as base64.
	if strings.HasPrefix(contentType, "image/") || headers["content-type"] == asMergePatch["Content-Type"] {
		event.Body, event.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	if !r.noToken {
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: map[string]string{"sub": "portal-1"}},
		}
	}
	for name, values := range full.Query() {
		if event.QueryStringParameters == nil {
			event.QueryStringParameters = map[string]string{}
		}
		event.QueryStringParameters[name] = strings.Join(values, ",")
	}
	response, err := w.handlers[w.routes[key].function](w.t.Context(), event)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	if w.driven[key] == nil {
		w.driven[key] = map[int]bool{}
	}
	w.driven[key][response.StatusCode] = true
	w.check(r, full, headers, body, response)
	return answer{response.StatusCode, response.Headers, response.Body}
}

// check holds a request and its answer against the document.
func (w *world) check(r request, full *url.URL, headers map[string]string, body []byte,
	response events.APIGatewayV2HTTPResponse) {
	w.t.Helper()
	sent := func() *http.Request {
		h, _ := http.NewRequestWithContext(w.t.Context(), r.method, full.String(), bytes.NewReader(body))
		for k, v := range headers {
			h.Header.Set(k, v)
		}
		return h
	}
	if !r.wrong {
		if ok, errs := document().ValidateHttpRequestSync(sent()); !ok {
			for _, e := range errs {
				w.t.Errorf("%s %s is not in the document: %s: %s %v", r.method, r.path, e.Message, e.Reason,
					e.SchemaValidationErrors)
			}
		}
	}
	got := &http.Response{StatusCode: response.StatusCode, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(response.Body))}
	for k, v := range response.Headers {
		got.Header.Set(k, v)
	}
	if ok, errs := document().ValidateHttpResponse(sent(), got); !ok {
		for _, e := range errs {
			w.t.Errorf("%s %s: answer %d is not in the document: %s: %s %v\n%s", r.method, r.path, response.StatusCode,
				e.Message, e.Reason, e.SchemaValidationErrors, response.Body)
		}
	}
}

// match finds the route key as the gateway does: fixed parts before variable ones.
func (w *world) match(method, path string) (string, map[string]string) {
	w.t.Helper()
	parts := strings.Split(path, "/")
	for _, key := range slices.Sorted(maps.Keys(w.routes)) {
		m, template, _ := strings.Cut(key, " ")
		names := strings.Split(template, "/")
		if m != method || len(names) != len(parts) {
			continue
		}
		params, ok := map[string]string{}, true
		for i, name := range names {
			if strings.HasPrefix(name, "{") {
				value, err := url.PathUnescape(parts[i])
				ok = ok && err == nil
				params[strings.Trim(name, "{}")] = value
			} else {
				ok = ok && name == parts[i]
			}
		}
		if ok {
			return key, params
		}
	}
	w.t.Fatalf("the template has no route for %s %s", method, path)
	return "", nil
}

func encode(t *testing.T, body any) (data []byte, contentType string) {
	t.Helper()
	switch b := body.(type) {
	case nil:
		return nil, ""
	case string:
		return []byte(b), "application/json"
	case []byte:
		return b, "image/png"
	}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return data, "application/json"
}

type m = map[string]any

func (w *world) get(path string) answer {
	w.t.Helper()
	return w.do(request{method: "GET", path: path})
}

func (w *world) put(path string, body any) answer {
	w.t.Helper()
	return w.do(request{method: "PUT", path: path, body: body})
}

// patch sends a merge patch.
func (w *world) patch(path string, body any) answer {
	w.t.Helper()
	return w.do(request{method: "PATCH", path: path, body: body, header: asMergePatch})
}

var asMergePatch = map[string]string{"Content-Type": "application/merge-patch+json"}

func (w *world) post(path string, body any, header ...string) answer {
	w.t.Helper()
	r := request{method: "POST", path: path, body: body, header: map[string]string{}}
	for i := 0; i < len(header); i += 2 {
		r.header[header[i]] = header[i+1]
	}
	return w.do(r)
}

func (w *world) delete(path string) answer {
	w.t.Helper()
	return w.do(request{method: "DELETE", path: path})
}

// want stops the test when an answer has another status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

var (
	hq  = m{"name": "HQ employees", "account": account, "partNumber": worldtest.Part}
	ada = m{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com"}
)

// settled is a world with the profile hq and the holder E-1.
func settled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.put("/v1/profiles/hq", hq).want(t, 201)
	w.put("/v1/holders/E-1", ada).want(t, 201)
	return w
}

// assigned gives E-1 a credential and returns its path.
func (w *world) assigned() string {
	w.t.Helper()
	return w.post("/v1/holders/E-1/credentials", m{}).want(w.t, 201).header["Location"]
}

// happens lets an event happen to a credential, as if the provider had told of it; what its phone does of it, it has
// done.
func (w *world) happens(path string, e credential.Event) {
	w.t.Helper()
	c, err := w.Store.Credential(w.t.Context(), "E-1", path[strings.LastIndex(path, "/")+1:])
	if err != nil {
		w.t.Fatal(err)
	}
	switch e.Kind {
	case credential.EventAccepted:
		err = w.Sim.Accept("phone-1", w.CodeOf(c))
	case credential.EventActivated:
		err = w.Sim.Redeem(e.Device.ID, w.CodeOf(c))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	c, entry, err := credential.Apply(c, e, w.Now())
	if err != nil || entry == nil {
		w.t.Fatalf("%s changes nothing: %v", e.Kind, err)
	}
	change := credential.Change{At: w.Now(), Credentials: []credential.Credential{c},
		History: []credential.HistoryEntry{*entry}}
	if err := w.Store.Commit(w.t.Context(), change); err != nil {
		w.t.Fatal(err)
	}
}

func eventWithID(id string) events.APIGatewayV2HTTPRequest {
	return events.APIGatewayV2HTTPRequest{RequestContext: events.APIGatewayV2HTTPRequestContext{RequestID: id}}
}
