package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// troubled is a table that refuses in ways DynamoDB Local never does. It keeps what is put and answers the next writes
// with the given errors; the methods it lacks must not be called.
type troubled struct {
	API
	errs        []error // of the next writes, one each
	writes      int
	tokens      map[string]bool
	items       map[pair]item
	unprocessed int // so many batches leave all but one key undone
	batches     int
}

func (f *troubled) write() error {
	f.writes++
	if len(f.errs) == 0 {
		return nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return err
}

func (f *troubled) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput,
	_ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if f.tokens == nil {
		f.tokens = map[string]bool{}
	}
	f.tokens[aws.ToString(in.ClientRequestToken)] = true
	return &dynamodb.TransactWriteItemsOutput{}, f.write()
}

func (f *troubled) UpdateItem(context.Context, *dynamodb.UpdateItemInput,
	...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return &dynamodb.UpdateItemOutput{}, f.write()
}

func (f *troubled) Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput,
	error) {
	out := &dynamodb.QueryOutput{}
	for key := range f.items {
		entry := key.item()
		entry["listKey"] = text("2026-03-01T12:00:00.000Z#" + strings.TrimPrefix(key.sk, credentials))
		out.Items = append(out.Items, entry)
	}
	return out, nil
}

func (f *troubled) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput,
	_ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	f.batches++
	request := in.RequestItems["table"]
	done := len(request.Keys)
	if f.batches <= f.unprocessed {
		done = 1
	}
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]item{}}
	for _, key := range request.Keys[:done] {
		p := pair{key["pk"].(*types.AttributeValueMemberS).Value, key["sk"].(*types.AttributeValueMemberS).Value}
		out.Responses["table"] = append(out.Responses["table"], f.items[p])
	}
	if done < len(request.Keys) {
		request.Keys = request.Keys[done:]
		out.UnprocessedKeys = map[string]types.KeysAndAttributes{"table": request}
	}
	return out, nil
}

// impatient returns a store on a fake that does not wait, and the waits it would have made, each the longest it could
// have drawn.
func impatient(f *troubled) (*Store, *[]time.Duration) {
	s := New(f, "table")
	var waits []time.Duration
	s.backoff.Rand = func() float64 { return 1 }
	s.backoff.Sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	return s, &waits
}

func cancelled(codes ...string) error {
	err := &types.TransactionCanceledException{}
	for _, c := range codes {
		err.CancellationReasons = append(err.CancellationReasons, types.CancellationReason{Code: aws.String(c)})
	}
	return fmt.Errorf("operation error: %w", err)
}

func repeat(err error, n int) (errs []error) {
	for range n {
		errs = append(errs, err)
	}
	return errs
}

func TestTroubledCommits(t *testing.T) {
	unwell := errors.New("unwell") // stands for any error that is neither nil nor ErrConflict
	for _, tt := range []struct {
		name   string
		errs   []error
		want   error
		writes int
	}{
		{"conflict, then success", []error{cancelled("None", "TransactionConflict")}, nil, 2},
		{"throttled, then success", []error{cancelled("ThrottlingError"), cancelled("ProvisionedThroughputExceeded",
			"None")}, nil, 3},
		{"its own first attempt still running", []error{&types.TransactionInProgressException{}}, nil, 2},
		{"condition failed", []error{cancelled("None", "ConditionalCheckFailed")}, store.ErrConflict, 1},
		{"condition failed beside a conflict", []error{cancelled("TransactionConflict", "ConditionalCheckFailed")},
			store.ErrConflict, 1},
		{"conflict, then condition failed", []error{cancelled("TransactionConflict"),
			cancelled("ConditionalCheckFailed")}, store.ErrConflict, 2},
		{"conflict without end", repeat(cancelled("TransactionConflict"), tries+1), unwell, tries},
		{"refused as malformed", []error{cancelled("ValidationError")}, unwell, 1},
		{"not even reached", []error{errors.New("dial: no route")}, unwell, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &troubled{errs: tt.errs}
			s, waits := impatient(f)
			err := s.Commit(t.Context(), credential.Change{Holder: &credential.Holder{ID: "h", Email: "ada@example.com",
				Revision: 1}})
			switch {
			case tt.want == unwell:
				if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
					t.Errorf("got %v, want an error that says unwell", err)
				}
			case !errors.Is(err, tt.want):
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "ada") {
				t.Errorf("personal data in %q", err)
			}
			if f.writes != tt.writes || len(*waits) != tt.writes-1 || len(f.tokens) != 1 || f.tokens[""] {
				t.Errorf("%d attempts, %d waits, tokens %v; want %d attempts under one token", f.writes, len(*waits),
					f.tokens, tt.writes)
			}
		})
	}
}

