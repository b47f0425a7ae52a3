package issuance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// The matrix of crashes and faults: every operation, times every call that it makes of the store, the provider and the
// mail service, times everything that can become of that call, the end of the process included.
//
// No list of calls is kept here. Each operation is first carried out in calm weather, and the calls that it makes are
// recorded; worldtest.Verdicts says what each of them can meet. Then, for each of these cells, the operation is carried
// out in a world of its own in which that one misfortune happens. The portal repeats a request that got an error; a
// process that was killed repeats nothing. After a few calm sweeps everything must be as it is without a misfortune.

const (
	// sweepsAfter is how many calm sweeps follow an operation, and sweepEvery the time between them: more than a claim
	// lasts.
	sweepsAfter = 3
	sweepEvery  = 61 * time.Second
)

// operation is something that the service is asked to do, or has to do by itself.
type operation struct {
	name string
	// isCommand says that the portal asks for it. A command whose process is killed before it has written anything has
	// not happened.
	isCommand bool
	adjust    func(*worldtest.Options)
	prepare   func(*stage)
	do        func(*stage, *issuance.Service) error
}

// stage is the world in which one operation is carried out once.
type stage struct {
	*worldtest.World
	*fate
	first, second credential.Credential // what prepare made

	mu      sync.Mutex
	reports []callback // on their way to the webhook
}

// fate is the weather of a stage: fine but for one misfortune at most, which happens while the operation is carried
// out.
type fate struct {
	mu         sync.Mutex
	underWay   bool
	isDown     bool // the provider and the mail service answer nothing
	misfortune *misfortune
	calls      []worldtest.Call // of the operation
	struck     bool
	mailed     []string // credentials whose mail the operation had sent when it was struck
}

// misfortune is what becomes of the n-th call of a kind, counted from 1.
type misfortune struct {
	point   string
	n       int
	verdict worldtest.Verdict
}

func (m *misfortune) String() string {
	if m == nil {
		return "no misfortune"
	}
	return fmt.Sprintf("%s at %q no. %d", m.verdict, m.point, m.n)
}

// Meet implements worldtest.Weather.
func (f *fate) Meet(call worldtest.Call) worldtest.Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isDown && call.Account != "" && !call.After {
		return worldtest.Unwell
	}
	if f.isDown && call.Kind == "mail" && !call.After {
		return worldtest.MailThrottled
	}
	if !f.underWay || call.Kind == "pause" {
		return worldtest.Pass
	}
	if f.struck {
		if f.misfortune.verdict == kill { // whatever else the process was doing ends, too
			runtime.Goexit()
		}
		return worldtest.Pass
	}
	f.calls = append(f.calls, call)
	if call.Point() == "mail after" {
		f.mailed = append(f.mailed, call.CredentialID)
	}
	if f.misfortune == nil || f.misfortune.point != call.Point() {
		return worldtest.Pass
	}
	reached := 0
	for _, c := range f.calls {
		if c.Point() == call.Point() {
			reached++
		}
	}
	if reached != f.misfortune.n {
		return worldtest.Pass
	}
	f.struck = true
	if f.misfortune.verdict == kill {
		runtime.Goexit()
	}
	return f.misfortune.verdict
}

func (f *fate) set(change func(*fate)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// forget makes the weather as it was before anything was carried out.
func (f *fate) forget() {
	f.set(func(f *fate) {
		f.underWay, f.isDown, f.misfortune, f.calls, f.struck, f.mailed = false, false, nil, nil, false, nil
	})
}

// cellTB is the test as one cell sees it: a failure ends the cell, and the matrix goes on.
type cellTB struct {
	ctx  context.Context
	mu   sync.Mutex
	said []string
}

func (c *cellTB) Helper()                  {}
func (c *cellTB) Context() context.Context { return c.ctx }
func (c *cellTB) Output() io.Writer        { return io.Discard }
func (c *cellTB) Log(...any)               {}
func (c *cellTB) Logf(string, ...any)      {}
func (c *cellTB) Error(args ...any)        { c.say(fmt.Sprint(args...)) }

func (c *cellTB) Errorf(format string, args ...any) { c.say(fmt.Sprintf(format, args...)) }

func (c *cellTB) Fatal(args ...any) {
	c.say(fmt.Sprint(args...))
	runtime.Goexit()
}

func (c *cellTB) Fatalf(format string, args ...any) {
	c.say(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (c *cellTB) Failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.said) > 0
}

func (c *cellTB) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, text)
}

