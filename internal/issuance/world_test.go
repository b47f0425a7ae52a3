package issuance_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

const (
	account = "acme"
	part    = "MID-SUB-CRD_FTPN_1001"
	part2   = "MID-SUB-CRD_FTPN_1002"
)

// world is the service between a real store in memory, the adapter of HID Origo in front of our simulator, and a letter box.
type world struct {
	*testing.T
	ctx    context.Context
	store  *memory.Store
	sim    *origosim.Sim
	origo  *origo.Client
	svc    *issuance.Service
	portal credential.Request

	mu      sync.Mutex
	now     time.Time
	ids     int
	faults  []fault
	mail    []mail.Letter
	post    func(mail.Letter) mail.Outcome
	metrics map[string]int
	deaf    bool // callbacks are lost
	changed chan struct{}
}

type fault struct {
	op    string
	count int
	origosim.Fault
}

type unlimited struct{}

func (unlimited) Take(context.Context) error { return nil }

// direct calls a handler without a network.
type direct struct{ http.Handler }

func (d direct) Do(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() != nil { // the simulator cut the connection
			err = io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func (w *world) Provider(_ context.Context, name string) (provider.Provider, error) {
	if name != account {
		return nil, fmt.Errorf("no account %q", name)
	}
	return w.origo, nil
}

func (w *world) Send(_ context.Context, l mail.Letter) mail.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.post != nil {
		if outcome := w.post(l); outcome.Fate != mail.Sent {
			return outcome
		}
	}
	w.mail = append(w.mail, l)
	return mail.Outcome{}
}

func newWorld(t *testing.T, adjust ...func(*origosim.Options)) *world {
	w := &world{
		T: t, ctx: t.Context(), store: &memory.Store{}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		metrics: map[string]int{}, changed: make(chan struct{}, 1),
		portal: credential.Request{Actor: credential.Actor{Type: credential.ActorPortal, ID: "portal"}},
	}
	opts := origosim.Options{
		Account: account, OrganizationID: "1003233", ClientID: "1003233-OSRV", ClientSecret: "secret", ApplicationID: "app",
		Now: w.time, Load: func() ([]byte, error) { return nil, nil }, Save: func([]byte) error { return nil },
		Fault: w.fault, Deliver: w.callback,
		Changed: func() {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		},
		Switches: origosim.Switches{CancelFreesID: true},
	}
	for _, a := range adjust {
		a(&opts)
	}
	sim, err := origosim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	w.sim = sim
	for i, p := range []string{part, part2} {
		if err := sim.Seed(origosim.SeedPartNumber{PartNumber: p, FriendlyName: "HQ", Format: "H10301", FacilityCode: fmt.Sprint(42 + i), First: 1, Count: 30}); err != nil {
			t.Fatal(err)
		}
	}
	w.origo = origo.New(origo.Config{
		Account: account, OrganizationID: "1003233", ClientID: "1003233-OSRV", ClientSecret: "secret", ApplicationID: "app", ApplicationVersion: "1",
		Endpoints: origo.Endpoints{Token: "http://origo", Management: "http://origo/credential-management", Events: "http://origo"},
	}, direct{sim.Handler()}, w.time, unlimited{})
	w.svc = &issuance.Service{
		Store: w.store, Providers: w, Mailer: w, Now: w.time, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		NewID: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ids++
			return fmt.Sprintf("id-%03d", w.ids)
		},
		Count: func(metric string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.metrics[metric]++
		},
		Pause: func(ctx context.Context, _ int) error { return ctx.Err() },
	}
	go sim.Run(w.ctx)
	w.profile("hq", part)
	return w
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) fault(op string) (origosim.Fault, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if op == "callback" && w.deaf {
		return origosim.Fault{Kind: "drop"}, true
	}
	for i, f := range w.faults {
		if f.op == op || f.op == "any" && op != "callback" {
			if w.faults[i].count--; w.faults[i].count == 0 {
				w.faults = slices.Delete(w.faults, i, i+1)
			}
			return f.Fault, true
		}
	}
	return origosim.Fault{}, false
}

func (w *world) break_(op, kind, when string, count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fault{op, count, origosim.Fault{Kind: kind, When: when, Hold: time.Millisecond}})
}

func (w *world) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults, w.deaf, w.post = nil, false, nil
}

// callback is webhook, bus and cleanup in one.
func (w *world) callback(ctx context.Context, body []byte) error {
	users, _, err := origo.Translate(account, body)
	for _, u := range users {
		if err == nil {
			err = w.svc.Refresh(ctx, u)
		}
	}
	return err
}

// settle returns once every callback has been dealt with.
func (w *world) settle() {
	w.Helper()
	deadline := time.After(20 * time.Second)
	for !w.sim.Settled() {
		select {
		case <-w.changed:
		case <-deadline:
			w.Fatal("callbacks do not come to rest")
		}
	}
}

// pass lets time go by and runs one sweep, as the schedule would.
func (w *world) pass(d time.Duration) issuance.SweepReport {
	w.Helper()
	w.settle()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	report, err := w.svc.Sweep(w.ctx, []string{account})
	if err != nil {
		w.Fatal(err)
	}
	w.settle()
	return report
}

