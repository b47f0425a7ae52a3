package notify

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/bus"
)

// counted counts what it publishes, and fails as the real bus does when a detail cannot be encoded.
type counted int

func (c *counted) Publish(_ context.Context, entries []bus.Entry) error {
	for i, e := range entries {
		if _, err := json.Marshal(e.Detail); err != nil || e.DetailType == "" {
			left := &bus.Error{Entries: len(entries), Cause: err}
			for ; i < len(entries); i++ {
				left.Failed = append(left.Failed, i)
			}
			return left
		}
		*c++
	}
	return nil
}

// FuzzStream delivers any batch of stream records: nothing panics, at most one record is named as the first that
// failed, it is one of the batch, and the records before it are not held up.
func FuzzStream(f *testing.F) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	for _, seed := range []string{
		`{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"1","Keys":{"pk":{"S":"HOLDER#E-1"},` +
			`"sk":{"S":"HIST#c1#0000000004"}},"NewImage":{"id":{"S":"c1-4"},"holderId":{"S":"E-1"},` +
			`"at":{"S":"2026-11-23T09:00:00.000Z"},"event":{"S":"revoke"},"from":{"S":"activated"},` +
			`"to":{"S":"revoked"},"revision":{"N":"4"},"anomaly":{"BOOL":true},"mobile":{"M":{"id":{"S":"P:56"}}}}}}]}`,
		`{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"2","Keys":{"sk":{"S":"HIST#"}},` +
			`"NewImage":{"revision":{"N":"1e99"},"at":{"S":"x"}}}}]}`,
		`{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"3","Keys":{"sk":{"N":"1"}}}}]}`,
		`{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"4","Keys":{"sk":{"S":"HIST#"}},` +
			`"NewImage":{"a":{"NULL":true},"b":{"L":[{"B":"AA=="},{"SS":["x"]}]},"c":{"N":""}}}}]}`,
		`{"Records":[{"eventName":"REMOVE"},{}]}`, `{"Records":null}`, `{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var batch events.DynamoDBEvent
		if !parse(text, &batch) {
			return // Lambda's own runtime refuses it
		}
		var n counted
		response, err := Handler(&n)(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		var sequence []string
		for _, r := range batch.Records {
			sequence = append(sequence, r.Change.SequenceNumber)
		}
		switch failed := response.BatchItemFailures; {
		case len(failed) > 1:
			t.Fatalf("%d records are named as the first that failed", len(failed))
		case len(failed) == 1 && !slices.Contains(sequence, failed[0].ItemIdentifier):
			t.Fatalf("record %q is not of the batch", failed[0].ItemIdentifier)
		}
		if int(n) > len(batch.Records) {
			t.Fatalf("%d events of %d records", n, len(batch.Records))
		}
	})
}

// parse reads a batch as Lambda's runtime does. The library that reads attributes panics on some that DynamoDB never
// sends, such as a null among the values of a set.
func parse(text []byte, batch *events.DynamoDBEvent) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return json.Unmarshal(text, batch) == nil
}
