package issuance_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// tally counts what all lives of a run have reached, in columns of cells.
type tally struct {
	started time.Time
	lives   int
	calls   int
	counts  map[string]map[string]int // by kind of cell, by cell
	weather []string                  // of the life that is being lived
}

const (
	cellVerdict    = "verdict at a call"
	cellEvent      = "event"
	cellStep       = "step"
	cellTransition = "transition"
	cellWeather    = "switch × event" // counted only
	cellLasting    = "weather that lasts"
	cellRequest    = "request"
)

func newTally() *tally {
	return &tally{started: time.Now(), counts: map[string]map[string]int{cellVerdict: {}, cellEvent: {}, cellStep: {},
		cellTransition: {}, cellWeather: {}, cellLasting: {}, cellRequest: {}}}
}

func (y *tally) verdict(v worldtest.Verdict, c worldtest.Call) {
	y.counts[cellVerdict][verdictCell(v, c)]++
}

func verdictCell(v worldtest.Verdict, c worldtest.Call) string { return c.Point() + ": " + string(v) }

// The cells of the weather that lasts, and of what is left of it at the end of a life.
const (
	weatherNoBudget       = "lives without a budget"
	weatherHeldBack       = "lives in which the budget holds back a call that the portal waits for"
	weatherBackground     = "lives in which the budget holds back a call of a sweep or a report"
	weatherWindows        = "windows that pass until a budget has let everything be done"
	weatherNotSlow        = "lives in which no account is slow"
	weatherSlow           = "calls that take some of the time there is"
	weatherGivenUp        = "calls that take more time than there is"
	weatherSlowOther      = "calls of an account while the other one is slow"
	weatherNoOthers       = "lives without a mobile ID of another system in a user of ours"
	weatherByHand         = "reservations by hand for a user of ours"
	weatherByHandDoubt    = "reservations by hand while an answer is outstanding, which may be taken for ours"
	weatherByHandOnPhone  = "reservations by hand that are put on a phone"
	weatherByHandLeft     = "reservations by hand that are there at the end"
	weatherByHandLeftOn   = "reservations by hand that are on a phone at the end"
	weatherExisting       = "holders who exist at the provider"
	weatherExistingOther  = "holders whose e-mail is another person's at the provider"
	weatherExistingLeft   = "badges of existing holders that are there at the end"
	weatherExistingBeside = "badges of existing holders that are there at the end beside a mobile ID of ours"
)

var lasting = []string{
	weatherNoBudget, weatherHeldBack, weatherBackground, weatherWindows, weatherNotSlow, weatherSlow, weatherGivenUp,
	weatherSlowOther, weatherNoOthers, weatherByHand, weatherByHandDoubt, weatherByHandOnPhone, weatherByHandLeft,
	weatherByHandLeftOn, weatherExisting, weatherExistingOther, weatherExistingLeft, weatherExistingBeside,
}

// What may become of the assignments that ask for more than a credential.
const (
	requestRefused = "assignments refused because the holder has one"
	requestWaits   = "credentials that wait for a mobile ID at the end"
	requestServed  = "credentials that would have waited and got one"
)

func (y *tally) asked(cell string) { y.counts[cellRequest][cell]++ }

// met counts a cell of the weather that lasts.
func (y *tally) met(cell string) { y.counts[cellLasting][cell]++ }

// lastingOf counts what a life has seen of the weather that lasts, and what is left of it.
func (y *tally) lastingOf(s *simulation) {
	all, background := s.HeldBack()
	for cell, is := range map[string]bool{
		weatherNoBudget: s.budget == 0, weatherHeldBack: all > background, weatherBackground: background > 0,
		weatherNotSlow: !s.mayBeSlow, weatherNoOthers: len(s.Others()) == 0,
	} {
		if is {
			y.met(cell)
		}
	}
	for _, o := range s.OthersThere() {
		switch {
		case !o.Existed:
			y.met(weatherByHandLeft)
			if o.OnPhone {
				y.met(weatherByHandLeftOn)
			}
		default:
			y.met(weatherExistingLeft)
			isBeside := func(c credential.Credential) bool {
				return c.Account == o.Account && c.HolderID == o.HolderID && c.UserID == o.UserID && c.IsLive()
			}
			if slices.ContainsFunc(s.Rows(), isBeside) {
				y.met(weatherExistingBeside)
			}
		}
	}
}

// step counts a step that is being taken: due, in a row whose work is claimed.
func (y *tally) step(c credential.Credential, h credential.Holder, item credential.WorkItem, now time.Time) {
	if !item.Claim.Active(now) {
		return
	}
	if step := credential.Next(c, h, now); step.Kind != credential.StepNone && !step.At.After(now) {
		y.counts[cellStep][string(step.Kind)]++
	}
}

// endOfLife counts what the histories of a life tell.
func (y *tally) endOfLife(s *simulation) {
	y.lives++
	y.lastingOf(s)
	for _, c := range s.Rows() {
		switch {
		case c.IsWaiting():
			y.asked(requestWaits)
		case c.Wait && c.Mobile != nil:
			y.asked(requestServed)
		}
		entries, err := s.Store.History(s.Ctx, c.HolderID, c.ID)
		if err != nil {
			s.Fatal(err)
		}
		for _, e := range entries {
			for _, name := range y.weather {
				y.counts[cellWeather][name+" × "+string(e.Event)]++
			}
			y.counts[cellEvent][string(e.Event)]++
			if e.From != "" {
				y.counts[cellTransition][transitionCell(e)]++
			}
		}
	}
}

