// Package ownership judges from outside whether a mobile ID ever belonged to two credentials at once. It is handed what
// clients of the service have read of credentials, each reading with the moments at which it was asked for and
// answered, and finds out whether any order of events in which each mobile ID has one owner at a time explains all of
// it. The search for such an order (linearizability) is porcupine's.
//
// What belongs here knows nothing of the table, the provider or the use cases: that is what makes it a judge. What does
// not: making the readings, which is for the tests that put load on the service, and any rule but the two on owners
// (one at a time; an activated mobile ID never moves).
package ownership

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Reading is one look at one credential. Asked and Answered are moments on one clock that all readers share, such as
// the time since the beginning of the run; the credential was as the reading says at some moment between the two.
type Reading struct {
	Credential string
	MobileID   string // empty while the credential has none
	Live       bool
	Activated  bool // it is on a phone, or was
	Asked      time.Duration
	Answered   time.Duration
}

// Witness collects readings. The zero value has none; its methods may be called by many goroutines.
type Witness struct {
	mu       sync.Mutex
	readings []Reading
}

// Saw adds a reading.
func (w *Witness) Saw(r Reading) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readings = append(w.readings, r)
}

// Readings is how many readings there are.
func (w *Witness) Readings() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.readings)
}

// Verdict is what a judgement says.
type Verdict struct {
	MobileIDs int // that any credential was seen with
	Owners    int // credentials that were seen with one
	Ends      int // credentials among them that were seen to have ended
	// Broken tells, of each mobile ID that no order of events explains, what was seen of it; empty when all is well.
	Broken []string
}

// Judge says whether everything that was read so far can be explained with one owner at a time for each mobile ID, and
// none but the first for one that was activated. An error says that the search did not come to an end within the limit.
func (w *Witness) Judge(limit time.Duration) (Verdict, error) {
	w.mu.Lock()
	readings := slices.Clone(w.readings)
	w.mu.Unlock()
	var verdict Verdict
	histories := map[string][]porcupine.Operation{}
	for client, c := range credentials(readings) {
		if len(c.mobileIDs) > 1 {
			verdict.Broken = append(verdict.Broken,
				fmt.Sprintf("credential %s was seen with %s", c.id, strings.Join(c.mobileIDs, " and ")))
			continue
		}
		if len(c.mobileIDs) == 0 {
			continue
		}
		id := c.mobileIDs[0]
		verdict.Owners++
		histories[id] = append(histories[id], c.operation(client, acquire))
		if c.over {
			verdict.Ends++
			histories[id] = append(histories[id], c.operation(client, release))
		}
	}
	verdict.MobileIDs = len(histories)
	for id, history := range histories {
		switch porcupine.CheckOperationsTimeout(model, history, limit) {
		case porcupine.Illegal:
			verdict.Broken = append(verdict.Broken, id+": "+story(history))
		case porcupine.Unknown:
			return verdict, fmt.Errorf("ownership: %s: no judgement within %s", id, limit)
		}
	}
	slices.Sort(verdict.Broken)
	return verdict, nil
}

// life is what all readings of one credential say of the two moments that matter: when it got its mobile ID, and when
// it ended.
type life struct {
	id        string
	mobileIDs []string // more than one is wrong
	activated bool
	over      bool
	// Each moment lies between two readings: the last that was asked for while it had not come, and the first that was
	// answered when it had.
	got, ended span
}

type span struct{ from, until time.Duration }

// credentials sorts readings by credential, those that got their mobile ID first coming first.
func credentials(readings []Reading) []life {
	byID := map[string][]Reading{}
	for _, r := range readings {
		byID[r.Credential] = append(byID[r.Credential], r)
	}
	lives := make([]life, 0, len(byID))
	for id, of := range byID {
		lives = append(lives, lifeOf(id, of))
	}
	slices.SortFunc(lives, func(a, b life) int {
		return cmp.Or(cmp.Compare(a.got.from, b.got.from), cmp.Compare(a.id, b.id))
	})
	return lives
}

func lifeOf(id string, readings []Reading) life {
	const never = time.Duration(1<<63 - 1)
	c := life{id: id, got: span{until: never}, ended: span{until: never}}
	for _, r := range readings {
		if r.MobileID == "" {
			c.got.from = max(c.got.from, r.Asked)
			continue
		}
		if !slices.Contains(c.mobileIDs, r.MobileID) {
			c.mobileIDs = append(c.mobileIDs, r.MobileID)
		}
		c.activated = c.activated || r.Activated
		c.got.until = min(c.got.until, r.Answered)
		if r.Live {
			c.ended.from = max(c.ended.from, r.Asked)
			continue
		}
		c.over = true
		c.ended.until = min(c.ended.until, r.Answered)
	}
	return c
}

// The two things that a credential does with a mobile ID.
type deed int

const (
	acquire deed = iota
	release
)

// input is an operation as porcupine carries it to the model.
type input struct {
	deed       deed
	credential string
	spent      bool // of a release: the mobile ID was activated
}

func (c life) operation(client int, d deed) porcupine.Operation {
	during := c.got
	if d == release {
		during = c.ended
	}
	return porcupine.Operation{
		ClientId: client, Input: input{d, c.id, c.activated}, Call: int64(during.from), Return: int64(during.until),
	}
}

// owner is the state of one mobile ID: the credential that has it, empty for none, or spent for ever.
type owner struct {
	credential string
	spent      bool
}

// model is one mobile ID with one owner at a time.
var model = porcupine.Model{
	Init: func() any { return owner{} },
	Step: func(state, in, _ any) (bool, any) {
		now, op := state.(owner), in.(input)
		if op.deed == acquire {
			return now == owner{}, owner{credential: op.credential}
		}
		return now.credential == op.credential && !now.spent, owner{spent: op.spent}
	},
}

// story tells a history for a person to read.
func story(history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var words []string
	for _, op := range history {
		in := op.Input.(input)
		what := "got it"
		if in.deed == release {
			what = "ended"
			if in.spent {
				what = "ended, activated,"
			}
		}
		words = append(words, fmt.Sprintf("%s %s between %s and %s", in.credential, what,
			time.Duration(op.Call).Round(time.Microsecond), time.Duration(op.Return).Round(time.Microsecond)))
	}
	return strings.Join(words, "; ")
}
