package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// items are everything the table holds, by key.
func (r *run) items() map[string]m {
	r.t.Helper()
	all, err := r.scan()
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func (r *run) scan() (map[string]m, error) {
	all := map[string]m{}
	db := dynamodb.New(dynamodb.Options{
		Region: "local", BaseEndpoint: aws.String(r.at("DYNAMODB_PORT", "")),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		}),
	})
	pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: aws.String("mobilecred"),
		ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(r.t.Context())
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			var plain m
			if err := attributevalue.UnmarshalMap(it, &plain); err != nil {
				return nil, err
			}
			all[fmt.Sprint(plain["pk"], " ", plain["sk"])] = plain
		}
	}
	return all, nil
}

// as makes a struct of an item.
func as[T any](it m) (v T) {
	text, err := json.Marshal(it)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		panic(err) // items are JSON in another form
	}
	return v
}

// row is a credential in the table, owner the item of a mobile ID, and historyItem a history entry.
type (
	row struct {
		ID, HolderID, Status, Stage string
		Mobile                      *struct{ ID string }
	}
	owner       struct{ MobileID, State, CredentialID string }
	historyItem struct {
		entry
		HolderID, CredentialID, Account, ProfileID string
		Mobile                                     *struct{ ID string }
		PreviousHolderID, PreviousCredentialID     string
	}
)

// all are the items of one kind.
func all[T any](items map[string]m, is func(pk, sk string) bool) (found []T) {
	for _, key := range slices.Sorted(maps.Keys(items)) {
		if pk, sk, _ := strings.Cut(key, " "); is(pk, sk) {
			found = append(found, as[T](items[key]))
		}
	}
	return found
}

func rows(items map[string]m) []row {
	return all[row](items, func(_, sk string) bool { return strings.HasPrefix(sk, "CRED#") })
}

// holding says which live credentials have which mobile ID.
type holding map[string][]string

func (h holding) add(mobileID, credentialID string) {
	if mobileID != "" {
		h[mobileID] = append(h[mobileID], credentialID)
	}
}

func (r *run) holdingInTable() (holding, error) {
	items, err := r.scan()
	h := holding{}
	for _, c := range rows(items) {
		if c.Status == "active" && c.Mobile != nil {
			h.add(c.Mobile.ID, c.ID)
		}
	}
	return h, err
}

func (r *run) holdingInAPI() (holding, error) {
	h := holding{}
	query := url.Values{"profileId": {"hq"}, "status": {"active"}, "limit": {"100"}}
	for {
		a, err := r.try("GET", "/v1/credentials?"+query.Encode(), nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items      []credential
			NextCursor string
		}
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != 200 {
			return nil, fmt.Errorf("%s: %d %s", a.call, a.status, a.body)
		}
		for _, c := range page.Items {
			h.add(c.MobileID, c.ID)
		}
		if page.NextCursor == "" {
			return h, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// watch reads every live credential again and again, through the API and from the table, while something happens, and
// expects each mobile ID to have exactly one live credential at any moment.
func (r *run) watch(something func()) {
	r.t.Helper()
	stop := make(chan struct{})
	results := make(chan watched)
	// Without a pause between readings of the API, the run would never come to rest.
	go func() { results <- watchReadings("API", r.holdingInAPI, 50*time.Millisecond, stop) }()
	go func() { results <- watchReadings("table", r.holdingInTable, time.Millisecond, stop) }()
	something()
	close(stop)
	for range 2 {
		res := <-results
		if res.err != nil {
			r.t.Error(res.err)
		}
		r.t.Logf("%d readings of all live credentials meanwhile: %s", res.readings, res.name)
	}
}

// watched is what one reader saw: err says which two credentials had a mobile ID at once, or why it could not read.
type watched struct {
	name     string
	readings int
	err      error
}

// watchReadings reads until stop is closed, and once more to see how it ended.
func watchReadings(name string, read func() (holding, error), pause time.Duration, stop <-chan struct{}) watched {
	res := watched{name: name}
	var last [3]holding
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for done := false; !done && res.err == nil; {
		select {
		case <-stop:
			done = true
		case <-tick.C:
		}
		var now holding
		if now, res.err = read(); res.err != nil {
			return res
		}
		res.readings++
		last = [3]holding{last[1], last[2], now}
		if err := twoHoldersAtOnce(last); err != nil {
			res.err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return res
}

// twoHoldersAtOnce finds a mobile ID that two credentials had at the same moment, in three readings that follow each
// other.
//
// A reading is no snapshot: while a mobile ID changes hands, one reading may see the loser before and the winner after
// the change. But a credential that has ended stays so. If the first and the third reading see a credential live with a
// mobile ID, it had that ID all through the second, which therefore may not see another credential with it.
func twoHoldersAtOnce(readings [3]holding) error {
	for id, before := range readings[0] {
		for _, c := range before {
			if !slices.Contains(readings[2][id], c) {
				continue
			}
			for _, other := range readings[1][id] {
				if other != c {
					return fmt.Errorf("%s and %s have %s at the same time", c, other, id)
				}
			}
		}
	}
	return nil
}
