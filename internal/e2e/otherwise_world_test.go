package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// part runs one part of a story that goes on in one run. After each, provider and table have to agree.
func (r *run) part(name string, f func(r *run)) {
	r.t.Run(name, func(t *testing.T) {
		here := &run{r.process, t}
		f(here)
		if !t.Failed() {
			here.agree()
			here.pool()
			here.owners()
		}
	})
}

// invited is a credential of hq of a new holder.
func (r *run) invited() credential {
	r.t.Helper()
	return r.assign(r.holder())
}

// within expects the credential to reach a state in less than a second of what was done just before, and says how long
// it took.
func (r *run) within(c credential, state, reason string) credential {
	r.t.Helper()
	began := time.Now()
	c = r.becomes(c, state)
	if took := time.Since(began); took > time.Second {
		r.t.Errorf("%s after %v", state, took)
	} else {
		r.t.Logf("%s after %v", state, took.Round(time.Millisecond))
	}
	return r.is(c, state, reason)
}

// is expects a credential to be in a state, for a reason, now.
func (r *run) is(c credential, state, reason string) credential {
	r.t.Helper()
	if c = r.read(c); c.state() != state || c.StatusReason != reason {
		r.t.Fatalf("credential %s is %s (%s), not %s (%s): %s", c.ID, c.state(), c.StatusReason, state,
			reason, r.told(c))
	}
	return c
}

// inherits expects the next assignment, to another holder, to get the mobile ID that a credential has lost.
func (r *run) inherits(c credential) credential {
	r.t.Helper()
	next := r.invited()
	if next.MobileID != c.MobileID {
		r.t.Fatalf("the next got %s, not %s", next.MobileID, c.MobileID)
	}
	return next
}

// clear ends every live credential, so that what is free next at the provider is what the next part makes free.
func (r *run) clear() {
	r.t.Helper()
	for _, c := range r.live() {
		r.delete(c.path()).want(200, 202)
	}
	r.settle()
}

// deaf makes the provider's callbacks get lost until the weather is fair.
func (r *run) deaf() {
	r.t.Helper()
	r.fault(fault{Service: "origo", Kind: "drop", Count: 1 << 20})
}

// dropped says how many callbacks were lost since deaf.
func (r *run) dropped() int {
	r.t.Helper()
	for _, f := range r.faults() {
		if f.Kind == "drop" {
			return 1<<20 - f.Count
		}
	}
	return 0
}

// pool expects the mobile IDs that the provider has reserved and issued, those of people we do not know aside, to be
// those of our live credentials, each with one of them.
func (r *run) pool() {
	r.t.Helper()
	p := r.provider()
	want := map[string]bool{}
	for _, u := range p.Users {
		for _, inv := range u.Invitations {
			if r.foreign[u.ExternalID] && inv.MobileID != nil {
				want[*inv.MobileID] = true
			}
		}
	}
	live := map[string]bool{}
	for _, c := range r.live() {
		if live[c.MobileID] {
			r.t.Errorf("two live credentials have %s", c.MobileID)
		}
		live[c.MobileID], want[c.MobileID] = true, true
	}
	have := map[string]bool{}
	for _, id := range p.mobileIDs() {
		have[id] = true
	}
	if !maps.Equal(have, want) {
		r.t.Errorf("reserved and issued are %v; ours and strangers' are %v", slices.Sorted(maps.Keys(have)),
			slices.Sorted(maps.Keys(want)))
	}
}

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

