package stream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/stream"
	"github.com/mobilecred/mobilecred/internal/samlocal/tables"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

var (
	endpoint   string
	tableCount atomic.Int64 // the engine outlives a test, and with -count the same test comes again
)

func TestMain(m *testing.M) {
	var stop func()
	var err error
	if endpoint, stop, err = dynamodb.Start(context.Background(), "", 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

type event struct {
	Records []struct {
		EventName, EventSource, EventSourceARN string
		Dynamodb                               struct {
			SequenceNumber string
			NewImage       map[string]map[string]string
		}
	}
}

func (e event) names() string {
	var names []string
	for _, r := range e.Records {
		names = append(names, r.Dynamodb.NewImage["pk"]["S"])
	}
	return strings.Join(names, "")
}

// rig is a table of its own and a function that answers as told.
type rig struct {
	t      *testing.T
	table  string
	arn    string
	source template.Stream
	db     *state.DB
	m      *stream.Mapping
	stop   func()

	mu     sync.Mutex
	now    time.Time
	answer func(event) runtimeapi.Result
	got    []string
	buried []any
}

func newRig(t *testing.T, source template.Stream) *rig {
	table := fmt.Sprint(filepath.Base(t.Name()), ".", tableCount.Add(1))
	r := &rig{t: t, table: table, source: source, now: time.Now(), stop: func() {}}
	r.source.ID, r.source.Table = "FChanges", table
	err := tables.Ensure(
		t.Context(),
		endpoint,
		&template.Table{Name: table, TTLAttribute: "ttl", Create: map[string]any{
			"TableName": table, "BillingMode": "PAY_PER_REQUEST",
			"AttributeDefinitions": []any{map[string]any{"AttributeName": "pk", "AttributeType": "S"}},
			"KeySchema":            []any{map[string]any{"AttributeName": "pk", "KeyType": "HASH"}},
			"StreamSpecification":  map[string]any{"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"},
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if r.arn, err = tables.StreamARN(t.Context(), endpoint, table); err != nil || r.arn == "" {
		t.Fatal(r.arn, err)
	}
	if r.db, err = state.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	r.answer = func(event) runtimeapi.Result { return runtimeapi.Result{} }
	t.Cleanup(func() {
		r.stop()
		r.db.Close()
	})
	return r
}

func (r *rig) run() {
	r.m = stream.New(
		stream.Mapping{
			Source:    r.source,
			Function:  &template.Function{ARN: "arn:F"},
			StreamARN: r.arn,
			Endpoint:  endpoint,
			DB:        r.db,
			Now:       r.clock,
			Invoke:    r.invoke,
			Bury: func(_ string, message any) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.buried = append(r.buried, message)
				return nil
			},
		},
	)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.m.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) invoke(_ *template.Function, payload []byte) runtimeapi.Result {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, e.names())
	return r.answer(e)
}

func (r *rig) put(names ...string) {
	r.t.Helper()
	for _, n := range names {
		item := map[string]any{"TableName": r.table, "Item": map[string]any{"pk": map[string]string{"S": n}}}
		if err := dynamodb.Call(r.t.Context(), endpoint, "DynamoDB_20120810.PutItem", item, &struct{}{}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// settled waits until the stream has nothing to do now.
func (r *rig) settled() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for !r.m.Quiet(ctx) {
		if ctx.Err() != nil {
			r.t.Fatal("the stream does not come to rest")
		}
	}
}

func (r *rig) want(batches ...string) {
	r.t.Helper()
	r.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.got, batches) {
		r.t.Errorf("got %q, want %q", r.got, batches)
	}
	r.got = nil
}

func TestChangesArriveInOrderAndOnlyOnce(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 3, MaxRetries: -1})
	r.answer = func(e event) runtimeapi.Result {
		for _, rec := range e.Records {
			if rec.EventName != "INSERT" || rec.EventSource != "aws:dynamodb" || rec.EventSourceARN != r.arn ||
				rec.Dynamodb.SequenceNumber == "" {
				t.Errorf("got %+v", rec)
			}
		}
		return runtimeapi.Result{}
	}
	r.put("a", "b", "c", "d")
	r.run()
	r.want("abc", "d")
	r.stop()
	r.put("e")
	r.run()
	r.want("e")
}

func TestOnlyWhatFailedIsRepeated(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 10, MaxRetries: -1, ReportItem: true})
	r.answer = func(e event) runtimeapi.Result {
		if len(e.Records) < 4 {
			return runtimeapi.Result{Payload: []byte(`{"batchItemFailures":[]}`)}
		}
		// Out of order: the lowest of them counts.
		return runtimeapi.Result{
			Payload: fmt.Appendf(nil, `{"batchItemFailures":[{"itemIdentifier":%q},{"itemIdentifier":%q}]}`,
				e.Records[3].Dynamodb.SequenceNumber, e.Records[2].Dynamodb.SequenceNumber),
		}
	}
	r.put("a", "b", "c", "d")
	r.run()
	r.want("abcd")
	r.advance(time.Second)
	r.want("cd")
	r.advance(time.Hour)
	r.want()
}

