package lookup

import (
	"io"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
)

func TestConfiguredItReadsTheTable(t *testing.T) {
	aws := apptest.Start(t)
	handler := New(aws.Environment.Get, io.Discard)
	get := apptest.Request("GET /v1/profiles/{profileId}", "", "profileId", "hq")
	apptest.Ask(t, handler, get, 404, "profile_not_found")
	asked := aws.Asked("GetItem")
	if len(asked) != 1 || !strings.Contains(asked[0], `"TableName":"the-table"`) {
		t.Errorf("the database was asked %q, want one read of the table", asked)
	}
}

func TestItAnswersWithWhatTheStoreHolds(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	body := apptest.Ask(t, handler(apptest.Base(t), outside.Store, nil), apptest.Request("GET /v1/profiles", ""), 200, "")
	if !strings.Contains(body, `"name":"HQ"`) {
		t.Errorf("the profile is not in the answer: %s", body)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndAnswers500(t *testing.T) {
	apptest.Misconfigured(t, New, append(apptest.Table, "ACCOUNTS"),
		[]string{"ACCOUNTS", "AWS_ENDPOINT_URL_DYNAMODB"}, apptest.RefusedOverHTTP)
}

func TestWhenTheTableHangsItAnswersBeforeItsTimeLimit(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("GetItem")
	get := apptest.Request("GET /v1/profiles/{profileId}", "", "profileId", "hq")
	apptest.InTime(t, New(aws.Environment.Get, io.Discard), get)
}
