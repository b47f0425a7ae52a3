// Package dynamo is the store on DynamoDB: one table, laid out so that a holder is one partition.
//
// What belongs here: keys, conditions and expressions, and the handling of what only DynamoDB does: transaction
// conflicts, throttling, pages, keys left unprocessed, answers that get lost. What does not: deciding anything about
// credentials. What the methods mean is said in package store and at credential.Change, and held to by package
// storetest.
//
// Items are the domain's own structs under their JSON names, beside pk and sk. Names and e-mail are in HOLDER and
// PICTURE items only, the invitation's code in the credential's row only; keys hold ids.
package dynamo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/mobilecred/mobilecred/internal/backoff"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// API is what Store needs of *dynamodb.Client. The client itself repeats attempts that got no answer or were throttled.
type API interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput,
		...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput,
		error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput,
		error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput,
		...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Store implements the ports of package store and the lists that webapi's lookups read. It may be used concurrently.
// Every error other than store.ErrNotFound, store.ErrConflict and a refused cursor means that DynamoDB failed: a write
// may or may not have taken effect.
type Store struct {
	client API
	table  string

	backoff backoff.Backoff
	token   func() string
}

// New returns the store kept in a table, whose keys and indexes are those of template.yaml.
func New(client API, table string) *Store {
	return &Store{client: client, table: table, backoff: backoff.Backoff{First: firstWait, Most: maxWait},
		token: rand.Text}
}

// How often a request that met a transient refusal is made, and how long the waits between may get.
const (
	tries     = 8
	firstWait = 25 * time.Millisecond
	maxWait   = time.Second
)

type item = map[string]types.AttributeValue

// pair is the primary key of an item.
type pair struct{ pk, sk string }

func (p pair) item() item { return item{"pk": text(p.pk), "sk": text(p.sk)} }

const (
	profiles     = "PROFILES"
	credentials  = "CRED#"
	works        = "WORK#"
	warned       = "WARN#"
	holderPrefix = "HOLDER#"
)

func profileKey(id string) pair                { return pair{profiles, id} }
func holderKey(id string) pair                 { return pair{holderPrefix + id, "HOLDER"} }
func pictureKey(holderID string) pair          { return pair{holderPrefix + holderID, "PICTURE"} }
func credentialKey(holderID, id string) pair   { return pair{holderPrefix + holderID, credentials + id} }
func historyPrefix(credentialID string) string { return "HIST#" + credentialID + "#" }
func historyKey(h credential.HistoryEntry) pair {
	return pair{holderPrefix + h.HolderID, fmt.Sprintf("%s%010d", historyPrefix(h.CredentialID), h.Revision)}
}
func warnedKey(w credential.Warned) pair {
	return pair{holderPrefix + w.HolderID, warned + w.CredentialID + "#" + string(w.Code)}
}
func warningList(profileID string, code credential.WarningCode) string {
	return profileID + "#" + string(code)
}
func workKey(holderID, account string) pair     { return pair{holderPrefix + holderID, works + account} }
func idempotencyKey(holderID, hash string) pair { return pair{holderPrefix + holderID, "IDEM#" + hash} }
func seenKey(credentialID, hash string) pair {
	return pair{"SEEN#" + credentialID + "#" + hash, "SEEN"}
}
func ownerKey(account, mobileID string) pair {
	return pair{"MOBILE#" + account + "#" + mobileID, "OWNER"}
}
func refKey(account string, kind credential.RefKind, id string) pair {
	return pair{"REF#" + account + "#" + string(kind) + "#" + id, "REF"}
}
func slotKey(account, deviceID, profileID string) pair {
	return pair{"DEVICE#" + account + "#" + deviceID, "PROFILE#" + profileID}
}
func stockKey(account, partNumber string) pair {
	return pair{"ACCOUNT#" + account, "STOCK#" + partNumber}
}
func feedKey(account string) pair   { return pair{"ACCOUNT#" + account, "FEED"} }
func outageKey(account string) pair { return pair{"ACCOUNT#" + account, "OUTAGE"} }
func budgetKey(account string, window time.Time) pair {
	return pair{"ACCOUNT#" + account, "BUDGET#" + stamp(window)}
}

