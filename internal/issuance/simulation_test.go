package issuance_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

// How the simulation works. Every invocation (a request of the portal, a report of the provider, a sweep) is a goroutine that stops
// before and after each call of the store, the provider and the mailer. One runs at a time, and which one, how far, and what
// becomes of the call it stopped at (done, failed, answer lost, process killed) is drawn by rapid. So everything is deterministic,
// any interleaving can happen, and a failure is shrunk to the shortest story that leads to it.

const (
	patience   = 50 * time.Second // no invocation is given more: the template's timeouts
	callLimit  = 5 * time.Second  // no call outside takes more
	lateAtMost = 9 * time.Second  // a request whose sender gave up arrives by then
)

// verdict is what becomes of the call an invocation has stopped at.
type verdict string

const (
	pass     verdict = ""
	fail     verdict = "fail"     // the store: an error; before the call, or after it took effect
	kill     verdict = "kill"     // the process ends here
	timeout  verdict = "timeout"  // the provider: nothing is heard
	unwell   verdict = "unwell"   // 500
	throttle verdict = "throttle" // 403
	ghost    verdict = "ghost"    // nothing is heard, and the request arrives later
	unsent   verdict = "unsent"   // the mail: refused
	doubt    verdict = "doubt"    // the mail: nothing is heard; it was not sent
	posted   verdict = "posted"   // the mail: nothing is heard; it was sent
)

var errStore = errors.New("the store is unwell")

// invocation is one at work, or stopped at a point.
type invocation struct {
	name      string
	point     string
	started   time.Time
	resume    chan verdict
	over      chan struct{}
	err       error
	panicked  any
	mailed    []string // credentials whose mail it sent
	shaken    bool     // something failed in it
	describes bool     // it changes a holder
}

// ghostly is a request on its way whose sender has given up.
type ghostly struct {
	at   time.Time
	send func()
}

// life is a world in which anything may happen, in an order rapid draws.
type life struct {
	*rapid.T
	ctx      context.Context
	store    *memory.Store
	sim      *origosim.Sim
	services []*issuance.Service
	quiet    *origo.Client // reads the provider without anything happening

	mu      sync.Mutex
	inbox   [][]byte // callbacks under way
	changed chan struct{}
	now     time.Time

	ids       int
	current   *invocation // the one at work, nil while the world looks
	parked    chan struct{}
	stopped   []*invocation
	ghosts    []ghostly
	outage    bool
	untold    bool // a change of a holder was cut off before it was told to work begun meanwhile
	photoLost bool // nobody can say what the new picture is called
	serene    bool // nothing goes wrong any more
	written   bool // something was, since always looked

	letters  []mail.Letter
	doubtful map[string]int  // mails about a credential that may be sent once more
	aliens   map[string]bool // references of invitations and credentials that the provider's administrators made, and their users
	last     map[string]credential.Credential
	spent    map[string]string // mobile ID -> credential that was activated with it
	keys     map[string]string // Idempotency-Key -> credential
	pictures int
}

var portrait = func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 4, 4)), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

