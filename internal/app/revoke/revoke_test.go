package revoke

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/store"
)

func TestConfiguredItReadsTheTable(t *testing.T) {
	aws := apptest.Start(t)
	handler := New(aws.Environment.Get, io.Discard)
	erase := apptest.Request("DELETE /v1/holders/{holderId}", "", "holderId", "E-1")
	apptest.Ask(t, handler, erase, 404, "holder_not_found")
	if asked := aws.Asked("GetItem"); len(asked) == 0 || !strings.Contains(asked[0], `"TableName":"the-table"`) {
		t.Errorf("the database was asked %q, want reads of the table", asked)
	}
}

func TestItErasesAHolder(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	handler := handler(apptest.Base(t), outside.Adapters())
	erase := apptest.Request("DELETE /v1/holders/{holderId}", "", "holderId", "E-1")
	apptest.Ask(t, handler, erase, 202, "")
	if h, err := outside.Store.Holder(t.Context(), "E-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the store still holds %+v (%v)", h, err)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndAnswers500(t *testing.T) {
	apptest.Misconfigured(t, New, apptest.Issuing, apptest.IssuingChecks, apptest.RefusedOverHTTP)
}

func TestWhenTheTableHangsItAnswersBeforeItsTimeLimit(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("GetItem")
	erase := apptest.Request("DELETE /v1/holders/{holderId}", "", "holderId", "E-1")
	apptest.InTime(t, New(aws.Environment.Get, io.Discard), erase)
}

func TestWhenTheStoreHeedsNoContextItStillAnswersBeforeItsTimeLimit(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	outside.HangStore(t, "Commit")
	erase := apptest.Request("DELETE /v1/holders/{holderId}", "", "holderId", "E-1")
	apptest.InTime(t, handler(apptest.Base(t), outside.Adapters()), erase)
}
