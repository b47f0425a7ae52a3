package dynamo_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/ownership"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/store/dynamo"
)

// What the use cases do on the real engine when many processes want the same at once: worldtest's world has the store
// in memory, where a transaction never meets another one.

var (
	raceRounds = flag.Int("race.rounds", 10, "rounds of TestManyProcessesWantTheSame")
	raceSeed   = flag.Uint64("race.seed", 1, "what its processes do is drawn from")
)

const (
	raceWorkers = 50
	raceHolders = 8
	racePhones  = 4
	raceAccount = "acme"
	racePart    = "MID-SUB-CRD_FTPN_1001"
	raceProfile = "hq"
	// raceGeneration is how many rounds the same holders are wanted; then there are new ones, or their credentials of
	// the past would be most of what is read.
	raceGeneration = 25
	// troubleEvery is how many requests to the engine there are for each that meets trouble, on the average.
	troubleEvery = 40
)

// unreliable lies beneath the SDK: now and then it answers in the engine's place that there is too much to do or that
// another transaction is in the way, or loses the engine's answer. What DynamoDB refuses has had no effect; only an
// answer that is lost may have had one.
type unreliable struct {
	mu                                  sync.Mutex
	random                              *rand.Rand
	requests, throttles, lost, atOrigo  int
	injected, conflicts, failedOnChecks int // conflicts of ours, of the engine, and conditions that did not hold
	fine                                bool
}

// draw decides what becomes of a request.
func (u *unreliable) draw(isTransaction bool) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests++
	if u.fine || u.random.IntN(troubleEvery) > 0 {
		return ""
	}
	switch n := u.random.IntN(3); {
	case n == 0:
		u.lost++
		return "lost"
	case n == 1 && isTransaction:
		u.injected++
		return "conflict"
	}
	u.throttles++
	return "throttle"
}

// atProvider decides what becomes of a call of the provider, or of a callback. Every third callback is lost, so that
// the provider offers mobile IDs of which we still believe that another credential has them.
func (u *unreliable) atProvider(op, _ string) (origosim.Fault, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.fine:
		return origosim.Fault{}, false
	case op == "callback":
		return origosim.Fault{Kind: "drop"}, u.random.IntN(3) == 0
	case u.random.IntN(troubleEvery) > 0:
		return origosim.Fault{}, false
	}
	u.atOrigo++
	return origosim.Fault{Kind: "error", When: []string{"before", "after"}[u.random.IntN(2)]}, true
}

// RoundTrip implements http.RoundTripper.
func (u *unreliable) RoundTrip(r *http.Request) (*http.Response, error) {
	isTransaction := strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".TransactWriteItems")
	switch u.draw(isTransaction) {
	case "throttle":
		return refusal(r, "ProvisionedThroughputExceededException", ""), nil
	case "conflict":
		return refusal(
			r,
			"TransactionCanceledException",
			`,"CancellationReasons":[{"Code":"TransactionConflict"}]`,
		), nil
	case "lost":
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			err = errors.New("connection reset")
		}
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	u.mu.Lock()
	defer u.mu.Unlock()
	if bytes.Contains(body, []byte("TransactionConflict")) {
		u.conflicts++
	}
	if bytes.Contains(body, []byte("ConditionalCheckFailed")) {
		u.failedOnChecks++
	}
	return resp, err
}