// row is a credential in the table, owner the item of a mobile ID, and told a history entry.
type (
	row struct {
		ID, HolderID, Status, Stage string
		Mobile                      *struct{ ID string }
	}
	owner struct{ MobileID, State, CredentialID string }
	told  struct {
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

// owners expects the item of every mobile ID to fit the credentials.
func (r *run) owners() {
	r.t.Helper()
	items := r.items()
	has := map[string]string{}
	for _, o := range all[owner](items, func(_, sk string) bool { return sk == "OWNER" }) {
		if o.State == "held" || o.State == "spent" {
			has[o.MobileID] = o.CredentialID
		}
	}
	live := map[string]bool{}
	for _, c := range rows(items) {
		if c.Status != "active" || c.Mobile == nil {
			continue
		}
		live[c.ID] = true
		if has[c.Mobile.ID] != c.ID {
			r.t.Errorf("%s is that of credential %s, says the credential; of %q, says its owner item", c.Mobile.ID,
				c.ID, has[c.Mobile.ID])
		}
	}
	for _, o := range all[owner](items, func(_, sk string) bool { return sk == "OWNER" }) {
		if o.State == "held" && !live[o.CredentialID] {
			r.t.Errorf("%s is held by a credential that is not live", o.MobileID)
		}
	}
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

// watch reads every live credential, over and over, through the API and from the table, while something happens, and
// expects exactly one of them for each mobile ID.
//
// A reading is no snapshot: of a take-over it may see the loser before and the winner after. But what is final stays
// so: if one reading and the next but one see a credential live with a mobile ID, it was so all through the one
// between, which therefore may not see another with it.
func (r *run) watch(something func()) {
	r.t.Helper()
	stop := make(chan struct{})
	type result struct {
		name     string
		readings int
		err      error
	}
	results := make(chan result)
	for _, x := range []struct {
		name  string
		look  func() (holding, error)
		pause time.Duration
	}{
		{"API", r.holdingInAPI, 50 * time.Millisecond}, // without a pause, the run would never come to rest
		{"table", r.holdingInTable, time.Millisecond},
	} {
		go func() {
			res := result{name: x.name}
			var last [3]holding
			tick := time.NewTicker(x.pause)
			defer tick.Stop()
			for done := false; !done && res.err == nil; {
				select {
				case <-stop:
					done = true // once more, to see how it ended
				case <-tick.C:
				}
				var now holding
				if now, res.err = x.look(); res.err != nil {
					break
				}
				res.readings++
				last = [3]holding{last[1], last[2], now}
				for id, before := range last[0] {
					for _, c := range before {
						if !slices.Contains(last[2][id], c) {
							continue
						}
						for _, other := range last[1][id] {
							if other != c {
								res.err = fmt.Errorf("%s: %s and %s have %s at the same time", x.name, c, other, id)
							}
						}
					}
				}
			}
			results <- res
		}()
	}
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

// counted is how often a metric was raised so far, as the functions' logs say.
func (r *run) counted(metric string) (n int) {
	r.t.Helper()
	for _, line := range r.logs() {
		var said struct {
			AWS *struct {
				CloudWatchMetrics []struct {
					Namespace string
					Metrics   []struct{ Name string }
				}
			} `json:"_aws"`
		}
		if json.Unmarshal(line, &said) != nil || said.AWS == nil {
			continue
		}
		for _, d := range said.AWS.CloudWatchMetrics {
			for _, x := range d.Metrics {
				if d.Namespace == "mobilecred" && x.Name == metric {
					n++
				}
			}
		}
	}
	return n
}

// logs are all lines of all functions.
func (r *run) logs() (lines [][]byte) {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "logs", "*.log"))
	if err != nil || len(files) == 0 {
		r.t.Fatalf("no logs: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, bytes.Split(text, []byte("\n"))...)
	}
	return lines
}

// eventsOf are those of one credential that left for the portal, by detail type, each as often as it left.
func (r *run) eventsOf(c credential) map[string][]m {
	r.t.Helper()
	found := map[string][]m{}
	for _, e := range r.onBus() {
		var detail m
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			r.t.Fatal(err)
		}
		if e.Source == "mobilecred" && detail["credentialId"] == c.ID {
			found[e.DetailType] = append(found[e.DetailType], detail)
		}
	}
	return found
}

// userOf is what the provider's portal shows of the user with an external id.
func (r *run) userOf(externalID string) (id, invitation string) {
	r.t.Helper()
	for _, u := range r.provider().Users {
		if u.ExternalID == externalID && len(u.Invitations) > 0 {
			return u.ID, u.Invitations[len(u.Invitations)-1].ID
		}
	}
	r.t.Fatalf("the provider has no user %s with an invitation", externalID)
	return "", ""
}

// codeAtProvider is the code of a user's newest invitation.
func (r *run) codeAtProvider(externalID string) string {
	r.t.Helper()
	id, _ := r.userOf(externalID)
	var user struct {
		Invitations []struct{ InvitationCode string } `json:"urn:hid:scim:api:ma:2.2:UserInvitation"`
	}
	r.atProvider("GET", "users/"+id, &user)
	if len(user.Invitations) == 0 {
		r.t.Fatalf("user %s has no invitation at the provider", id)
	}
	return user.Invitations[len(user.Invitations)-1].InvitationCode
}

// atProvider makes a call at the provider's own interface, as any of its clients can.
func (r *run) atProvider(method, path string, into any) {
	r.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"1003233-local"},
		"client_secret": {"local-client-secret"}}
	resp, err := client.PostForm(r.at("ORIGO_PORT", "/authentication/customer/1003233/token"), form)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequest(method, r.at("ORIGO_PORT", "/credential-management/customer/1003233/"+path), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token.AccessToken}, "Application-Id": {"mobilecred-local"},
		"Application-Version": {"1.0"}}
	if resp, err = client.Do(req); err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		r.t.Fatalf("%s %s at the provider: %s", method, path, resp.Status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		r.t.Fatal(err)
	}
}

// say makes the provider say something of an invitation: a callback as it would send it.
func (r *run) say(userID, invitation, status string) {
	r.t.Helper()
	batch := []m{{
		"specversion": "1.0", "id": "said-" + strconv.FormatInt(time.Now().UnixNano(), 10),
		"type": "com.origo.mi.invitation",
		"source": "https://origo-simulator.invalid/credential-management/customer/1003233/invitation/" +
			invitation,
		"time":            time.Now().UTC().Format(time.RFC3339),
		"datacontenttype": "application/vnd.hidglobal.origo.events.invitation-2.0+json",
		"data":            m{"organization_id": "1003233", "userId": userID, "status": status},
	}}
	r.webhook(batch).want(200)
	r.settle()
}

// webhook is a callback with the right secret.
func (r *run) webhook(body any, headers ...string) answer {
	r.t.Helper()
	return r.post("/v1/webhooks/"+account, body, append([]string{
		"Authorization", "", "Content-Type", "application/cloudevents-batch+json", webhookHeader, webhookSecret},
		headers...)...)
}