// performance is how an operation went, and how everything is in the end.
type performance struct {
	end     map[string]string
	mails   map[string]int // by holder
	calls   []worldtest.Call
	struck  bool
	mailed  bool     // a mail was sent of which nothing was heard
	trouble []string // what is wrong by itself
}

// how says how an operation is to be carried out.
type how struct {
	misfortune *misfortune
	isDeaf     bool // what the operation makes the provider report gets lost on the way
	isSwept    bool // a sweep runs at once, when a killed process still has its claim, or a lost request may yet arrive
	skip       bool // do everything but the operation
}

// perform carries out an operation once, in a world of its own, and lets everything come to rest.
func (op operation) perform(h how) (p performance) {
	ctx, cancel := context.WithCancel(context.Background())
	tb := &cellTB{ctx: ctx}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if r := recover(); r != nil {
				tb.say(fmt.Sprint("panic: ", r))
			}
		}()
		s := newStage(tb, op)
		if op.prepare != nil {
			op.prepare(s)
		}
		if !h.skip {
			s.carryOut(op, h)
		}
		if h.isSwept {
			s.sweep()
		}
		s.rest()
		s.CheckCalm()
		p.end, p.mails = s.view()
		p.calls, p.struck = s.calls, s.struck
		p.mailed = s.struck && (len(s.mailed) > 0 || h.misfortune.verdict == worldtest.MailUnheard)
	}()
	<-over
	cancel()
	p.trouble = tb.said
	return p
}

func newStage(tb worldtest.TB, op operation) *stage {
	s := &stage{fate: &fate{}}
	s.World = worldtest.New(tb, func(o *worldtest.Options) {
		o.Pools = map[string]int{part: 4, part2: 4}
		o.Switches.OnePerPartNumberAndPhone = false // so that the service has to see to it
		o.Weather, o.Log = s.fate, slog.DiscardHandler
		o.Deliver = s.receive
		if op.adjust != nil {
			op.adjust(o)
		}
	})
	s.PutProfile("hq", account, part)
	s.PutProfile("annex", account, part2)
	s.PutHolder("E-1")
	s.sweep() // from here on the provider's feed is read
	return s
}

// receive is the webhook.
func (s *stage) receive(_ context.Context, account string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, callback{account, body})
	return nil
}

// takeReports takes what was reported so far, each user's reports in their order.
func (s *stage) takeReports() []provider.UserFacts {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []provider.UserFacts
	for _, r := range s.reports {
		users, _, err := origo.Translate(r.account, r.body)
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, users...)
	}
	s.reports = nil
	slices.SortStableFunc(all, func(a, b provider.UserFacts) int { return strings.Compare(a.UserID, b.UserID) })
	return all
}

// hear lets a process apply what was reported so far.
func (s *stage) hear(p *issuance.Service) error {
	var failed error
	for _, facts := range s.takeReports() {
		failed = errors.Join(failed, p.Refresh(s.Ctx, facts))
	}
	return failed
}

// heard is hear in calm weather.
func (s *stage) heard() {
	if err := s.hear(s.Service); err != nil {
		s.Fatal(err)
	}
}

// lose loses what was reported so far.
func (s *stage) lose() { s.takeReports() }

