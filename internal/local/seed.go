package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal"
)

// The one account of the local run. None of these is a secret: they are in the source.
const (
	account        = "acme-origo"
	organizationID = "1003233"
	clientID       = "1003233-local"
	clientSecret   = "local-client-secret"
	applicationID  = "mobilecred-local"
	webhookHeader  = "X-Webhook-Secret"
	webhookSecret  = "local-webhook-secret"
	sender         = "badges@acme.example"
	audience       = "mobilecred"
)

// localCalls is more than any run makes: the simulator counts nothing, and five minutes of a lively local run are more
// than HID's 300.
const localCalls = 1_000_000

// invitationCode is what the provider's codes look like, in a mail.
var invitationCode = regexp.MustCompile(`\b[A-Z0-9]{4}(?:-[A-Z0-9]{4}){3}\b`)

// weather is what can go wrong at the provider.
var weather = samlocal.Service{Name: "origo", Callbacks: true,
	Ops: []string{"token", "search", "read", "reserve", "cancel", "revoke", "photo", "stock", "feed"}}

// Parameters are the values of mobilecred's template on a laptop, as in Config.
func Parameters() map[string]string {
	return map[string]string{"JwtAudience": audience, "MailIdentity": sender, "Accounts": account}
}

// secret is what Secrets Manager has under name.
func secret(name, provider string) (string, bool) {
	if name != "mobilecred/accounts/"+account {
		return "", false
	}
	text, err := json.Marshal(map[string]any{
		"type": "origo", "organizationId": organizationID, "clientId": clientID, "clientSecret": clientSecret,
		"applicationId": applicationID, "applicationVersion": "1.0",
		"webhookHeader": webhookHeader, "webhookSecrets": []string{webhookSecret}, "callsPerWindow": localCalls,
		"endpoints": map[string]string{"token": provider, "management": provider + "/credential-management",
			"events": provider},
	})
	return string(text), err == nil
}

func (r *runner) openProvider(journal *origosim.Journal) (*origosim.Sim, error) {
	client := &http.Client{Timeout: 35 * time.Second, // the gateway gives up after 30 s
		Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	hook := r.world.API() + "/v1/webhooks/" + account
	return origosim.New(origosim.Options{
		Account: account, OrganizationID: organizationID, ClientID: clientID, ClientSecret: clientSecret,
		ApplicationID: applicationID, Now: r.world.Now,
		Load: journal.Load, Save: journal.Append, Replace: journal.Replace,
		Fault: func(op, _ string) (origosim.Fault, bool) {
			f, ok := r.world.Faults().Take("origo", op)
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
		Changed:  r.world.Changed,
		Switches: origosim.Switches{CancelFreesID: true},
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
	err := s.Provider.Seed(
		origosim.SeedPartNumber{PartNumber: "MID-SUB-CRD_FTPN_1001", FriendlyName: "HQ", Format: "H10301",
			FacilityCode: "42", First: 1, Count: 100},
		origosim.SeedPartNumber{PartNumber: "MID-SUB-CRD_FTPN_1002", FriendlyName: "Branches", Format: "H10301",
			FacilityCode: "43", First: 1, Count: 100},
	)
	if err != nil {
		return err
	}
	return s.Put("/v1/profiles/hq", `{"name":"HQ employees","account":"`+account+`",`+
		`"partNumber":"MID-SUB-CRD_FTPN_1001","invitationDays":7}`)
}

// seed runs the seed unless an earlier run has finished it.
func (r *runner) seed(ctx context.Context, api string) error {
	if r.cfg.Seed == nil {
		return nil
	}
	var done bool
	if _, err := r.world.Store().Get("run", "seeded", &done); err != nil || done {
		return err
	}
	err := r.cfg.Seed(ctx, &Seeder{Provider: r.sim, Put: func(path, body string) error {
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
