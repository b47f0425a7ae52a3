package cleanup

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/credential"
)

// reserved says that a user the table does not know was given a mobile ID. The provider is asked about it only if the
// mobile ID is ours.
var reserved = events.EventBridgeEvent{Source: "mobilecred.provider", DetailType: "Provider User Changed",
	Detail: json.RawMessage(`{"account":"acme-origo","userId":"103367",
		"facts":[{"what":"credential","status":"reserved","ref":"1","mobileId":"P:56"}]}`)}

func TestConfiguredItAsksTheProviderWithinTheBackgroundsShare(t *testing.T) {
	aws := apptest.Start(t)
	aws.Answer("GetItem", `{"Item":{"pk":{"S":"x"},"state":{"S":"spent"},"holderId":{"S":"E-1"}}}`)
	// The provider of the tests issues no token: that is the account's trouble, and no failure of the event.
	if err := New(aws.Environment.Get, io.Discard)(t.Context(), reserved); err != nil {
		t.Error(err)
	}
	if read := aws.Asked("GetSecretValue"); len(read) != 1 || !strings.Contains(read[0], `"the/prefix/acme-origo"`) {
		t.Errorf("the secrets %q were read, want the account's", read)
	}
	spent := strings.Join(aws.Asked("UpdateItem"), " ")
	if !strings.Contains(spent, `"the-table"`) || !strings.Contains(spent, `":limit":{"N":"210"}`) {
		t.Errorf("the call was counted as %s, want 70 %% of 300 as its limit, in the table", spent)
	}
}

func TestItAsksTheProviderAfterAnEventAndRefusesOthers(t *testing.T) {
	outside := apptest.NewOutside()
	spent := credential.Owner{Account: "acme-origo", MobileID: "P:56", State: credential.OwnerSpent, Revision: 1}
	err := outside.Store.Commit(t.Context(), credential.Change{Owners: []credential.Owner{spent}})
	if err != nil {
		t.Fatal(err)
	}
	handler := handler(apptest.Base(t), outside.Adapters())
	if err := handler(t.Context(), reserved); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(outside.Read, []string{"103367"}) {
		t.Errorf("the users %q were read at the provider, want the one of the event", outside.Read)
	}
	if err := handler(t.Context(), events.EventBridgeEvent{Source: "another"}); err == nil {
		t.Error("an event of another source is taken for a provider's")
	}
}

func TestItDoesWhatIsDueWhenTheBusTells(t *testing.T) {
	outside := apptest.NewOutside()
	outside.Describe(t)
	touch := credential.Change{Touch: []credential.Touch{{HolderID: "E-1", Account: "acme-origo", Wake: true}}}
	if err := outside.Store.Commit(t.Context(), touch); err != nil {
		t.Fatal(err)
	}
	handler := handler(apptest.Base(t), outside.Adapters())
	due := events.EventBridgeEvent{Source: "mobilecred", DetailType: "Work Due",
		Detail: json.RawMessage(`{"id":"E-1/acme-origo/1","holderId":"E-1","account":"acme-origo"}`)}
	if err := handler(t.Context(), due); err != nil {
		t.Fatal(err)
	}
	item, err := outside.Store.WorkItem(t.Context(), "E-1", "acme-origo")
	if err != nil || item.DueAt != nil || item.Wake != nil {
		t.Errorf("%+v, %v; want it worked off", item, err)
	}
	due.Detail = json.RawMessage(`{"account":"acme-origo"}`)
	if err := handler(t.Context(), due); err == nil {
		t.Error("an event that names no holder is taken for work")
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndFailsEachEvent(t *testing.T) {
	apptest.Misconfigured(t, New, apptest.Issuing, apptest.IssuingChecks, func(t *testing.T, h Handler) string {
		return apptest.Refused(t, h(t.Context(), reserved))
	})
}

func TestWhenTheTableHangsItEndsBeforeItsTimeLimitAndTheEventIsTriedAgain(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("GetItem")
	aws.Hang("Query")
	handler := New(aws.Environment.Get, io.Discard)
	apptest.EndsInTime(t, func(ctx context.Context) {
		if err := handler(ctx, reserved); err == nil {
			t.Error("the event counts as dealt with")
		}
	})
}
