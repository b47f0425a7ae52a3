package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// The SDK repeats an attempt whose answer was lost, and single writes, unlike transactions, have no token that tells
// DynamoDB so. Their conditions therefore also hold when the write has already taken effect.

// update changes one item and returns it as it then is.
func (s *Store) update(ctx context.Context, op string, key pair, update, condition string, values item) (item, error) {
	var out *dynamodb.UpdateItemOutput
	err := s.retry(ctx, func() (err error) {
		out, err = s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &s.table, Key: key.item(), UpdateExpression: &update, ConditionExpression: &condition,
			ExpressionAttributeNames: names(update, condition), ExpressionAttributeValues: values,
			ReturnValues: types.ReturnValueAllNew,
		})
		return err
	})
	if err != nil {
		return nil, callersError(op, err)
	}
	return out.Attributes, nil
}

// put stores one item, in place of the one that may be there.
func (s *Store) put(ctx context.Context, op string, key pair, v any) error {
	it, err := encode(key, v)
	if err != nil {
		return err
	}
	return callersError(op, s.retry(ctx, func() error {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: it})
		return err
	}))
}

// remove deletes one item on a condition, if any.
func (s *Store) remove(ctx context.Context, op string, key pair, condition string, values item) error {
	return callersError(op, s.retry(ctx, func() error {
		_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: &s.table, Key: key.item(), ConditionExpression: optional(condition),
			ExpressionAttributeNames: optionalNames(condition), ExpressionAttributeValues: values,
		})
		return err
	}))
}

// WorkItem implements store.Work.
func (s *Store) WorkItem(ctx context.Context, holderID, account string) (credential.WorkItem, error) {
	return getExisting[credential.WorkItem](ctx, s, "work item", workKey(holderID, account))
}

// WorkItems implements store.Work; they are ordered by account.
func (s *Store) WorkItems(ctx context.Context, holderID string) ([]credential.WorkItem, error) {
	return all[credential.WorkItem](ctx, s, "work items", holderPrefix+holderID, works)
}

// Claim implements store.Work. Taking the claim one has already succeeds.
func (s *Store) Claim(ctx context.Context, holderID, account string, claim credential.Claim, now time.Time,
	onlyDue bool) (credential.WorkItem, error) {
	value, err := attributevalue.MarshalWithOptions(claim, encoding)
	if err != nil {
		return credential.WorkItem{}, fmt.Errorf("dynamo: encoding a claim: %w", err)
	}
	free := "(attribute_not_exists(#claim) OR #claim.#until <= :now)"
	if onlyDue {
		free += " AND #dueAt <= :now"
	}
	it, err := s.update(ctx, "claim", workKey(holderID, account), "SET #claim = :claim, #dueAt = :until REMOVE #wake",
		"attribute_exists(#pk) AND (#claim.#id = :id OR "+free+")",
		item{":claim": value, ":until": moment(claim.Until), ":id": text(claim.ID), ":now": moment(now)})
	if err != nil {
		return credential.WorkItem{}, err
	}
	return decode[credential.WorkItem](it)
}

func claimID(w credential.WorkItem) types.AttributeValue {
	if w.Claim == nil {
		return text("")
	}
	return text(w.Claim.ID)
}

// SaveWork implements store.Work.
func (s *Store) SaveWork(ctx context.Context, w credential.WorkItem) error {
	retry, err := attributevalue.MarshalWithOptions(w.Retry, encoding)
	if err != nil {
		return fmt.Errorf("dynamo: encoding a retry: %w", err)
	}
	_, err = s.update(ctx, "save work", workKey(w.HolderID, w.Account),
		"SET #userId = :user, #personHash = :person, #pictureRef = :picture, #retry = :retry", "#claim.#id = :id",
		item{":user": text(w.UserID), ":person": text(w.PersonHash), ":picture": text(w.PictureRef), ":retry": retry,
			":id": claimID(w)})
	return err
}

// Release implements store.Work. It succeeds, too, when the item already is as it would leave it.
func (s *Store) Release(ctx context.Context, w credential.WorkItem, drop bool) error {
	key, values := workKey(w.HolderID, w.Account), item{":id": claimID(w), ":added": number(w.Added)}
	if drop {
		return s.remove(ctx, "release", key, absent+" OR #claim.#id = :id AND #added = :added", values)
	}
	update, done := "REMOVE #claim, #dueAt, #wake", "attribute_not_exists(#dueAt)"
	if w.DueAt != nil {
		update, done = "SET #dueAt = :due REMOVE #claim, #wake", "#dueAt = :due"
		values[":due"] = moment(*w.DueAt)
	}
	_, err := s.update(ctx, "release", key, update,
		"#added = :added AND (#claim.#id = :id OR attribute_not_exists(#claim) AND "+done+")", values)
	return err
}

