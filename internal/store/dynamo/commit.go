package dynamo

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Commit implements store.Rows in one TransactWriteItems. A change that acts twice on one item, or on more than 100, is
// an error, not a conflict.
//
// Each call sends a token of its own, by which DynamoDB recognises repeated attempts, also those the SDK makes after a
// lost answer; that is why even a change of one item is a transaction. The token covers this call only: a caller that
// tries again after an error has to read first whether the change was made.
func (s *Store) Commit(ctx context.Context, change credential.Change) error {
	t := transaction{table: s.table, keys: map[pair]bool{}}
	t.build(change)
	if t.err != nil || len(t.actions) == 0 {
		return t.err
	}
	input := &dynamodb.TransactWriteItemsInput{TransactItems: t.actions, ClientRequestToken: aws.String(s.token())}
	return callersError("commit", s.retry(ctx, func() error {
		_, err := s.client.TransactWriteItems(ctx, input)
		return err
	}))
}

// transaction collects actions, and an error in making them.
type transaction struct {
	table   string
	keys    map[pair]bool
	actions []types.TransactWriteItem
	err     error
}

func (t *transaction) add(key pair, action types.TransactWriteItem) {
	// DynamoDB refuses this, too; DynamoDB Local judges the conditions first.
	if t.keys[key] {
		t.err = errors.New("dynamo: a change that acts twice on one item")
	}
	t.keys[key] = true
	t.actions = append(t.actions, action)
}

const absent = "attribute_not_exists(#pk)"

func (t *transaction) build(c credential.Change) {
	if p := c.Profile; p != nil {
		t.putVersion(profileKey(p.ID), p, p.Revision, nil)
	}
	if h := c.Holder; h != nil {
		t.putHolder(h)
	}
	// If the change also stores the holder, that put is on the condition of the revision that was read, which is
	// stricter.
	if c.HolderAt != "" && (c.Holder == nil || c.Holder.ID != c.HolderAt) {
		t.assignTo(c.HolderAt, c.HolderRevision)
	}
	if c.EraseHolder != "" {
		t.remove(holderKey(c.EraseHolder), "#erasing = :true",
			item{":true": &types.AttributeValueMemberBOOL{Value: true}})
		t.remove(pictureKey(c.EraseHolder), "", nil)
	}
	if p := c.Picture; p != nil {
		t.put(pictureKey(p.HolderID), p, nil, "", nil)
	}
	if c.DropPicture != "" && c.DropPicture != c.EraseHolder {
		t.remove(pictureKey(c.DropPicture), "", nil)
	}
	for _, row := range c.Credentials {
		t.putVersion(credentialKey(row.HolderID, row.ID), row, row.Revision,
			item{"listKey": text(credential.ListKey(row))})
	}
	for _, h := range c.History {
		t.put(historyKey(h), h, nil, absent, nil)
	}
	for _, o := range c.Owners {
		t.putOwner(o)
	}
	for _, r := range c.Refs {
		condition, values := sameOrAbsent(r)
		t.put(refKey(r.Account, r.Kind, r.ID), r, nil, condition, values)
	}
	for _, sl := range c.Slots {
		condition, by := absent+" OR #credentialId = :by", sl.CredentialID
		if c.ReplacesSlot != "" {
			condition, by = "#credentialId = :by", c.ReplacesSlot
		}
		t.put(slotKey(sl.Account, sl.DeviceID, sl.ProfileID), sl, nil, condition, item{":by": text(by)})
	}
	for _, sl := range c.FreeSlots {
		t.remove(slotKey(sl.Account, sl.DeviceID, sl.ProfileID), "#credentialId = :by",
			item{":by": text(sl.CredentialID)})
	}
	for _, seen := range c.Seen {
		t.put(seenKey(seen.CredentialID, seen.Hash), seen, item{"ttl": expiry(seen.ExpiresAt)}, absent, nil)
	}
	for _, w := range c.Warned {
		t.put(warnedKey(w), w, item{
			"warning": text(warningList(w.ProfileID, w.Code)), "warningKey": text(w.ListKey()),
		}, "", nil)
	}
	for _, w := range c.Unwarned {
		t.remove(warnedKey(w), "", nil)
	}
	if i := c.Idempotency; i != nil {
		// What has expired may still be there, since DynamoDB removes it in its own time.
		t.put(idempotencyKey(i.HolderID, i.Hash), i, item{"ttl": expiry(i.ExpiresAt)},
			absent+" OR #expiresAt <= :at", item{":at": moment(c.At)})
	}
	for _, touch := range c.Touches() {
		t.touch(touch, c)
	}
}