func (w *world) profile(id, partNumber string) {
	w.Helper()
	_, _, err := w.svc.PutProfile(w.ctx, credential.PutProfile{Profile: credential.Profile{
		ID: id, Name: "HQ employees", Account: account, PartNumber: partNumber, InvitationDays: 7, Locale: "en", TimeZone: "UTC",
	}})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) holder(id string, edits ...func(*credential.Holder)) {
	w.Helper()
	h := credential.Holder{ID: id, Kind: credential.Cardholder, FirstName: "Aimée", LastName: "Tremblay", Email: strings.ToLower(id) + "@example.com"}
	for _, e := range edits {
		e(&h)
	}
	if _, _, err := w.svc.PutHolder(w.ctx, credential.PutHolder{Request: w.portal, Holder: h}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) assign(holderID string) credential.Credential {
	w.Helper()
	result, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: holderID, ProfileID: "hq"})
	if err != nil {
		w.Fatal(err)
	}
	w.settle()
	return result.Credential
}

// invited makes a holder with a credential whose invitation is out.
func (w *world) invited(holderID string) credential.Credential {
	w.Helper()
	w.holder(holderID)
	c := w.assign(holderID)
	if c.Invitation.Status != credential.InvitationSent {
		w.Fatalf("invitation is %s", c.Invitation.Status)
	}
	return c
}

func (w *world) activated(holderID, phone string) credential.Credential {
	w.Helper()
	return w.redeem(w.invited(holderID), phone)
}

func (w *world) redeem(c credential.Credential, phone string) credential.Credential {
	w.Helper()
	if err := w.sim.Redeem(phone, w.codeOf(c)); err != nil {
		w.Fatal(err)
	}
	w.settle()
	return w.read(c)
}

// codeOf is the code in the newest mail about a credential.
func (w *world) codeOf(c credential.Credential) string {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range slices.Backward(w.mail) {
		if l.CredentialID == c.ID {
			return l.Code.Reveal()
		}
	}
	w.Fatalf("no mail about %s", c.ID)
	return ""
}

func (w *world) mails() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mail)
}

func (w *world) metric(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.metrics[name]
}

func (w *world) end(c credential.Credential, reason credential.EndReason) (credential.Credential, error) {
	r, err := w.svc.End(w.ctx, credential.End{Request: w.portal, HolderID: c.HolderID, CredentialID: c.ID, Reason: reason})
	w.settle()
	return r.Credential, err
}

func (w *world) read(c credential.Credential) credential.Credential {
	w.Helper()
	c, err := w.store.Credential(w.ctx, c.HolderID, c.ID)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) expect(c credential.Credential, state, reason string) credential.Credential {
	w.Helper()
	c = w.read(c)
	if c.State() != state || c.Reason != reason {
		w.Fatalf("credential is %s %q, want %s %q", c.State(), c.Reason, state, reason)
	}
	return c
}

// story is the history of a credential in words; flagged entries are marked.
func (w *world) story(c credential.Credential) string {
	w.Helper()
	entries, err := w.store.History(w.ctx, c.HolderID, c.ID)
	if err != nil {
		w.Fatal(err)
	}
	var words []string
	for _, e := range entries {
		word := string(e.Event)
		if e.Anomaly {
			word += "!"
		}
		if e.Late {
			word += "~"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// agree checks what must always hold: what the provider's users of ours have is what our live credentials have, each mobile ID
// belongs to one live credential at most, and nothing is left to do.
func (w *world) agree() {
	w.Helper()
	var theirs, ours []string
	holders := map[string]bool{}
	state := w.sim.State()
	for _, u := range state.Users {
		if _, err := w.store.Holder(w.ctx, u.ExternalID); err == nil {
			holders[u.ExternalID] = true
		}
	}
	for _, profileID := range []string{"hq", "annex"} {
		rows, _, err := w.store.ListCredentials(w.ctx, credential.Page{ProfileID: profileID, Limit: 1000})
		if err != nil {
			w.Fatal(err)
		}
		for _, c := range rows {
			if c.IsLive() && c.Mobile != nil {
				ours = append(ours, c.Mobile.ID)
			}
			h, err := w.store.Holder(w.ctx, c.HolderID)
			if err != nil {
				continue
			}
			if step := credential.Next(c, h, w.time()); step.Kind != credential.StepNone && !step.At.After(w.time()) {
				w.Errorf("%s of %s: still to %s", c.ID, c.HolderID, step.Kind)
			}
		}
	}
	foreign := w.foreignIDs()
	for _, p := range state.PartNumbers {
		for _, id := range append(slices.Clone(p.Reserved), p.Issued...) {
			if !foreign[id] {
				theirs = append(theirs, id)
			}
		}
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	if !slices.Equal(theirs, ours) {
		w.Errorf("the provider's numbers %v and ours %v disagree", theirs, ours)
	}
	if slices.ContainsFunc(ours, func(id string) bool {
		n := 0
		for _, o := range ours {
			if o == id {
				n++
			}
		}
		return n > 1
	}) {
		w.Errorf("one mobile ID, two live credentials: %v", ours)
	}
}

// foreignIDs are the mobile IDs that somebody has whom we do not know.
func (w *world) foreignIDs() map[string]bool {
	foreign := map[string]bool{}
	for _, u := range w.sim.State().Users {
		if _, err := w.store.Holder(w.ctx, u.ExternalID); err == nil {
			continue
		}
		for _, i := range u.Invitations {
			if i.MobileID != nil {
				foreign[*i.MobileID] = true
			}
		}
	}
	return foreign
}