func stamp(t time.Time) string { return t.UTC().Format(credential.StampLayout) }

func text(s string) types.AttributeValue      { return &types.AttributeValueMemberS{Value: s} }
func moment(t time.Time) types.AttributeValue { return text(stamp(t)) }
func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// expiry is the attribute by which DynamoDB removes an item some time after a moment. It only saves space: no decision
// depends on it.
func expiry(t time.Time) types.AttributeValue { return number(t.Unix()) }

func encoding(o *attributevalue.EncoderOptions) {
	o.TagKey = "json"
	o.EncodeTime = func(t time.Time) (types.AttributeValue, error) { return moment(t), nil }
}

// encode makes the item of a struct.
func encode(key pair, v any) (item, error) {
	it, err := attributevalue.MarshalMapWithOptions(v, encoding)
	if err != nil {
		return nil, fmt.Errorf("dynamo: encoding %T: %w", v, err)
	}
	// DynamoDB takes an item without the key of an index, but none with an empty one.
	for _, name := range []string{"account", "profileId"} {
		if s, ok := it[name].(*types.AttributeValueMemberS); ok && s.Value == "" {
			delete(it, name)
		}
	}
	it["pk"], it["sk"] = text(key.pk), text(key.sk)
	return it, nil
}

func decode[T any](it item) (T, error) {
	var v T
	err := attributevalue.UnmarshalMapWithOptions(it, &v, func(o *attributevalue.DecoderOptions) { o.TagKey = "json" })
	if err != nil {
		return v, fmt.Errorf("dynamo: decoding %T: %w", v, err)
	}
	return v, nil
}

// Every attribute name is written #name in expressions, because many of them are reserved words of DynamoDB.
var placeholder = regexp.MustCompile(`#\w+`)

func names(expressions ...string) map[string]string {
	found := map[string]string{}
	for _, p := range placeholder.FindAllString(strings.Join(expressions, " "), -1) {
		found[p] = p[1:]
	}
	return found
}

// retry calls do until it succeeds, fails with an error that is not transient, has been tried eight times, or the
// context ends.
func (s *Store) retry(ctx context.Context, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if !transient(err) || try == tries-1 || s.backoff.Wait(ctx, try) != nil {
			return err
		}
	}
}

// transient reports whether the same request may succeed a moment later although the SDK does not repeat it: DynamoDB
// turns away overlapping transactions before it has judged their conditions.
func transient(err error) bool {
	var conflict *types.TransactionConflictException
	var running *types.TransactionInProgressException
	if errors.As(err, &conflict) || errors.As(err, &running) {
		return true
	}
	var cancelled *types.TransactionCanceledException
	return errors.As(err, &cancelled) && !conditionFailed(err) && slices.ContainsFunc(cancelled.CancellationReasons,
		func(r types.CancellationReason) bool {
			switch aws.ToString(r.Code) {
			case "TransactionConflict", "TransactionInProgress", "ProvisionedThroughputExceeded", "ThrottlingError":
				return true
			}
			return false
		})
}

// conditionFailed reports whether DynamoDB refused a write because its condition does not hold. Such a write is not
// repeated.
func conditionFailed(err error) bool {
	var one *types.ConditionalCheckFailedException
	if errors.As(err, &one) {
		return true
	}
	var cancelled *types.TransactionCanceledException
	return errors.As(err, &cancelled) && slices.ContainsFunc(cancelled.CancellationReasons,
		func(r types.CancellationReason) bool {
			return aws.ToString(r.Code) == "ConditionalCheckFailed"
		})
}

// callersError turns DynamoDB's error into the one that callers get: store.ErrConflict, or one that names the
// operation.
func callersError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case conditionFailed(err):
		return store.ErrConflict
	}
	return fmt.Errorf("dynamo: %s: %w", op, err)
}
