// Package origo is the adapter for HID Origo. It calls the Mobile Identities interface (version 2.2), the token
// endpoint and the interface for reading events, and it reads the CloudEvents that HID sends.
//
// What belongs here is how HID names things, and what its answers mean in the words of package provider. What does
// not: which accounts there are and how often they may be called (accounts), and what follows from what is read
// (issuance).
//
// HID has not confirmed what this package does. Paths, names and statuses are those that several independent public
// clients send and receive. Where those clients are silent or disagree, a comment beside the code says what was chosen
// and why.
package origo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

const (
	mediaType = "application/vnd.assaabloy.ma.credential-management-2.2"
	urn       = "urn:hid:scim:api:ma:2.2:"
	coreUser  = "urn:ietf:params:scim:schemas:core:2.0:User"

	// callTimeout bounds each method of Client, including all requests it makes, so that the method ends well within a
	// claim.
	callTimeout = 5 * time.Second
	// tokenMargin is how long before its end a token is no longer used.
	tokenMargin = time.Minute
	maxAnswer   = 4 << 20
)

// Endpoints are the base URLs, without a slash at the end, of the three services an account uses.
type Endpoints struct {
	Token      string // below it: /authentication/customer/{organization}/token
	Management string // below it: /customer/{organization}/users and so on
	Events     string // below it: /events
}

// Production are HID's public hosts, from doc.origo.hidglobal.com (API authentication; API usage limits; events and
// callbacks).
var Production = Endpoints{
	Token:      "https://api.origo.hidglobal.com",
	Management: "https://ma.api.assaabloy.com/credential-management",
	Events:     "https://event.api.origo.hidglobal.com",
}

// Config says which customer account of HID a Client speaks for. It is comparable.
type Config struct {
	Account            string // our name for it, as in provider.UserFacts
	OrganizationID     string
	ClientID           string
	ClientSecret       credential.Secret
	ApplicationID      string
	ApplicationVersion string
	Endpoints          Endpoints
}

// Doer sends one HTTP request; *http.Client is one. It must neither follow redirects nor retry what may have been
// executed.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Limiter is asked before every request, tokens included. An error means that the request must not be made now.
type Limiter interface {
	Take(ctx context.Context) error
}

// Client is one account at HID Origo; it implements provider.Provider. Its methods may be called concurrently. Their
// errors wrap one of package provider's kinds. They name the operation and at most an HTTP status, and never quote the
// provider's text, which may repeat what it was sent.
type Client struct {
	config  Config
	doer    Doer
	now     func() time.Time
	limiter Limiter

	authority chan struct{} // one at a time may read or renew the token
	token     credential.Secret
	renewAt   time.Time

	mu            sync.Mutex
	parts         map[string]part // by part number: what never changes of it
	noExternalIDs bool            // searching by externalId was refused once
}

// New returns a client that has made no request yet.
func New(config Config, doer Doer, now func() time.Time, limiter Limiter) *Client {
	return &Client{config: config, doer: doer, now: now, limiter: limiter, authority: make(chan struct{}, 1),
		parts: map[string]part{}}
}

// refusal is an answer other than success. The provider's text is read once, when the answer arrives, and not kept.
type refusal struct {
	op         string
	status     int
	kind       error
	scim       bool // said in the provider's own form of an error, so not by a gateway before it
	duplicate  bool // a uniqueness is violated
	noneIsLeft bool // the pool is said to be empty
}

func (r *refusal) Error() string {
	return fmt.Sprintf("origo: %s: HTTP %d: %v", r.op, r.status, r.kind)
}
func (r *refusal) Unwrap() error { return r.kind }

func failed(op, what string, kind error) error {
	return fmt.Errorf("origo: %s: %s: %w", op, what, kind)
}

// call is one request to be made.
type call struct {
	op          string // for errors
	method      string
	url         string
	contentType string // of body; the JSON one unless said otherwise
	body        []byte
}

// management makes a call below the organisation's resources, whose path is joined of ids that are escaped here.
func (c *Client) management(op, method string, path ...string) call {
	u := c.config.Endpoints.Management + "/customer/" + url.PathEscape(c.config.OrganizationID)
	for _, p := range path {
		u += "/" + url.PathEscape(p)
	}
	return call{op: op, method: method, url: u}
}

// withBody adds a JSON body. Names and filters are sent without the escapes that json.Marshal makes for browsers.
func (k call) withBody(body any) call {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		panic(err) // only our own structs of strings come here
	}
	k.body = bytes.TrimSpace(b.Bytes())
	return k
}

// do makes a call with a token, and decodes a success into answer unless that is nil. HID answers 401 before it acts,
// so a call that got one is made once more, with a new token. No other call is ever repeated.
func (c *Client) do(ctx context.Context, k call, answer any) error {
	var token credential.Secret
	for attempt := range 2 {
		var err error
		if token, err = c.bearer(ctx, token); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, k.method, k.url, bytes.NewReader(k.body))
		if err != nil {
			return failed(k.op, "request", provider.ErrRefused)
		}
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
		req.Header.Set("Accept", mediaType+"+json, application/json")
		if k.body != nil {
			req.Header.Set("Content-Type", mediaType+"+json") // HID refuses a charset parameter
			if k.contentType != "" {
				req.Header.Set("Content-Type", k.contentType)
			}
		}
		status, body, err := c.send(k.op, req)
		if err != nil {
			return err
		}
		if status == http.StatusUnauthorized && attempt == 0 {
			continue
		}
		return readAnswer(k.op, status, body, answer)
	}
	panic("unreachable")
}

