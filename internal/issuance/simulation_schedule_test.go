package issuance_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

const (
	// patience is the longest that an invocation may take: the template's timeouts.
	patience = 50 * time.Second
	// oversleeps is how long a process may stand still while it reserves a mobile ID: longer than its claim lasts.
	oversleeps = 10 * time.Minute
	// mostAtOnce is how many invocations can be stopped at the same time.
	mostAtOnce = 4
)

// What can become of a call besides the verdicts of worldtest: the process ends there; or it stands still there, for a
// while.
const (
	kill worldtest.Verdict = "kill"
	stay worldtest.Verdict = "stay"
)

// plan is something that is going to happen: what becomes of the n-th call of a kind from now on, whichever invocation
// makes it.
type plan struct {
	call    worldtest.Call
	n       int
	verdict worldtest.Verdict
}

// budgets are small enough to be spent now and then, and large enough for any step: the longest looks for late answers
// by two e-mail addresses, and takes up to a dozen calls of the share that is left to sweeps.
var budgets = []int{20, 30, 45}

// invocation is one at work, or stopped at a call.
type invocation struct {
	name     string
	call     worldtest.Call // the one it is stopped at
	process  *issuance.Service
	started  time.Time
	resume   chan worldtest.Verdict
	over     chan struct{}
	err      error
	killed   bool
	panicked any
	mailed   []string // credentials whose mail it sent
	claimed  bool     // it has had a claim, be it one that ran out since
	shaken   bool     // something failed in it
	// overslept: it stood still for so long that its claim has run out.
	overslept bool
	change    *holderChange
}

// schedule is who is at work, who is stopped where, and what is going to happen to them.
type schedule struct {
	mu      sync.Mutex
	arrived []callback

	current *invocation // the one at work, nil while the world looks
	parked  chan struct{}
	stopped []*invocation
	idle    []*issuance.Service // processes that wait for an invocation
	written bool                // something was, since the invariants were checked

	theme theme
	// The weather that only some lives have.
	budget         int  // of calls in a window, 0 for none
	mayBeSlow      bool // an account takes its time now and then
	administrators bool // those of the provider reserve by hand
	plans          []plan
	outage         map[string]bool // by account
	slow           map[string]bool // by account
}

func newSchedule(t *rapid.T) *schedule {
	s := &schedule{parked: make(chan struct{}), outage: map[string]bool{}, theme: drawTheme(t),
		slow: map[string]bool{}}
	if s.theme.budget || seldom(t, "a budget") {
		s.budget = pick(t, "budget", budgets)
	}
	s.mayBeSlow = s.theme.slow || seldom(t, "an account may be slow")
	s.administrators = s.theme.others || upTo(t, "administrators reserve", 2) == 2
	for range pick(t, "plans", []int{0, 8, 16, 16, 24, 24, 48, 48}) {
		s.plans = append(s.plans, s.newPlan(t))
	}
	if len(s.plans) > 0 { // some lives are quiet
		s.plans = append(s.plans, s.anyPlans(t)...)
	}
	return s
}

// anyPlans draws a few plans beside those of the theme, uniformly over the kinds of calls: each life so meets some of
// everything there is, and all lives together all of it.
func (s *schedule) anyPlans(t *rapid.T) []plan {
	var plans []plan
	calls := worldtest.Calls()
	if s.budget > 0 {
		calls = slices.Concat(calls, worldtest.BudgetCalls())
	}
	for range 6 {
		call := pick(t, "any point", calls)
		verdicts := append(worldtest.Verdicts(call), kill, stay)
		plans = append(plans, plan{call, pick(t, "any n-th call", []int{1, 2, 4}), pick(t, "any verdict", verdicts)})
	}
	return plans
}

// newPlan draws a plan: uniformly over the points of the theme, and then over what can happen there.
func (s *schedule) newPlan(t *rapid.T) plan {
	call := pick(t, "point", s.theme.points)
	verdicts := append(worldtest.Verdicts(call), kill, stay)
	return plan{call, pick(t, "n-th call", []int{1, 1, 1, 2, 3}), pick(t, "verdict", verdicts)}
}

// Meet implements worldtest.Weather: it stops the invocation at work at a call, until it is told what becomes of it.
func (s *simulation) Meet(call worldtest.Call) worldtest.Verdict {
	in := s.current
	if in == nil {
		return worldtest.Pass
	}
	s.written = s.written || call.After && (call.Kind == "Commit" || call.Kind == "Claim" || call.Kind == "Release")
	s.tally.calls++
	in.call = call
	s.parked <- struct{}{}
	v := <-in.resume
	if v == kill {
		runtime.Goexit()
	}
	return v
}