func init() {
	// The same lives each time, so that nobody's change fails for another's reason; the command line wins, with -rapid.seed=0 for
	// new ones.
	for name, value := range map[string]string{"rapid.checks": "60", "rapid.seed": "20261123", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

func newLife(t *rapid.T) *life {
	l := &life{
		T: t, ctx: t.Context(), store: &memory.Store{}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		changed: make(chan struct{}, 1), parked: make(chan struct{}), doubtful: map[string]int{}, aliens: map[string]bool{},
		last: map[string]credential.Credential{}, spent: map[string]string{}, keys: map[string]string{},
	}
	sim, err := origosim.New(origosim.Options{
		Account: account, OrganizationID: "1003233", ClientID: "1003233-OSRV", ClientSecret: "secret", ApplicationID: "app",
		Now: l.time, Load: func() ([]byte, error) { return nil, nil }, Save: func([]byte) error { return nil },
		Fault: func(string) (origosim.Fault, bool) { return origosim.Fault{}, false },
		Deliver: func(_ context.Context, body []byte) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.inbox = append(l.inbox, body)
			return nil
		},
		Changed: func() {
			select {
			case l.changed <- struct{}{}:
			default:
			}
		},
		Switches: origosim.Switches{
			CancelFreesID:            rapid.Bool().Draw(t, "cancelling frees the ID"),
			CancelAcceptedAnswers2xx: rapid.Bool().Draw(t, "cancelling what was accepted answers 2xx"),
			SearchByExternalID:       rapid.Bool().Draw(t, "search by externalId"),
		},
	})
	l.must(err)
	l.sim = sim
	for i, p := range []string{part, part2} {
		l.must(sim.Seed(origosim.SeedPartNumber{PartNumber: p, FriendlyName: "HQ", Format: "H10301", FacilityCode: fmt.Sprint(42 + i), First: 1, Count: 5}))
	}
	l.store.Fail = func(op string) error {
		l.written = l.written || strings.HasSuffix(op, "after")
		if l.at(op) == fail {
			l.current.shaken = true
			return fmt.Errorf("%w: %s", errStore, op)
		}
		return nil
	}
	for range 2 {
		client := l.client(line{l})
		l.services = append(l.services, &issuance.Service{
			Store: l.store, Providers: oneProvider{client}, Mailer: l, Now: l.time, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
			NewID: func() string { l.ids++; return fmt.Sprintf("id-%03d", l.ids) },
			Count: func(metric string) {
				if metric == issuance.MetricPoison && l.serene {
					l.Error("poison in calm weather")
				}
			},
			Pause: func(ctx context.Context, _ int) error { l.at("pause"); return ctx.Err() },
		})
	}
	l.quiet = l.client(direct{sim.Handler()})
	go sim.Run(l.ctx)
	for id, partNumber := range map[string]string{"hq": part, "annex": part2} {
		_, _, err := l.services[0].PutProfile(l.ctx, credential.PutProfile{Profile: credential.Profile{
			ID: id, Name: id, Account: account, PartNumber: partNumber, InvitationDays: 7, Locale: "en", TimeZone: "UTC",
		}})
		l.must(err)
	}
	return l
}

func (l *life) client(d origo.Doer) *origo.Client {
	return origo.New(origo.Config{
		Account: account, OrganizationID: "1003233", ClientID: "1003233-OSRV", ClientSecret: "secret", ApplicationID: "app", ApplicationVersion: "1",
		Endpoints: origo.Endpoints{Token: "http://origo", Management: "http://origo/credential-management", Events: "http://origo"},
	}, d, l.time, unlimited{})
}

type oneProvider struct{ *origo.Client }

func (p oneProvider) Provider(context.Context, string) (provider.Provider, error) {
	return p.Client, nil
}

func (l *life) must(err error) {
	if err != nil {
		l.Fatal(err)
	}
}

func (l *life) time() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// at stops the invocation at work at a point, until it is told what becomes of it.
func (l *life) at(point string) verdict {
	in := l.current
	if in == nil {
		return pass
	}
	in.point = point
	l.parked <- struct{}{}
	v := <-in.resume
	if v == kill {
		runtime.Goexit()
	}
	return v
}

// Send implements issuance.Mailer.
func (l *life) Send(_ context.Context, letter mail.Letter) mail.Outcome {
	id := letter.CredentialID
	switch l.at("mail") {
	case unsent:
		return mail.Outcome{Fate: mail.Throttled, Reason: "weather"}
	case doubt:
		return mail.Outcome{Fate: mail.InDoubt, Reason: ""}
	case posted:
		l.letters = append(l.letters, letter)
		l.doubtful[id]++
		return mail.Outcome{Fate: mail.InDoubt, Reason: ""}
	}
	l.letters = append(l.letters, letter)
	l.current.mailed = append(l.current.mailed, id)
	l.at("mail after")
	return mail.Outcome{}
}

// line is the way to the provider.
type line struct{ *life }

func (n line) Do(r *http.Request) (*http.Response, error) {
	serve := func() *http.Response {
		w := httptest.NewRecorder()
		n.sim.Handler().ServeHTTP(w, r)
		return w.Result()
	}
	if strings.HasSuffix(r.URL.Path, "/token") { // asked for with a lock held
		return serve(), nil
	}
	if r.Body != nil { // read now, for it may be sent later
		body, _ := io.ReadAll(r.Body)
		r = r.WithContext(n.ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	op := r.Method + " " + r.URL.Path[strings.LastIndex(r.URL.Path, "1003233")+7:]
	if resp, err, done := n.weather(n.at(op), func() { n.ghosts = append(n.ghosts, ghostly{n.time().Add(lateAtMost), func() { serve() }}) }); done {
		return resp, err
	}
	resp := serve()
	if lost, err, done := n.weather(n.at(op+" after"), func() {}); done {
		return lost, err
	}
	return resp, nil
}

func (n line) weather(v verdict, later func()) (*http.Response, error, bool) {
	if v == pass && n.outage {
		v = unwell
	}
	answer := func(status int) *http.Response {
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		return w.Result()
	}
	switch v {
	case unwell, fail:
		return answer(http.StatusInternalServerError), nil, true
	case throttle:
		return answer(http.StatusForbidden), nil, true
	case ghost:
		later()
		fallthrough
	case timeout:
		n.pass(callLimit)
		return nil, io.ErrUnexpectedEOF, true
	}
	return nil, nil, false
}

// pass lets time go by; what is under way arrives meanwhile.
func (l *life) pass(d time.Duration) {
	until := l.time().Add(d)
	for len(l.ghosts) > 0 && !l.ghosts[0].at.After(until) {
		g := l.ghosts[0]
		l.ghosts = l.ghosts[1:]
		l.set(g.at)
		g.send()
	}
	l.set(until)
	l.must(l.sim.Tick())
}

func (l *life) set(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.now) {
		l.now = now
	}
}

// start begins an invocation, which stops before its first call.
func (l *life) start(name string, do func(*issuance.Service) error) *invocation {
	in := &invocation{name: name, started: l.time(), resume: make(chan verdict), over: make(chan struct{})}
	service := l.services[rapid.IntRange(0, 1).Draw(l.T, "service")]
	go func() {
		defer close(in.over)
		defer func() { in.panicked = recover() }()
		if <-in.resume == kill {
			return
		}
		in.err = do(service)
	}()
	in.point, in.describes = "start", strings.HasPrefix(name, "describe") || strings.Contains(name, "picture")
	l.stopped = append(l.stopped, in)
	return in
}

// proceed lets an invocation go on to its next point; false when it is over.
func (l *life) proceed(in *invocation, v verdict) bool {
	l.current = in
	l.photoLost = l.photoLost || v != pass && strings.Contains(in.point, "photo")
	in.resume <- v
	over := false
	select {
	case <-l.parked:
	case <-in.over:
		over = true
	}
	l.current = nil
	if v != pass {
		in.shaken = true
	}
	if over {
		l.stopped = slices.DeleteFunc(l.stopped, func(s *invocation) bool { return s == in })
		if in.shaken || in.err != nil {
			for _, id := range in.mailed {
				l.doubtful[id]++
			}
		}
		l.untold = l.untold || in.shaken && in.describes
		var refused *credential.Error
		if in.panicked != nil {
			l.Fatalf("%s: panic: %v", in.name, in.panicked)
		}
		if in.err != nil && !errors.As(in.err, &refused) && !errors.Is(in.err, errStore) && !isProvider(in.err) {
			l.Fatalf("%s: %v", in.name, in.err)
		}
	}
	if l.written {
		l.written = false
		l.always()
	}
	return !over
}

func isProvider(err error) bool {
	return errors.Is(err, provider.ErrUnavailable) || errors.Is(err, provider.ErrOverLimit)
}

// go_ lets an invocation go on: to its end, or for a while; then it stays, meets something, or is killed.
func (l *life) goOn(in *invocation) {
	steps := 10000
	if rapid.IntRange(0, 2).Draw(l.T, "interrupted") == 2 {
		steps = rapid.IntRange(0, 60).Draw(l.T, "points")
	}
	for range steps {
		if l.time().Sub(in.started) > patience {
			l.proceed(in, kill)
			return
		}
		if !l.proceed(in, pass) {
			l.settle()
			return
		}
	}
	l.settle()
	end := rapid.SampledFrom([]verdict{pass, fail, kill}).Draw(l.T, "then")
	if end == fail {
		switch {
		case in.point == "mail":
			end = rapid.SampledFrom([]verdict{unsent, doubt, posted}).Draw(l.T, "mail")
		case in.point == "mail after", in.point == "pause", in.point == "start":
			end = kill
		case strings.HasPrefix(in.point, "POST /users") && !strings.Contains(in.point, "search"):
			end = rapid.SampledFrom([]verdict{timeout, unwell, throttle, ghost}).Draw(l.T, "provider")
		case strings.Contains(in.point, "/"):
			end = rapid.SampledFrom([]verdict{timeout, unwell, throttle}).Draw(l.T, "provider")
		}
	}
	if end == ghost && strings.HasSuffix(in.point, " after") {
		end = timeout
	}
	if end != pass {
		l.Logf("%s: %s at %s", in.name, end, in.point)
		l.proceed(in, end)
	} else {
		l.Logf("%s: stays at %s", in.name, in.point)
	}
}

// settle returns once every callback is in the inbox.
func (l *life) settle() {
	for !l.sim.Settled() {
		select {
		case <-l.changed:
		case <-time.After(20 * time.Second):
			l.Fatal("callbacks do not come to rest")
		}
	}
}

// do starts an invocation and lets it go on.
func (l *life) do(name string, f func(*issuance.Service) error) {
	if len(l.stopped) >= 4 {
		l.Skip("enough is going on")
	}
	l.Log(name)
	l.goOn(l.start(name, f))
}

var portal = credential.Request{Actor: credential.Actor{Type: credential.ActorPortal, ID: "portal"}}

func (l *life) holderID() string {
	return rapid.SampledFrom([]string{"E-1", "E-2", "V-3"}).Draw(l.T, "holder")
}

func (l *life) rows() []credential.Credential {
	var rows []credential.Credential
	for _, id := range []string{"E-1", "E-2", "V-3"} {
		of, err := l.store.Credentials(l.ctx, id)
		l.must(err)
		rows = append(rows, of...)
	}
	return rows
}

func (l *life) row(keep func(credential.Credential) bool) credential.Credential {
	rows := slices.DeleteFunc(l.rows(), func(c credential.Credential) bool { return !keep(c) })
	if len(rows) == 0 {
		l.Skip("no such credential")
	}
	return rapid.SampledFrom(rows).Draw(l.T, "credential")
}

func anyRow(credential.Credential) bool { return true }

// code is the code in a mail that was sent.
func (l *life) code() string {
	if len(l.letters) == 0 {
		l.Skip("no mail")
	}
	return rapid.SampledFrom(l.letters[max(0, len(l.letters)-4):]).Draw(l.T, "letter").Code.Reveal()
}

func (l *life) phone() string {
	return rapid.SampledFrom([]string{"phone-a", "phone-b"}).Draw(l.T, "phone")
}

func (l *life) putHolder(s *issuance.Service, id string, until time.Duration, name string) error {
	h := credential.Holder{ID: id, Kind: credential.Cardholder, FirstName: "A", LastName: name, Email: strings.ToLower(id+name) + "@example.com"}
	if id[0] == 'V' {
		at := l.time().Add(until)
		h.Kind, h.ValidUntil = credential.Visitor, &at
	}
	_, _, err := s.PutHolder(l.ctx, credential.PutHolder{Request: portal, Holder: h})
	return err
}

func (l *life) actions() map[string]func(*rapid.T) {
	assign := func(t *rapid.T) {
		r := portal
		r.Route, r.Key = "assign", rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(t, "key")
		id, profile := l.holderID(), rapid.SampledFrom([]string{"hq", "hq", "annex"}).Draw(t, "profile")
		r.PayloadHash = id + profile
		l.do("assign "+id, func(s *issuance.Service) error {
			result, err := s.Assign(l.ctx, credential.Assign{Request: r, HolderID: id, ProfileID: profile})
			key := id + " " + r.Key
			if known, ok := l.keys[key]; ok && r.Key != "" && err == nil && known != result.Credential.ID && l.last[known].CreatedAt.Add(6*24*time.Hour).After(l.time()) {
				return fmt.Errorf("key %s made %s, then %s", key, known, result.Credential.ID)
			}
			if err == nil && r.Key != "" {
				l.keys[key] = result.Credential.ID
			}
			return err
		})
	}
	goOn := func(*rapid.T) {
		if len(l.stopped) == 0 {
			l.Skip("nothing is stopped")
		}
		in := l.stopped[rapid.IntRange(0, len(l.stopped)-1).Draw(l.T, "which")]
		l.Logf("%s goes on from %s", in.name, in.point)
		l.goOn(in)
	}
	deliver := func(t *rapid.T) {
		if len(l.inbox) == 0 {
			l.Skip("nothing under way")
		}
		i := rapid.IntRange(0, len(l.inbox)-1).Draw(t, "callback")
		body := l.inbox[i]
		switch rapid.SampledFrom([]string{"once", "once", "twice", "lost"}).Draw(t, "told") {
		case "once":
			l.inbox = slices.Delete(l.inbox, i, i+1)
		case "lost":
			l.inbox = slices.Delete(l.inbox, i, i+1)
			return
		}
		l.do("callback", func(s *issuance.Service) error { return l.callback(s, body) })
	}
	wait := func(t *rapid.T) {
		d := rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second, 11 * time.Second, 30 * time.Second, 61 * time.Second, 61 * time.Second, 5 * time.Minute, time.Hour, 25 * time.Hour, 8 * 24 * time.Hour}).Draw(t, "wait")
		l.Log("wait ", d)
		l.pass(d)
		l.settle()
	}
	redeem := func(t *rapid.T) {
		code, phone := l.code(), l.phone()
		act := l.sim.Redeem
		if rapid.Bool().Draw(t, "fetched later") {
			act = l.sim.Accept
		}
		l.Log("redeem ", phone, " ", act(phone, code))
		l.settle()
	}
	sweep := func(*rapid.T) {
		l.do("sweep", func(s *issuance.Service) error {
			_, err := s.Sweep(l.ctx, []string{account})
			return err
		})
	}
	return map[string]func(*rapid.T){
		"":       func(*rapid.T) { l.settle() }, // after each of the others
		"assign": assign, "assign 2": assign, "assign 3": assign,
		"go on": goOn, "go on 2": goOn, "go on 3": goOn,
		"deliver": deliver, "deliver 2": deliver, "deliver 3": deliver,
		"wait": wait, "wait 2": wait,
		"redeem": redeem, "redeem 2": redeem,
		"sweep": sweep, "sweep 2": sweep,
		"fetch": func(*rapid.T) {
			phone := l.phone()
			l.Log("fetch ", phone)
			l.must(l.sim.Sync(phone))
		},
		"remove phone": func(*rapid.T) {
			phone := l.phone()
			l.Log("remove ", phone)
			l.must(l.sim.Remove(phone))
		},
		"decline": func(*rapid.T) { l.Log("decline ", l.sim.Decline(l.code())) },
		"resend": func(*rapid.T) {
			c := l.row(credential.Credential.IsLive)
			l.do("resend "+c.ID, func(s *issuance.Service) error {
				_, err := s.Resend(l.ctx, credential.Resend{Request: portal, HolderID: c.HolderID, CredentialID: c.ID})
				return err
			})
		},
		"replace": func(t *rapid.T) {
			c := l.row(credential.Credential.IsLive)
			reason := rapid.SampledFrom([]credential.EndReason{credential.EndUpgrade, credential.EndUpgrade, credential.EndLost, credential.EndStolen}).Draw(t, "reason")
			l.do(string(reason)+" "+c.ID, func(s *issuance.Service) error {
				_, err := s.Replace(l.ctx, credential.Replace{Request: portal, HolderID: c.HolderID, CredentialID: c.ID, Reason: reason})
				return err
			})
		},
		"end": func(t *rapid.T) {
			c := l.row(anyRow)
			reason := rapid.SampledFrom([]credential.EndReason{credential.EndDeleted, credential.EndLost, credential.EndStolen}).Draw(t, "reason")
			l.do(string(reason)+" "+c.ID, func(s *issuance.Service) error {
				_, err := s.End(l.ctx, credential.End{Request: portal, HolderID: c.HolderID, CredentialID: c.ID, Reason: reason})
				return err
			})
		},
		"describe": func(t *rapid.T) {
			id, name := l.holderID(), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "name")
			until := rapid.SampledFrom([]time.Duration{-time.Minute, time.Minute, 8 * time.Hour, 30 * 24 * time.Hour}).Draw(t, "until")
			l.do("describe "+id, func(s *issuance.Service) error { return l.putHolder(s, id, until, "T"+name) })
		},
		"picture": func(t *rapid.T) {
			id := l.holderID()
			if rapid.IntRange(0, 2).Draw(t, "none") == 2 {
				l.do("no picture "+id, func(s *issuance.Service) error { return s.RemovePicture(l.ctx, id, portal) })
				return
			}
			l.pictures++
			p := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: fmt.Sprint("p", l.pictures)}
			l.do("picture "+id, func(s *issuance.Service) error { return s.PutPicture(l.ctx, id, p, portal) })
		},
		"erase": func(*rapid.T) {
			id := l.holderID()
			l.do("erase "+id, func(s *issuance.Service) error { return s.Erase(l.ctx, id, portal) })
		},
		"provider cancels": func(*rapid.T) {
			if i, ok := l.sim.Invitation(l.code()); ok && !l.aliens[i.ID] {
				l.Log("provider cancels ", i.ID, " ", l.sim.Cancel(l.code()))
			}
		},
		"provider revokes": func(*rapid.T) {
			c := l.row(func(c credential.Credential) bool { return c.Mobile != nil })
			l.Log("provider revokes ", c.Mobile.ID, " ", l.sim.Revoke(c.Mobile.ID))
		},
		"provider reassigns": func(t *rapid.T) {
			c := l.row(func(c credential.Credential) bool { return c.Mobile != nil })
			to := rapid.SampledFrom([]string{"stranger", "E-1", "V-3"}).Draw(t, "to")
			if slices.ContainsFunc(l.rows(), func(o credential.Credential) bool {
				return o.HolderID == to && (o.Mobile != nil && o.Mobile.ID == c.Mobile.ID && o.IsLive() || o.Reservation == credential.ReservationInDoubt)
			}) { // the very same once more, under another reference
				l.Skip("has it")
			}
			l.reassign(c.Mobile.ID, to)
		},
		"outage": func(*rapid.T) {
			l.outage = !l.outage
			l.Log("outage ", l.outage)
		},
	}
}