// send makes one request, if the limiter lets it.
func (c *Client) send(op string, req *http.Request) (int, []byte, error) {
	if err := c.limiter.Take(req.Context()); err != nil {
		return 0, nil, failed(op, "budget", provider.ErrHeldBack)
	}
	req.Header.Set("Application-ID", c.config.ApplicationID)
	req.Header.Set("Application-Version", c.config.ApplicationVersion)
	resp, err := c.doer.Do(req)
	if err != nil {
		return 0, nil, failed(op, reason(err), provider.ErrUnavailable)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, failed(op, reason(err), provider.ErrUnavailable)
	}
	if len(body) > maxAnswer {
		return 0, nil, failed(op, "answer too long", provider.ErrUnavailable)
	}
	return resp.StatusCode, body, nil
}

// reason says why there is no answer. It leaves out the error's own text, which may quote the answer or the URL.
func reason(err error) string {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &op):
		return "no answer (" + op.Op + ")"
	}
	return "no answer"
}

// bearer returns a token other than bad, which HID has refused. The token endpoint has the tightest limit (50 requests
// in five minutes: doc.origo.hidglobal.com, API usage limits), so a token is used until shortly before its end, and
// only one caller at a time asks for the next.
func (c *Client) bearer(ctx context.Context, bad credential.Secret) (credential.Secret, error) {
	const op = "token"
	select {
	case c.authority <- struct{}{}:
		defer func() { <-c.authority }()
	case <-ctx.Done():
		return "", failed(op, "timeout", provider.ErrNoAccess)
	}
	if c.token != "" && c.token != bad && c.now().Before(c.renewAt) {
		return c.token, nil
	}
	form := url.Values{"client_id": {c.config.ClientID}, "client_secret": {c.config.ClientSecret.Reveal()},
		"grant_type": {"client_credentials"}}
	address := c.config.Endpoints.Token + "/authentication/customer/" +
		url.PathEscape(c.config.OrganizationID) + "/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", failed(op, "request", provider.ErrRefused)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := c.now()
	status, body, err := c.send(op, req)
	if err != nil {
		return "", noAccess(err)
	}
	var answer struct {
		Token     credential.Secret `json:"access_token"`
		ExpiresIn int               `json:"expires_in"`
	}
	if err := readAnswer(op, status, body, &answer); err != nil {
		var r *refusal
		if errors.As(err, &r) && (r.kind == provider.ErrRefused || r.kind == provider.ErrNotFound) {
			// this request holds nothing but the account's configuration, so that is what is wrong
			r.kind = provider.ErrNotOurs
		}
		return "", noAccess(err)
	}
	if answer.Token == "" {
		return "", failed(op, "malformed answer", provider.ErrNoAccess)
	}
	life := time.Duration(answer.ExpiresIn) * time.Second
	c.token, c.renewAt = answer.Token, asked.Add(life-min(tokenMargin, life/2))
	return c.token, nil
}

// noAccess makes trouble of a token trouble of the account: without one, nothing was asked for.
func noAccess(err error) error {
	var r *refusal
	switch {
	case !errors.Is(err, provider.ErrUnavailable):
		return err
	case errors.As(err, &r):
		r.kind = provider.ErrNoAccess
		return err
	}
	what := strings.TrimSuffix(err.Error(), ": "+provider.ErrUnavailable.Error())
	return fmt.Errorf("%s: %w", what, provider.ErrNoAccess)
}

// readAnswer decodes a success, and turns any other answer into an error of the right kind. A success that cannot be
// decoded is ErrUnavailable, because HID may have done what was asked.
func readAnswer(op string, status int, body []byte, answer any) error {
	if status >= 200 && status < 300 {
		if answer == nil {
			return nil
		}
		if json.Unmarshal(body, answer) != nil {
			return failed(op, "malformed answer", provider.ErrUnavailable)
		}
		return nil
	}
	said := struct {
		Schemas  json.RawMessage `json:"schemas"`
		Status   json.RawMessage `json:"status"`
		SCIMType string          `json:"scimType"`
		Message  string          `json:"message"`
		Detail   string          `json:"detail"`
	}{}
	readable := json.Unmarshal(body, &said) == nil
	text := strings.ToLower(said.SCIMType + " " + said.Message + " " + said.Detail)
	r := &refusal{
		op:        op,
		status:    status,
		scim:      readable && (said.Schemas != nil || said.Status != nil),
		duplicate: status == http.StatusConflict || strings.EqualFold(said.SCIMType, "uniqueness"),
		// HID documents no answer for an empty pool. A refusal with one of these phrases is taken for one; after any
		// other refusal the stock is read (refusalKind).
		noneIsLeft: containsAny(text, "exhausted", "insufficient", "no mobile id", "none available", "not enough",
			"no available"),
	}
	switch {
	case status == http.StatusUnauthorized:
		r.kind = provider.ErrNotOurs
	case status == http.StatusForbidden:
		r.kind = forbidden(text)
	case status == http.StatusTooManyRequests:
		r.kind = provider.ErrOverLimit
	case status == http.StatusNotFound:
		r.kind = provider.ErrNotFound
	case status == http.StatusRequestTimeout || status < 400 || status >= 500:
		r.kind = provider.ErrUnavailable
	default:
		r.kind = provider.ErrRefused
	}
	return r
}

// forbidden says what a 403 means. HID answers 403, not 429, to calls over its rate limits (doc.origo.hidglobal.com,
// API usage limits), and no document shows the body of that answer or of one about permissions. A 403 is therefore
// taken for the limit, which passes, unless its body speaks of permissions and not of a limit. If that is wrong, an
// account that lacks a permission is tried once a minute, as a throttled one is, which does no harm.
func forbidden(text string) error {
	if containsAny(text, "permission", "privilege", "not authorized", "unauthorized", "scope") &&
		!containsAny(text, "limit", "quota", "too many", "throttl") {
		return provider.ErrNotOurs
	}
	return provider.ErrOverLimit
}

func containsAny(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
