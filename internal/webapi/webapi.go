// Package webapi is the HTTP API: it turns API Gateway's events (payload format 2.0) into the use cases' commands and
// their results into answers.
//
// What belongs here: routes, reading and checking requests, the JSON of resources, problem documents, and one audit
// line per operation. What does not: deciding anything about credentials, and knowing a store or a provider. Each
// handler declares the few methods it needs, so that a function which only reads links nothing else; what only one
// function needs (decoding pictures) is passed to it. The API's document is in the sub-package openapi, which no
// function links.
package webapi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
)

// Handler is what a function passes to lambda.Start. Its error is always nil, because every failure is an answer too.
type Handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// call is one request. The operation that serves it fills in the ids that the audit line names.
type call struct {
	req events.APIGatewayV2HTTPRequest
	now time.Time

	holderID, credentialID, profileID string

	// refusal is the headers that an answer has beside a problem document.
	refusal map[string]string
}

// answer is what an operation returns on success; a nil body means that the answer has none.
type answer struct {
	status int
	body   any
	header map[string]string
}

type operation func(context.Context, *call) (answer, error)

// serve runs the operation of a route key such as "GET /v1/profiles". It always answers, also after a panic, and always
// writes one audit line: ids and outcome, never names, bodies, keys or tokens.
func serve(now func() time.Time, routes map[string]operation) Handler {
	return func(ctx context.Context, req events.APIGatewayV2HTTPRequest) (res events.APIGatewayV2HTTPResponse,
		_ error) {
		c := &call{req: req, now: now()}
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = panicked(p)
				res = problem.Answer(req, err)
			}
			c.audit(ctx, res.StatusCode, err, now().Sub(c.now))
		}()
		var a answer
		if a, err = c.run(ctx, routes); err != nil {
			res = problem.Answer(req, err)
			maps.Copy(res.Headers, c.refusal)
			return res, nil
		}
		return a.response(), nil
	}
}

func (c *call) run(ctx context.Context, routes map[string]operation) (answer, error) {
	run, ok := routes[c.req.RouteKey]
	if !ok {
		return answer{}, problem.Fault("the template routes here what this function does not do")
	}
	// The gateway refuses calls without a token. Should a route ever be deployed without its authorizer, this refuses
	// them.
	if c.claims() == nil {
		return answer{}, problem.Fault("the template has no authorizer on this route")
	}
	return run(ctx, c)
}

func (c *call) audit(ctx context.Context, status int, err error, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("route", c.req.RouteKey),
		slog.Int("status", status),
		slog.String("actor", c.claims()["sub"]),
		slog.String("requestId", c.req.RequestContext.RequestID),
		slog.Int64("ms", took.Milliseconds()),
	}
	for _, id := range []struct{ name, value string }{
		{"holderId", c.holderID}, {"credentialId", c.credentialID}, {"profileId", c.profileID},
	} {
		if id.value != "" {
			attrs = append(attrs, slog.String(id.name, id.value))
		}
	}
	level := slog.LevelInfo
	if err != nil {
		r := problem.Refusal(err)
		attrs = append(attrs, slog.String("code", string(r.Code)))
		if r.CredentialID != "" {
			attrs = append(attrs, slog.String("failedCredentialId", r.CredentialID))
		}
		if cause := unexpected(err); cause != "" {
			attrs = append(attrs, slog.String("cause", cause))
		}
		if status >= 500 {
			level = slog.LevelError
		}
	}
	slog.LogAttrs(ctx, level, "request", attrs...)
}

// panicked names only the type of a panic's value: the value may quote personal data.
func panicked(p any) error {
	return problem.Fault(fmt.Sprintf("panic of type %T\n%s", p, debug.Stack()))
}

// unexpected describes an error that is not a refusal for the log: the types of the errors it wraps, and a service's
// code. It leaves out their text, which may quote keys or values.
func unexpected(err error) string {
	var words []string
	for err != nil {
		switch e := err.(type) {
		case *credential.Error:
			if e.Code == credential.CodeInternal {
				return e.Detail
			}
			return ""
		case problem.Fault:
			return string(e)
		}
		word := reflect.TypeOf(err).String()
		if coded, ok := err.(interface{ ErrorCode() string }); ok {
			word += "(" + coded.ErrorCode() + ")"
		}
		words = append(words, word)
		wrapper, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = wrapper.Unwrap()
	}
	return strings.Join(words, " ")
}

func (c *call) claims() map[string]string {
	if a := c.req.RequestContext.Authorizer; a != nil && a.JWT != nil {
		return a.JWT.Claims
	}
	return nil
}

// header finds a request header by its name, in upper or lower case. Several of one name arrive joined by commas.
func (c *call) header(name string) (string, bool) {
	for k, v := range c.req.Headers {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

const idRule = "1 to 64 letters, digits, dots, underscores and hyphens."

// existing reads the ids in the path of a resource that has to exist. An id that breaks the rule for ids is answered as
// one that does not exist.
func (c *call) existing() error {
	for _, p := range c.pathIDs() {
		id, present := c.req.PathParameters[p.name]
		if !present {
			continue
		}
		if !idPattern.MatchString(id) {
			return credential.Refuse(p.missing, "")
		}
		*p.into = id
	}
	return nil
}

// creatable reads the ids in the path of a resource that the call may create under that id.
func (c *call) creatable() []credential.FieldError {
	var wrong []credential.FieldError
	for _, p := range c.pathIDs() {
		id, present := c.req.PathParameters[p.name]
		switch {
		case !present:
		case !idPattern.MatchString(id):
			wrong = append(wrong, credential.FieldError{Code: "invalid_format", Detail: "Path parameter " + p.name +
				": " + idRule})
		default:
			*p.into = id
		}
	}
	return wrong
}

type pathID struct {
	name    string
	into    *string
	missing credential.Code
}

func (c *call) pathIDs() []pathID {
	return []pathID{
		{"holderId", &c.holderID, credential.CodeHolderNotFound},
		{"credentialId", &c.credentialID, credential.CodeCredentialNotFound},
		{"profileId", &c.profileID, credential.CodeProfileNotFound},
	}
}

// request reads the caller from the token and headers and, for a POST, the Idempotency-Key. The caller of request sets
// PayloadHash once it has read the body.
func (c *call) request() (credential.Request, []credential.FieldError) {
	r := credential.Request{
		Actor: credential.Actor{Type: credential.ActorPortal, ID: c.claims()["sub"]},
		Route: c.route(),
	}
	var wrong []credential.FieldError
	if claimed, ok := c.header("Mobilecred-Actor"); ok {
		if !utf8.ValidString(claimed) || utf8.RuneCountInString(claimed) > 128 ||
			strings.ContainsFunc(claimed, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
			wrong = append(wrong, credential.FieldError{Code: "invalid_format",
				Detail: "Header Mobilecred-Actor: at most 128 characters in UTF-8, no control characters."})
		}
		r.Actor.Claimed = claimed
	}
	if key, ok := c.header("Idempotency-Key"); ok && strings.HasPrefix(c.req.RouteKey, "POST ") {
		if len(key) < 1 || len(key) > 255 ||
			strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			wrong = append(wrong, credential.FieldError{Code: "invalid_format",
				Detail: "Header Idempotency-Key: 1 to 255 printable ASCII characters."})
		}
		r.Key = key
	}
	return r, wrong
}

// route is the route key with the ids filled in. Ids are decoded, so two spellings of one path give the same route.
func (c *call) route() string {
	route := c.req.RouteKey
	for _, p := range c.pathIDs() {
		route = strings.Replace(route, "{"+p.name+"}", *p.into, 1)
	}
	return route
}