func (l *life) reassign(mobileID, externalID string) {
	existing := map[string]bool{}
	for _, u := range l.sim.State().Users {
		existing[u.ID] = true
	}
	err := l.sim.Reassign(mobileID, externalID)
	l.Log("provider reassigns ", mobileID, " to ", externalID, " ", err)
	if err != nil {
		return
	}
	for _, u := range l.sim.State().Users {
		if u.ExternalID != externalID {
			continue
		}
		user, err := l.quiet.User(l.ctx, u.ID)
		l.must(err)
		var newest provider.Credential
		for _, k := range user.Credentials {
			if k.MobileID.ID == mobileID && k.Device == nil && k.ID > newest.ID {
				newest = k
			}
		}
		if newest.ID == "" {
			continue
		}
		l.aliens[newest.ID] = true
		l.aliens[slices.MaxFunc(user.Invitations, func(a, b provider.Invitation) int { return cmp.Compare(a.ID, b.ID) }).ID] = true
		if !existing[u.ID] {
			l.aliens[u.ID] = true
		}
		break
	}
	l.settle()
}

// callback is webhook, bus and cleanup in one.
func (l *life) callback(s *issuance.Service, body []byte) error {
	users, _, err := origo.Translate(account, body)
	for _, u := range users {
		if err == nil {
			err = s.Refresh(l.ctx, u)
		}
	}
	return err
}

