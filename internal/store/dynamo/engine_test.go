package dynamo_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.yaml.in/yaml/v3"

	"github.com/mobilecred/mobilecred/internal/credential"
	engine "github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
	"github.com/mobilecred/mobilecred/internal/store/dynamo"
	"github.com/mobilecred/mobilecred/internal/store/memory"
	"github.com/mobilecred/mobilecred/internal/store/storetest"
)

// endpoint is where the one engine of this test binary answers.
var endpoint string

func TestMain(m *testing.M) {
	// Enough to find a condition that was forgotten, and no files left in the source tree; the command line wins.
	_ = flag.Set("rapid.checks", "25")
	_ = flag.Set("rapid.nofailfile", "true")
	var stop func()
	var err error
	if endpoint, stop, err = engine.Start(context.Background(), "", 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return dynamo.New(strict{client(nil), t}, newTable(t)) })
}

// strict fails a test whose store does not ask for a strongly consistent read. The engine alone would not show that: it
// always answers with the newest state.
type strict struct {
	*dynamodb.Client
	t *testing.T
}

func (s strict) check(consistent *bool) {
	if !aws.ToBool(consistent) {
		s.t.Error("a read that is not strongly consistent")
	}
}

func (s strict) GetItem(ctx context.Context, in *dynamodb.GetItemInput,
	o ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	s.check(in.ConsistentRead)
	return s.Client.GetItem(ctx, in, o...)
}

func (s strict) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput,
	o ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	for _, request := range in.RequestItems {
		s.check(request.ConsistentRead)
	}
	return s.Client.BatchGetItem(ctx, in, o...)
}

func (s strict) Query(ctx context.Context, in *dynamodb.QueryInput,
	o ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if in.IndexName == nil { // no index can be read so
		s.check(in.ConsistentRead)
	}
	return s.Client.Query(ctx, in, o...)
}

func TestModel(t *testing.T) {
	storetest.RunModel(t,
		func(t *testing.T) storetest.Store { return dynamo.New(client(nil), newTable(t)) },
		func(*testing.T) storetest.Store { return &memory.Store{} })
}

// client speaks to the engine, through a transport when given.
func client(transport http.RoundTripper) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: &endpoint,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		}),
		HTTPClient: &http.Client{Transport: transport},
		Retryer:    retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond }),
	})
}

// template is the table as template.yaml describes it, so that the tests run on what is deployed.
var template = sync.OnceValues(func() (*dynamodb.CreateTableInput, error) {
	text, err := os.ReadFile("../../../template.yaml")
	if err != nil {
		return nil, err
	}
	type keySchema []struct {
		AttributeName string        `yaml:"AttributeName"`
		KeyType       types.KeyType `yaml:"KeyType"`
	}
	var stack struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &stack); err != nil {
		return nil, err
	}
	for _, r := range stack.Resources {
		if r.Type != "AWS::DynamoDB::Table" {
			continue
		}
		var table struct {
			AttributeDefinitions []struct {
				AttributeName string                    `yaml:"AttributeName"`
				AttributeType types.ScalarAttributeType `yaml:"AttributeType"`
			} `yaml:"AttributeDefinitions"`
			KeySchema              keySchema `yaml:"KeySchema"`
			GlobalSecondaryIndexes []struct {
				IndexName  string    `yaml:"IndexName"`
				KeySchema  keySchema `yaml:"KeySchema"`
				Projection struct {
					ProjectionType types.ProjectionType `yaml:"ProjectionType"`
				} `yaml:"Projection"`
			} `yaml:"GlobalSecondaryIndexes"`
		}
		if err := r.Properties.Decode(&table); err != nil {
			return nil, err
		}
		keys := func(schema keySchema) (elements []types.KeySchemaElement) {
			for _, k := range schema {
				elements = append(elements, types.KeySchemaElement{AttributeName: aws.String(k.AttributeName),
					KeyType: k.KeyType})
			}
			return elements
		}
		input := &dynamodb.CreateTableInput{BillingMode: types.BillingModePayPerRequest,
			KeySchema: keys(table.KeySchema)}
		for _, a := range table.AttributeDefinitions {
			input.AttributeDefinitions = append(input.AttributeDefinitions,
				types.AttributeDefinition{AttributeName: aws.String(a.AttributeName), AttributeType: a.AttributeType})
		}
		for _, x := range table.GlobalSecondaryIndexes {
			input.GlobalSecondaryIndexes = append(input.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
				IndexName: aws.String(x.IndexName), KeySchema: keys(x.KeySchema),
				Projection: &types.Projection{ProjectionType: x.Projection.ProjectionType},
			})
		}
		return input, nil
	}
	return nil, errors.New("template.yaml has no table")
})

