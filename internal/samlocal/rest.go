package samlocal

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

// activity counts invocations. Everything that moves here is moved by one, or
// by a call to the world's page, which counts as one.
type activity struct {
	running atomic.Int64
	marks   atomic.Int64 // starts and ends so far
}

// begin counts a start; the caller runs what it returns at the end.
func (a *activity) begin() (end func()) {
	a.running.Add(1)
	a.marks.Add(1)
	return func() {
		a.marks.Add(1)
		a.running.Add(-1)
	}
}

// invoke runs a function once, to its end.
func (w *World) invoke(f *template.Function, payload []byte) runtimeapi.Result {
	defer w.activity.begin()()
	return w.functions[f.LogicalID].Invoke(payload)
}

// moving names what has not come to rest. Looking takes a while, so an empty
// answer only holds if no invocation started or ended meanwhile.
func (w *World) moving(ctx context.Context) []string {
	var out []string
	if n := w.activity.running.Load(); n > 0 {
		out = append(out, fmt.Sprintf("%d invocations", n))
	}
	if due, _ := w.queue.Count(); due > 0 {
		out = append(out, fmt.Sprintf("%d events", due))
	}
	for _, p := range w.parts {
		if !p.Settled() {
			out = append(out, p.Name)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, s := range w.streams {
		if !s.Quiet(ctx) {
			out = append(out, "the stream of "+s.Source.Table)
		}
	}
	return out
}

// settle waits until every event has come to rest: nothing under way, nothing
// due. What waits for a later moment of the world's clock is at rest. It
// returns what still moved when ctx ended.
func (w *World) settle(ctx context.Context) []string {
	for {
		before := w.activity.marks.Load()
		moving := w.moving(ctx)
		if len(moving) == 0 && w.activity.marks.Load() == before {
			return nil
		}
		select {
		case <-ctx.Done():
			return moving
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// schedule is one schedule of the template. Its ticks never overlap.
type schedule struct {
	template.Schedule
	function *template.Function
	mu       sync.Mutex
}

// tick invokes the function once; more is its wish to be run again at once.
func (w *World) tick(ctx context.Context, s *schedule) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	payload := []byte(s.Input)
	if s.Input == "" {
		payload = s.event(w.clock.Now())
	}
	result := w.invoke(s.function, payload)
	if ctx.Err() != nil {
		return false
	}
	if result.Failed {
		if err := w.queue.Add(s.function, payload, 1, result); err != nil {
			log.Printf("%s: %v", s.ID, err)
		}
		return false
	}
	var answer struct{ More bool }
	return json.Unmarshal(result.Payload, &answer) == nil && answer.More
}

// event is what the two services send when the template gives no Input.
func (s *schedule) event(now time.Time) []byte {
	source, resource := "aws.events", "events:"+template.Region+":"+template.AccountID+":rule/"+s.ID
	var detail any = struct{}{}
	if s.V2 {
		source, resource, detail = "aws.scheduler", "scheduler:"+template.Region+":"+template.AccountID+
			":schedule/default/"+s.ID, "{}"
	}
	text, _ := json.Marshal(map[string]any{
		"version": "0", "id": fmt.Sprintf("%032x", now.UnixNano()), "detail-type": "Scheduled Event", "source": source,
		"account": template.AccountID, "time": now.UTC().Format(time.RFC3339), "region": template.Region,
		"resources": []string{"arn:" + template.Partition + ":" + resource}, "detail": detail,
	})
	return text
}

// runSchedule ticks at once and then once a period, until ctx ends.
func (w *World) runSchedule(ctx context.Context, s *schedule) {
	ticker := time.NewTicker(s.Period)
	defer ticker.Stop()
	for {
		w.tick(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// maxRounds bounds how often a jump runs schedules that ask for more.
const maxRounds = 50

// advance lets everything come to rest, moves the clock, runs each schedule
// once, and again while one of them asks for more, and waits for rest after
// each round. It returns what still moved when ctx ended; the jump itself is
// made in any case unless it fails.
func (w *World) advance(ctx context.Context, d time.Duration) ([]string, error) {
	w.jump.Lock()
	defer w.jump.Unlock()
	before, cancel := context.WithTimeout(ctx, 8*time.Second)
	w.settle(before)
	cancel()
	if err := w.clock.Advance(d); err != nil {
		return nil, err
	}
	for _, p := range w.parts {
		if err := p.Jumped(); err != nil {
			return nil, err
		}
	}
	w.queue.Wake()
	w.hub.changed()
	moving := w.settle(ctx)
	for range maxRounds {
		more := make(chan bool, len(w.schedules))
		for _, s := range w.schedules {
			go func() { more <- w.tick(w.ctx, s) }()
		}
		again := false
		for range w.schedules {
			select {
			case m := <-more:
				again = again || m
			case <-ctx.Done():
				return w.moving(ctx), nil
			}
		}
		if moving = w.settle(ctx); !again || len(moving) > 0 {
			break
		}
	}
	return moving, nil
}
