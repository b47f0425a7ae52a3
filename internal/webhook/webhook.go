// Package webhook receives what providers send: it checks that a call comes from the account's provider, translates its
// events into neutral facts, and puts them on the bus.
//
// What belongs here is checking the caller and delivering the events. What does not: what an event means
// (provider/origo), and what follows from it: the function cleanup decides that after it has asked the provider itself.
// Nothing is stored.
package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

// The metrics that are counted.
const (
	Forged   = "WebhookForged"   // calls without the account's secret
	Rejected = "WebhookRejected" // events that could not be used
)

const (
	maxBody = 1 << 20
	// maxReported bounds the log lines and counts that one batch of unusable events can cause.
	maxReported = 50
)

// Accounts finds an account by its name; *accounts.Secrets does.
type Accounts interface {
	Account(ctx context.Context, name string) (accounts.Account, error)
}

// Bus takes events, all of them or an error; *bus.Bus does.
type Bus interface {
	Publish(ctx context.Context, entries []bus.Entry) error
}

// Handler serves POST /v1/webhooks/{account}.
type Handler struct {
	Accounts Accounts
	Bus      Bus               // for the source envelope.SourceProvider
	Count    func(name string) // raises a metric by one
	Log      *slog.Logger
}

type result struct {
	Accepted int `json:"accepted"`
	Rejected int `json:"rejected"`
}

// Handle answers one call; its error is always nil. 200 says that every usable event of the batch is on the bus, and
// how many could not be used. 401 says that the caller does not know the account's secret, or that there is no such
// account; the two look the same. 400: the body is not a batch of events. 413: it is over 1 MB. 503: not every event is
// on the bus, and the provider should send the batch again.
func (h *Handler) Handle(ctx context.Context, req events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse,
	error) {
	done, err := h.receive(ctx, req)
	if err != nil {
		var refused *credential.Error
		if !errors.As(err, &refused) {
			h.Log.ErrorContext(ctx, "webhook not taken", "account",
				loggable(req.PathParameters["account"]), "error", err)
		}
		return problem.Answer(req, err), nil
	}
	body, err := json.Marshal(done)
	if err != nil {
		return problem.Answer(req, err), nil
	}
	return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: string(body),
		Headers: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}}, nil
}

func (h *Handler) receive(ctx context.Context, req events.APIGatewayV2HTTPRequest) (result, error) {
	name := req.PathParameters["account"]
	account, err := h.Accounts.Account(ctx, name)
	if err != nil && !errors.Is(err, accounts.ErrUnknown) {
		return result{}, err
	}
	if !hasSecret(account, req.Headers) {
		h.Count(Forged)
		h.Log.WarnContext(ctx, "forged webhook", "account", loggable(name))
		return result{}, credential.Refuse(problem.CodeWrongSecret, "")
	}
	body := []byte(req.Body)
	if req.IsBase64Encoded {
		if body, err = base64.StdEncoding.DecodeString(req.Body); err != nil {
			return result{}, credential.Refuse(problem.CodeMalformedJSON, "The body cannot be decoded.")
		}
	}
	if len(body) > maxBody {
		return result{}, credential.Refuse(problem.CodeTooLarge, fmt.Sprintf("The body may have %d bytes.", maxBody))
	}
	users, rejected, err := origo.Translate(account.Name, body)
	if err != nil {
		return result{}, credential.Refuse(problem.CodeMalformedJSON,
			"The body is neither a batch of CloudEvents nor a single one.")
	}
	for _, r := range rejected[:min(len(rejected), maxReported)] {
		h.Count(Rejected)
		h.Log.WarnContext(ctx, "event rejected", "account", account.Name, "type", r.Type, "id", r.ID,
			"reason", r.Reason)
	}
	done := result{Accepted: count(users), Rejected: len(rejected)}
	var entries []bus.Entry
	for _, u := range users {
		u.Facts = slices.DeleteFunc(u.Facts, func(f provider.Fact) bool { return f.Status == provider.FactOther })
		if len(u.Facts) > 0 {
			entries = append(entries, bus.Entry{DetailType: envelope.ProviderUserChanged, Detail: u})
		}
	}
	if err := h.Bus.Publish(ctx, entries); err != nil {
		return result{}, err
	}
	h.Log.InfoContext(ctx, "webhook taken", "account", account.Name, "users", len(users), "accepted", done.Accepted,
		"rejected", done.Rejected)
	return done, nil
}

func count(users []provider.UserFacts) (n int) {
	for _, u := range users {
		n += len(u.Facts)
	}
	return n
}

// hasSecret says whether the headers hold one of the account's secrets. It takes the same time for right and wrong
// secrets, and for the zero Account, which stands for an unknown name: a caller cannot find out by the time which
// accounts there are.
func hasSecret(account accounts.Account, headers map[string]string) bool {
	var given string
	for name, value := range headers {
		if strings.EqualFold(name, account.WebhookHeader) {
			given = value
		}
	}
	digest := sha256.Sum256([]byte(given))
	match := 0
	for i := range 2 {
		var want [sha256.Size]byte // no secret has this digest
		if i < len(account.WebhookSecrets) {
			want = sha256.Sum256([]byte(account.WebhookSecrets[i].Reveal()))
		}
		match |= subtle.ConstantTimeCompare(digest[:], want[:])
	}
	return match == 1
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// loggable returns a name if it can be that of an account, and nothing else: a caller without the secret can put any
// text in the path.
func loggable(name string) string {
	if !idPattern.MatchString(name) {
		return ""
	}
	return name
}