func (t *transaction) touch(touch credential.Touch, c credential.Change) {
	update := "SET #dueAt = :at, #account = :account, #holderId = :holder ADD #added :one"
	if touch.Wake {
		update = "SET #dueAt = :at, #account = :account, #holderId = :holder, #wake = :at ADD #added :one"
	}
	values := item{
		":at": moment(c.At), ":account": text(touch.Account), ":holder": text(touch.HolderID), ":one": number(1),
	}
	var conditions []string
	if touch.Unclaimed {
		conditions = append(conditions, "(attribute_not_exists(#claim) OR #claim.#until <= :at)")
	}
	switch {
	case touch.Added == nil:
	case *touch.Added == 0:
		conditions = append(conditions, "attribute_not_exists(#added)")
	default:
		conditions = append(conditions, "#added = :read")
		values[":read"] = number(*touch.Added)
	}
	condition := strings.Join(conditions, " AND ")
	key := workKey(touch.HolderID, touch.Account)
	t.add(key, types.TransactWriteItem{Update: &types.Update{
		TableName: &t.table, Key: key.item(),
		UpdateExpression: &update, ConditionExpression: optional(condition),
		ExpressionAttributeNames: names(update, condition), ExpressionAttributeValues: values,
	}})
}

// putVersion stores an item on the condition that the stored one has the revision before.
func (t *transaction) putVersion(key pair, v any, revision int64, more item) {
	if revision == 1 {
		t.put(key, v, more, absent, nil)
		return
	}
	t.put(key, v, more, "#revision = :read", item{":read": number(revision - 1)})
}

// putHolder stores a holder like any versioned item, unless a credential was assigned to it since it was read.
func (t *transaction) putHolder(h *credential.Holder) {
	if h.Revision == 1 {
		t.putVersion(holderKey(h.ID), h, h.Revision, nil)
		return
	}
	t.put(holderKey(h.ID), h, nil,
		"#revision = :read AND (attribute_not_exists(#assigned) OR #assigned = :assigned)",
		item{":read": number(h.Revision - 1), ":assigned": number(h.Assigned)})
}

// assignTo counts a change that rests on a holder which has a revision; 0 stands for any.
func (t *transaction) assignTo(holderID string, revision int64) {
	const update = "ADD #assigned :one"
	condition := "attribute_exists(#pk) AND (attribute_not_exists(#erasing) OR #erasing = :false)"
	values := item{":false": &types.AttributeValueMemberBOOL{}, ":one": number(1)}
	if revision != 0 {
		condition += " AND #revision = :revision"
		values[":revision"] = number(revision)
	}
	key := holderKey(holderID)
	t.add(key, types.TransactWriteItem{Update: &types.Update{
		TableName: &t.table, Key: key.item(),
		UpdateExpression: aws.String(update), ConditionExpression: &condition,
		ExpressionAttributeNames: names(update, condition), ExpressionAttributeValues: values,
	}})
}

// putOwner stores an owner like any versioned item; where that is asked for, also over a sighting that came since.
func (t *transaction) putOwner(o credential.Owner) {
	key := ownerKey(o.Account, o.MobileID)
	if o.OverSighting == "" {
		t.putVersion(key, o, o.Revision, nil)
		return
	}
	values := item{
		":foreign": text(string(credential.OwnerForeign)), ":user": text(o.OverSighting), ":new": number(o.Revision),
	}
	asRead := absent
	if read := o.Revision - 2; read > 0 {
		asRead, values[":read"] = "#revision = :read", number(read)
	}
	t.put(key, o, nil, asRead+" OR (#state = :foreign AND #userId = :user AND #revision < :new)", values)
}

// put stores an item, with some more attributes than v has, on a condition, if any.
func (t *transaction) put(key pair, v any, more item, condition string, values item) {
	it, err := encode(key, v)
	if err != nil {
		t.err = err
		return
	}
	for name, value := range more {
		it[name] = value
	}
	t.add(key, types.TransactWriteItem{Put: &types.Put{
		TableName: &t.table, Item: it, ConditionExpression: optional(condition),
		ExpressionAttributeNames: optionalNames(condition), ExpressionAttributeValues: values,
	}})
}

func (t *transaction) remove(key pair, condition string, values item) {
	t.add(key, types.TransactWriteItem{Delete: &types.Delete{
		TableName: &t.table, Key: key.item(), ConditionExpression: optional(condition),
		ExpressionAttributeNames: optionalNames(condition), ExpressionAttributeValues: values,
	}})
}

// sameOrAbsent is the condition that a reference is new or leads where it led. Empty ids are not stored.
func sameOrAbsent(r credential.Ref) (condition string, values item) {
	values = item{}
	var same []string
	for _, f := range []struct{ name, value string }{
		{"credentialId", r.CredentialID}, {"holderId", r.HolderID}, {"profileId", r.ProfileID},
	} {
		if f.value == "" {
			same = append(same, "attribute_not_exists(#"+f.name+")")
			continue
		}
		same = append(same, "#"+f.name+" = :"+f.name)
		values[":"+f.name] = text(f.value)
	}
	if len(values) == 0 {
		values = nil // DynamoDB refuses an empty map
	}
	return absent + " OR " + strings.Join(same, " AND "), values
}

// An expression that is absent must be nil, and so must its names.
func optional(expression string) *string {
	if expression == "" {
		return nil
	}
	return &expression
}

func optionalNames(expression string) map[string]string {
	if expression == "" {
		return nil
	}
	return names(expression)
}
