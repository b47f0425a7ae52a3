package issuance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
)

// Every order of the reports of one life, with one of them told twice. They are told after the fact, when the life is
// over at the provider, each by itself.
//
// Not every order is played, and still none is left out: a report that makes the service write nothing and ask for
// nothing outside leaves the world as it was. So what a world is like depends on the reports that did something, in
// their order (its past), and one world for each past that can come about stands for all orders that lead to it.

// life is what happens to the holder E-1 at the provider until nothing more does, with every report held back.
type life struct {
	name string
	live func(*stage)
}

var orderedLives = []life{
	{"activated, the phone removed, the user deleted", func(s *stage) {
		s.Must(s.Sim.Redeem("phone-a", s.CodeOf(s.first)))
		s.Must(s.Sim.Remove("phone-a"))
		s.Must(s.Client.DeleteUser(s.Ctx, s.first.UserID))
	}},
	{"activated, revoked", func(s *stage) {
		s.Must(s.Sim.Accept("phone-a", s.CodeOf(s.first)))
		s.Must(s.Sim.Sync("phone-a"))
		s.Must(s.Sim.Revoke(s.first.Mobile.ID))
	}},
	{"activated, and given to a stranger who redeems it, too", func(s *stage) {
		s.Must(s.Sim.Redeem("phone-a", s.CodeOf(s.first)))
		s.Must(s.Reassign(account, s.first.Mobile.ID, "stranger"))
		s.Must(s.Sim.Redeem("phone-s", s.CodeAtProvider(account, "stranger")))
	}},
	{"declined, and redeemed by a stranger", func(s *stage) {
		s.Must(s.Cancel(account, s.CodeOf(s.first)))
		s.Must(s.Reassign(account, s.first.Mobile.ID, "stranger"))
		s.Must(s.Sim.Redeem("phone-s", s.CodeAtProvider(account, "stranger")))
	}},
	{"given to a stranger who redeems it, and expired", func(s *stage) {
		s.Must(s.Reassign(account, s.first.Mobile.ID, "stranger"))
		s.Must(s.Sim.Redeem("phone-s", s.CodeAtProvider(account, "stranger")))
		s.Advance(8 * 24 * time.Hour)
	}},
	{"given to a holder of ours who redeems another and declines it", func(s *stage) {
		s.Must(s.Sim.Redeem("phone-b", s.CodeOf(s.second)))
		s.Must(s.Reassign(account, s.first.Mobile.ID, "E-2"))
		s.Must(s.Cancel(account, s.CodeAtProvider(account, "E-2")))
	}},
	{"expired, given to a holder of ours who redeems it", func(s *stage) {
		s.Advance(8 * 24 * time.Hour)
		s.PutHolder("E-3")
		s.second = s.Assign("E-3")
		s.Must(s.Sim.Redeem("phone-b", s.CodeOf(s.second)))
	}},
}

// mostReports is how many reports of a life are told: more than the six kinds that there must be, and few enough for
// the number of their orders to be one that can be said.
const mostReports = 10

// telling is a life with a service that hears of it.
type telling struct {
	life
	facts []provider.UserFacts
	pasts map[string]bool   // those that can come about
	does  map[string]bool   // by past and report: whether the report does anything then
	calm  map[string]string // how everything is in the end when nothing is told
}

// world lives the life and tells the reports of a past. play is called at the end.
func (l *telling) world(past string, play func(s *stage)) (wrong []string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tb := &cellTB{ctx: ctx}
	over := make(chan struct{})
	go func() {
		defer close(over)
		s := newStage(tb, operation{})
		s.PutHolder("E-2")
		s.second = s.Assign("E-2")
		s.heard()
		s.first = s.Assign("E-1")
		l.live(s)
		facts := onePerKind(s.takeReports())
		if l.facts == nil {
			l.facts = facts
		}
		for _, report := range past {
			if err := s.Service.Refresh(s.Ctx, facts[report-'a']); err != nil {
				s.Fatal(err)
			}
		}
		s.takeReports()
		play(s)
	}()
	<-over
	return tb.said
}