// always checks what must hold at every moment.
func (l *life) always() {
	owners := map[string]string{}
	slots := map[string]string{}
	for _, c := range l.rows() {
		was, known := l.last[c.ID]
		if known && c.Revision == was.Revision {
			goto unchanged
		}
		if c.Revision < was.Revision {
			l.Fatalf("%s: revision %d after %d", c.ID, c.Revision, was.Revision)
		}
		if known && !was.IsLive() && c.Status != was.Status {
			l.Fatalf("%s was %s and is %s", c.ID, was.Status, c.Status)
		}
		if c.Stage == credential.StageActivated && c.Mobile != nil {
			if by, ok := l.spent[c.Mobile.ID]; ok && by != c.ID {
				l.Fatalf("%s was spent by %s and is activated by %s", c.Mobile.ID, by, c.ID)
			}
			l.spent[c.Mobile.ID] = c.ID
		}
		if c.Invitation.Code != "" && (!c.IsLive() || c.Stage != credential.StageInvited) {
			l.Fatalf("%s is %s and has its code", c.ID, c.State())
		}
		l.tale(c, was)
		l.last[c.ID] = c
	unchanged:
		if h, err := l.store.Holder(l.ctx, c.HolderID); err == nil && credential.Next(c, h, l.time()).Kind != credential.StepNone {
			if item, err := l.store.WorkItem(l.ctx, c.HolderID, account); err != nil || item.DueAt == nil {
				l.Fatalf("%s: %s is forgotten: %+v, %v", c.ID, credential.Next(c, h, l.time()).Kind, item, err)
			}
		} else if err != nil && c.IsLive() {
			l.Fatalf("%s is live and its holder is gone", c.ID)
		}
		if c.Mobile == nil {
			continue
		}
		owner, err := l.store.Owner(l.ctx, account, c.Mobile.ID)
		if by := l.spent[c.Mobile.ID]; by != "" && (err != nil || owner.State != credential.OwnerSpent || owner.CredentialID != by) {
			l.Fatalf("%s was spent by %s: %+v, %v", c.Mobile.ID, by, owner, err)
		}
		if owner.State == credential.OwnerHeld && owner.CredentialID == c.ID && c.Reservation != credential.ReservationHeld {
			l.Fatalf("%s holds %s, which is %s", c.ID, c.Mobile.ID, c.Reservation)
		}
		if !c.IsLive() {
			continue
		}
		if err != nil || owner.CredentialID != c.ID || c.Stage != credential.StageActivated && owner.State != credential.OwnerHeld {
			l.Fatalf("%s (%s) does not own %s: %+v, %v", c.ID, c.State(), c.Mobile.ID, owner, err)
		}
		if other := owners[c.Mobile.ID]; other != "" {
			l.Fatalf("%s belongs to %s and %s", c.Mobile.ID, other, c.ID)
		}
		owners[c.Mobile.ID] = c.ID
		if c.Device != nil {
			slot := c.Device.ID + " " + c.ProfileID
			if other := slots[slot]; other != "" {
				l.Fatalf("%s has %s and %s", slot, other, c.ID)
			}
			slots[slot] = c.ID
			if s, err := l.store.Slot(l.ctx, account, c.Device.ID, c.ProfileID); err != nil || s.CredentialID != c.ID {
				l.Fatalf("%s is on %s, whose slot is %+v, %v", c.ID, c.Device.ID, s, err)
			}
		}
	}
}