func TestAnUnknownIdentifierRepeatsTheWholeBatch(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 10, MaxRetries: -1, ReportItem: true})
	r.answer = func(event) runtimeapi.Result {
		return runtimeapi.Result{Payload: []byte(`{"batchItemFailures":[{"itemIdentifier":"0b1c-event-id"}]}`)}
	}
	r.put("a", "b")
	r.run()
	r.want("ab")
	r.advance(time.Second)
	r.want("ab")
	r.advance(time.Second)
	r.want() // the second wait is longer
	r.advance(time.Second)
	r.want("ab")
}

func TestAPoisonRecordIsIsolatedAndGivenUp(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 10, MaxRetries: 1, Bisect: true, OnFailure: "Failed"})
	r.answer = func(e event) runtimeapi.Result {
		return runtimeapi.Result{Failed: strings.Contains(e.names(), "c")}
	}
	r.put("a", "b", "c", "d")
	r.run()
	r.want("abcd", "ab", "cd", "c")
	r.advance(time.Second)
	r.want("c", "d")
	text, _ := json.Marshal(r.buried)
	if len(r.buried) != 1 || !strings.Contains(string(text), `"batchSize":1`) {
		t.Errorf("got %s", text)
	}
}

func TestOnlyRecordsThatMatchAFilterArrive(t *testing.T) {
	name := func(prefix string) map[string]any {
		return map[string]any{"eventName": []any{"INSERT"}, "dynamodb": map[string]any{"Keys": map[string]any{
			"pk": map[string]any{"S": []any{map[string]any{"prefix": prefix}}}}}}
	}
	r := newRig(
		t,
		template.Stream{
			BatchSize:  10,
			MaxRetries: -1,
			ReportItem: true,
			Bisect:     true,
			Filters:    []map[string]any{name("b"), name("d")},
		},
	)
	r.answer = func(e event) runtimeapi.Result {
		if len(e.Records) == 1 {
			return runtimeapi.Result{}
		}
		return runtimeapi.Result{Failed: true}
	}
	r.put("a", "b", "c", "d", "e")
	r.run()
	r.want("bd", "b", "d")
	r.put("x")
	r.want()
}

func TestWhatFailsForTooLongIsGivenUp(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 10, MaxRetries: -1, MaxAge: time.Hour, OnFailure: "Failed"})
	r.advance(8 * 24 * time.Hour) // the world's clock, not the engine's
	r.answer = func(event) runtimeapi.Result { return runtimeapi.Result{Failed: true} }
	r.put("a")
	r.run()
	for _, wait := range []time.Duration{0, time.Hour, time.Minute} {
		r.advance(wait)
		r.want("a")
	}
	r.advance(time.Hour)
	r.want()
	if len(r.buried) != 1 {
		t.Errorf("got %v", r.buried)
	}
}

func TestARetrySurvivesARestart(t *testing.T) {
	r := newRig(t, template.Stream{BatchSize: 10, MaxRetries: 2})
	r.answer = func(event) runtimeapi.Result { return runtimeapi.Result{Failed: true} }
	r.put("a")
	r.run()
	r.want("a")
	r.stop()
	r.run()
	r.want()
	r.advance(time.Second)
	r.want("a")
	r.advance(2 * time.Second)
	r.want("a")
	r.advance(time.Hour)
	r.want() // given up without a destination
}
