// Package worldtest is the one world that tests of the service run in, all in one process: the store in memory,
// simulators of the provider with the real adapter in front of each, a mailbox, a clock that only the test moves, and
// one account or several.
//
// What belongs here is that world, the weather in it, and the invariants: what must hold at every moment (CheckAlways)
// and what must hold once nothing has gone wrong for a while (CheckCalm). Every test that puts the use cases to work
// uses it, so that all of them mean the same by "well". What does not belong here: the stories of single tests, the
// drawing of random ones (package issuance's simulation), and a look at the service from outside its process (e2e).
package worldtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

// The account and the part numbers that a world has unless it is told otherwise.
const (
	Account = "acme"
	Part    = "MID-SUB-CRD_FTPN_1001"
	Part2   = "MID-SUB-CRD_FTPN_1002"
)

// The organisation, the same at the provider of every account, and what the adapter identifies itself with.
const (
	organization = "1003233"
	clientID     = "1003233-OSRV"
	clientSecret = "secret"
	application  = "app"
)

// TB is what a world needs of a test; both *testing.T and *rapid.T are one.
type TB interface {
	Helper()
	Context() context.Context
	Output() io.Writer
	Failed() bool
	Log(args ...any)
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Options are what may differ from one world to the next. New fills them in before a test adjusts them.
type Options struct {
	Accounts []string // Account only
	Start    time.Time
	// Pools says how many mobile IDs each part number has, at each account. Part and Part2 have 30.
	Pools map[string]int
	// Switches are the provider's, at every account, to start with. World.Switch changes them.
	Switches origosim.Switches
	// LateAfter is how long after it was sent a Late request arrives: LateAtMost unless SetLateAfter says otherwise.
	LateAfter time.Duration
	// Weather decides what becomes of the calls of every process; nil for fine weather.
	Weather Weather
	// Deliver is given each callback of the provider; nil for what the deployed functions do with it: refresh the users
	// it tells of.
	Deliver func(ctx context.Context, account string, body []byte) error
	// Deaf makes a world in which no callback ever arrives.
	Deaf bool
	// Watch, when given, sees every credential at every CheckAlways, with its holder and its work item as they then are
	// (the zero value where there is none).
	Watch func(credential.Credential, credential.Holder, credential.WorkItem)
	// Log is where the service logs; nil for the test's output.
	Log slog.Handler
}

// World is everything around the service. Its exported fields are for a test to use; what is about one account is about
// the first.
type World struct {
	TB
	Ctx     context.Context
	Store   *memory.Store
	Mailbox *Mailbox
	// Service is the process that the helpers of this package put to work. NewProcess starts others.
	Service *issuance.Service
	Sim     *origosim.Sim
	Client  *origo.Client // reads the provider of the first account, whatever the weather
	Portal  credential.Request

	options  Options
	accounts map[string]*account
	ledger   ledger
	changed  chan struct{}

	mu      sync.Mutex
	now     time.Time
	ids     int
	deaf    bool
	slow    map[string]time.Duration // by account: how long each call takes
	budgets map[string]int           // by account: see SetBudget
	// heldBack counts calls beyond a budget, those apart that no portal waits for.
	heldBack map[bool]int
	faults   []plannedFault
	late     []lateRequest
	metrics  map[string]int
	gauges   map[string]float64
}

// account is one customer account: its provider, and a client of it that no weather meets.
type account struct {
	sim    *origosim.Sim
	client *origo.Client
}

// plannedFault is a fault of the simulator that is still to happen, count times; to the calls about one holder only, if
// one is given.
type plannedFault struct {
	op, holder string
	count      int
	origosim.Fault
}

// New makes a world without a profile or a holder.
func New(t TB, adjust ...func(*Options)) *World {
	t.Helper()
	w := &World{
		TB: t, Ctx: t.Context(), Store: &memory.Store{}, accounts: map[string]*account{}, metrics: map[string]int{},
		gauges:  map[string]float64{},
		changed: make(chan struct{}, 1), slow: map[string]time.Duration{},
		budgets: map[string]int{}, heldBack: map[bool]int{},
		Portal: credential.Request{Actor: credential.Actor{Type: credential.ActorPortal, ID: "portal"}},
		options: Options{
			Accounts: []string{Account}, Start: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
			Pools:    map[string]int{Part: 30, Part2: 30},
			Switches: origosim.Switches{CancelFreesID: true, OnePerPartNumberAndPhone: true}, LateAfter: LateAtMost,
			Log: slog.NewTextHandler(t.Output(), nil),
		},
	}
	w.options.Deliver = w.Report
	for _, a := range adjust {
		a(&w.options)
	}
	if w.options.Weather == nil {
		w.options.Weather = Fine{}
	}
	w.now, w.deaf = w.options.Start, w.options.Deaf
	w.ledger = newLedger()
	w.Mailbox = &Mailbox{weather: w.options.Weather, now: w.Now}
	address := &origosim.Address{}
	w.Store.Fail = func(op string) error { return meetStore(w.options.Weather, op) }
	for _, name := range w.options.Accounts {
		w.open(name, address)
	}
	w.Sim, w.Client = w.accounts[w.options.Accounts[0]].sim, w.accounts[w.options.Accounts[0]].client
	w.Service = w.NewProcess()
	return w
}

// open starts the provider of an account.
func (w *World) open(name string, address *origosim.Address) {
	w.Helper()
	sim, err := origosim.New(origosim.Options{
		Account: name, OrganizationID: organization, ClientID: clientID, ClientSecret: clientSecret,
		ApplicationID: application,
		Now:           w.Now, Load: func() ([]byte, error) { return nil, nil }, Save: func([]byte) error { return nil },
		Fault: w.fault, Address: address,
		Deliver: func(ctx context.Context, body []byte) error { return w.options.Deliver(ctx, name, body) },
		Changed: func() {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		},
		Switches: w.options.Switches,
	})
	if err != nil {
		w.Fatal(err)
	}
	for i, p := range slices.Sorted(maps.Keys(w.options.Pools)) {
		seed := origosim.SeedPartNumber{PartNumber: p, FriendlyName: "HQ", Format: "H10301",
			FacilityCode: fmt.Sprint(42 + i), First: 1}
		seed.Count = w.options.Pools[p]
		if err := sim.Seed(seed); err != nil {
			w.Fatal(err)
		}
	}
	w.accounts[name] = &account{sim: sim, client: w.newClient(name, undisturbed{direct{sim.Handler()}}, unlimited{})}
	go sim.Run(w.Ctx)
}

func (w *World) newClient(account string, doer origo.Doer, limiter origo.Limiter) *origo.Client {
	return origo.New(origo.Config{
		Account: account, OrganizationID: organization, ClientID: clientID, ClientSecret: clientSecret,
		ApplicationID: application, ApplicationVersion: "1",
		Endpoints: origo.Endpoints{Token: "http://origo", Management: "http://origo/credential-management",
			Events: "http://origo"},
	}, doer, w.Now, limiter)
}

// NewProcess is the service as one process of a function has it: with clients of its own, which know no token yet. Like
// a function's, it is meant for one invocation at a time.
func (w *World) NewProcess() *issuance.Service {
	clients := providers{}
	for name, a := range w.accounts {
		clients[name] = w.newClient(name, &line{world: w, account: name, to: direct{a.sim.Handler()}},
			budget{w, name})
	}
	return &issuance.Service{
		Store: w.Store, Providers: clients, Accounts: w.options.Accounts, Mailer: w.Mailbox, Now: w.Now,
		Log: slog.New(w.options.Log),
		NewID: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ids++
			return fmt.Sprintf("id-%04d", w.ids)
		},
		Count: func(metric string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.metrics[metric]++
		},
		Gauge: func(metric string, value float64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gauges[metric] = value
		},
		Pause: func(ctx context.Context, _ int) error {
			w.options.Weather.Meet(Call{Kind: "pause"})
			return ctx.Err()
		},
	}
}

