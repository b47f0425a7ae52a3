package accounts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
)

// manager is Secrets Manager with what it holds; it fails while err is set.
type manager struct {
	secrets map[string]string
	err     error
	reads   int
}

func (m *manager) GetSecretValue(_ context.Context, in *secretsmanager.GetSecretValueInput,
	_ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	m.reads++
	if m.err != nil {
		return nil, m.err
	}
	text, ok := m.secrets[*in.SecretId]
	if !ok {
		return nil, errors.New("ResourceNotFoundException")
	}
	return &secretsmanager.GetSecretValueOutput{SecretString: &text}, nil
}

// secret is a good one, changed.
func secret(t *testing.T, changes map[string]any) string {
	t.Helper()
	fields := map[string]any{"type": "origo", "organizationId": "1003233", "clientId": "1003233-OSRV1",
		"clientSecret":  "CANARY-client",
		"applicationId": "APP", "applicationVersion": "1.0", "webhookHeader": "X-Webhook-Secret",
		"webhookSecrets": []string{"CANARY-current-secret", "CANARY-previous-secret"}, "callsPerWindow": 200,
		"endpoints": map[string]any{}}
	for name, value := range changes {
		fields[name] = value
		if value == nil {
			delete(fields, name)
		}
	}
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func TestAccountIsReadFromItsSecret(t *testing.T) {
	m := &manager{secrets: map[string]string{"mobilecred/accounts/acme-origo": secret(t, map[string]any{
		"webhookSecrets": []string{"CANARY-current-secret", ""}, "callsPerWindow": nil,
		"endpoints": map[string]any{"token": "http://127.0.0.1:9000"}, "new": 1})}}
	s := accounts.New(m, "mobilecred/accounts/", []string{"acme-origo"}, time.Now)
	a, err := s.Account(t.Context(), "acme-origo")
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "acme-origo" || a.ClientSecret.Reveal() != "CANARY-client" || a.CallsPerWindow != 300 ||
		a.Endpoints.Token != "http://127.0.0.1:9000" ||
		!slices.Equal(a.WebhookSecrets, []credential.Secret{"CANARY-current-secret"}) {
		t.Errorf("%+v", a)
	}
	if text := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(text, "CANARY") {
		t.Errorf("printing an account tells its secrets: %s", text)
	}
	if _, err := s.Account(t.Context(), "other"); !errors.Is(err, accounts.ErrUnknown) || m.reads != 1 {
		t.Errorf("unknown account: %v, %d reads", err, m.reads)
	}
	if !slices.Equal(s.Names(), []string{"acme-origo"}) {
		t.Errorf("names %v", s.Names())
	}
}

func TestEveryProblemIsNamedAtOnceAndNoValueRepeated(t *testing.T) {
	for _, tt := range []struct {
		secret string
		want   []string
	}{
		{`CANARY`, []string{"not the JSON object"}},
		{`"CANARY"`, []string{"not the JSON object"}},
		{`{"clientSecret": {"CANARY": 1}}`, []string{"not the JSON object"}},
		{`{}`, []string{"type is", "organizationId is missing", "clientId is missing", "clientSecret is missing",
			"applicationId is missing",
			"applicationVersion is missing", "webhookHeader is", "webhookSecrets is"}},
		{secret(t, map[string]any{"type": "CANARY", "webhookHeader": "CANARY: x", "callsPerWindow": -1,
			"webhookSecrets": []string{"CANARY", "CANARY"},
			"endpoints": map[string]any{"token": "http://CANARY.example", "management": "CANARY",
				"events": "https://user:CANARY@example.com"}}),
			[]string{"type is", "webhookHeader is", "callsPerWindow is", "webhookSecrets[0] is", "webhookSecrets[1] is",
				"endpoints.token is", "endpoints.management is", "endpoints.events is"}},
		{secret(t, map[string]any{"webhookSecrets": []string{"CANARY-current-secret", "CANARY-current-secret",
			"CANARY-current-secret"}}), []string{"webhookSecrets is"}},
		{secret(t, map[string]any{"endpoints": map[string]any{"token": "https://api.example/"}}),
			[]string{"endpoints.token is"}},
	} {
		m := &manager{secrets: map[string]string{"p/a": tt.secret}}
		_, err := accounts.New(m, "p/", []string{"a"}, time.Now).Account(t.Context(), "a")
		if err == nil {
			t.Errorf("%s is accepted", tt.secret)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if got := strings.Count(err.Error(), "\n") + 1; got != len(tt.want) {
			t.Errorf("%d problems, want %d: %v", got, len(tt.want), err)
		}
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("the error repeats a value: %v", err)
		}
	}
}

func TestAccountIsCachedAndOutlivesAnOutage(t *testing.T) {
	at := &clock{time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	m := &manager{secrets: map[string]string{"p/a": secret(t, nil)}, err: errors.New("down")}
	s := accounts.New(m, "p/", []string{"a"}, at.now)
	if _, err := s.Account(t.Context(), "a"); err == nil {
		t.Fatal("an account out of nothing")
	}
	m.err = nil
	for _, step := range []struct {
		after  time.Duration
		err    error
		change any
		want   string
		reads  int
	}{
		{0, nil, nil, "1003233-OSRV1", 2},
		{4 * time.Minute, nil, "rotated", "1003233-OSRV1", 2},
		{time.Minute, errors.New("down"), nil, "1003233-OSRV1", 3},
		{time.Second, errors.New("down"), nil, "1003233-OSRV1", 3},
		{time.Minute, nil, nil, "rotated", 4},
	} {
		at.Time = at.Add(step.after)
		m.err = step.err
		if step.change != nil {
			m.secrets["p/a"] = secret(t, map[string]any{"clientId": step.change})
		}
		a, err := s.Account(t.Context(), "a")
		if err != nil || a.ClientID != step.want || m.reads != step.reads {
			t.Errorf("after %v: %q, %d reads, %v", step.after, a.ClientID, m.reads, err)
		}
	}
	at.Time = at.Add(time.Hour)
	m.secrets["p/a"] = "broken by hand"
	if _, err := s.Account(t.Context(), "a"); err == nil {
		t.Error("a broken secret goes unnoticed")
	}
}
