package awsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	sestypes "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"

	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/bus"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

type rig struct {
	db     *state.DB
	faults *faults.Faults
	bus    *bus.Bus
	cfg    aws.Config
	engine *httptest.Server
	reply  string

	mu    sync.Mutex
	calls []string // targets the engine got
}

var key = map[string]dbtypes.AttributeValue{"pk": &dbtypes.AttributeValueMemberS{Value: "x"}}

// newRig serves the services to the genuine SDK, with an engine that answers
// every DynamoDB call with one item.
func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{db: db, faults: faults.New(db), reply: `{"Item":{"pk":{"S":"x"}}}`}
	r.engine = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, req.Header.Get("X-Amz-Target")+" "+string(body))
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, r.reply)
	}))
	q, err := bus.NewQueue(
		db,
		time.Now,
		nil,
		func(*template.Function, []byte) runtimeapi.Result { return runtimeapi.Result{} },
		func() {},
	)
	if err != nil {
		t.Fatal(err)
	}
	r.bus = bus.New(q, []string{"toy"})
	s := httptest.NewServer(&awsapi.Server{DB: db, Faults: r.faults, Bus: r.bus, DynamoDB: r.engine.URL,
		Verified: "badges@example.com", Now: time.Now, Changed: func() {},
		Secret: func(name string) (string, bool) { return `{"a":1}`, name == "toy/key" }})
	t.Cleanup(func() {
		s.Close()
		r.engine.Close()
		db.Close()
	})
	r.cfg = aws.Config{Region: template.Region, BaseEndpoint: &s.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		})}
	return r
}

func (r *rig) order(t *testing.T, f faults.Fault) {
	t.Helper()
	if _, err := r.faults.Add(f); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func message(from string) *sesv2.SendEmailInput {
	return &sesv2.SendEmailInput{
		FromEmailAddress: &from,
		Destination:      &sestypes.Destination{ToAddresses: []string{"ada@example.com"}},
		Content: &sestypes.EmailContent{Simple: &sestypes.Message{
			Subject: &sestypes.Content{Data: aws.String("Your badge")},
			Body: &sestypes.Body{
				Html: &sestypes.Content{Data: aws.String("<p>hi</p>")},
				Text: &sestypes.Content{
					Data: aws.String("Code BPEX-LQTC-4E33-QT6N, app https://apps.example.com/x then http://other"),
				},
			}}},
	}
}

var code = regexp.MustCompile(`\b[A-Z0-9]{4}(?:-[A-Z0-9]{4}){3}\b`)

func TestAMailIsKeptAsItWasSent(t *testing.T) {
	r := newRig(t)
	out, err := sesv2.NewFromConfig(r.cfg).SendEmail(t.Context(), message("Toy <badges@example.com>"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := awsapi.Mails(r.db, code)
	if err != nil || len(got) != 1 {
		t.Fatalf("got %v %v", got, err)
	}
	m := got[0]
	if m.ID != *out.MessageId || m.To != "ada@example.com" || m.Subject != "Your badge" || m.HTML != "<p>hi</p>" ||
		m.Code != "BPEX-LQTC-4E33-QT6N" || m.Link != "https://apps.example.com/x" {
		t.Errorf("got %+v", m)
	}
}

func TestAnUnverifiedSenderIsRefused(t *testing.T) {
	r := newRig(t)
	_, err := sesv2.NewFromConfig(r.cfg).SendEmail(t.Context(), message("other@example.com"))
	wantCode(t, err, "MessageRejected")
	if got, _ := awsapi.Mails(r.db, code); len(got) != 0 {
		t.Errorf("it was sent: %v", got)
	}
}

func TestEntriesOfPutEventsSucceedAndFailOneByOne(t *testing.T) {
	r := newRig(t)
	entry := func(detail string) ebtypes.PutEventsRequestEntry {
		return ebtypes.PutEventsRequestEntry{
			Source:       aws.String("s"),
			DetailType:   aws.String("d"),
			Detail:       &detail,
			EventBusName: aws.String("toy"),
		}
	}
	client := eventbridge.NewFromConfig(r.cfg)
	out, err := client.PutEvents(
		t.Context(),
		&eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{entry(`{"n":1}`), entry(`nonsense`)}},
	)
	if err != nil || out.FailedEntryCount != 1 || out.Entries[0].EventId == nil ||
		aws.ToString(out.Entries[1].ErrorCode) != "MalformedDetail" {
		t.Errorf("got %+v %v", out, err)
	}
	_, err = client.PutEvents(
		t.Context(),
		&eventbridge.PutEventsInput{Entries: make([]ebtypes.PutEventsRequestEntry, 11)},
	)
	wantCode(t, err, "ValidationException")
	if list, err := r.bus.Events("toy"); len(list) != 1 || err != nil {
		t.Errorf("got %v %v", list, err)
	}
}

func TestSecrets(t *testing.T) {
	r := newRig(t)
	client := secretsmanager.NewFromConfig(r.cfg)
	out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("toy/key")})
	if err != nil || *out.SecretString != `{"a":1}` {
		t.Errorf("got %v %v", out, err)
	}
	_, err = client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("other")})
	wantCode(t, err, "ResourceNotFoundException")
}

func TestDynamoDBIsPassedOn(t *testing.T) {
	r := newRig(t)
	out, err := dynamodb.NewFromConfig(r.cfg).
		GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("t"), Key: key})
	if err != nil || len(out.Item) != 1 {
		t.Fatalf("got %v %v", out, err)
	}
	if len(r.calls) != 1 || r.calls[0] != `DynamoDB_20120810.GetItem {"Key":{"pk":{"S":"x"}},"TableName":"t"}` {
		t.Errorf("the engine got %q", r.calls)
	}
}