func TestEveryCommitHasItsOwnToken(t *testing.T) {
	f := &troubled{}
	s, _ := impatient(f)
	for range 3 {
		if err := s.Commit(t.Context(), credential.Change{DropPicture: "h"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.tokens) != 3 {
		t.Errorf("%d tokens for 3 commits", len(f.tokens))
	}
	for token := range f.tokens {
		if len(token) > 36 {
			t.Errorf("token %q is longer than DynamoDB takes", token)
		}
	}
}

// A single write can meet a transaction, too.
func TestTroubledClaims(t *testing.T) {
	f := &troubled{errs: repeat(&types.TransactionConflictException{}, 2)}
	s, _ := impatient(f)
	if _, err := s.Claim(t.Context(), "h", "acme", credential.Claim{ID: "me"}, time.Time{}, false); err != nil ||
		f.writes != 3 {
		t.Errorf("got %v after %d attempts, want success at the third", err, f.writes)
	}
	f.errs = []error{&types.ConditionalCheckFailedException{}}
	if _, err := s.Claim(t.Context(), "h", "acme", credential.Claim{ID: "me"}, time.Time{}, false); !errors.Is(err,
		store.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestWaits(t *testing.T) {
	f := &troubled{errs: repeat(cancelled("TransactionConflict"), tries)}
	s, waits := impatient(f)
	if s.Commit(t.Context(), credential.Change{DropPicture: "h"}) == nil {
		t.Fatal("committed")
	}
	want := firstWait
	for i, d := range *waits {
		if d != want {
			t.Errorf("wait %d is at most %v, want %v", i, d, want)
		}
		want = min(2*want, maxWait)
	}
	s.backoff.Rand, *waits = func() float64 { return 0 }, nil
	f.errs = []error{cancelled("TransactionConflict")}
	if err := s.Commit(t.Context(), credential.Change{DropPicture: "h"}); err != nil || (*waits)[0] != 0 {
		t.Errorf("got %v, and a wait of %v with the other side of the dice", err, *waits)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &troubled{errs: repeat(cancelled("TransactionConflict"), tries)}
	s, _ := impatient(f)
	if err := s.Commit(ctx, credential.Change{DropPicture: "h"}); err == nil || errors.Is(err, store.ErrConflict) ||
		f.writes != 1 {
		t.Errorf("got %v after %d attempts, want an error after the first", err, f.writes)
	}
}

func TestUnprocessedKeysAreAskedForAgain(t *testing.T) {
	for _, tt := range []struct {
		unprocessed int
		ok          bool
	}{{0, true}, {2, true}, {100, false}} {
		f := &troubled{items: map[pair]item{}, unprocessed: tt.unprocessed}
		for i := range 20 {
			c := credential.Credential{ID: fmt.Sprint(i), HolderID: "h", ProfileID: "p", Revision: 1}
			key := credentialKey(c.HolderID, c.ID)
			it, err := encode(key, c)
			if err != nil {
				t.Fatal(err)
			}
			f.items[key] = it
		}
		s, waits := impatient(f)
		rows, _, err := s.ListCredentials(t.Context(), credential.Page{ProfileID: "p", Limit: 50})
		if tt.ok && (err != nil || len(rows) != 20 || len(*waits) != tt.unprocessed) {
			t.Errorf("%d times unprocessed: %d rows, %d waits, %v", tt.unprocessed, len(rows), len(*waits), err)
		}
		if !tt.ok && err == nil {
			t.Errorf("%d rows and no error though keys remain", len(rows))
		}
	}
}
