// Package gateway is the HTTP API in front of the functions: it matches
// routes, checks tokens, and translates between HTTP and payload format 2.0 as
// API Gateway does, its own error answers included.
//
// Where Amazon's documentation is silent the behaviour is the one observed:
// the path arrives decoded, and every body whose content type is not text,
// JSON, XML or JavaScript arrives in base64, a missing type included.
package gateway

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const (
	maxBody            = 10 << 20
	integrationTimeout = 30 * time.Second
	apiID              = "local"
	domain             = apiID + ".execute-api." + template.Region + ".amazonaws.com"
)

// Route is a route of the template with the function behind it.
type Route struct {
	template.Route
	Invoke func(payload []byte) runtimeapi.Result
}

// Gateway serves the routes.
type Gateway struct {
	routes  []route
	issuer  *Issuer
	timeout time.Duration
}

type route struct {
	Route
	segments []string
}

// New returns the API. issuer is who signs the tokens that authorized routes
// want.
func New(routes []Route, issuer *Issuer) *Gateway {
	g := &Gateway{issuer: issuer, timeout: integrationTimeout}
	for _, r := range routes {
		g.routes = append(g.routes, route{r, strings.Split(r.Path, "/")})
	}
	// The most specific first: fixed segments before parameters, greedy last.
	slices.SortStableFunc(g.routes, func(a, b route) int {
		for i := range min(len(a.segments), len(b.segments)) {
			if c := cmp.Compare(vagueness(a.segments[i]), vagueness(b.segments[i])); c != 0 {
				return c
			}
		}
		return 0
	})
	return g
}

func vagueness(segment string) int {
	switch {
	case strings.HasSuffix(segment, "+}"):
		return 2
	case strings.HasPrefix(segment, "{"):
		return 1
	}
	return 0
}

// match returns the parameters of the path, decoded.
func (r *route) match(method string, path []string) (map[string]string, bool) {
	if r.Method != method && r.Method != "ANY" {
		return nil, false
	}
	params := map[string]string{}
	for i, s := range r.segments {
		if i >= len(path) {
			return nil, false
		}
		name, parameter := strings.CutPrefix(s, "{")
		value := path[i]
		switch {
		case strings.HasSuffix(s, "+}"):
			value = strings.Join(path[i:], "/")
			name = strings.TrimSuffix(name, "+}")
			path = path[:i+1]
		case parameter && value != "":
			name = strings.TrimSuffix(name, "}")
		case parameter || s != value:
			return nil, false
		default:
			continue
		}
		decoded, err := url.PathUnescape(value)
		if err != nil {
			return nil, false
		}
		params[name] = decoded
	}
	return params, len(path) == len(r.segments)
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID()
	w.Header().Set("Apigw-Requestid", id)
	path := strings.Split(r.URL.EscapedPath(), "/")
	for i := range g.routes {
		if params, ok := g.routes[i].match(r.Method, path); ok {
			g.serve(w, r, &g.routes[i], params, id)
			return
		}
	}
	refuse(w, http.StatusNotFound, "Not Found")
}

// refuse is an answer of the gateway's own.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, route *route, params map[string]string, id string) {
	var authorizer any
	if route.Authorized {
		claims, err := g.issuer.verify(r.Header.Get("Authorization"))
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		if !permits(claims, route.Scopes) {
			w.Header().Set("WWW-Authenticate", `Bearer scope="`+strings.Join(route.Scopes, " ")+
				`" error="insufficient_scope"`)
			refuse(w, http.StatusForbidden, "Forbidden")
			return
		}
		authorizer = map[string]any{"jwt": map[string]any{"claims": claims, "scopes": route.Scopes}}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, "Bad Request")
		return
	}
	payload, err := json.Marshal(event(r, route, params, body, authorizer, id))
	if err != nil {
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
		return
	}
	if len(payload) > runtimeapi.MaxPayload {
		refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		return
	}
	answer := make(chan runtimeapi.Result, 1)
	go func() { answer <- route.Invoke(payload) }()
	select {
	case result := <-answer:
		if result.Failed || !respond(w, result.Payload) {
			refuse(w, http.StatusInternalServerError, "Internal Server Error")
		}
	case <-time.After(g.timeout):
		refuse(w, http.StatusServiceUnavailable, "Service Unavailable")
	}
}