// tale checks the history of a credential that has changed.
func (l *life) tale(c, was credential.Credential) {
	entries, err := l.store.History(l.ctx, c.HolderID, c.ID)
	l.must(err)
	state, revision := "", int64(0)
	for _, e := range entries {
		if e.From != state || e.Revision <= revision {
			l.Fatalf("%s: %s from %q at revision %d, after %q at %d", c.ID, e.Event, e.From, e.Revision, state, revision)
		}
		state, revision = e.To, e.Revision
	}
	if state != c.State() || revision > c.Revision {
		l.Fatalf("%s is %q, and its history %q", c.ID, c.State(), state)
	}
	if c.State() != was.State() && revision != c.Revision && was.Revision == c.Revision-1 {
		l.Fatalf("%s became %q without an entry", c.ID, c.State())
	}
}

// sweepNow runs a sweep a minute after the last, without anything happening to it.
func (l *life) calmSweep(d time.Duration) {
	l.pass(d)
	l.settle()
	in := l.start("calm sweep", func(s *issuance.Service) error {
		_, err := s.Sweep(l.ctx, []string{account})
		return err
	})
	l.toEnd(in)
	if in.err != nil {
		l.Fatalf("calm sweep: %v", in.err)
	}
	if rapid.Bool().Draw(l.T, "callbacks heard") {
		for len(l.inbox) > 0 {
			body := l.inbox[0]
			l.inbox = l.inbox[1:]
			l.toEnd(l.start("calm callback", func(s *issuance.Service) error { return l.callback(s, body) }))
		}
	}
	l.inbox = nil
}