func (s *stage) sweep() {
	if _, err := s.Service.Sweep(s.Ctx, s.Accounts()); err != nil {
		s.Fatal(err)
	}
}

// carryOut carries out the operation in a process of its own, in which the misfortune happens.
func (s *stage) carryOut(op operation, h how) {
	s.set(func(f *fate) { f.underWay, f.misfortune = true, h.misfortune })
	err := s.inProcess(op.do)
	s.set(func(f *fate) { f.underWay = false })
	killed := s.struck && h.misfortune.verdict == kill
	if s.struck {
		for _, id := range s.mailed {
			s.Mailbox.MayRepeat(id)
		}
	}
	if err != nil && !killed && op.isCommand && !isFinalRefusal(err) {
		if err := op.do(s, s.Service); err != nil && !isFinalRefusal(err) {
			s.Errorf("repeated: %v", err)
		}
	}
	if h.isDeaf {
		s.lose()
	}
}

// inProcess lets a new process do something, to its end or until it is killed.
func (s *stage) inProcess(do func(*stage, *issuance.Service) error) (err error) {
	over := make(chan struct{})
	p := s.NewProcess()
	go func() {
		defer close(over)
		err = do(s, p)
	}()
	<-over
	return err
}

// isFinalRefusal says that the portal gains nothing by asking again.
func isFinalRefusal(err error) bool {
	var refused *credential.Error
	return errors.As(err, &refused) && refused.Code != credential.CodeTryLater
}

// rest lets everything come to rest: reports are heard and sweeps run, in calm weather.
func (s *stage) rest() {
	for range sweepsAfter {
		s.heard()
		s.Advance(sweepEvery)
		s.sweep()
	}
	s.heard()
}

// view is how everything is, in words that do not depend on which of several equal mobile IDs was drawn, nor on ids.
func (s *stage) view() (end map[string]string, mails map[string]int) {
	end, mails = map[string]string{}, map[string]int{}
	names, owned := map[string]string{}, map[string]string{}
	numbers := map[string]int{}
	for _, c := range s.Rows() {
		numbers[c.HolderID]++
		names[c.ID] = fmt.Sprintf("credential %d of %s", numbers[c.HolderID], c.HolderID)
		device := "no phone"
		if c.Device != nil {
			device = c.Device.ID
		}
		end[names[c.ID]] = fmt.Sprintf("%s, %s, reservation %s, on %s, picture %q, mobile ID %v", ending(c),
			c.ProfileID, c.Reservation, device, c.PictureHash, c.Mobile != nil)
		if c.Mobile != nil {
			owned[c.Mobile.ID] = names[c.ID] // the last one that had it
		}
	}
	for _, id := range []string{"E-1", "E-2", "E-3"} {
		if h, err := s.Store.Holder(s.Ctx, id); err == nil {
			end["holder "+id] = fmt.Sprintf("%s %s %s, picture %q, erasing %v", h.FirstName, h.LastName, h.Email,
				h.PictureHash, h.Erasing)
		}
	}
	state := s.Sim.State()
	for _, p := range state.PartNumbers {
		end["pool "+p.PartNumber] = fmt.Sprintf("%d available, %d reserved, %d issued", len(p.Available),
			len(p.Reserved), len(p.Issued))
	}
	for _, u := range state.Users {
		has := map[string]int{}
		for _, i := range u.Invitations {
			if i.Status == "PENDING" || i.MobileID != nil {
				has[fmt.Sprintf("%s with a mobile ID: %v", i.Status, i.MobileID != nil)]++
			}
		}
		end["user "+u.ExternalID] += fmt.Sprintf("%s, invitations %v;", u.Email, has)
	}
	for _, phone := range s.Sim.Phones() {
		for _, b := range phone.Badges {
			end["phone "+phone.DeviceID] += fmt.Sprintf("%s, %s, picture %v;", b.Profile, b.HolderName, b.HasPicture)
		}
	}
	for id, name := range owned {
		if o, err := s.Store.Owner(s.Ctx, account, id); err == nil && o.State != credential.OwnerReleased {
			end["owner of the mobile ID of "+name] = string(o.State) + " " + names[o.CredentialID]
		}
	}
	for _, l := range s.Mailbox.Letters() {
		mails[l.HolderID]++
	}
	return end, mails
}