func refusal(r *http.Request, kind, more string) *http.Response {
	if r.Body != nil {
		r.Body.Close()
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"injected"%s}`, kind, more)
	resp := w.Result()
	resp.Request = r
	return resp
}

// race is the world of the test: the engine, a provider, a mailbox and a clock, for as many processes as there are.
type race struct {
	*testing.T
	weather *unreliable
	store   *dynamo.Store // through the weather
	healthy *dynamo.Store
	sim     *origosim.Sim
	witness ownership.Witness
	started time.Time
	changed chan struct{}
	// generation counts the sets of holders, from 1.
	generation int

	mu    sync.Mutex
	now   time.Time
	ids   int
	codes []string // as mailed
	mails map[string]int
	done  map[string]int // by what was done and how it ended
	idle  []*issuance.Service
}

func newRace(t *testing.T) *race {
	table := newTable(t)
	r := &race{T: t, weather: &unreliable{random: rand.New(rand.NewPCG(*raceSeed, 0)), fine: true}, started: time.Now(),
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), mails: map[string]int{}, done: map[string]int{},
		changed: make(chan struct{}, 1), healthy: dynamo.New(client(nil), table)}
	r.store = dynamo.New(client(r.weather), table)
	var err error
	r.sim, err = origosim.New(origosim.Options{
		Account: raceAccount, OrganizationID: "1003233", ClientID: "id", ClientSecret: "secret", ApplicationID: "app",
		Now:   r.Now,
		Fault: r.weather.atProvider,
		Deliver: func(ctx context.Context, body []byte) error {
			users, _, err := origo.Translate(raceAccount, body)
			for _, u := range users {
				err = errors.Join(
					err,
					r.asProcess("report", func(p *issuance.Service) error { return p.Refresh(ctx, u) }),
				)
			}
			return err
		},
		Changed: func() {
			select {
			case r.changed <- struct{}{}:
			default:
			}
		},
		Switches: origosim.Switches{CancelFreesID: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.sim.Seed(origosim.SeedPartNumber{PartNumber: racePart, FriendlyName: "HQ", Format: "H10301",
		FacilityCode: "42", First: 1, Count: 40 * *raceRounds}); err != nil {
		t.Fatal(err)
	}
	go r.sim.Run(t.Context())
	if _, _, err := r.process().PutProfile(t.Context(), credential.PutProfile{Profile: credential.Profile{ID: raceProfile,
		Name: "HQ", Account: raceAccount, PartNumber: racePart, InvitationDays: 7, Locale: "en",
		TimeZone: "UTC"}}); err != nil {
		t.Fatal(err)
	}
	return r
}

// newHolders begins with other holders.
func (r *race) newHolders() {
	r.generation++
	p := r.process()
	p.Store = r.healthy
	for n := range raceHolders {
		if err := r.describe(p, r.holder(n), "T"); err != nil {
			r.Fatal(err)
		}
	}
}

// holder is the id of one of the holders of this generation.
func (r *race) holder(n int) string { return holderOf(r.generation, n) }

func holderOf(generation, n int) string { return fmt.Sprintf("E-%d-%d", generation, n) }

var portal = credential.Request{Actor: credential.Actor{Type: credential.ActorPortal, ID: "portal"}}

func (r *race) describe(p *issuance.Service, id, name string) error {
	_, _, err := p.PutHolder(r.Context(), credential.PutHolder{Request: portal, Holder: credential.Holder{ID: id,
		Kind: credential.Cardholder, FirstName: "A", LastName: name, Email: id + "@example.com"}})
	return err
}

// Now is the world's time.
func (r *race) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Send implements mail.Mailer.
func (r *race) Send(_ context.Context, letter mail.Letter) mail.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.codes = append(r.codes, letter.Code.Reveal())
	r.mails[letter.CredentialID]++
	return mail.Outcome{}
}

// inProcess answers a request to the provider without a network.
type inProcess struct{ http.Handler }

// Do implements origo.Doer.
func (d inProcess) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// oneProvider is the provider of every account, and a call budget without end.
type oneProvider struct{ *origo.Client }

// Provider implements provider.Providers.
func (o oneProvider) Provider(context.Context, string) (provider.Provider, error) {
	return o.Client, nil
}

type noLimit struct{}

// Take implements origo.Limiter.
func (noLimit) Take(context.Context) error { return nil }

func (r *race) client() *origo.Client {
	return origo.New(origo.Config{Account: raceAccount, OrganizationID: "1003233", ClientID: "id",
		ClientSecret: "secret", ApplicationID: "app", ApplicationVersion: "1",
		Endpoints: origo.Endpoints{Token: "http://origo", Management: "http://origo/credential-management",
			Events: "http://origo"}}, inProcess{r.sim.Handler()}, r.Now, noLimit{})
}

// process is the service as one process of a function has it.
func (r *race) process() *issuance.Service {
	return &issuance.Service{
		Store: r.store, Providers: oneProvider{r.client()}, Accounts: []string{raceAccount}, Mailer: r,
		Now: r.Now, Log: slog.New(slog.DiscardHandler),
		Count: func(string) {},
		NewID: func() string {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ids++
			return fmt.Sprint("id-", r.ids)
		},
	}
}

// asProcess does something in a process that does nothing else meanwhile, and counts how it ended.
func (r *race) asProcess(name string, do func(*issuance.Service) error) error {
	r.mu.Lock()
	var p *issuance.Service
	if n := len(r.idle); n > 0 {
		p, r.idle = r.idle[n-1], r.idle[:n-1]
	}
	r.mu.Unlock()
	if p == nil {
		p = r.process()
	}
	err := do(p)
	var refused *credential.Error
	outcome := "done"
	switch {
	case errors.As(err, &refused):
		outcome = string(refused.Code)
	case err != nil:
		outcome = "failed"
		r.Logf("%s: %v", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, p)
	r.done[name+" "+outcome]++
	return err
}

func (r *race) count(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[name+" done"]++
}

// saw lets the witness see a credential that was asked for at a moment.
func (r *race) saw(c credential.Credential, asked time.Duration) {
	if c.ID == "" {
		return
	}
	reading := ownership.Reading{Credential: c.ID, Live: c.IsLive(), Activated: c.ActivatedAt != nil, Asked: asked,
		Answered: time.Since(r.started)}
	if c.Mobile != nil {
		reading.MobileID = c.Mobile.ID
	}
	r.witness.Saw(reading)
}

// look reads the credentials of a holder, for the witness and to choose from.
func (r *race) look(holderID string) []credential.Credential {
	asked := time.Since(r.started)
	rows, err := r.healthy.Credentials(r.Context(), holderID)
	if err != nil {
		r.Error(err)
	}
	for _, c := range rows {
		r.saw(c, asked)
	}
	return rows
}

// act does one thing that another process may want at the same time.
func (r *race) act(random *rand.Rand) {
	id := r.holder(random.IntN(raceHolders))
	phone := fmt.Sprint("phone-", random.IntN(racePhones))
	request := portal
	asked := time.Since(r.started)
	command := func(name string, do func(*issuance.Service) (credential.Result, error)) {
		_ = r.asProcess(name, func(p *issuance.Service) error {
			result, err := do(p)
			r.saw(result.Credential, asked)
			return err
		})
	}
	switch random.IntN(14) {
	case 0, 1, 2, 3:
		command("assign", func(p *issuance.Service) (credential.Result, error) {
			return p.Assign(r.Context(), credential.Assign{Request: request, HolderID: id, ProfileID: raceProfile})
		})
	case 4, 5:
		r.withCode(random, "activate", func(code string) error { return r.sim.Redeem(phone, code) })
	case 6:
		r.withCode(random, "decline", r.sim.Cancel)
	case 7:
		if c, ok := chosen(random, r.look(id)); ok && c.Mobile != nil {
			if r.sim.Reassign(c.Mobile.ID, fmt.Sprint("stranger-", random.IntN(4))) == nil {
				r.count("reassign")
			}
		}
	case 8, 9:
		if c, ok := chosen(random, r.look(id)); ok {
			reasons := []credential.EndReason{credential.EndDeleted, credential.EndLost, credential.EndStolen}
			command("revoke", func(p *issuance.Service) (credential.Result, error) {
				return p.End(r.Context(), credential.End{Request: request, HolderID: id, CredentialID: c.ID,
					Reason: reasons[random.IntN(3)]})
			})
		}
	case 10:
		if c, ok := chosen(random, r.look(id)); ok {
			reasons := []credential.EndReason{credential.EndUpgrade, credential.EndLost}
			command("replace", func(p *issuance.Service) (credential.Result, error) {
				return p.Replace(r.Context(), credential.Replace{Request: request, HolderID: id, CredentialID: c.ID,
					Reason: reasons[random.IntN(2)]})
			})
		}
	case 11, 12:
		r.sweep()
	case 13:
		_ = r.asProcess("describe", func(p *issuance.Service) error {
			return r.describe(p, id, fmt.Sprint("T", random.IntN(3)))
		})
	}
}

// chosen draws a live one of some credentials, or a final one now and then.
func chosen(random *rand.Rand, rows []credential.Credential) (credential.Credential, bool) {
	if random.IntN(10) > 0 {
		rows = slices.DeleteFunc(rows, func(c credential.Credential) bool { return !c.IsLive() })
	}
	if len(rows) == 0 {
		return credential.Credential{}, false
	}
	return rows[random.IntN(len(rows))], true
}

// withCode does something with one of the codes mailed last.
func (r *race) withCode(random *rand.Rand, name string, do func(code string) error) {
	r.mu.Lock()
	codes := r.codes[max(0, len(r.codes)-12):]
	code := ""
	if len(codes) > 0 {
		code = codes[random.IntN(len(codes))]
	}
	r.mu.Unlock()
	if code != "" && do(code) == nil {
		r.count(name)
	}
}

func (r *race) sweep() {
	_ = r.asProcess("sweep", func(p *issuance.Service) error {
		_, err := p.Sweep(r.Context(), []string{raceAccount})
		return err
	})
}

// settle waits until every callback that is due has been dealt with.
func (r *race) settle() {
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for !r.sim.Settled() {
		select {
		case <-r.changed:
		case <-limit.C:
			r.Fatal("callbacks do not come to rest")
		}
	}
}

func (r *race) advance(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	r.mu.Unlock()
	if err := r.sim.Tick(); err != nil {
		r.Fatal(err)
	}
}

// rows are the credentials of the holders of some generations.
func (r *race) rows(generations ...int) (all []credential.Credential) {
	for _, generation := range generations {
		for n := range raceHolders {
			all = append(all, r.look(holderOf(generation, n))...)
		}
	}
	return all
}

// watch reads all credentials again and again, for the witness.
func (r *race) watch(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
			r.rows(r.generation)
		}
	}
}

// all are the generations there were.
func (r *race) all() (generations []int) {
	for generation := range r.generation {
		generations = append(generations, generation+1)
	}
	return generations
}

// check expects what must hold whenever no process is at work: a mobile ID has one live credential, which its owner
// item names; a slot has one, too; and no owner item names a credential that has ended and given its mobile ID back.
func (r *race) check(generations ...int) {
	owners, slots := map[string]string{}, map[string]string{}
	for _, c := range r.rows(generations...) {
		if c.Mobile == nil {
			continue
		}
		owner, err := r.healthy.Owner(r.Context(), raceAccount, c.Mobile.ID)
		if err != nil {
			r.Fatal(err)
		}
		if owner.State == credential.OwnerHeld && owner.CredentialID == c.ID &&
			c.Reservation != credential.ReservationHeld {
			r.Errorf("%s is held by %s, whose reservation is %s", c.Mobile.ID, c.ID, c.Reservation)
		}
		if c.ActivatedAt != nil && (owner.State != credential.OwnerSpent || owner.CredentialID != c.ID) {
			r.Errorf("%s was activated by %s: %+v", c.Mobile.ID, c.ID, owner)
		}
		if !c.IsLive() {
			continue
		}
		if other := owners[c.Mobile.ID]; other != "" {
			r.Errorf("%s belongs to %s and %s", c.Mobile.ID, other, c.ID)
		}
		owners[c.Mobile.ID] = c.ID
		if owner.CredentialID != c.ID || c.Stage != credential.StageActivated && owner.State != credential.OwnerHeld {
			r.Errorf("%s (%s) does not own %s: %+v", c.ID, c.State(), c.Mobile.ID, owner)
		}
		if c.Device == nil {
			continue
		}
		key := c.Device.ID + " " + c.ProfileID
		if other := slots[key]; other != "" {
			r.Errorf("%s has %s and %s", key, other, c.ID)
		}
		slots[key] = c.ID
		slot, err := r.healthy.Slot(r.Context(), raceAccount, c.Device.ID, c.ProfileID)
		if err != nil || slot.CredentialID != c.ID {
			r.Errorf("%s is on %s, whose slot is %+v, %v", c.ID, c.Device.ID, slot, err)
		}
	}
}

// rest lets everything come to rest, in fine weather.
func (r *race) rest() {
	r.weather.mu.Lock()
	r.weather.fine = true
	r.weather.mu.Unlock()
	for range 8 {
		r.settle()
		r.advance(61 * time.Second)
		r.sweep()
	}
	// What was refused waits longer each time.
	for range 6 {
		r.settle()
		r.advance(30 * time.Minute)
		r.sweep()
	}
	r.settle()
}

// checkRest expects that nothing is left to do, and that the provider's users of our holders have what our live
// credentials have.
func (r *race) checkRest() {
	ours := map[string][]string{}
	for _, c := range r.rows(r.all()...) {
		h, err := r.healthy.Holder(r.Context(), c.HolderID)
		if err != nil {
			r.Fatal(err)
		}
		if step := credential.Next(c, h, r.Now()); step.Kind != credential.StepNone && !step.At.After(r.Now()) {
			r.Errorf("%s (%s): still to %s, %+v", c.ID, c.State(), step.Kind, c.Retry)
		}
		if !c.IsLive() {
			continue
		}
		if c.Mobile == nil {
			r.Errorf("%s (%s) has no mobile ID: %+v", c.ID, c.State(), c.Retry)
			continue
		}
		if r.mails[c.ID] == 0 {
			r.Errorf("%s (%s): no mail", c.ID, c.State())
		}
		ours[c.HolderID] = append(ours[c.HolderID], c.Mobile.ID)
	}
	theirs := map[string][]string{}
	for _, u := range r.sim.State().Users {
		if strings.HasPrefix(u.ExternalID, "stranger") {
			continue
		}
		user, err := r.client().User(r.Context(), u.ID)
		if err != nil {
			r.Fatal(err)
		}
		for _, k := range user.Credentials {
			theirs[u.ExternalID] = append(theirs[u.ExternalID], k.MobileID.ID)
		}
	}
	for _, by := range []map[string][]string{ours, theirs} {
		for _, ids := range by {
			slices.Sort(ids)
		}
	}
	if !maps.EqualFunc(ours, theirs, slices.Equal) {
		r.Errorf("we have\n%v\nand the provider\n%v", ours, theirs)
	}
}

func TestManyProcessesWantTheSame(t *testing.T) {
	r := newRace(t)
	for round := range *raceRounds {
		r.weather.mu.Lock()
		r.weather.fine = false
		r.weather.mu.Unlock()
		if round%raceGeneration == 0 {
			r.newHolders()
		}
		var workers sync.WaitGroup
		for n := range raceWorkers {
			random := rand.New(rand.NewPCG(*raceSeed, uint64(1+round*raceWorkers+n)))
			workers.Go(func() { r.act(random) })
		}
		over := make(chan struct{})
		var watcher sync.WaitGroup
		watcher.Go(func() { r.watch(over) })
		workers.Wait()
		close(over)
		watcher.Wait()
		r.settle()
		r.check(r.generation)
		if r.Failed() {
			t.Fatalf("broken in round %d of seed %d", round, *raceSeed)
		}
		wait := 61 * time.Second
		if round%raceGeneration == raceGeneration-1 {
			wait = 8 * 24 * time.Hour // invitations expire
			t.Logf("%d rounds after %s", round+1, time.Since(r.started).Round(time.Second))
		}
		r.advance(wait)
	}
	r.rest()
	r.check(r.all()...)
	r.checkRest()
	verdict, err := r.witness.Judge(time.Minute)
	if err != nil {
		t.Error(err)
	}
	for _, broken := range verdict.Broken {
		t.Error(broken)
	}
	operations := 0
	for _, n := range r.done {
		operations += n
	}
	u := r.weather
	t.Logf("%d rounds of %d workers, seed %d, %s: %d operations %v", *raceRounds, raceWorkers, *raceSeed,
		time.Since(r.started).Round(time.Second), operations, r.done)
	t.Logf("%d requests to the engine; injected: %d throttles, %d transaction conflicts, %d answers lost, "+
		"%d errors at the provider; the engine's own: %d transaction conflicts, %d conditions that did not hold",
		u.requests, u.throttles, u.injected, u.lost, u.atOrigo, u.conflicts, u.failedOnChecks)
	ends := map[string]int{}
	for _, c := range r.rows(r.all()...) {
		ends[strings.TrimSpace(c.State()+" "+c.Reason)]++
	}
	t.Logf("in the end: %v", ends)
	t.Logf("judged: %d readings, %d mobile IDs, %d owners, of which %d have ended", r.witness.Readings(),
		verdict.MobileIDs, verdict.Owners, verdict.Ends)
	if u.throttles == 0 || u.injected == 0 || u.lost == 0 || verdict.Ends == 0 {
		t.Error("too little has happened to show anything")
	}
}