var tables atomic.Int64

// newTable creates a table of its own for a test.
func newTable(t *testing.T) string {
	t.Helper()
	like, err := template()
	if err != nil {
		t.Fatal(err)
	}
	input := *like
	input.TableName = aws.String(fmt.Sprint("mobilecred-", tables.Add(1)))
	if _, err := client(nil).CreateTable(t.Context(), &input); err != nil {
		t.Fatal(err)
	}
	return *input.TableName
}

// lossy loses the answer of the next request of one operation: it takes effect, and the connection breaks.
type lossy struct {
	op   string
	lost atomic.Bool
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+l.op) && l.lost.CompareAndSwap(false, true) {
		resp.Body.Close()
		return nil, errors.New("connection reset")
	}
	return resp, err
}

// TestLostAnswers: the SDK repeats a write that got no answer, and the second attempt does not mistake the effect of
// the first for a change by another process.
func TestLostAnswers(t *testing.T) {
	ctx := t.Context()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	touch := credential.Change{At: noon, Touch: []credential.Touch{{HolderID: "h", Account: "acme"}}}
	claim := credential.Claim{ID: "me", Until: noon.Add(time.Minute)}
	mine := credential.WorkItem{HolderID: "h", Account: "acme", Claim: &claim, Added: 1}
	var healthy *dynamo.Store
	take := func() error {
		_, err := healthy.Claim(ctx, "h", "acme", claim, noon, true)
		return err
	}
	nothing := func() error { return nil }
	for _, tt := range []struct {
		name, op string
		before   func() error
		do       func(s *dynamo.Store) error
	}{
		{"commit", "TransactWriteItems", nothing, func(s *dynamo.Store) error {
			return s.Commit(ctx, credential.Change{Holder: &credential.Holder{ID: "h", Revision: 1},
				Seen: []credential.Seen{{CredentialID: "c", Hash: "x"}}})
		}},
		{"claim", "UpdateItem", nothing, func(s *dynamo.Store) error {
			got, err := s.Claim(ctx, "h", "acme", claim, noon, true)
			if err == nil && (got.Claim == nil || *got.Claim != claim || got.Added != 1) {
				t.Errorf("claimed %+v", got)
			}
			return err
		}},
		{"save work", "UpdateItem", take, func(s *dynamo.Store) error { return s.SaveWork(ctx, mine) }},
		{"release", "UpdateItem", take, func(s *dynamo.Store) error { return s.Release(ctx, mine, false) }},
		{"release and drop", "DeleteItem", take, func(s *dynamo.Store) error { return s.Release(ctx, mine, true) }},
		{"bookmark", "UpdateItem", nothing, func(s *dynamo.Store) error { return s.SetBookmark(ctx, "acme", "", "x") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t)
			healthy = dynamo.New(client(nil), table)
			if err := errors.Join(healthy.Commit(ctx, touch), tt.before()); err != nil {
				t.Fatal(err)
			}
			transport := &lossy{op: tt.op}
			if err := tt.do(dynamo.New(client(transport), table)); err != nil || !transport.lost.Load() {
				t.Errorf("got %v, answer lost: %v", err, transport.lost.Load())
			}
		})
	}
}