func (l *life) toEnd(in *invocation) {
	for l.proceed(in, pass) {
	}
	l.settle()
}

// calm lets everything come to rest and checks that all is well.
func (l *life) calm() {
	l.Log("calm")
	l.outage = false
	l.settle()
	finish := rapid.Bool().Draw(l.T, "finish what is stopped")
	for len(l.stopped) > 0 {
		if finish && l.time().Sub(l.stopped[0].started) <= patience {
			l.toEnd(l.stopped[0])
		} else {
			l.proceed(l.stopped[0], kill)
		}
	}
	l.serene = true
	for range 4 {
		l.calmSweep(61 * time.Second)
	}
	for range 20 { // what the provider refused, or the mail, waits longer
		at, waits := l.waiting()
		if !waits {
			break
		}
		l.calmSweep(max(61*time.Second, at.Sub(l.time())))
	}
	l.good()
}

// waiting is the next moment at which something refused is tried again.
func (l *life) waiting() (at time.Time, waits bool) {
	soonest := func(t time.Time) {
		if t.After(l.time()) && (!waits || t.Before(at)) {
			at, waits = t, true
		}
	}
	for _, c := range l.rows() {
		h, err := l.store.Holder(l.ctx, c.HolderID)
		if step := credential.Next(c, h, l.time()); err == nil && step.Kind == c.Retry.For && c.Retry.Attempts > 0 {
			soonest(c.Retry.At)
		}
		if item, err := l.store.WorkItem(l.ctx, c.HolderID, account); err == nil && item.Retry.Attempts > 0 {
			soonest(item.Retry.At)
		}
	}
	return at, waits
}

