package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
)

// The first account of the local run. None of these is a secret: they are in the source.
const (
	account       = "acme-origo"
	organization  = 1003233 // of the first account; those of the others follow
	clientSecret  = "local-client-secret"
	applicationID = "mobilecred-local"
	webhookHeader = "X-Webhook-Secret"
	webhookSecret = "local-webhook-secret"
	sender        = "badges@acme.example"
	audience      = "mobilecred"
)

// localCalls is more than any run makes: the simulator counts nothing, and five minutes of a lively local run are more
// than HID's 300.
const localCalls = 1_000_000

// invitationCode is what the provider's codes look like, in a mail.
var invitationCode = regexp.MustCompile(`\b[A-Z0-9]{4}(?:-[A-Z0-9]{4}){3}\b`)

// weather is what can go wrong at the provider.
var weather = samlocal.Service{Name: "origo", Callbacks: true,
	Ops:   []string{"token", "search", "read", "reserve", "cancel", "revoke", "photo", "stock", "feed"},
	Kinds: []string{"late", "slow", "malformed", "missing", "forbidden"}, Aims: []string{"account", "holder"}}

// Parameters are the values of mobilecred's template on a laptop, as in Config, with the accounts besides the first.
func Parameters(accounts ...string) map[string]string {
	return map[string]string{"JwtAudience": audience, "MailIdentity": sender,
		"Accounts": strings.Join(append([]string{account}, accounts...), ",")}
}

var accountName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// ParseAccounts reads a list of accounts besides the first, separated by commas. The error names the one it means.
func ParseAccounts(list string) (accounts []string, err error) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" || name == account {
			continue
		}
		if !accountName.MatchString(name) || len(name) > 64 {
			return nil, fmt.Errorf("an account is named with small letters, digits and hyphens, not %q", name)
		}
		if slices.Contains(accounts, name) {
			return nil, fmt.Errorf("the account %s is named twice", name)
		}
		accounts = append(accounts, name)
	}
	return accounts, nil
}

// customer is one account, and its organisation at the provider.
type customer struct {
	account        string
	organizationID string
	path           string // of its provider's interface on the one port, "" for the first
	journal        string // name of the file
	parts          []origosim.SeedPartNumber
	sim            *origosim.Sim
}

// customers are the first account and further ones. Each has part numbers of its own: …_1001 and …_1002, …_2001 and so
// on.
func customers(further []string) []*customer {
	var all []*customer
	for i, name := range append([]string{account}, further...) {
		c := &customer{account: name, organizationID: fmt.Sprint(organization + i), journal: "provider.journal"}
		if i > 0 {
			c.path, c.journal = "/"+name, "provider-"+name+".journal"
		}
		for n, friendly := range []string{"HQ", "Branches"} {
			c.parts = append(c.parts, origosim.SeedPartNumber{
				PartNumber: fmt.Sprint("MID-SUB-CRD_FTPN_", 1000*(i+1)+n+1), FriendlyName: friendly, Format: "H10301",
				FacilityCode: fmt.Sprint(42 + 2*i + n), First: 1, Count: 100})
		}
		all = append(all, c)
	}
	return all
}

// secret is what Secrets Manager has under name.
func (r *runner) secret(name, provider string) (string, bool) {
	short, ours := strings.CutPrefix(name, "mobilecred/accounts/")
	i := slices.IndexFunc(r.customers, func(c *customer) bool { return ours && c.account == short })
	if i < 0 {
		return "", false
	}
	c := r.customers[i]
	provider += c.path
	text, err := json.Marshal(map[string]any{
		"type": "origo", "organizationId": c.organizationID, "clientId": c.clientID(), "clientSecret": clientSecret,
		"applicationId": applicationID, "applicationVersion": "1.0",
		"webhookHeader": webhookHeader, "webhookSecrets": []string{webhookSecret}, "callsPerWindow": localCalls,
		"endpoints": map[string]string{"token": provider, "management": provider + "/credential-management",
			"events": provider},
	})
	return string(text), err == nil
}

func (c *customer) clientID() string { return c.organizationID + "-local" }

// providers are the interfaces of all providers on one port: the first account's at its root, the others' below their
// names.
func (r *runner) providers() http.Handler {
	mux := http.NewServeMux()
	for _, c := range r.customers {
		mux.Handle(c.path+"/", http.StripPrefix(c.path, c.sim.Handler()))
	}
	return mux
}

func (r *runner) openProvider(c *customer, journal *origosim.Journal, address *origosim.Address) (*origosim.Sim,
	error) {
	client := &http.Client{Timeout: 35 * time.Second, // the gateway gives up after 30 s
		Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	hook := r.world.API() + "/v1/webhooks/" + c.account
	return origosim.New(origosim.Options{
		Account: c.account, OrganizationID: c.organizationID, ClientID: c.clientID(), ClientSecret: clientSecret,
		ApplicationID: applicationID, Now: r.world.Now,
		Load: journal.Load, Save: journal.Append, Replace: journal.Replace,
		Fault: func(op, holder string) (origosim.Fault, bool) {
			f, ok := r.world.Faults().Take("origo", op, faults.About{Account: c.account, Holder: holder})
			return origosim.Fault{Kind: f.Kind, When: f.When, Hold: f.Hold()}, ok
		},
		Deliver: func(ctx context.Context, body []byte) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook, bytes.NewReader(body))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/cloudevents-batch+json")
			req.Header.Set(webhookHeader, webhookSecret)
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			return answered(resp)
		},
		Changed: r.world.Changed, Address: address,
		Switches: origosim.Switches{CancelFreesID: true, OnePerPartNumberAndPhone: true},
	})
}

// Seeder is what a seed may use.
type Seeder struct {
	Provider *origosim.Sim
	// Put sends a JSON body to a path of the API, with every scope.
	Put func(path, body string) error
}

// Seed is what a fresh run of mobilecred starts with: two part numbers at the provider, and a profile that draws from
// the first.
func Seed(_ context.Context, s *Seeder) error {
	if err := s.Provider.Seed(customers(nil)[0].parts...); err != nil {
		return err
	}
	return s.Put("/v1/profiles/hq", `{"name":"HQ employees","account":"`+account+`",`+
		`"partNumber":"MID-SUB-CRD_FTPN_1001","invitationDays":7}`)
}

// seed runs the seed unless an earlier run has finished it. Further accounts get their part numbers whenever they are
// first named.
func (r *runner) seed(ctx context.Context, api string) error {
	for _, c := range r.customers[1:] {
		if err := c.sim.Seed(c.parts...); err != nil {
			return err
		}
	}
	if r.cfg.Seed == nil {
		return nil
	}
	var done bool
	if _, err := r.world.Store().Get("run", "seeded", &done); err != nil || done {
		return err
	}
	err := r.cfg.Seed(ctx, &Seeder{Provider: r.customers[0].sim, Put: func(path, body string) error {
		token, err := r.world.Token("local", strings.Join(r.world.Scopes(), " "))
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, api+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			err = answered(resp)
		}
		if err != nil {
			return fmt.Errorf("PUT %s: %w", path, err)
		}
		return nil
	}})
	if err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	return r.world.Store().Put("run", "seeded", true)
}