// TestItems looks at what is in the table: the keys of DESIGN, personal data and codes only where they may be, and in
// the indexes only what they are for.
func TestItems(t *testing.T) {
	ctx := t.Context()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	name := newTable(t)
	s := dynamo.New(client(nil), name)
	row := credential.Credential{ID: "c", HolderID: "h", ProfileID: "p", Account: "acme", CreatedAt: noon, Revision: 1}
	row.Invitation.Code = "the code"
	err := errors.Join(
		s.Commit(ctx, credential.Change{
			At: noon, Profile: &credential.Profile{ID: "p", Revision: 1},
			Holder: &credential.Holder{ID: "h", FirstName: "Ada", LastName: "Lovelace",
				Email: "ada@example.com", Revision: 1},
			Picture:     &credential.Picture{HolderID: "h", Data: []byte{0xff, 0xd8}},
			Credentials: []credential.Credential{row},
			History: []credential.HistoryEntry{{HolderID: "h", CredentialID: "c", ProfileID: "p", Account: "acme",
				Revision: 1}},
			Owners:      []credential.Owner{{Account: "acme", MobileID: "MID:56", Revision: 1}},
			Refs:        []credential.Ref{{Account: "acme", Kind: credential.RefUser, ID: "17", HolderID: "h"}},
			Slots:       []credential.Slot{{Account: "acme", DeviceID: "d", ProfileID: "p", CredentialID: "c"}},
			Seen:        []credential.Seen{{CredentialID: "c", Hash: "x", ExpiresAt: noon}},
			Idempotency: &credential.Idempotency{HolderID: "h", Hash: "y", ExpiresAt: noon},
			Touch:       []credential.Touch{{HolderID: "h", Account: "acme"}},
		}),
		s.PutStock(ctx, credential.Stock{Account: "acme", PartNumber: "MID"}),
		s.SetBookmark(ctx, "acme", "", "b"),
		s.SetOutage(ctx, "acme", credential.Outage{Since: noon}),
	)
	if _, e := s.Spend(ctx, "acme", noon, 1); err != nil || e != nil {
		t.Fatal(err, e)
	}
	want := map[string]bool{
		"PROFILES p": true, "HOLDER#h HOLDER": true, "HOLDER#h PICTURE": true, "HOLDER#h CRED#c": true,
		"HOLDER#h HIST#c#0000000001": true,
		"HOLDER#h IDEM#y":            true, "HOLDER#h WORK#acme": true, "SEEN#c#x SEEN": true,
		"MOBILE#acme#MID:56 OWNER": true,
		"REF#acme#user#17 REF":     true,
		"DEVICE#acme#d PROFILE#p":  true, "ACCOUNT#acme STOCK#MID": true, "ACCOUNT#acme FEED": true,
		"ACCOUNT#acme OUTAGE":                          true,
		"ACCOUNT#acme BUDGET#2026-03-01T12:00:00.000Z": true,
	}
	scan := func(index *string) (items []map[string]types.AttributeValue) {
		out, err := client(nil).Scan(ctx, &dynamodb.ScanInput{TableName: &name, IndexName: index})
		if err != nil {
			t.Fatal(err)
		}
		return out.Items
	}
	text := func(v types.AttributeValue) string {
		s, _ := v.(*types.AttributeValueMemberS)
		if s == nil {
			return ""
		}
		return s.Value
	}
	ttl := map[string]string{"SEEN#c#x SEEN": fmt.Sprint(noon.Unix()), "HOLDER#h IDEM#y": fmt.Sprint(noon.Unix()),
		"ACCOUNT#acme BUDGET#2026-03-01T12:00:00.000Z": fmt.Sprint(noon.Add(24 * time.Hour).Unix())}
	got := map[string]bool{}
	for _, it := range scan(nil) {
		key := text(it["pk"]) + " " + text(it["sk"])
		got[key] = true
		all := words(it)
		if strings.Contains(all, "Ada") != (key == "HOLDER#h HOLDER") ||
			strings.Contains(all, "@") != (key == "HOLDER#h HOLDER") {
			t.Errorf("names in %s", key)
		}
		if strings.Contains(all, "the code") != (key == "HOLDER#h CRED#c") {
			t.Errorf("the code in %s", key)
		}
		n, _ := it["ttl"].(*types.AttributeValueMemberN)
		if (n != nil) != (ttl[key] != "") || n != nil && n.Value != ttl[key] {
			t.Errorf("%s expires at %v, want %q", key, n, ttl[key])
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for index, want := range map[string]map[string]string{
		"due":       {"pk": "HOLDER#h", "sk": "WORK#acme", "account": "acme", "dueAt": "2026-03-01T12:00:00.000Z"},
		"byProfile": {"pk": "HOLDER#h", "sk": "CRED#c", "profileId": "p", "listKey": "2026-03-01T12:00:00.000Z#c"},
	} {
		items := scan(&index)
		if len(items) != 1 {
			t.Errorf("index %s has %d entries, want 1", index, len(items))
			continue
		}
		got := map[string]string{}
		for name, v := range items[0] {
			got[name] = text(v)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("index %s: got %v, want %v", index, got, want)
		}
	}
}

// words joins all texts of an item, however deep.
func words(it map[string]types.AttributeValue) string {
	var all []string
	for _, v := range it {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			all = append(all, v.Value)
		case *types.AttributeValueMemberM:
			all = append(all, words(v.Value))
		}
	}
	return strings.Join(all, "\n")
}
