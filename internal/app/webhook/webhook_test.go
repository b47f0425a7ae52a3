package webhook

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
)

const deleted = `[{"specversion":"1.0","id":"1","type":"com.origo.mi.user","time":"2026-11-20T10:12:05Z",` +
	`"data":{"organization_id":"1","userId":"103367","status":"USER_DELETED"}}]`

func call(secret string) events.APIGatewayV2HTTPRequest {
	req := apptest.Request("POST /v1/webhooks/{account}", deleted, "account", "acme-origo")
	req.RequestContext.Authorizer = nil // a provider has no token of ours
	req.Headers["x-webhook-secret"] = secret
	return req
}

func TestConfiguredItChecksTheAccountsSecretAndPublishes(t *testing.T) {
	aws := apptest.Start(t)
	handler := New(aws.Environment.Get, io.Discard)
	apptest.Ask(t, handler, call("another-secret-of-a-webhook"), 401, "wrong_secret")
	if published := aws.Asked("PutEvents"); len(published) != 0 {
		t.Errorf("a forged call was published: %q", published)
	}
	apptest.Ask(t, handler, call(apptest.WebhookSecret), 200, "")
	if read := aws.Asked("GetSecretValue"); len(read) != 1 || !strings.Contains(read[0], `"the/prefix/acme-origo"`) {
		t.Errorf("the secrets %q were read, want the account's, once", read)
	}
	published := aws.Asked("PutEvents")
	if len(published) != 1 || !strings.Contains(published[0], `"EventBusName":"the-bus"`) ||
		!strings.Contains(published[0], `"Source":"mobilecred.provider"`) || !strings.Contains(published[0], "103367") {
		t.Errorf("published %q, want the event of user 103367 on the bus", published)
	}
}

// outside is an account's secret and the bus.
type outside struct{ published []bus.Entry }

func (o *outside) Account(_ context.Context, name string) (accounts.Account, error) {
	return accounts.Account{Name: name, WebhookHeader: "X-Webhook-Secret",
		WebhookSecrets: []credential.Secret{apptest.WebhookSecret}}, nil
}

func (o *outside) Publish(_ context.Context, entries []bus.Entry) error {
	o.published = append(o.published, entries...)
	return nil
}

func TestItPublishesWhatAProviderReports(t *testing.T) {
	var o outside
	apptest.Ask(t, handler(apptest.Base(t), &o, &o), call(apptest.WebhookSecret), 200, "")
	if len(o.published) != 1 || o.published[0].Detail.(provider.UserFacts).UserID != "103367" {
		t.Errorf("published %+v, want the facts of user 103367", o.published)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndAnswers500(t *testing.T) {
	apptest.Misconfigured(t, New, append(apptest.Bus, "ACCOUNTS", "SECRETS_PREFIX"),
		[]string{"ACCOUNTS", "AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL_SECRETS_MANAGER"},
		apptest.RefusedOverHTTP)
}

func TestWhenAnotherServiceHangsItAnswersBeforeItsTimeLimit(t *testing.T) {
	for _, operation := range []string{"GetSecretValue", "PutEvents"} {
		t.Run(operation, func(t *testing.T) {
			aws := apptest.Start(t)
			aws.Hang(operation)
			apptest.InTime(t, New(aws.Environment.Get, io.Discard), call(apptest.WebhookSecret))
		})
	}
}
