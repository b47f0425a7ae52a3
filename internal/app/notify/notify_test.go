package notify

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/bus"
)

// batch is what the stream holds after a credential was revoked.
func batch() events.DynamoDBEvent {
	s := events.NewStringAttribute
	change := events.DynamoDBStreamRecord{
		SequenceNumber: "1",
		Keys:           map[string]events.DynamoDBAttributeValue{"pk": s("HOLDER#E-1"), "sk": s("HIST#c1#0000000004")},
		NewImage: map[string]events.DynamoDBAttributeValue{
			"id": s("c1-4"), "holderId": s("E-1"), "credentialId": s("c1"), "at": s("2026-11-23T09:00:00.000Z"),
			"event": s("revoke"), "from": s("activated"), "to": s("revoked"),
		},
	}
	return events.DynamoDBEvent{Records: []events.DynamoDBEventRecord{{EventName: "INSERT", Change: change}}}
}

func TestConfiguredItPublishesOnTheBus(t *testing.T) {
	aws := apptest.Start(t)
	aws.Answer("PutEvents", `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`)
	response, err := New(aws.Environment.Get, io.Discard)(t.Context(), batch())
	if err != nil || len(response.BatchItemFailures) != 0 {
		t.Errorf("%+v, %v", response, err)
	}
	published := aws.Asked("PutEvents")
	if len(published) != 1 || !strings.Contains(published[0], `"EventBusName":"the-bus"`) ||
		!strings.Contains(published[0], `"Source":"mobilecred"`) ||
		!strings.Contains(published[0], "Credential Revoked") {
		t.Errorf("published %q, want that the credential is revoked, on the bus", published)
	}
}

// recorder is a bus.
type recorder []string

func (r *recorder) Publish(_ context.Context, entries []bus.Entry) error {
	for _, e := range entries {
		*r = append(*r, e.DetailType)
	}
	return nil
}

func TestItPublishesTheHistory(t *testing.T) {
	var told recorder
	if _, err := handler(&told)(t.Context(), batch()); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != "Credential Revoked" {
		t.Errorf("published %q", told)
	}
}

func TestMisconfiguredItNamesEveryProblemOnceAndFailsEachBatch(t *testing.T) {
	invoke := func(t *testing.T, h Handler) string {
		_, err := h(t.Context(), batch())
		return apptest.Refused(t, err)
	}
	apptest.Misconfigured(t, New, apptest.Bus, []string{"AWS_ENDPOINT_URL_EVENTBRIDGE"}, invoke)
}

func TestWhenTheBusHangsItEndsBeforeItsTimeLimitAndTheBatchIsTriedAgain(t *testing.T) {
	aws := apptest.Start(t)
	aws.Hang("PutEvents")
	handler := New(aws.Environment.Get, io.Discard)
	apptest.EndsInTime(t, func(ctx context.Context) {
		response, err := handler(ctx, batch())
		if err == nil && len(response.BatchItemFailures) == 0 {
			t.Error("the batch counts as published")
		}
	})
}