// onePerKind splits reports into those of one fact each, the first of every kind about every user.
func onePerKind(reports []provider.UserFacts) (facts []provider.UserFacts) {
	seen := map[string]bool{}
	for _, r := range reports {
		for _, f := range r.Facts {
			kind := fmt.Sprint(r.UserID, f.What, f.Status)
			if f.Status == provider.FactOther || seen[kind] || len(facts) == mostReports {
				continue
			}
			seen[kind] = true
			facts = append(facts, provider.UserFacts{Account: r.Account, UserID: r.UserID, Facts: []provider.Fact{f}})
		}
	}
	return facts
}

// isMoved says whether telling a report after a past does anything.
func (l *telling) isMoved(past string, report int, t *testing.T) bool {
	key := fmt.Sprint(past, " ", report)
	if does, known := l.does[key]; known {
		return does
	}
	does := false
	wrong := l.world(past, func(s *stage) {
		s.set(func(f *fate) { f.underWay = true })
		if err := s.Service.Refresh(s.Ctx, l.facts[report]); err != nil {
			s.Fatal(err)
		}
		does = slices.ContainsFunc(s.calls, changes)
	})
	for _, w := range wrong {
		t.Errorf("%s, then %s: %s", l.words(past), l.word(report), w)
	}
	l.does[key] = does
	return does
}

// tell tells what is left of the reports in every order, one of them twice at most: left says how often each is still
// to be told.
func (l *telling) tell(t *testing.T, past string, left []int, seen map[string]bool) {
	key := fmt.Sprint(past, left)
	if seen[key] {
		return
	}
	seen[key] = true
	done := true
	for report, n := range left {
		if n == 0 {
			continue
		}
		done = false
		rest := slices.Clone(left)
		rest[report]--
		after := past
		if l.isMoved(past, report, t) {
			after += string(rune('a' + report))
		}
		l.tell(t, after, rest, seen)
	}
	if done {
		l.pasts[past] = true
	}
}

func (l *telling) word(report int) string {
	f := l.facts[report]
	return fmt.Sprintf("%s %s of user %s", f.Facts[0].What, f.Facts[0].Status, f.UserID)
}

func (l *telling) words(past string) string {
	var words []string
	for _, report := range past {
		words = append(words, l.word(int(report-'a')))
	}
	return strings.Join(words, ", ")
}

// orders is in how many orders n reports can be told, one of them twice.
func orders(n int) int {
	all := 1
	for i := 2; i <= n+1; i++ {
		all *= i
	}
	return n * all / 2
}

func TestEveryOrderOfTheReportsOfALifeWithOneToldTwice(t *testing.T) {
	for _, life := range orderedLives {
		t.Run(life.name, func(t *testing.T) {
			t.Parallel()
			l := &telling{life: life, pasts: map[string]bool{}, does: map[string]bool{}}
			rest := func(end *map[string]string) func(s *stage) {
				return func(s *stage) {
					s.rest()
					s.CheckCalm()
					*end, _ = s.view()
				}
			}
			for _, wrong := range l.world("", rest(&l.calm)) {
				t.Errorf("nothing told: %s", wrong)
			}
			kinds := map[string]bool{}
			for _, f := range l.facts {
				kinds[fmt.Sprint(f.Facts[0].What, f.Facts[0].Status)] = true
			}
			if len(kinds) < 6 {
				t.Fatalf("only %d kinds of reports: %v", len(kinds), kinds)
			}
			seen := map[string]bool{}
			for twice := range l.facts {
				left := slices.Repeat([]int{1}, len(l.facts))
				left[twice]++
				l.tell(t, "", left, seen)
			}
			for past := range l.pasts {
				var end map[string]string
				wrong := l.world(past, rest(&end))
				wrong = append(wrong, differences(end, l.calm)...)
				if len(wrong) > 0 {
					t.Errorf("told: %s\n\t%s", l.words(past), strings.Join(wrong, "\n\t"))
				}
			}
			t.Logf("%d reports of %d kinds: %d orders with one told twice, which lead to %d pasts, by %d tellings",
				len(l.facts), len(kinds), orders(len(l.facts)), len(l.pasts), len(l.does))
		})
	}
}