// Due implements store.Work.
func (s *Store) Due(ctx context.Context, account string, now time.Time, limit int) ([]credential.WorkRef, error) {
	var refs []credential.WorkRef
	condition := "#account = :account AND #dueAt <= :now"
	input := &dynamodb.QueryInput{
		TableName: &s.table, IndexName: aws.String("due"), KeyConditionExpression: &condition,
		ExpressionAttributeNames:  names(condition),
		ExpressionAttributeValues: item{":account": text(account), ":now": moment(now)},
	}
	for len(refs) < limit {
		input.Limit = aws.Int32(int32(limit - len(refs)))
		out, err := s.client.Query(ctx, input)
		if err != nil {
			return nil, callersError("due", err)
		}
		for _, it := range out.Items {
			entry, err := decode[struct {
				PK    string    `json:"pk"`
				DueAt time.Time `json:"dueAt"`
			}](it)
			if err != nil {
				return nil, err
			}
			refs = append(refs, credential.WorkRef{HolderID: strings.TrimPrefix(entry.PK, holderPrefix),
				Account: account, DueAt: entry.DueAt})
		}
		if len(out.LastEvaluatedKey) == 0 {
			break
		}
		input.ExclusiveStartKey = out.LastEvaluatedKey
	}
	return refs, nil
}

// PutStock implements store.AccountState.
func (s *Store) PutStock(ctx context.Context, stock credential.Stock) error {
	return s.put(ctx, "put stock", stockKey(stock.Account, stock.PartNumber), stock)
}

// Stock returns the stock of a part number as last seen; store.ErrNotFound when it was never seen.
func (s *Store) Stock(ctx context.Context, account, partNumber string) (credential.Stock, error) {
	return getExisting[credential.Stock](ctx, s, "stock", stockKey(account, partNumber))
}

// Bookmark implements store.AccountState.
func (s *Store) Bookmark(ctx context.Context, account string) (string, error) {
	feed, _, err := get[struct {
		Bookmark string `json:"bookmark"`
	}](ctx, s, "bookmark", feedKey(account))
	return feed.Bookmark, err
}

// SetBookmark implements store.AccountState. It succeeds, too, when the bookmark is at its aim already.
func (s *Store) SetBookmark(ctx context.Context, account, from, to string) error {
	condition := "#bookmark IN (:from, :to)"
	if from == "" || to == "" {
		condition += " OR attribute_not_exists(#bookmark)"
	}
	_, err := s.update(ctx, "set bookmark", feedKey(account), "SET #bookmark = :to", condition,
		item{":from": text(from), ":to": text(to)})
	return err
}

// Outage implements store.AccountState.
func (s *Store) Outage(ctx context.Context, account string) (credential.Outage, error) {
	outage, _, err := get[credential.Outage](ctx, s, "outage", outageKey(account))
	return outage, err
}

// SetOutage implements store.AccountState.
func (s *Store) SetOutage(ctx context.Context, account string, outage credential.Outage) error {
	if outage == (credential.Outage{}) {
		return s.remove(ctx, "set outage", outageKey(account), "", nil)
	}
	return s.put(ctx, "set outage", outageKey(account), outage)
}

// budgetKept is how long the count of a window is kept. It only has to outlast the window.
const budgetKept = 24 * time.Hour

// Spend counts one call of an account in the window that starts at a moment, and says whether that is within limit; a
// call beyond it is not counted. When DynamoDB's answer is lost, a call may be counted twice: making too few calls is
// safer than making too many.
func (s *Store) Spend(ctx context.Context, account string, window time.Time, limit int) (bool, error) {
	if limit < 1 {
		return false, nil
	}
	_, err := s.update(ctx, "spend", budgetKey(account, window), "ADD #n :one SET #ttl = :ttl",
		"attribute_not_exists(#n) OR #n < :limit",
		item{":one": number(1), ":limit": number(int64(limit)), ":ttl": expiry(window.Add(budgetKept))})
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}
