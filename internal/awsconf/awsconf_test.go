package awsconf_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"github.com/mobilecred/mobilecred/internal/awsconf"
)

func lambdaEnv() map[string]string {
	return map[string]string{
		"AWS_REGION":            "eu-central-2",
		"AWS_ACCESS_KEY_ID":     "AKIDTEST",
		"AWS_SECRET_ACCESS_KEY": "very-secret",
		"AWS_SESSION_TOKEN":     "session-1",
	}
}

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// calls makes one harmless request with each service client the functions link.
var calls = []struct {
	service, signingName string
	call                 func(context.Context, aws.Config) error
}{
	{awsconf.DynamoDB, "dynamodb", func(ctx context.Context, cfg aws.Config) error {
		_, err := dynamodb.NewFromConfig(cfg).ListTables(ctx, &dynamodb.ListTablesInput{})
		return err
	}},
	{awsconf.SESv2, "ses", func(ctx context.Context, cfg aws.Config) error {
		_, err := sesv2.NewFromConfig(cfg).GetAccount(ctx, &sesv2.GetAccountInput{})
		return err
	}},
	{awsconf.EventBridge, "events", func(ctx context.Context, cfg aws.Config) error {
		_, err := eventbridge.NewFromConfig(cfg).ListEventBuses(ctx, &eventbridge.ListEventBusesInput{})
		return err
	}},
	{awsconf.SecretsManager, "secretsmanager", func(ctx context.Context, cfg aws.Config) error {
		_, err := secretsmanager.NewFromConfig(cfg).ListSecrets(ctx, &secretsmanager.ListSecretsInput{})
		return err
	}},
}

func TestEachClientCallsItsEndpointSigned(t *testing.T) {
	for _, c := range calls {
		t.Run(c.service, func(t *testing.T) {
			var seen []*http.Request
			server := answer(t, &seen)
			env := lambdaEnv()
			env["AWS_ENDPOINT_URL_"+c.service] = server.URL
			cfg, err := awsconf.New(lookup(env), c.service)
			if err != nil {
				t.Fatal(err)
			}

			if err := c.call(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			// Keys are read when a request is signed, not once for all.
			env["AWS_ACCESS_KEY_ID"], env["AWS_SESSION_TOKEN"] = "AKIDNEXT", ""
			if err := c.call(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}

			if len(seen) != 2 {
				t.Fatalf("%d requests arrived, want 2", len(seen))
			}
			for i, key := range []string{"AKIDTEST", "AKIDNEXT"} {
				auth := seen[i].Header.Get("Authorization")
				if !strings.Contains(auth, "Credential="+key+"/") ||
					!strings.Contains(auth, "/eu-central-2/"+c.signingName+"/aws4_request") {
					t.Errorf("request %d is signed %q, want key %s, region eu-central-2, service %s",
						i, auth, key, c.signingName)
				}
			}
			if got := seen[0].Header.Get("X-Amz-Security-Token"); got != "session-1" {
				t.Errorf("session token %q, want session-1", got)
			}
			if got, ok := seen[1].Header["X-Amz-Security-Token"]; ok {
				t.Errorf("session token %q although there is none", got)
			}
		})
	}
}

func TestAThirdAttemptIsTheLastAndNoWaitIsLong(t *testing.T) {
	cfg, err := awsconf.New(lookup(lambdaEnv()), awsconf.DynamoDB)
	if err != nil {
		t.Fatal(err)
	}
	retryer := dynamodb.NewFromConfig(cfg).Options().Retryer
	if got := retryer.MaxAttempts(); got != 3 {
		t.Errorf("%d attempts, want 3", got)
	}
	for range 100 {
		if wait, err := retryer.RetryDelay(2, nil); err != nil || wait > time.Second {
			t.Fatalf("waits %v (%v) before the third attempt, want at most 1s", wait, err)
		}
	}
}

// lookup has 4 s before it has to answer, and the webhook 9 s for its secret and the bus.
func TestAnAttemptThatHangsLeavesTimeForAnother(t *testing.T) {
	for service, most := range map[string]time.Duration{
		awsconf.DynamoDB: 2 * time.Second, awsconf.SecretsManager: 2 * time.Second, awsconf.EventBridge: 2 * time.Second,
		awsconf.SESv2: 5 * time.Second,
	} {
		cfg, err := awsconf.New(lookup(lambdaEnv()), service)
		if err != nil {
			t.Fatal(err)
		}
		client, ok := cfg.HTTPClient.(*http.Client)
		if !ok {
			t.Fatalf("the client of %s tells no time limit: %T", service, cfg.HTTPClient)
		}
		if got := client.Timeout; got <= 0 || got > most {
			t.Errorf("an attempt at %s may take %v, want at most %v", service, got, most)
		}
	}
}

func TestWithoutEndpointTheClientUsesThePublicOne(t *testing.T) {
	env := lambdaEnv()
	env["AWS_ENDPOINT_URL_SESV2"] = "http://127.0.0.1:1"
	cfg, err := awsconf.New(lookup(env), awsconf.DynamoDB)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.BaseEndpoint != nil {
		t.Errorf("endpoint %s of another service was used", *cfg.BaseEndpoint)
	}
}

func TestErrorsNameTheVariable(t *testing.T) {
	tests := []struct {
		name  string
		set   map[string]string
		wants []string
	}{
		{"no region", map[string]string{"AWS_REGION": ""}, []string{"AWS_REGION"}},
		{"no key", map[string]string{"AWS_ACCESS_KEY_ID": ""}, []string{"AWS_ACCESS_KEY_ID"}},
		{"no secret", map[string]string{"AWS_SECRET_ACCESS_KEY": ""}, []string{"AWS_SECRET_ACCESS_KEY"}},
		{"all at once", map[string]string{
			"AWS_REGION": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL_DYNAMODB": "x"},
			[]string{"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_DYNAMODB"}},
		{"endpoint without scheme", map[string]string{"AWS_ENDPOINT_URL_DYNAMODB": "127.0.0.1:8082"},
			[]string{"AWS_ENDPOINT_URL_DYNAMODB"}},
		{"endpoint without host", map[string]string{"AWS_ENDPOINT_URL_DYNAMODB": "http://"},
			[]string{"AWS_ENDPOINT_URL_DYNAMODB"}},
		{"endpoint of another scheme", map[string]string{"AWS_ENDPOINT_URL_DYNAMODB": "ftp://host"},
			[]string{"AWS_ENDPOINT_URL_DYNAMODB"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := lambdaEnv()
			for k, v := range tt.set {
				env[k] = v
			}
			_, err := awsconf.New(lookup(env), awsconf.DynamoDB)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "very-secret") {
				t.Errorf("error %q holds a secret", err)
			}
		})
	}
}

// answer starts a server that records each request in seen and answers with an empty JSON object.
func answer(t *testing.T, seen *[]*http.Request) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An answer before the whole body is read makes the client's transport cut the connection.
		_, _ = io.Copy(io.Discard, r.Body)
		*seen = append(*seen, r)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	return server
}