// ending is the state of a credential, why, and what became of its invitation. What is heard first of an invitation
// that the holder did not redeem may change the word for its end: declined, expired or reassigned are one here.
func ending(c credential.Credential) string {
	switch c.Status {
	case credential.StatusDeclined, credential.StatusExpired, credential.StatusReassigned:
		if c.Reason != credential.ReasonVisitEnded {
			return "ended unredeemed"
		}
	}
	return fmt.Sprintf("%s %s, invitation %s", c.State(), c.Reason, c.Invitation.Status)
}

// differences tells what of an end is not as it should be.
func differences(got, want map[string]string) (all []string) {
	keys := maps.Clone(got)
	maps.Copy(keys, want)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if got[key] != want[key] {
			all = append(all, fmt.Sprintf("%s: %q, want %q", key, got[key], want[key]))
		}
	}
	return all
}

// judge tells what is wrong with a performance in which a misfortune happened. calm is the one without, untouched the
// one without the operation; isUndone says that it may not have happened at all.
func (p performance) judge(calm, untouched performance, isUndone bool) []string {
	wrong := slices.Clone(p.trouble)
	if len(wrong) > 0 {
		return wrong
	}
	if !p.struck {
		return []string{"the misfortune did not happen"}
	}
	if isUndone && len(differences(p.end, untouched.end)) == 0 && maps.Equal(p.mails, untouched.mails) {
		return nil
	}
	wrong = differences(p.end, calm.end)
	for holder, want := range calm.mails {
		got := p.mails[holder]
		if got != want && !(p.mailed && got == want+1) {
			wrong = append(wrong, fmt.Sprintf("%d mails to %s, want %d", got, holder, want))
		}
	}
	return wrong
}

// misfortunes lists everything that can become of the calls that an operation makes. Where a process is killed before
// one of several calls in a row that change nothing makes no difference, so of those the last one stands for all; same
// says for how many more.
func misfortunes(calls []worldtest.Call) (all []misfortune, same int) {
	reached := map[string]int{}
	for i, call := range calls {
		reached[call.Point()]++
		verdicts := worldtest.Verdicts(call)
		if i == len(calls)-1 || changes(call) {
			verdicts = append(verdicts, kill)
		} else {
			same++
		}
		for _, v := range verdicts {
			all = append(all, misfortune{call.Point(), reached[call.Point()], v})
		}
	}
	return all, same
}

// changes says whether a call that has not had its effect yet may have one.
func changes(call worldtest.Call) bool {
	isWrite := slices.ContainsFunc(worldtest.Calls(), func(c worldtest.Call) bool {
		return c.After && c.Kind == call.Kind
	})
	return !call.After && (call.ChangesTheOutside() || call.Account == "" && isWrite)
}

// beginning is how many calls a command makes until what it was asked for is written.
func beginning(calls []worldtest.Call) int {
	return slices.IndexFunc(calls, func(c worldtest.Call) bool { return c.Point() == "Commit after" })
}

// isBefore says whether a misfortune happens before a call of a list.
func (m misfortune) isBefore(calls []worldtest.Call, index int) bool {
	reached := 0
	for i, c := range calls {
		if c.Point() == m.point {
			reached++
		}
		if reached == m.n {
			return i < index
		}
	}
	return false
}

// known are cells that are wrong today, each for a reason that is written down: the operation and the misfortune. One
// that is right again fails the test, so that it is taken out.
var known = map[string]string{}

// matrixResult is what all cells of an operation came to.
type matrixResult struct {
	cells  int
	same   int // kills that are the same as one of them
	left   int // cells left to another build
	points map[string]bool
	wrong  []string
	right  []string // that are known to be wrong
}