// providers are the clients of one process, by account.
type providers map[string]*origo.Client

// Provider implements provider.Providers.
func (p providers) Provider(_ context.Context, name string) (provider.Provider, error) {
	client, ok := p[name]
	if !ok {
		return nil, fmt.Errorf("no account %q", name)
	}
	return client, nil
}

type unlimited struct{}

func (unlimited) Take(context.Context) error { return nil }

// Accounts are the names of the accounts, the first one first.
func (w *World) Accounts() []string { return w.options.Accounts }

// SimOf is the provider of an account.
func (w *World) SimOf(account string) *origosim.Sim { return w.accounts[account].sim }

// Switch changes the switches of the provider, at every account. They stay so until they are changed again.
func (w *World) Switch(set func(*origosim.Switches)) {
	w.Helper()
	for _, name := range w.options.Accounts {
		w.Must(w.accounts[name].sim.Switch(set))
	}
}

// Now is the world's time.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// SetNow moves the clock forward to a moment; it never goes back. The providers hear of it with the next Tick.
func (w *World) SetNow(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.After(w.now) {
		w.now = now
	}
}

// Tick makes the providers look at the clock.
func (w *World) Tick() {
	w.Helper()
	for _, name := range w.options.Accounts {
		if err := w.accounts[name].sim.Tick(); err != nil {
			w.Fatal(err)
		}
	}
}