// decide says what becomes of the call that an invocation has stopped at.
func (s *simulation) decide(in *invocation) worldtest.Verdict {
	if s.serene {
		return worldtest.Pass
	}
	if s.isOverdue(in) {
		return kill
	}
	in.overslept = in.overslept || s.Now().Sub(in.started) > patience
	if in.overslept { // a second misfortune on top of it, and nothing could know of what it reserved
		return worldtest.Pass
	}
	for i := range s.plans {
		p := &s.plans[i]
		if p.call.Point() != in.call.Point() {
			continue
		}
		if p.n--; p.n > 0 {
			continue
		}
		v := p.verdict
		s.plans[i] = s.newPlan(s.t)
		s.Logf("%s: %s at %s", in.name, v, in.call.Point())
		s.tally.verdict(v, in.call)
		return v
	}
	if s.outage[in.call.Account] && !in.call.After {
		return worldtest.Unwell
	}
	s.takeTime(in.call)
	return worldtest.Pass
}

// takeTime draws how long a call takes that an account is about to answer.
func (s *simulation) takeTime(call worldtest.Call) {
	if call.Account == "" || call.After {
		return
	}
	if !s.slow[call.Account] {
		for other := range s.slow {
			if s.slow[other] {
				s.tally.met(weatherSlowOther)
			}
		}
		return
	}
	takes := pick(s.t, "takes", []time.Duration{0, time.Second, 3 * time.Second, 4900 * time.Millisecond, worldtest.CallLimit})
	s.SetSlow(call.Account, takes)
	switch {
	case takes >= worldtest.CallLimit:
		s.Logf("%s of %s is given up", call.Kind, call.Account)
		s.tally.met(weatherGivenUp)
	case takes > 0:
		s.tally.met(weatherSlow)
	}
}

// isOverdue says whether an invocation has had all the time there is. A process may stand still for longer while it
// reserves a mobile ID: its claim then runs out, another process goes on in its place, and its answer comes when its
// row has gone on, too.
func (s *simulation) isOverdue(in *invocation) bool {
	limit := patience
	if in.isReserving() || in.overslept {
		limit = oversleeps
	}
	return s.Now().Sub(in.started) > limit
}

func (in *invocation) isReserving() bool {
	return in.call.Kind == "create user" || in.call.Kind == "invite"
}

// start begins an invocation, in a process that has none; it stops at its first call.
func (s *simulation) start(name string, do func(*issuance.Service) error) *invocation {
	in := &invocation{name: name, started: s.Now(), resume: make(chan worldtest.Verdict), over: make(chan struct{})}
	if n := len(s.idle); n > 0 {
		in.process = s.idle[n-1]
		s.idle = s.idle[:n-1]
	} else {
		in.process = s.NewProcess()
	}
	s.stopped = append(s.stopped, in)
	s.current = in
	go func() {
		defer close(in.over)
		defer func() { in.panicked = recover() }()
		in.killed = true
		in.err = do(in.process)
		in.killed = false
	}()
	s.await(in)
	return in
}

// proceed lets an invocation go on to its next call; false when it is over.
func (s *simulation) proceed(in *invocation, v worldtest.Verdict) bool {
	if in.isOver() {
		return false
	}
	in.shaken = in.shaken || v != worldtest.Pass
	in.note(s, v)
	s.current = in
	in.resume <- v
	return s.await(in)
}

func (in *invocation) isOver() bool {
	select {
	case <-in.over:
		return true
	default:
		return false
	}
}

// await returns when the invocation at work has stopped at a call, or is over.
func (s *simulation) await(in *invocation) bool {
	over := false
	select {
	case <-s.parked:
	case <-in.over:
		over = true
	}
	s.current = nil
	if over {
		s.end(in)
	}
	if s.written && (over || !s.serene) {
		s.written = false
		s.CheckAlways()
	}
	return !over
}