// good checks what must hold once nothing has gone wrong for a while.
func (l *life) good() {
	now := l.time()
	if o, err := l.store.Outage(l.ctx, account); err != nil || !o.Since.IsZero() {
		l.Errorf("outage %+v, %v", o, err)
	}
	users := map[string]provider.User{}
	for _, u := range l.sim.State().Users {
		user, err := l.quiet.User(l.ctx, u.ID)
		l.must(err)
		users[u.ID] = user
		_, err = l.store.Holder(l.ctx, u.ExternalID)
		if err != nil && !l.aliens[u.ID] {
			l.Errorf("user %s of %s, who is gone", u.ID, u.ExternalID)
		}
	}
	rows := l.rows()
	explained := map[string]bool{}
	for _, c := range rows {
		h, err := l.store.Holder(l.ctx, c.HolderID)
		if err == nil {
			if h.Erasing {
				l.Errorf("%s is still being erased", h.ID)
			}
			item, err := l.store.WorkItem(l.ctx, c.HolderID, account)
			step := credential.Next(c, h, now)
			if step.Kind != credential.StepNone && (!step.At.After(now) || err != nil || item.DueAt == nil || item.DueAt.After(step.At)) {
				l.Errorf("%s (%s): still to %s at %s, retry %+v, work %+v", c.ID, c.State(), step.Kind, step.At, c.Retry, item)
			}
			if err == nil && item.Claim != nil {
				l.Errorf("%s: claim %+v", c.HolderID, item.Claim)
			}
		} else if c.Invitation.SentTo != "" {
			l.Errorf("%s of an erased holder: sent to %s", c.ID, c.Invitation.SentTo)
		}
		if len(c.Strays)+len(c.Aside) > 0 || c.Reservation == credential.ReservationInDoubt || c.Doubt != nil || !c.IsLive() && c.Reservation == credential.ReservationHeld {
			l.Errorf("%s (%s): %s, strays %v, aside %v", c.ID, c.State(), c.Reservation, c.Strays, c.Aside)
		}
		entries, err := l.store.History(l.ctx, c.HolderID, c.ID)
		l.must(err)
		mails := 1 + l.doubtful[c.ID]
		for _, e := range entries {
			if e.Event == credential.EventResent {
				mails++
			}
		}
		sent := 0
		for _, letter := range l.letters {
			if letter.CredentialID == c.ID {
				sent++
			}
		}
		if sent > mails {
			l.Errorf("%s: %d mails, at most %d expected", c.ID, sent, mails)
		}
		if !c.IsLive() {
			continue
		}
		if sent == 0 || c.Stage == credential.StageInvited && c.Invitation.Status != credential.InvitationSent {
			l.Errorf("%s (%s): %d mails, %s", c.ID, c.State(), sent, c.Invitation.Status)
		}
		u := users[c.UserID]
		i := slices.IndexFunc(u.Credentials, func(k provider.Credential) bool { return k.ID == c.CredentialRef })
		if c.Mobile == nil || i < 0 || u.Credentials[i].MobileID.ID != c.Mobile.ID {
			l.Errorf("%s (%s) is live: %+v; its user %s has %+v", c.ID, c.State(), c.Mobile, c.UserID, u.Credentials)
			continue
		}
		k := u.Credentials[i]
		explained[k.ID], explained[c.InvitationRef] = true, true
		onDevice := k.Device != nil && !k.Issuing
		if onDevice != (c.Stage == credential.StageActivated) || onDevice && c.Device.ID != k.Device.ID {
			l.Errorf("%s is %s on %+v, at the provider on %+v", c.ID, c.State(), c.Device, k.Device)
		}
		if c.Stage == credential.StageActivated {
			if c.PictureHash != h.PictureHash && !l.untold {
				l.Errorf("%s shows picture %q of %q", c.ID, c.PictureHash, h.PictureHash)
			}
			for _, b := range l.sim.Phone(c.Device.ID).Badges {
				if b.MobileID == c.Mobile.ID && b.HasPicture != (h.PictureHash != "") && !(l.photoLost && b.HasPicture) && !l.untold {
					l.Errorf("%s has a picture %v, want %q", c.ID, b.HasPicture, h.PictureHash)
				}
			}
		}
		for _, s := range l.sim.State().Users {
			if s.ID == c.UserID && !strings.EqualFold(s.Email, h.Email) && !l.untold {
				l.Errorf("%s is %s at the provider, and %s", h.ID, s.Email, h.Email)
			}
		}
	}
	for _, u := range users {
		for _, k := range u.Credentials {
			if !l.aliens[k.ID] && !explained[k.ID] {
				l.Errorf("user %s of %s has %s (%s, on %+v), which nobody has", u.ID, u.ExternalID, k.ID, k.MobileID.ID, k.Device)
			}
		}
		for _, i := range u.Invitations {
			if i.Status == provider.InvitationPending && !l.aliens[i.ID] && !explained[i.ID] {
				l.Errorf("user %s of %s has invitation %s, which nobody has", u.ID, u.ExternalID, i.ID)
			}
		}
	}
	if l.Failed() {
		for _, c := range rows {
			entries, _ := l.store.History(l.ctx, c.HolderID, c.ID)
			var words []string
			for _, e := range entries {
				words = append(words, string(e.Event))
			}
			l.Logf("%s of %s: %s %s, user %s, %s/%s %+v: %s", c.ID, c.HolderID, c.State(), c.Reason, c.UserID, c.InvitationRef, c.CredentialRef, c.Mobile, strings.Join(words, " "))
		}
	}
}

func TestWhateverHappensEndsWell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		defer func() {
			for _, in := range l.stopped {
				in.resume <- kill
				<-in.over
			}
		}()
		for _, id := range []string{"E-1", "E-2", "V-3"} {
			l.must(l.putHolder(l.services[0], id, 30*24*time.Hour, "T"))
		}
		l.calmSweep(0) // from here on the provider's feed is read
		t.Repeat(l.actions())
		l.calm()
	})
}