// event is the request in payload format 2.0.
func event(r *http.Request, route *route, params map[string]string, body []byte, authorizer any,
	id string) map[string]any {
	headers := map[string]string{"host": r.Host, "x-forwarded-proto": "http"}
	for name, values := range r.Header {
		if name != "Cookie" {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	source, _, _ := net.SplitHostPort(r.RemoteAddr)
	headers["x-forwarded-for"] = source
	if len(body) > 0 {
		headers["content-length"] = strconv.Itoa(len(body))
	}
	routeKey := route.Method + " " + route.Path
	rawPath, _ := url.PathUnescape(r.URL.EscapedPath())
	now := time.Now().UTC()
	request := map[string]any{
		"accountId": template.AccountID, "apiId": apiID, "domainName": domain, "domainPrefix": apiID,
		"http": map[string]any{"method": r.Method, "path": rawPath, "protocol": r.Proto, "sourceIp": source,
			"userAgent": r.UserAgent()},
		"requestId": id, "routeKey": routeKey, "stage": "$default",
		"time": now.Format("02/Jan/2006:15:04:05 -0700"), "timeEpoch": now.UnixMilli(),
	}
	if authorizer != nil {
		request["authorizer"] = authorizer
	}
	e := map[string]any{
		"version": "2.0", "routeKey": routeKey, "rawPath": rawPath, "rawQueryString": r.URL.RawQuery,
		"headers": headers, "requestContext": request, "isBase64Encoded": false,
	}
	// What is empty is left out altogether.
	if len(params) > 0 {
		e["pathParameters"] = params
	}
	if query := r.URL.Query(); len(query) > 0 {
		joined := map[string]string{}
		for k, v := range query {
			joined[k] = strings.Join(v, ",")
		}
		e["queryStringParameters"] = joined
	}
	if cookies := r.Header.Values("Cookie"); len(cookies) > 0 {
		e["cookies"] = strings.Split(strings.Join(cookies, "; "), "; ")
	}
	if len(body) > 0 {
		if textual(r.Header.Get("Content-Type")) && utf8.Valid(body) {
			e["body"] = string(body)
		} else {
			e["body"], e["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
		}
	}
	return e
}

func textual(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch kind {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

// respond writes a function's answer; false when it has no valid shape.
func respond(w http.ResponseWriter, payload []byte) bool {
	var a struct {
		StatusCode      *int           `json:"statusCode"`
		Headers         map[string]any `json:"headers"`
		Cookies         []string       `json:"cookies"`
		Body            string         `json:"body"`
		IsBase64Encoded bool           `json:"isBase64Encoded"`
	}
	err := json.Unmarshal(payload, &a)
	if a.StatusCode == nil {
		// Without a status code the whole value is the body of a 200.
		if !json.Valid(payload) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(payload)
		return true
	}
	body := []byte(a.Body)
	if err == nil && a.IsBase64Encoded {
		body, err = base64.StdEncoding.DecodeString(a.Body)
	}
	if err != nil || *a.StatusCode < 200 || *a.StatusCode > 599 {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain;charset=UTF-8")
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		h.Set(name, fmt.Sprint(a.Headers[name]))
	}
	for _, c := range a.Cookies {
		h.Add("Set-Cookie", c)
	}
	if *a.StatusCode == http.StatusNoContent {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(*a.StatusCode)
	_, _ = w.Write(body)
	return true
}

func requestID() string {
	var b [11]byte
	_, _ = rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}
