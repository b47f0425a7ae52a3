package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

func newIssuer(t *testing.T) *Issuer {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIssuer(key, "http://issuer", "us")
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// api serves one route and remembers the event it got.
func api(t *testing.T, r template.Route, answer string) (*httptest.Server, *Issuer, *map[string]any) {
	t.Helper()
	i := newIssuer(t)
	var got map[string]any
	g := New([]Route{{Route: r, Invoke: func(p []byte) runtimeapi.Result {
		got = nil
		if err := json.Unmarshal(p, &got); err != nil {
			t.Error(err)
		}
		return runtimeapi.Result{Payload: []byte(answer), Failed: answer == ""}
	}}}, i)
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return s, i, &got
}

func do(t *testing.T, r *http.Request) (status int, body string, h http.Header) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestTheEventIsPayloadFormat2(t *testing.T) {
	s, i, got := api(
		t,
		template.Route{Method: "POST", Path: "/v1/holders/{holderId}/x", Authorized: true, Scopes: []string{"a", "b"}},
		`{"statusCode":200}`,
	)
	token, err := i.Token("portal", "b c")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("POST", s.URL+"/v1/holders/E%201042%2F7/x?q=1&q=2&r=%26", strings.NewReader(`{"a":1}`))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Cookie", "one=1; two=2")
	r.Header.Add("X-Many", "a")
	r.Header.Add("X-Many", "b")
	if status, body, h := do(t, r); status != 200 || h.Get("Apigw-Requestid") == "" {
		t.Fatalf("got %d %s", status, body)
	}
	e := *got
	context := e["requestContext"].(map[string]any)
	jwtContext := context["authorizer"].(map[string]any)["jwt"].(map[string]any)
	claims := jwtContext["claims"].(map[string]any)
	headers := e["headers"].(map[string]any)
	for name, pair := range map[string][2]any{
		"version":     {e["version"], "2.0"},
		"routeKey":    {e["routeKey"], "POST /v1/holders/{holderId}/x"},
		"rawPath":     {e["rawPath"], "/v1/holders/E 1042/7/x"},
		"rawQuery":    {e["rawQueryString"], "q=1&q=2&r=%26"},
		"query":       {e["queryStringParameters"].(map[string]any)["q"], "1,2"},
		"query &":     {e["queryStringParameters"].(map[string]any)["r"], "&"},
		"path":        {e["pathParameters"].(map[string]any)["holderId"], "E 1042/7"},
		"body":        {e["body"], `{"a":1}`},
		"base64":      {e["isBase64Encoded"], false},
		"cookies":     {e["cookies"].([]any)[1], "two=2"},
		"no cookie":   {headers["cookie"], nil},
		"headers":     {headers["x-many"], "a,b"},
		"length":      {headers["content-length"], "7"},
		"sub":         {claims["sub"], "portal"},
		"scope":       {claims["scope"], "b c"},
		"scopes":      {jwtContext["scopes"].([]any)[0], "a"},
		"method":      {context["http"].(map[string]any)["method"], "POST"},
		"source":      {context["http"].(map[string]any)["sourceIp"], "127.0.0.1"},
		"stage":       {context["stage"], "$default"},
		"exp is text": {strings.TrimLeft(claims["exp"].(string), "0123456789"), ""},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestBodiesThatAreNotTextArriveInBase64(t *testing.T) {
	tests := []struct {
		contentType, body string
		base64            bool
	}{
		{"application/json", `{}`, false},
		{"text/plain", "hi", false},
		{"application/json", "\xff", true},
		{"image/png", "\x89PNG", true},
		{"application/cloudevents-batch+json", `[]`, true},
		{"application/x-www-form-urlencoded", "a=b", true},
		{"", "hi", true},
	}
	s, _, got := api(t, template.Route{Method: "POST", Path: "/"}, `{"statusCode":200}`)
	for _, tt := range tests {
		r, _ := http.NewRequest("POST", s.URL+"/", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", tt.contentType)
		do(t, r)
		if (*got)["isBase64Encoded"] != tt.base64 {
			t.Errorf("%q: base64 is %v, want %v", tt.contentType, (*got)["isBase64Encoded"], tt.base64)
		}
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name, answer string
		status       int
		body, kind   string
	}{
		{
			"plain",
			`{"statusCode":201,"headers":{"content-type":"application/json","X-A":"b"},"body":"{}"}`,
			201,
			"{}",
			"application/json",
		},
		{"base64", `{"statusCode":200,"body":"aGk=","isBase64Encoded":true}`, 200, "hi", "text/plain;charset=UTF-8"},
		{"no content", `{"statusCode":204}`, 204, "", ""},
		{"inferred", `{"a":1}`, 200, `{"a":1}`, "application/json"},
		{"inferred text", `"hello"`, 200, `"hello"`, "application/json"},
		{
			"bad base64",
			`{"statusCode":200,"body":"?","isBase64Encoded":true}`,
			500,
			`{"message":"Internal Server Error"}` + "\n",
			"application/json",
		},
		{"bad status", `{"statusCode":42}`, 500, `{"message":"Internal Server Error"}` + "\n", "application/json"},
		{"failure", "", 500, `{"message":"Internal Server Error"}` + "\n", "application/json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, _ := api(t, template.Route{Method: "GET", Path: "/"}, tt.answer)
			r, _ := http.NewRequest("GET", s.URL+"/", nil)
			status, body, h := do(t, r)
			if status != tt.status || body != tt.body || h.Get("Content-Type") != tt.kind {
				t.Errorf("got %d %q %q", status, body, h.Get("Content-Type"))
			}
		})
	}
	s, _, _ := api(t, template.Route{Method: "GET", Path: "/"}, `{"statusCode":200,"cookies":["a=1","b=2"]}`)
	r, _ := http.NewRequest("GET", s.URL+"/", nil)
	if _, _, h := do(t, r); len(h.Values("Set-Cookie")) != 2 {
		t.Errorf("cookies: got %v", h.Values("Set-Cookie"))
	}
}

func TestRoutesAndRefusals(t *testing.T) {
	i := newIssuer(t)
	named := func(name string) func([]byte) runtimeapi.Result {
		return func([]byte) runtimeapi.Result {
			return runtimeapi.Result{Payload: []byte(`{"statusCode":200,"body":"` + name + `"}`)}
		}
	}
	s := httptest.NewServer(New([]Route{
		{template.Route{Method: "GET", Path: "/a/{id}"}, named("parameter")},
		{template.Route{Method: "GET", Path: "/a/fixed"}, named("fixed")},
		{template.Route{Method: "GET", Path: "/a/{rest+}"}, named("greedy")},
		{template.Route{Method: "POST", Path: "/a/{id}"}, named("post")},
		{template.Route{Method: "GET", Path: "/scoped", Authorized: true, Scopes: []string{"read"}}, named("scoped")},
		{template.Route{Method: "GET", Path: "/any", Authorized: true}, named("any")},
	}, i))
	defer s.Close()
	good, _ := i.Token("x", "read")
	wrongScope, _ := i.Token("x", "write")
	foreign, _ := newIssuer(t).Token("x", "read")
	sign := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		c := jwt.MapClaims{
			"iss":   "http://issuer",
			"aud":   "us",
			"scope": "read",
			"exp":   time.Now().Add(time.Hour).Unix(),
		}
		change(c)
		tk := jwt.NewWithClaims(method, c)
		tk.Header["kid"] = i.kid
		text, err := tk.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	nothing := func(jwt.MapClaims) {}
	tests := []struct {
		name, method, path, auth string
		status                   int
		body                     string
	}{
		{"fixed before parameter", "GET", "/a/fixed", "", 200, "fixed"},
		{"parameter", "GET", "/a/other", "", 200, "parameter"},
		{"greedy", "GET", "/a/b/c", "", 200, "greedy"},
		{"by method", "POST", "/a/fixed", "", 200, "post"},
		{"no such method", "PATCH", "/a/fixed", "", 404, "Not Found"},
		{"no such path", "GET", "/b", "", 404, "Not Found"},
		{"empty segment", "POST", "/a/", "", 404, "Not Found"},
		{"good token", "GET", "/scoped", "Bearer " + good, 200, "scoped"},
		{"token alone", "GET", "/scoped", good, 200, "scoped"},
		{"no scope asked for", "GET", "/any", "Bearer " + wrongScope, 200, "any"},
		{"no token", "GET", "/scoped", "", 401, "Unauthorized"},
		{"nonsense", "GET", "/scoped", "Bearer x.y.z", 401, "Unauthorized"},
		{"other key", "GET", "/scoped", "Bearer " + foreign, 401, "Unauthorized"},
		{"wrong scope", "GET", "/scoped", "Bearer " + wrongScope, 403, "Forbidden"},
		{
			"expired",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodRS256, i.key, func(c jwt.MapClaims) { c["exp"] = 1 }),
			401,
			"Unauthorized",
		},
		{
			"without end",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodRS256, i.key, func(c jwt.MapClaims) { delete(c, "exp") }),
			401,
			"Unauthorized",
		},
		{
			"other audience",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodRS256, i.key, func(c jwt.MapClaims) { c["aud"] = "them" }),
			401,
			"Unauthorized",
		},
		{
			"other issuer",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodRS256, i.key, func(c jwt.MapClaims) { c["iss"] = "http://them" }),
			401,
			"Unauthorized",
		},
		{
			"unsigned",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nothing),
			401,
			"Unauthorized",
		},
		{
			"signed with the public key",
			"GET",
			"/scoped",
			"Bearer " + sign(jwt.SigningMethodHS256, i.key.N.Bytes(), nothing),
			401,
			"Unauthorized",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest(tt.method, s.URL+tt.path, nil)
			r.Header.Set("Authorization", tt.auth)
			want := tt.body
			if tt.status >= 400 {
				want = `{"message":"` + tt.body + `"}` + "\n"
			}
			if status, body, _ := do(t, r); status != tt.status || body != want {
				t.Errorf("got %d %q, want %d %q", status, body, tt.status, want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	s, _, _ := api(t, template.Route{Method: "POST", Path: "/"}, `{"statusCode":200}`)
	for size, want := range map[int]int{4 << 20: 200, 7 << 20: 413, 10<<20 + 1: 413} {
		r, _ := http.NewRequest("POST", s.URL+"/", strings.NewReader(strings.Repeat("x", size)))
		r.Header.Set("Content-Type", "image/png")
		if status, _, _ := do(t, r); status != want {
			t.Errorf("%d bytes: got %d, want %d", size, status, want)
		}
	}

	release := make(chan struct{})
	g := New([]Route{{template.Route{Method: "GET", Path: "/"}, func([]byte) runtimeapi.Result {
		<-release
		return runtimeapi.Result{Failed: true}
	}}}, nil)
	defer close(release)
	g.timeout = time.Millisecond
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "Service Unavailable") {
		t.Errorf("a slow function: got %d %s", w.Code, w.Body)
	}
}

func TestTheKeySetVerifiesTheTokens(t *testing.T) {
	i := newIssuer(t)
	w := httptest.NewRecorder()
	i.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	if !strings.Contains(w.Body.String(), `"kid":"`+i.kid+`"`) || strings.Contains(w.Body.String(), `"d"`) {
		t.Errorf("got %s", w.Body)
	}
	w = httptest.NewRecorder()
	i.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/openid-configuration", nil))
	if !strings.Contains(w.Body.String(), `"issuer":"http://issuer"`) {
		t.Errorf("got %s", w.Body)
	}
}