// Metric is how often a metric was counted.
func (w *World) Metric(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.metrics[name]
}

// Gauge is what a gauge said last.
func (w *World) Gauge(name string) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gauges[name]
}

// Report does with a callback what the functions do between them (webhook, bus, cleanup): it refreshes the users it
// tells of.
func (w *World) Report(ctx context.Context, account string, body []byte) error {
	return ReportTo(ctx, w.Service, account, body)
}

// ReportTo is Report by a given process.
func ReportTo(ctx context.Context, s *issuance.Service, account string, body []byte) error {
	users, _, err := origo.Translate(account, body)
	for _, u := range users {
		if err == nil {
			err = s.Refresh(ctx, u)
		}
	}
	return err
}

// Settle returns once every callback that is due has been dealt with.
func (w *World) Settle() {
	w.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for slices.ContainsFunc(w.options.Accounts, func(name string) bool { return !w.accounts[name].sim.Settled() }) {
		select {
		case <-w.changed:
		case <-deadline.C:
			w.Fatal("callbacks do not come to rest")
		}
	}
}

// Break plans a fault: the next count calls of one operation of the provider, as package origosim names them, or of
// any, fail in one way ("error", "timeout", "throttle"), "before" or "after" they took effect.
func (w *World) Break(op, kind, when string, count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, plannedFault{op, "", count,
		origosim.Fault{Kind: kind, When: when, Hold: time.Millisecond}})
}

// BreakFor plans a fault as Break does, for the calls about one holder's user at the provider.
func (w *World) BreakFor(holderID, op, kind, when string, count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, plannedFault{op, holderID, count,
		origosim.Fault{Kind: kind, When: when, Hold: time.Millisecond}})
}

// LoseCallbacks makes every callback of the provider get lost from now on.
func (w *World) LoseCallbacks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = true
}

// Mend ends every planned fault, lets callbacks arrive (unless the world is deaf) and mails be sent, and makes every
// account quick again. Switches stay as they are.
func (w *World) Mend() {
	w.mu.Lock()
	w.faults, w.deaf = nil, w.options.Deaf
	clear(w.slow)
	w.mu.Unlock()
	w.Mailbox.mend()
}

func (w *World) fault(op, holder string) (origosim.Fault, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if op == "callback" && w.deaf {
		return origosim.Fault{Kind: "drop"}, true
	}
	for i, f := range w.faults {
		if (f.op == op || f.op == "any" && op != "callback") && (f.holder == "" || f.holder == holder) {
			if w.faults[i].count--; w.faults[i].count == 0 {
				w.faults = slices.Delete(w.faults, i, i+1)
			}
			return f.Fault, true
		}
	}
	return origosim.Fault{}, false
}

// undisturbed is the world's own way to a provider, on which it is seen as it is.
type undisturbed struct{ to direct }

// Do implements origo.Doer.
func (u undisturbed) Do(r *http.Request) (*http.Response, error) {
	return u.to.Do(r.WithContext(origosim.Undisturbed(r.Context())))
}
