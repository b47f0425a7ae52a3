package directory

import (
	"io"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

const profile = `{"name":"HQ","account":"acme-origo","partNumber":"MID-SUB-CRD_FTPN_1001","timeZone":"Europe/Zurich"}`

func TestConfiguredItWritesToTheTable(t *testing.T) {
	aws := apptest.Start(t)
	handler := New(aws.Environment.Get, io.Discard)
	put := apptest.Request("PUT /v1/profiles/{profileId}", profile, "profileId", "hq")
	apptest.Ask(t, handler, put, 201, "")
	written := aws.Asked("TransactWriteItems")
	if len(written) != 1 || !strings.Contains(written[0], `"TableName":"the-table"`) {
		t.Errorf("the database was asked to write %q, want one transaction on the table", written)
	}
	put.Body = strings.Replace(profile, "acme-origo", "another", 1)
	apptest.Ask(t, handler, put, 422, "validation_failed")
}

func TestItStoresProfilesAndHolders(t *testing.T) {
	base, store := apptest.Base(t), &memory.Store{}
	handler := handler(base, store, []string{"acme-origo"})
	apptest.Ask(t, handler, apptest.Request("PUT /v1/profiles/{profileId}", profile, "profileId", "hq"), 201, "")
	apptest.Ask(t, handler, apptest.Request("PUT /v1/holders/{holderId}",
		`{"kind":"cardholder","firstName":"Aimée","lastName":"Tremblay","email":"aimee@example.com"}`,
		"holderId", "E-1"), 201, "")
	patch := apptest.Request("PATCH /v1/holders/{holderId}", `{"firstName":"Zoë"}`, "holderId", "E-1")
	patch.Headers["content-type"] = "application/merge-patch+json"
	apptest.Ask(t, handler, patch, 200, "")

	p, err := store.Profile(t.Context(), "hq")
	if err != nil || p.Name != "HQ" || !p.CreatedAt.Equal(apptest.Now) {
		t.Errorf("the store holds the profile %+v (%v)", p, err)
	}
	if h, err := store.Holder(t.Context(), "E-1"); err != nil || h.LastName != "Tremblay" ||
		h.FirstName != "Zoë" {
		t.Errorf("the store holds the holder %+v (%v)", h, err)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndAnswers500(t *testing.T) {
	apptest.Misconfigured(t, New, append(apptest.Table, "ACCOUNTS"), []string{"ACCOUNTS", "AWS_ENDPOINT_URL_DYNAMODB"},
		apptest.RefusedOverHTTP)
}

func TestWhenTheTableHangsItAnswersBeforeItsTimeLimit(t *testing.T) {
	for _, operation := range []string{"GetItem", "TransactWriteItems"} {
		t.Run(operation, func(t *testing.T) {
			aws := apptest.Start(t)
			aws.Hang(operation)
			put := apptest.Request("PUT /v1/profiles/{profileId}", profile, "profileId", "hq")
			apptest.InTime(t, New(aws.Environment.Get, io.Discard), put)
		})
	}
}
