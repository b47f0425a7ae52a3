package dynamo

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// get reads one item, strongly consistent. found is false, and the value zero, when there is none.
func get[T any](ctx context.Context, s *Store, op string, key pair) (v T, found bool, err error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key.item(),
		ConsistentRead: aws.Bool(true)})
	if err != nil || out.Item == nil {
		return v, false, callersError(op, err)
	}
	v, err = decode[T](out.Item)
	return v, err == nil, err
}

// getExisting is get for an item that a caller expects: store.ErrNotFound when it is not there.
func getExisting[T any](ctx context.Context, s *Store, op string, key pair) (T, error) {
	v, found, err := get[T](ctx, s, op, key)
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return v, err
}

// all reads the items of a partition whose sort keys have a prefix, in the order of these.
func all[T any](ctx context.Context, s *Store, op, pk, prefix string) ([]T, error) {
	condition, values := "#pk = :pk", item{":pk": text(pk)}
	if prefix != "" {
		condition += " AND begins_with(#sk, :prefix)"
		values[":prefix"] = text(prefix)
	}
	input := &dynamodb.QueryInput{
		TableName: &s.table, KeyConditionExpression: &condition, ExpressionAttributeNames: names(condition),
		ExpressionAttributeValues: values, ConsistentRead: aws.Bool(true),
	}
	var found []T
	for {
		out, err := s.client.Query(ctx, input)
		if err != nil {
			return nil, callersError(op, err)
		}
		for _, it := range out.Items {
			v, err := decode[T](it)
			if err != nil {
				return nil, err
			}
			found = append(found, v)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return found, nil
		}
		input.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Profile implements store.Rows.
func (s *Store) Profile(ctx context.Context, profileID string) (credential.Profile, error) {
	return getExisting[credential.Profile](ctx, s, "profile", profileKey(profileID))
}

// Profiles implements store.Rows.
func (s *Store) Profiles(ctx context.Context) ([]credential.Profile, error) {
	return all[credential.Profile](ctx, s, "profiles", profiles, "")
}

// Holder implements store.Rows.
func (s *Store) Holder(ctx context.Context, holderID string) (credential.Holder, error) {
	return getExisting[credential.Holder](ctx, s, "holder", holderKey(holderID))
}

// Picture implements store.Rows.
func (s *Store) Picture(ctx context.Context, holderID string) (credential.Picture, error) {
	return getExisting[credential.Picture](ctx, s, "picture", pictureKey(holderID))
}

// Credential implements store.Rows.
func (s *Store) Credential(ctx context.Context, holderID, credentialID string) (credential.Credential, error) {
	return getExisting[credential.Credential](ctx, s, "credential", credentialKey(holderID, credentialID))
}

// Credentials implements store.Rows.
func (s *Store) Credentials(ctx context.Context, holderID string) ([]credential.Credential, error) {
	rows, err := all[credential.Credential](ctx, s, "credentials", holderPrefix+holderID, credentials)
	// They come ordered by id, and remain so within one moment.
	slices.SortStableFunc(rows, func(a, b credential.Credential) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return rows, err
}

// Owner implements store.Rows.
func (s *Store) Owner(ctx context.Context, account, mobileID string) (credential.Owner, error) {
	return getExisting[credential.Owner](ctx, s, "owner", ownerKey(account, mobileID))
}

// Ref implements store.Rows.
func (s *Store) Ref(ctx context.Context, account string, kind credential.RefKind, id string) (credential.Ref, error) {
	return getExisting[credential.Ref](ctx, s, "reference", refKey(account, kind, id))
}

// Slot implements store.Rows.
func (s *Store) Slot(ctx context.Context, account, deviceID, profileID string) (credential.Slot, error) {
	return getExisting[credential.Slot](ctx, s, "slot", slotKey(account, deviceID, profileID))
}

// Seen implements store.Rows.
func (s *Store) Seen(ctx context.Context, credentialID, hash string) (bool, error) {
	_, found, err := get[credential.Seen](ctx, s, "seen", seenKey(credentialID, hash))
	return found, err
}

// Idempotency implements store.Rows. It may still return an item that has expired.
func (s *Store) Idempotency(ctx context.Context, holderID, hash string) (credential.Idempotency, error) {
	return getExisting[credential.Idempotency](ctx, s, "idempotency", idempotencyKey(holderID, hash))
}

// History returns the history of a credential, oldest first.
func (s *Store) History(ctx context.Context, holderID, credentialID string) ([]credential.HistoryEntry, error) {
	return all[credential.HistoryEntry](ctx, s, "history", holderPrefix+holderID, historyPrefix(credentialID))
}

const (
	maxExamined = 1000 // rows one call of ListCredentials looks at
	batch       = 100  // what one BatchGetItem takes
)

// listed is an entry of the index byProfile, or of byWarning.
type listed struct {
	PK         string `json:"pk"`
	SK         string `json:"sk"`
	ListKey    string `json:"listKey"`
	WarningKey string `json:"warningKey"`
}

// ofCredential is an entry of byWarning as one of its credential.
func (e listed) ofCredential() listed {
	id, _, _ := strings.Cut(strings.TrimPrefix(e.SK, warned), "#")
	return listed{PK: e.PK, SK: credentials + id, ListKey: e.WarningKey}
}

// ListCredentials returns up to page.Limit credentials of a profile, the newest first, or those with a warning, the
// oldest warning first, and the cursor of what follows, empty at the end. A page may hold fewer, or none, before the
// end: one call examines at most 1000 rows for the status asked for. A cursor of another list, or one this method did
// not return, is refused with credential.CodeInvalidCursor. The index, which may be some seconds old, only says which
// rows there are; what they hold is read from the rows.
func (s *Store) ListCredentials(ctx context.Context, page credential.Page) ([]credential.Credential, string, error) {
	limit := max(page.Limit, 1)
	after, err := page.Position()
	if err != nil {
		return nil, "", err
	}
	var found []credential.Credential
	for examined := 0; examined < maxExamined; {
		size, missing := min(batch, maxExamined-examined), limit-len(found)
		if page.Status == "" || missing == 0 {
			size = min(size, missing+1) // one more, to know whether there is more
		}
		entries, more, err := s.listed(ctx, page, after, size)
		if err != nil {
			return nil, "", err
		}
		if missing == 0 {
			if len(entries) == 0 && !more {
				after = ""
			}
			return found, page.CursorAfter(after), nil
		}
		rows, err := s.rows(ctx, entries)
		if err != nil {
			return nil, "", err
		}
		for _, e := range entries {
			if len(found) == limit {
				return found, page.CursorAfter(after), nil
			}
			after = e.ListKey
			examined++
			if row, ok := rows[pair{e.PK, e.SK}]; ok && (page.Status == "" || row.Status == page.Status) {
				found = append(found, row)
			}
		}
		if !more {
			return found, "", nil
		}
	}
	return found, page.CursorAfter(after), nil
}

// listed reads up to size entries of a list after a position.
func (s *Store) listed(ctx context.Context, page credential.Page, after string, size int) (entries []listed,
	more bool, err error) {
	index, condition, follows := "byProfile", "#profileId = :list", " AND #listKey < :after"
	list := page.ProfileID
	if page.Warning != "" {
		index, condition, follows = "byWarning", "#warning = :list", " AND #warningKey > :after"
		list = warningList(page.ProfileID, page.Warning)
	}
	values := item{":list": text(list)}
	if after != "" {
		condition += follows
		values[":after"] = text(after)
	}
	out, err := s.client.Query(ctx, &dynamodb.QueryInput{
		TableName: &s.table, IndexName: &index, KeyConditionExpression: &condition,
		ExpressionAttributeNames: names(condition), ExpressionAttributeValues: values,
		ScanIndexForward: aws.Bool(page.Warning != ""), Limit: aws.Int32(int32(size)),
	})
	if err != nil {
		return nil, false, callersError("list credentials", err)
	}
	for _, it := range out.Items {
		e, err := decode[listed](it)
		if err != nil {
			return nil, false, err
		}
		if page.Warning != "" {
			e = e.ofCredential()
		}
		entries = append(entries, e)
	}
	return entries, len(out.LastEvaluatedKey) > 0, nil
}

// rows reads the rows of up to 100 entries.
func (s *Store) rows(ctx context.Context, entries []listed) (map[pair]credential.Credential, error) {
	rows := make(map[pair]credential.Credential, len(entries))
	var keys []item
	for _, e := range entries {
		keys = append(keys, pair{e.PK, e.SK}.item())
	}
	for try := 0; len(keys) > 0; try++ {
		if try == tries {
			return nil, callersError("list credentials", errors.New("keys remain unprocessed"))
		}
		if try > 0 {
			if err := s.backoff.Wait(ctx, try-1); err != nil {
				return nil, callersError("list credentials", err)
			}
		}
		out, err := s.client.BatchGetItem(ctx,
			&dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
				s.table: {Keys: keys, ConsistentRead: aws.Bool(true)},
			}})
		if err != nil {
			return nil, callersError("list credentials", err)
		}
		for _, it := range out.Responses[s.table] {
			row, err := decode[credential.Credential](it)
			if err != nil {
				return nil, err
			}
			rows[credentialKey(row.HolderID, row.ID)] = row
		}
		keys = out.UnprocessedKeys[s.table].Keys
	}
	return rows, nil
}
