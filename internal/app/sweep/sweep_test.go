package sweep

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
)

func TestConfiguredItSweepsEveryAccountWithinTheBackgroundsShare(t *testing.T) {
	aws := apptest.Start(t)
	environment := aws.Environment.With("ACCOUNTS", "acme-origo,acme-two")
	if _, err := New(environment.Get, io.Discard)(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"acme-origo", "acme-two"} {
		if read := strings.Join(aws.Asked("GetSecretValue"), " "); !strings.Contains(read, `"the/prefix/`+account+`"`) {
			t.Errorf("the secrets %s were read, without that of %s", read, account)
		}
		noted := strings.Join(aws.Asked("PutItem"), " ") // the provider of the tests issues no token
		if !strings.Contains(noted, `"the-table"`) || !strings.Contains(noted, account) {
			t.Errorf("the trouble of %s was not noted: %s", account, noted)
		}
	}
	spent := strings.Join(aws.Asked("UpdateItem"), " ")
	if !strings.Contains(spent, `":limit":{"N":"210"}`) || strings.Contains(spent, `{"N":"300"}`) {
		t.Errorf("the calls were counted as %s, want 70 %% of 300 as their limit", spent)
	}
}

func TestItNotesThatAProviderIsDown(t *testing.T) {
	base, outside := apptest.Base(t), apptest.NewOutside()
	outside.Down = true
	if _, err := handler(base, outside.Adapters(), []string{"acme-origo"})(t.Context()); err != nil {
		t.Fatal(err)
	}
	if outage, err := outside.Store.Outage(t.Context(), "acme-origo"); err != nil || !outage.Since.Equal(apptest.Now) {
		t.Errorf("%+v, %v: want that the account is in trouble since now", outage, err)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndFailsEachTick(t *testing.T) {
	apptest.Misconfigured(t, New, apptest.Issuing, apptest.IssuingChecks, func(t *testing.T, h Handler) string {
		_, err := h(t.Context())
		return apptest.Refused(t, err)
	})
}

func TestWhenTheTableHangsItEndsBeforeItsTimeLimit(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("GetItem")
	aws.Hang("Query")
	handler := New(aws.Environment.Get, io.Discard)
	apptest.EndsInTime(t, func(ctx context.Context) {
		if _, err := handler(ctx); err == nil {
			t.Error("the tick counts as swept")
		}
	})
}
