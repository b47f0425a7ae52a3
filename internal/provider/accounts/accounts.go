// Package accounts reads the configuration of our accounts at providers: one secret in Secrets Manager for each
// account.
//
// What belongs here is the secret: its form, its checks, and a cache that lets it be rotated. The provider clients that
// are made from it belong to package clients beneath, so that the function webhook, which only checks secrets, links no
// client.
package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// ErrUnknown is returned for a name that is not one of the configured accounts.
var ErrUnknown = errors.New("no such account")

// Origo is the type of an account at HID Origo, the only one there is.
const Origo = "origo"

// DefaultCallsPerWindow is the limit of HID's management interface in calls per five minutes (doc.origo.hidglobal.com,
// API usage limits).
const DefaultCallsPerWindow = 300

const (
	fresh = 5 * time.Minute
	// stale is how long the last known secret is used before Secrets Manager is asked again, when it did not answer.
	stale = 30 * time.Second
	// minWebhookSecret is how many characters a webhook secret must have: the secret alone tells the provider from a
	// stranger.
	minWebhookSecret = 16
)

// Account is one customer account at one provider, as its secret describes it.
type Account struct {
	Name               string            `json:"-"`
	Type               string            `json:"type"`
	OrganizationID     string            `json:"organizationId"`
	ClientID           string            `json:"clientId"`
	ClientSecret       credential.Secret `json:"clientSecret"`
	ApplicationID      string            `json:"applicationId"`
	ApplicationVersion string            `json:"applicationVersion"`
	WebhookHeader      string            `json:"webhookHeader"`
	// the current one, and while it is being changed the previous one
	WebhookSecrets []credential.Secret `json:"webhookSecrets"`
	CallsPerWindow int                 `json:"callsPerWindow"` // in five minutes; DefaultCallsPerWindow when absent
	Endpoints      Endpoints           `json:"endpoints"`
}

// Endpoints are base URLs without a slash at the end; an empty one means the provider's public host.
type Endpoints struct {
	Token      string `json:"token"`      // below it: /authentication/customer/{organization}/token
	Management string `json:"management"` // below it: /customer/{organization}/users and so on
	Events     string `json:"events"`     // below it: /events
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// Validate returns every problem of the account, joined. It names fields and repeats no value.
func (a Account) Validate() error {
	var problems []error
	wrong := func(text string) { problems = append(problems, errors.New(text)) }
	if a.Type != Origo {
		wrong(`type is not "origo"`)
	}
	for _, f := range []struct{ name, value string }{{"organizationId", a.OrganizationID}, {"clientId", a.ClientID},
		{"clientSecret", a.ClientSecret.Reveal()}, {"applicationId", a.ApplicationID},
		{"applicationVersion", a.ApplicationVersion}} {
		if f.value == "" {
			wrong(f.name + " is missing")
		}
	}
	if !headerName.MatchString(a.WebhookHeader) {
		wrong("webhookHeader is not the name of a header")
	}
	if n := len(a.WebhookSecrets); n < 1 || n > 2 {
		wrong("webhookSecrets is not a list of one or two")
	}
	for i, s := range a.WebhookSecrets {
		if len(s) < minWebhookSecret {
			wrong(fmt.Sprintf("webhookSecrets[%d] is shorter than %d characters", i, minWebhookSecret))
		}
	}
	if a.CallsPerWindow < 1 {
		wrong("callsPerWindow is not a positive number")
	}
	for _, f := range []struct{ name, value string }{{"token", a.Endpoints.Token},
		{"management", a.Endpoints.Management}, {"events", a.Endpoints.Events}} {
		if f.value != "" && !safeURL(f.value) {
			wrong("endpoints." + f.name + " is not an https URL without a slash at the end")
		}
	}
	return errors.Join(problems...)
}

// safeURL accepts http for this machine only, because secrets are sent to these URLs.
func safeURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || text[len(text)-1] == '/' {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// API is what is used of Secrets Manager; *secretsmanager.Client has it.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput,
		...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Secrets reads accounts and keeps each for five minutes. It may be used concurrently.
type Secrets struct {
	api    API
	prefix string
	names  []string
	now    func() time.Time

	mu     sync.Mutex
	cached map[string]entry
}

type entry struct {
	account Account
	until   time.Time
}

// New returns the accounts of the given names; the secret of one is called prefix and its name.
func New(api API, prefix string, names []string, now func() time.Time) *Secrets {
	return &Secrets{api: api, prefix: prefix, names: names, now: now, cached: map[string]entry{}}
}

// Names lists the configured accounts.
func (s *Secrets) Names() []string { return slices.Clone(s.names) }

// Account returns an account. ErrUnknown: there is none of that name. Any other error names what is wrong with the
// secret, without its values, or says that Secrets Manager did not answer. Once it has answered for an account, that
// answer is used for as long as Secrets Manager fails.
func (s *Secrets) Account(ctx context.Context, name string) (Account, error) {
	if !slices.Contains(s.names, name) {
		return Account{}, ErrUnknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.cached[name]
	if ok && s.now().Before(known.until) {
		return known.account, nil
	}
	id := s.prefix + name
	out, err := s.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		if ok {
			known.until = s.now().Add(stale)
			s.cached[name] = known
			return known.account, nil
		}
		return Account{}, fmt.Errorf("account %s: read its secret: %w", name, err)
	}
	account := Account{CallsPerWindow: DefaultCallsPerWindow}
	if out.SecretString == nil || json.Unmarshal([]byte(*out.SecretString), &account) != nil {
		return Account{}, fmt.Errorf("account %s: its secret is not the JSON object expected", name)
	}
	account.Name = name
	account.WebhookSecrets = slices.DeleteFunc(account.WebhookSecrets,
		func(s credential.Secret) bool { return s == "" })
	if err := account.Validate(); err != nil {
		return Account{}, fmt.Errorf("account %s: its secret: %w", name, err)
	}
	s.cached[name] = entry{account, s.now().Add(fresh)}
	return account, nil
}
