package assign

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/app/wiring"
)

const route = "POST /v1/holders/{holderId}/credentials"

func TestConfiguredItReadsTheTable(t *testing.T) {
	aws := apptest.Start(t)
	handler := New(aws.Environment.Get, io.Discard)
	apptest.Ask(t, handler, apptest.Request(route, `{"profileId":"hq"}`, "holderId", "E-1"), 404, "holder_not_found")
	if asked := aws.Asked("GetItem"); len(asked) == 0 || !strings.Contains(asked[0], `"TableName":"the-table"`) {
		t.Errorf("the database was asked %q, want reads of the table", asked)
	}
}

func TestItReservesAndMails(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	handler := handler(apptest.Base(t), outside.Adapters())
	body := apptest.Ask(t, handler, apptest.Request(route, `{"profileId":"hq"}`, "holderId", "E-1"), 201, "")
	if !strings.Contains(body, `"id":"the-id"`) || !strings.Contains(body, `"mobileId":"P:56"`) {
		t.Errorf("answers %s, want the new credential with what the provider reserved", body)
	}
	if len(outside.Mailed) != 1 || outside.Mailed[0].To != "aimee@example.com" {
		t.Errorf("mailed %+v, want one invitation to the holder", outside.Mailed)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndAnswers500(t *testing.T) {
	apptest.Misconfigured(t, New, apptest.Issuing, apptest.IssuingChecks, apptest.RefusedOverHTTP)
}

var assign = apptest.Request(route, `{"profileId":"hq"}`, "holderId", "E-1")

func TestWhenTheTableHangsItAnswersBeforeItsTimeLimit(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("GetItem")
	apptest.InTime(t, New(aws.Environment.Get, io.Discard), assign)
}

func TestWhenTheStoreHeedsNoContextItStillAnswersBeforeItsTimeLimit(t *testing.T) {
	for _, operation := range []string{"Holder", "Commit"} {
		t.Run(operation, func(t *testing.T) {
			outside := apptest.NewOutside()
			outside.Describe(t)
			outside.HangStore(t, operation)
			apptest.InTime(t, handler(apptest.Base(t), outside.Adapters()), assign)
		})
	}
}

func TestWhenTheProviderHangsTheStoredAssignmentIsTheAnswer(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	outside.Hangs = true
	handler := handler(apptest.Base(t), outside.Adapters())
	limited := func(
		_ context.Context, req events.APIGatewayV2HTTPRequest,
	) (events.APIGatewayV2HTTPResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), wiring.Reserve+2*time.Second+apptest.Spare)
		defer cancel()
		return handler(ctx, req)
	}
	body := apptest.Ask(t, limited, assign, 202, "")
	if !strings.Contains(body, `"id":"the-id"`) || !strings.Contains(body, `"state":"pending"`) {
		t.Errorf("answers %s, want the credential, pending at the provider", body)
	}
}