// transitionCell names a cell of the matrix and its verdict; all final statuses are one column, as they are there.
func transitionCell(e credential.HistoryEntry) string {
	from, to := e.From, e.To
	if isFinal(from) {
		from, to = "final", "final"
	}
	cell := from + " × " + string(e.Event)
	switch {
	case e.Anomaly:
		return cell + " → anomaly"
	case e.Late:
		return cell + " → late"
	case from == to:
		return cell + " → noted"
	}
	return cell + " → " + to
}

func isFinal(state string) bool {
	return slices.Contains(credential.Statuses[1:], credential.Status(state))
}

// The events that Apply knows.
var events = []credential.EventKind{
	credential.EventMailed, credential.EventBounced, credential.EventResent, credential.EventAccepted,
	credential.EventActivated,
	credential.EventDeclined, credential.EventExpired, credential.EventGivenToAnother,
	credential.EventRevokedAtProvider,
	credential.EventMissingAtProvider, credential.EventRevoke, credential.EventLost, credential.EventStolen,
	credential.EventVisitEnded,
	credential.EventRefused, credential.EventDeviceHasProfile, credential.EventSpentIDOffered,
}

// unreachable lists what no schedule can reach, and why.
var unreachable = map[string]string{
	"bounced":                                 "no function hears of bounces yet",
	"invited × bounced → noted":               "no function hears of bounces yet",
	"final × bounced → late":                  "no function hears of bounces yet",
	"final × resent → late":                   "Resend is refused unless the very revision it writes on is invited",
	"activating × spent_id_offered → anomaly": "an ID is offered only to a credential without one, which no phone can have accepted",
	"activated × spent_id_offered → anomaly":  "an ID is offered only to a credential without one, which no phone can have accepted",
}

// expected lists every cell there is: of the calls and the verdicts they can meet, of the events, of the steps, and of
// the matrix, which is asked itself what each event does in each state. A cell that changes nothing leaves no trace and
// is not counted.
func expected() map[string][]string {
	cells := map[string][]string{cellWeather: nil, cellLasting: lasting,
		cellRequest: {requestRefused, requestWaits, requestServed}}
	for _, call := range slices.Concat(worldtest.Calls(), worldtest.BudgetCalls()) {
		for _, v := range append(worldtest.Verdicts(call), kill, stay) {
			cells[cellVerdict] = append(cells[cellVerdict], verdictCell(v, call))
		}
	}
	for _, e := range append([]credential.EventKind{credential.EventAssigned, credential.EventReserved}, events...) {
		cells[cellEvent] = append(cells[cellEvent], string(e))
	}
	for _, k := range []credential.StepKind{
		credential.StepEnd, credential.StepSettle, credential.StepRelease, credential.StepIssue, credential.StepMail,
		credential.StepPicture,
		credential.StepLook, credential.StepExpire, credential.StepRecheck, credential.StepNote,
	} {
		cells[cellStep] = append(cells[cellStep], string(k))
	}
	rows := []credential.Credential{
		{Status: credential.StatusActive, Stage: credential.StageInvited}, {Status: credential.StatusActive,
			Stage: credential.StageActivating},
		{Status: credential.StatusActive, Stage: credential.StageActivated, Device: &credential.Device{ID: "phone-a"}},
	}
	for _, status := range credential.Statuses[1:] {
		rows = append(rows, credential.Credential{Status: status})
	}
	for _, c := range rows {
		for _, e := range events {
			_, entry, err := credential.Apply(c, credential.Event{Kind: e, Device: &credential.Device{ID: "phone-b"}},
				time.Time{})
			if err == nil && entry != nil && !slices.Contains(cells[cellTransition], transitionCell(*entry)) {
				cells[cellTransition] = append(cells[cellTransition], transitionCell(*entry))
			}
		}
	}
	return cells
}

// mustReachAll says whether a run is long enough to be judged by what it has reached, and not one with a seed of its
// own.
func (y *tally) mustReachAll() bool {
	wanted, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	isDefault := slices.Contains(seeds, flag.Lookup("rapid.seed").Value.String())
	return err == nil && wanted >= lives && isDefault && !testing.Short()
}

// missed lists the cells that no life has reached, of those that can be.
func (y *tally) missed() []string {
	var missed []string
	for kind, cells := range expected() {
		for _, cell := range cells {
			if _, excused := unreachable[cell]; !excused && y.counts[kind][cell] == 0 {
				missed = append(missed, kind+": "+cell)
			}
		}
	}
	slices.Sort(missed)
	return missed
}

// report prints the tally, and fails the test when any cell was never reached that can be, or one that is said to be
// out of reach was.
func (y *tally) report(t *testing.T) {
	took := time.Since(y.started)
	t.Logf("%d lives, %.1f a second, %d calls, %.0f a second", y.lives, float64(y.lives)/took.Seconds(), y.calls,
		float64(y.calls)/took.Seconds())
	if y.mustReachAll() {
		for _, cell := range y.missed() {
			t.Errorf("no life reached %q", cell)
		}
	}
	for kind, cells := range expected() {
		var lines []string
		for _, cell := range cells {
			n := y.counts[kind][cell]
			if _, excused := unreachable[cell]; n > 0 && excused {
				t.Errorf("%s: %q was reached %d times, and is said to be out of reach", kind, cell, n)
			}
			lines = append(lines, fmt.Sprintf("%6d  %s", n, cell))
		}
		for _, cell := range slices.Sorted(maps.Keys(y.counts[kind])) {
			if !slices.Contains(cells, cell) {
				lines = append(lines, fmt.Sprintf("%6d  %s (besides)", y.counts[kind][cell], cell))
			}
		}
		t.Logf("%s\n%s", kind, strings.Join(lines, "\n"))
	}
	for _, cell := range slices.Sorted(maps.Keys(unreachable)) {
		t.Logf("out of reach: %s: %s", cell, unreachable[cell])
	}
}
