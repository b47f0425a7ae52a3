package bus

import (
	"context"
	"encoding/json"
	"log"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const (
	jobs        = "jobs"
	deadLetters = "deadletters"
)

// Queue is Lambda's queue of asynchronous invocations: each is tried, tried
// again after one minute and after two, and then handed to the function's
// on-failure destination. It is durable; an invocation that a killed run had
// under way is made again.
type Queue struct {
	db        *state.DB
	now       func() time.Time
	functions map[string]*template.Function // by logical id
	invoke    func(*template.Function, []byte) runtimeapi.Result
	changed   func()

	wake chan struct{}
	mu   sync.Mutex
	jobs map[string]*job
}

type job struct {
	Function string          `json:"function"` // logical id
	Payload  json.RawMessage `json:"payload"`
	Attempts int             `json:"attempts"` // failed ones
	First    time.Time       `json:"first"`
	Due      time.Time       `json:"due"` // on the world's clock
	running  bool
}

// DeadLetter is a message in one of the template's queues, or one that AWS
// would have dropped because its function names none (Queue is empty then).
type DeadLetter struct {
	Queue   string    `json:"queue"`
	At      time.Time `json:"at"`
	Message any       `json:"message"`
}

// NewQueue takes up what db holds. now is the world's clock, invoke runs a
// function to its end, changed is called whenever something moved.
func NewQueue(db *state.DB, now func() time.Time, functions []*template.Function,
	invoke func(*template.Function, []byte) runtimeapi.Result, changed func()) (*Queue, error) {
	q := &Queue{db: db, now: now, functions: map[string]*template.Function{}, invoke: invoke, changed: changed,
		wake: make(chan struct{}, 1), jobs: map[string]*job{}}
	for _, f := range functions {
		q.functions[f.LogicalID] = f
	}
	entries, err := state.List[job](db, jobs)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if q.functions[e.Value.Function] == nil {
			log.Printf("dropped an event for %s, which is no longer in the template", e.Value.Function)
			if err := db.Delete(jobs, e.Key); err != nil {
				return nil, err
			}
			continue
		}
		q.jobs[e.Key] = &e.Value
	}
	return q, nil
}

// Add has f invoked with payload. failed counts attempts that the caller has
// made itself; Add decides what follows from them.
func (q *Queue) Add(f *template.Function, payload []byte, failed int, last runtimeapi.Result) error {
	now := q.now()
	j := &job{Function: f.LogicalID, Payload: payload, Attempts: failed, First: now, Due: now}
	if failed > 0 && !q.again(f, j, now) {
		return q.db.Write(func(tx *state.Tx) error { return q.bury(tx, f, j, last) })
	}
	return q.keep(nil, j)
}

// keep writes jobs, and what else belongs with them, in one transaction.
func (q *Queue) keep(with func(*state.Tx) error, js ...*job) error {
	keys := make([]string, len(js))
	err := q.db.Write(func(tx *state.Tx) (err error) {
		for i, j := range js {
			if keys[i], err = tx.Add(jobs, j); err != nil {
				return err
			}
		}
		if with != nil {
			err = with(tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	for i, j := range js {
		q.jobs[keys[i]] = j
	}
	q.mu.Unlock()
	q.Wake()
	q.changed()
	return nil
}

// again schedules the next attempt of j; false when there is none left.
func (q *Queue) again(f *template.Function, j *job, now time.Time) bool {
	j.Due = now.Add(time.Duration(min(j.Attempts, 2)) * time.Minute)
	return j.Attempts <= f.Async.MaxRetries && j.Due.Sub(j.First) <= f.Async.MaxAge
}

func (q *Queue) bury(tx *state.Tx, f *template.Function, j *job, last runtimeapi.Result) error {
	now := q.now()
	_, err := tx.Add(deadLetters, DeadLetter{Queue: f.Async.OnFailure, At: now, Message: map[string]any{
		"version": "1.0", "timestamp": now,
		"requestContext": map[string]any{"requestId": last.RequestID, "functionArn": f.ARN + ":$LATEST",
			"condition": "RetriesExhausted", "approximateInvokeCount": j.Attempts},
		"requestPayload": j.Payload,
		"responseContext": map[string]any{"statusCode": 200, "executedVersion": "$LATEST",
			"functionError": "Unhandled"},
		"responsePayload": json.RawMessage(last.Payload),
	}})
	return err
}

// Wake has the queue look at its jobs, after a jump of the clock.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Count returns how many invocations are due or under way, and how many wait
// for a later moment.
func (q *Queue) Count() (due, waiting int) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.running || !j.Due.After(now) {
			due++
		} else {
			waiting++
		}
	}
	return due, waiting
}

// DeadLetters returns every dead letter, oldest first; never nil.
func (q *Queue) DeadLetters() ([]DeadLetter, error) {
	entries, err := state.List[DeadLetter](q.db, deadLetters)
	out := []DeadLetter{}
	for _, e := range entries {
		out = append(out, e.Value)
	}
	return out, err
}

// Bury puts a message into one of the template's queues.
func (q *Queue) Bury(queue string, message any) error {
	_, err := q.db.Add(deadLetters, DeadLetter{Queue: queue, At: q.now(), Message: message})
	q.changed()
	return err
}

// Run invokes what is due until ctx ends, and returns when the last invocation
// has.
func (q *Queue) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		next := q.dispatch(ctx, &running)
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-time.After(next):
		}
	}
}

// dispatch starts what is due and returns how long nothing else will be.
func (q *Queue) dispatch(ctx context.Context, running *sync.WaitGroup) time.Duration {
	now, next := q.now(), time.Hour
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, j := range q.jobs {
		switch wait := j.Due.Sub(now); {
		case j.running:
		case wait > 0:
			next = min(next, wait)
		default:
			j.running = true
			running.Go(func() { q.attempt(ctx, key, j) })
		}
	}
	return next
}

func (q *Queue) attempt(ctx context.Context, key string, j *job) {
	f := q.functions[j.Function]
	r := q.invoke(f, j.Payload)
	if ctx.Err() != nil {
		return // it may have been cut short by our own end: the next run repeats it
	}
	var done job
	again := false
	err := q.db.Write(func(tx *state.Tx) error {
		done, again = *j, false
		if !r.Failed {
			return tx.Delete(jobs, key)
		}
		done.Attempts++
		if again = q.again(f, &done, q.now()); again {
			return tx.Put(jobs, key, done)
		}
		if err := q.bury(tx, f, &done, r); err != nil {
			return err
		}
		return tx.Delete(jobs, key)
	})
	if err != nil {
		log.Printf("%s: keeping the outcome of an event: %v", f.LogicalID, err)
	}
	q.mu.Lock()
	delete(q.jobs, key)
	if again {
		done.running = false
		q.jobs[key] = &done
	}
	q.mu.Unlock()
	q.changed()
	q.Wake()
}