// matrix plays the cells of an operation, all or the share of them that is this build's. number is that of the
// operation, so that the shares of operations which are alike differ.
func (op operation) matrix(number int) (r matrixResult) {
	r.points = map[string]bool{}
	report := func(m *misfortune, isDeaf bool, wrong []string) {
		cell := fmt.Sprintf("%s: %s", op.name, m)
		_, isKnown := known[cell]
		switch {
		case len(wrong) > 0 && !isKnown:
			r.wrong = append(r.wrong, fmt.Sprintf("%s (reports lost: %v)\n\t%s", cell, isDeaf,
				strings.Join(wrong, "\n\t")))
		case len(wrong) == 0 && isKnown:
			r.right = append(r.right, cell)
		}
	}
	calm := op.perform(how{})
	if report(nil, false, calm.trouble); len(calm.calls) == 0 {
		report(nil, false, []string{"the operation makes no call"})
	}
	deaf := op.perform(how{isDeaf: true})
	report(nil, true, append(deaf.trouble, differences(deaf.end, calm.end)...))
	var untouched performance
	if op.isCommand {
		untouched = op.perform(how{skip: true})
		report(nil, false, untouched.trouble)
	}
	if len(r.wrong) > 0 {
		return r
	}
	for _, call := range calm.calls {
		r.points[call.Point()] = true
	}
	written := beginning(calm.calls)
	all, same := misfortunes(calm.calls)
	r.same = same
	for i, m := range all {
		if (i+number)%matrixShare != 0 {
			r.left++
			continue
		}
		isUndone := op.isCommand && m.verdict == kill && m.isBefore(calm.calls, written)
		turn := i / matrixShare
		isDeaf := turn%2 == 1
		isSwept := m.verdict == worldtest.Late || turn/2%2 == 1
		p := op.perform(how{misfortune: &m, isDeaf: isDeaf, isSwept: isSwept})
		report(&m, isDeaf, p.judge(calm, untouched, isUndone))
		r.cells++
	}
	return r
}

// TestWhateverBecomesOfAnyCallOfAnyOperation plays the whole matrix and counts its cells. MATRIX=text plays only the
// operations with that text in their names.
func TestWhateverBecomesOfAnyCallOfAnyOperation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small worlds, none of which lasts
	all := operations()
	only := os.Getenv("MATRIX")
	var mu sync.Mutex
	var players sync.WaitGroup
	sum := matrixResult{points: map[string]bool{}}
	numbers := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		players.Go(func() {
			for number := range numbers {
				r := all[number].matrix(number)
				for _, w := range r.wrong {
					t.Error(w)
				}
				for _, cell := range r.right {
					t.Errorf("right again, so take it out of the known ones: %s", cell)
				}
				mu.Lock()
				sum.cells, sum.same, sum.left = sum.cells+r.cells, sum.same+r.same, sum.left+r.left
				maps.Copy(sum.points, r.points)
				mu.Unlock()
			}
		})
	}
	for number, op := range all {
		if strings.Contains(op.name, only) {
			numbers <- number
		}
	}
	close(numbers)
	players.Wait()
	var missed []string
	for _, call := range worldtest.Calls() {
		if call.Kind != "pause" && !sum.points[call.Point()] {
			missed = append(missed, call.Point())
		}
	}
	t.Logf(
		"%d of %d cells played, which stand for %d: %d operations, %d of %d kinds of calls, %d cells known to be wrong",
		sum.cells,
		sum.cells+sum.left,
		sum.cells+sum.left+sum.same,
		len(all),
		len(sum.points),
		len(sum.points)+len(missed),
		len(known),
	)
	if only == "" && len(missed) > 0 {
		t.Errorf("no operation makes these calls: %s", strings.Join(missed, ", "))
	}
}
