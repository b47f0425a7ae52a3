package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/bus"
	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

// rig is a queue with one function that fails a given number of times.
type rig struct {
	t    *testing.T
	dir  string
	db   *state.DB
	fn   *template.Function
	q    *bus.Queue
	b    *bus.Bus
	stop func()

	mu       sync.Mutex
	now      time.Time
	failures int
	hang     chan struct{} // non-nil: invocations wait for it
	got      []string
	moved    chan struct{}
}

func newRig(t *testing.T) *rig {
	r := &rig{
		t:     t,
		dir:   t.TempDir(),
		now:   time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		moved: make(chan struct{}, 1000),
	}
	r.fn = &template.Function{LogicalID: "F", ARN: "arn:F",
		Async: template.Async{MaxRetries: 2, MaxAge: time.Hour, OnFailure: "Failed"},
		Rules: []template.Rule{{Bus: "mine", Pattern: map[string]any{"source": []any{"s"}}}}}
	r.open()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) open() {
	db, err := state.Open(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	r.db = db
	r.q, err = bus.NewQueue(db, r.clock, []*template.Function{r.fn}, r.invoke, func() { r.moved <- struct{}{} })
	if err != nil {
		r.t.Fatal(err)
	}
	r.b = bus.New(r.q, []string{"mine"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.q.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		r.mu.Lock()
		if r.hang != nil {
			close(r.hang)
			r.hang = nil
		}
		r.mu.Unlock()
		<-done
		db.Close()
	})
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	r.mu.Unlock()
	r.q.Wake()
}

func (r *rig) invoke(_ *template.Function, payload []byte) runtimeapi.Result {
	r.mu.Lock()
	hang := r.hang
	r.got = append(r.got, string(payload))
	failed := r.failures > 0
	if failed {
		r.failures--
	}
	r.mu.Unlock()
	r.moved <- struct{}{}
	if hang != nil {
		<-hang
	}
	return runtimeapi.Result{RequestID: "id", Payload: []byte(`{"errorMessage":"no"}`), Failed: failed}
}

func (r *rig) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// until waits for a state that a movement brings about.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	limit := time.After(5 * time.Second)
	for !ok() {
		select {
		case <-r.moved:
		case <-limit:
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) count(due, waiting int) func() bool {
	return func() bool {
		d, w := r.q.Count()
		return d == due && w == waiting
	}
}

func (r *rig) put() {
	r.t.Helper()
	for _, o := range r.b.Put([]bus.Entry{{Source: "s", DetailType: "d", Detail: `{"a":1}`, EventBusName: "mine"}}) {
		if o.EventID == "" {
			r.t.Fatal(o)
		}
	}
}

func TestAnEventReachesTheFunctionsWhoseRuleMatches(t *testing.T) {
	r := newRig(t)
	r.b.Put([]bus.Entry{
		{Source: "other", DetailType: "d", Detail: `{}`, EventBusName: "mine"},
		{Source: "s", DetailType: "d", Detail: `{}`},
	})
	r.put()
	r.until("delivered", func() bool { return r.calls() == 1 && r.count(0, 0)() })
	var e bus.Envelope
	if err := json.Unmarshal([]byte(r.got[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e.Version != "0" || e.Source != "s" || e.DetailType != "d" || string(e.Detail) != `{"a":1}` ||
		e.Time != "2026-01-01T00:00:00Z" ||
		e.Resources == nil {
		t.Errorf("got %+v", e)
	}
	for name, want := range map[string]int{"mine": 2, "default": 1} {
		if list, err := r.b.Events(name); len(list) != want || err != nil {
			t.Errorf("%s: %d events, want %d (%v)", name, len(list), want, err)
		}
	}
}

func TestRefusedEntriesDoNotStopTheOthers(t *testing.T) {
	r := newRig(t)
	bad := map[string]bus.Entry{
		"InvalidArgument":                 {DetailType: "d", Detail: "{}"},
		"MalformedDetail":                 {Source: "s", DetailType: "d", Detail: "[]"},
		"ResourceNotFoundException":       {Source: "s", DetailType: "d", Detail: "{}", EventBusName: "none"},
		"NotAuthorizedForSourceException": {Source: "aws.s3", DetailType: "d", Detail: "{}"},
	}
	for code, e := range bad {
		out := r.b.Put([]bus.Entry{e, {Source: "x", DetailType: "d", Detail: "{}"}})
		if out[0].ErrorCode != code || out[0].EventID != "" || out[1].EventID == "" {
			t.Errorf("%s: got %+v", code, out)
		}
	}
}

func TestAFailingFunctionIsTriedAfterOneAndTwoMinutes(t *testing.T) {
	r := newRig(t)
	r.failures = 2
	r.put()
	r.until("first attempt failed", r.count(0, 1))
	r.advance(59 * time.Second)
	r.until("still waiting", r.count(0, 1))
	r.advance(time.Second)
	r.until("second attempt failed", func() bool { return r.calls() == 2 && r.count(0, 1)() })
	r.advance(2 * time.Minute)
	r.until("delivered", r.count(0, 0))
	if dead, err := r.q.DeadLetters(); len(dead) != 0 || err != nil || r.calls() != 3 {
		t.Errorf("%d calls, dead letters %v %v", r.calls(), dead, err)
	}
}

func TestAnExhaustedEventGoesToTheOnFailureDestination(t *testing.T) {
	for name, async := range map[string]template.Async{
		"retries": {MaxRetries: 1, MaxAge: time.Hour, OnFailure: "Failed"},
		"age":     {MaxRetries: 2, MaxAge: 90 * time.Second, OnFailure: "Failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.fn.Async = async
			r.failures = 9
			r.put()
			r.until("first attempt failed", r.count(0, 1))
			r.advance(time.Minute)
			r.until("gone", r.count(0, 0))
			dead, err := r.q.DeadLetters()
			if err != nil || len(dead) != 1 || dead[0].Queue != "Failed" {
				t.Fatalf("got %+v %v", dead, err)
			}
			text, _ := json.Marshal(dead[0].Message)
			var m struct {
				RequestContext struct{ ApproximateInvokeCount int }
				RequestPayload bus.Envelope
			}
			if err := json.Unmarshal(text, &m); err != nil || m.RequestContext.ApproximateInvokeCount != 2 ||
				m.RequestPayload.Source != "s" {
				t.Errorf("got %s %v", text, err)
			}
		})
	}
}

func TestUndeliveredEventsSurviveARestart(t *testing.T) {
	r := newRig(t)
	r.hang = make(chan struct{})
	r.put()
	r.until("under way", func() bool { return r.calls() == 1 })
	r.stop()
	r.open()
	r.until("delivered again", func() bool { return r.calls() == 2 && r.count(0, 0)() })

	r.mu.Lock()
	r.failures = 1
	r.mu.Unlock()
	r.put()
	r.until("waiting", r.count(0, 1))
	r.stop()
	r.open()
	r.until("still waiting", r.count(0, 1))
	r.advance(time.Minute)
	r.until("delivered", func() bool { return r.calls() == 4 && r.count(0, 0)() })
}

func TestAttemptsMadeByTheCallerCount(t *testing.T) {
	r := newRig(t)
	last := runtimeapi.Result{Payload: []byte(`{}`), Failed: true}
	if err := r.q.Add(r.fn, []byte(`{}`), 1, last); err != nil {
		t.Fatal(err)
	}
	r.until("waiting for the retry", r.count(0, 1))
	r.fn.Async.MaxRetries = 0
	if err := r.q.Add(r.fn, []byte(`{}`), 1, last); err != nil {
		t.Fatal(err)
	}
	if dead, err := r.q.DeadLetters(); len(dead) != 1 || err != nil {
		t.Errorf("got %v %v", dead, err)
	}
}

func TestManyEventsAllArrive(t *testing.T) {
	r := newRig(t)
	for i := range 20 {
		r.b.Put([]bus.Entry{{Source: "s", DetailType: "d", Detail: fmt.Sprintf(`{"n":%d}`, i), EventBusName: "mine"}})
	}
	r.until("all delivered", func() bool { return r.calls() == 20 && r.count(0, 0)() })
}