// end sees an invocation off.
func (s *simulation) end(in *invocation) {
	s.stopped = slices.DeleteFunc(s.stopped, func(i *invocation) bool { return i == in })
	if !in.killed {
		s.idle = append(s.idle, in.process)
	}
	if in.shaken || in.err != nil {
		for _, id := range in.mailed {
			s.Mailbox.MayRepeat(id)
		}
		s.noteUntold(in)
	}
	if in.panicked != nil {
		s.Fatalf("%s: panic: %v", in.name, in.panicked)
	}
	var refused *credential.Error
	expected := errors.As(in.err, &refused) || errors.Is(in.err, worldtest.ErrStore) || errors.Is(in.err,
		provider.ErrUnavailable) ||
		errors.Is(in.err, provider.ErrOverLimit)
	if in.err != nil && !expected {
		s.Fatalf("%s: %v", in.name, in.err)
	}
}

// note remembers of an invocation what must be known of it should it not get to its end. v is what becomes of the call
// it is stopped at.
func (in *invocation) note(s *simulation, v worldtest.Verdict) {
	in.claimed = in.claimed || in.call.Point() == "Claim after"
	if in.call.ChangesTheOutside() && !in.claimed {
		s.Fatalf("%s: %s without a claim", in.name, in.call.Point())
	}
	if in.call.Kind == "mail" && in.call.After {
		in.mailed = append(in.mailed, in.call.CredentialID)
		if in.overslept { // another process has taken its place, and sends the mail, too
			s.Mailbox.MayRepeat(in.call.CredentialID)
		}
	}
	if in.change != nil {
		in.change.note(s, in.call, v)
	}
}

// goOn lets an invocation go on: to its end, or until it stands still.
func (s *simulation) goOn(in *invocation) {
	calls := 10000
	if upTo(s.t, "interrupted", 3) == 3 {
		calls = upTo(s.t, "calls", 40)
	}
	for first := true; !in.isOver(); first = false {
		v := s.decide(in)
		if v == stay && first {
			v = worldtest.Pass
		}
		if v == stay || calls == 0 && v == worldtest.Pass && !in.overslept {
			s.settle()
			s.Logf("%s: stays at %s", in.name, in.call.Point())
			return
		}
		s.proceed(in, v)
		calls--
	}
	s.settle()
}

func (s *simulation) toEnd(in *invocation) {
	for s.proceed(in, s.decide(in)) {
	}
	s.settle()
}

// do starts an invocation and lets it go on.
func (s *simulation) do(name string, f func(*issuance.Service) error) {
	s.doNoting(name, nil, f)
}

func (s *simulation) doNoting(name string, change *holderChange, f func(*issuance.Service) error) {
	if len(s.stopped) >= mostAtOnce {
		panic(notNow{})
	}
	s.Log(name)
	in := s.start(name, f)
	in.change = change
	s.goOn(in)
}

// stopAll ends what is still stopped when a life is over.
func (s *simulation) stopAll() {
	for _, in := range s.stopped {
		in.resume <- kill
		<-in.over
	}
}

// holderChange is a change of a holder under way, and what must be known of it should it be cut off. The change asks
// for work at every account the holder was known at when it was decided, and afterwards at those it became known at
// meanwhile. Cut off in between, the latter never hear of it.
type holderChange struct {
	holderID string
	known    map[string]bool // accounts
	missed   map[string]int64
	written  bool
}

func (c *holderChange) note(s *simulation, call worldtest.Call, v worldtest.Verdict) {
	items, err := s.Store.WorkItems(s.Ctx, c.holderID)
	if err != nil {
		s.Fatal(err)
	}
	switch {
	case call.Point() == "WorkItems" && v == worldtest.Pass && !c.written:
		c.known = map[string]bool{}
		for _, item := range items {
			c.known[item.Account] = true
		}
	case call.Point() == "Commit after" && !c.written:
		c.written, c.missed = true, map[string]int64{}
		for _, item := range items {
			if !c.known[item.Account] {
				c.missed[item.Account] = item.Added
			}
		}
	}
}

// noteUntold notes which accounts have missed a change of a holder that was cut off.
func (s *simulation) noteUntold(in *invocation) {
	if in.change == nil {
		return
	}
	for account, added := range in.change.missed {
		s.untold[in.change.holderID+" "+account] = added
	}
}

// isUntold says whether the account of a credential has missed a change of its holder, and nothing was asked of it
// since.
func (s *simulation) isUntold(c credential.Credential) bool {
	added, missed := s.untold[c.HolderID+" "+c.Account]
	item, err := s.Store.WorkItem(s.Ctx, c.HolderID, c.Account)
	return missed && err == nil && item.Added == added
}