func TestFaultsLookLikeTheServicesOwn(t *testing.T) {
	table := aws.String("t")
	tests := []struct {
		fault faults.Fault
		call  func(*rig) error
		code  string
	}{
		{faults.Fault{Service: "ses", Kind: "throttle"}, send, "TooManyRequestsException"},
		{faults.Fault{Service: "ses", Kind: "error"}, send, "InternalServiceErrorException"},
		{faults.Fault{Service: "ses", Kind: "reject", Address: "Ada@example.com"}, send, "MessageRejected"},
		{faults.Fault{Service: "events", Op: "publish", Kind: "throttle"}, publish, "ThrottlingException"},
		{faults.Fault{Service: "events", Kind: "error"}, publish, "InternalException"},
		{faults.Fault{Service: "dynamodb", Op: "put", Kind: "throttle"}, func(r *rig) error {
			_, err := dynamodb.NewFromConfig(r.cfg).
				UpdateItem(context.Background(), &dynamodb.UpdateItemInput{TableName: table, Key: key})
			return err
		}, "ProvisionedThroughputExceededException"},
		{faults.Fault{Service: "dynamodb", Op: "transact", Kind: "throttle"}, func(r *rig) error {
			_, err := dynamodb.NewFromConfig(r.cfg).
				TransactWriteItems(context.Background(), &dynamodb.TransactWriteItemsInput{
					TransactItems: []dbtypes.TransactWriteItem{{Delete: &dbtypes.Delete{TableName: table, Key: key}}}})
			return err
		}, "ThrottlingException"},
		{faults.Fault{Service: "dynamodb", Kind: "error"}, func(r *rig) error {
			_, err := dynamodb.NewFromConfig(r.cfg).Query(context.Background(), &dynamodb.QueryInput{TableName: table})
			return err
		}, "InternalServerError"},
	}
	for _, tt := range tests {
		t.Run(tt.fault.Service+" "+tt.fault.Kind, func(t *testing.T) {
			r := newRig(t)
			r.order(t, tt.fault)
			wantCode(t, tt.call(r), tt.code)
			if len(r.calls) != 0 {
				t.Errorf("it took effect: %q", r.calls)
			}
			if err := tt.call(r); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func send(r *rig) error {
	_, err := sesv2.NewFromConfig(r.cfg).SendEmail(context.Background(), message("badges@example.com"))
	return err
}

func publish(r *rig) error {
	_, err := eventbridge.NewFromConfig(r.cfg).PutEvents(context.Background(), &eventbridge.PutEventsInput{
		Entries: []ebtypes.PutEventsRequestEntry{
			{Source: aws.String("s"), DetailType: aws.String("d"), Detail: aws.String("{}")},
		}})
	return err
}

func TestALostAnswerTookEffect(t *testing.T) {
	for _, f := range []faults.Fault{
		{Service: "ses", Kind: "timeout", When: "after", HoldMs: 1},
		{Service: "ses", Kind: "error", When: "after"},
	} {
		r := newRig(t)
		r.order(t, f)
		if err := send(r); err == nil {
			t.Errorf("%s: no error", f.Kind)
		}
		if got, err := awsapi.Mails(r.db, code); len(got) != 1 || err != nil {
			t.Errorf("%s: %d mails, want 1 (%v)", f.Kind, len(got), err)
		}
	}
}

func TestMailToOneAddressIsRefusedForGood(t *testing.T) {
	r := newRig(t)
	r.order(t, faults.Fault{Service: "ses", Kind: "reject", Count: 1 << 20, Address: "tom@example.com"})
	client := sesv2.NewFromConfig(r.cfg)
	for range 3 {
		toTom := message("badges@example.com")
		toTom.Destination.ToAddresses = []string{"Tom <tom@example.com>"}
		_, err := client.SendEmail(t.Context(), toTom)
		wantCode(t, err, "MessageRejected")
		if err := send(r); err != nil {
			t.Errorf("to another address: %v", err)
		}
	}
	if got, _ := awsapi.Mails(r.db, code); len(got) != 3 {
		t.Errorf("%d mails, want 3", len(got))
	}
}

func TestATimeoutLastsUntilTheClientGivesUp(t *testing.T) {
	r := newRig(t)
	r.order(t, faults.Fault{Service: "ses", Kind: "timeout"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := sesv2.NewFromConfig(r.cfg).SendEmail(ctx, message("badges@example.com")); !errors.Is(
		err,
		context.DeadlineExceeded,
	) {
		t.Errorf("got %v", err)
	}
	if got, _ := awsapi.Mails(r.db, code); len(got) != 0 {
		t.Errorf("it was sent: %v", got)
	}
}

func TestWhatIsNotServedSaysSo(t *testing.T) {
	r := newRig(t)
	resp, err := http.Post(*r.cfg.BaseEndpoint+"/other", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Message string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != 400 ||
		!strings.Contains(body.Message, "not served") {
		t.Errorf("got %d %+v %v", resp.StatusCode, body, err)
	}
}

// A server on the same machine can answer before the client's transport is through with the request, and the SDK loses
// such answers when they are large.
func TestNoAnswerIsLostForBeingFast(t *testing.T) {
	r := newRig(t)
	r.reply = `{"Item":{"pk":{"S":"` + strings.Repeat("x", 60<<10) + `"}}}`
	db, bus := dynamodb.NewFromConfig(r.cfg), eventbridge.NewFromConfig(r.cfg)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				_, err := db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("t"), Key: key})
				if err != nil {
					t.Errorf("large answer: %v", err)
				}
				_, err = bus.PutEvents(t.Context(),
					&eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{{
						Source: aws.String("s"), DetailType: aws.String("d"), Detail: aws.String("{}")}}})
				if err != nil {
					t.Errorf("small answer: %v", err)
				}
			}
		})
	}
	group.Wait()
}
