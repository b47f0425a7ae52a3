// Package runtimeapi runs a function's real binary behind the Lambda Runtime
// API: it starts processes on demand, hands each one invocation at a time,
// enforces the timeout by killing, and replaces what crashed.
//
// What an invocation carries and what follows from its result (HTTP, retries,
// dead letters) belongs to the callers.
package runtimeapi

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/child"
)

const (
	// MaxPayload is the limit of a synchronous request and of its response, in bytes.
	MaxPayload  = 6 << 20
	initTimeout = 10 * time.Second
)

// Config says what to run.
type Config struct {
	Name, ARN   string
	Binary, Dir string
	Env         []string
	Timeout     time.Duration
	Concurrency int               // processes at most; further invocations wait
	IdleAfter   time.Duration     // a process that has waited so long for work is ended; 0 = never
	Log         func(line string) // called for each line the processes print, concurrently
}

// Function is one function with the processes that serve it.
type Function struct {
	cfg   Config
	slots chan struct{}

	mu     sync.Mutex
	idle   []*instance // most recently used last
	all    map[*instance]bool
	closed bool
}

// Result is what an invocation came to.
type Result struct {
	RequestID string
	// Payload is the function's answer or, when Failed, Lambda's error document
	// {"errorType","errorMessage"}.
	Payload []byte
	Failed  bool
}

// New returns a function. There are as many processes as there were invocations at a time: the first starts with the
// first invocation, another when one arrives while all are busy.
func New(cfg Config) *Function {
	return &Function{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), all: map[*instance]bool{}}
}

// Invoke runs the function once and returns when it has answered, failed, or
// used up its time. A caller who goes away does not stop it,
// on AWS neither.
func (f *Function) Invoke(payload []byte) Result {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	inv := &invocation{id: requestID(), payload: payload, answer: make(chan Result, 1)}
	for {
		inst, fresh, err := f.take()
		if err != nil {
			return failure(inv.id, "Runtime.StartError", err.Error())
		}
		r, taken := inst.run(inv)
		inst.release()
		// A process that died while idle says nothing about this invocation.
		if taken || fresh {
			return r
		}
	}
}

// Close kills the processes and waits until they are gone. Invocations under
// way fail, as do later ones.
func (f *Function) Close() {
	f.mu.Lock()
	f.closed = true
	var all []*instance
	for inst := range f.all {
		all = append(all, inst)
	}
	f.mu.Unlock()
	for _, inst := range all {
		inst.kill()
	}
}

func (f *Function) take() (inst *instance, fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, fmt.Errorf("%s is shut down", f.cfg.Name)
	}
	if n := len(f.idle); n > 0 {
		inst = f.idle[n-1]
		f.idle = f.idle[:n-1]
		if inst.expiry != nil {
			inst.expiry.Stop()
		}
		return inst, false, nil
	}
	inst, err = f.start()
	if err == nil {
		f.all[inst] = true
	}
	return inst, true, err
}

type invocation struct {
	id      string
	payload []byte
	answer  chan Result
}

// instance is one process with its own Runtime API, since the environment
// names only a host and a port.
type instance struct {
	f       *Function
	cmd     *exec.Cmd
	server  *http.Server
	started time.Time
	work    chan *invocation
	exited  chan struct{}
	expiry  *time.Timer // while it waits for work; guarded by the function's mu

	mu      sync.Mutex
	current *invocation
	initMS  float64 // exec to first poll, reported once
	polled  bool
}

func (f *Function) start() (*instance, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	inst := &instance{f: f, work: make(chan *invocation), exited: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", inst.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", inst.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", inst.response)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	})
	inst.server = &http.Server{Handler: mux}
	inst.cmd = exec.Command(f.cfg.Binary)
	inst.cmd.Dir = f.cfg.Dir
	inst.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()}, f.cfg.Env...)
	out := &lines{each: f.cfg.Log}
	inst.cmd.Stdout, inst.cmd.Stderr = out, out
	inst.started = time.Now()
	if err := child.Start(inst.cmd); err != nil {
		l.Close()
		return nil, err
	}
	go func() { _ = inst.server.Serve(l) }()
	go func() {
		_ = inst.cmd.Wait()
		out.flush()
		inst.server.Close()
		f.mu.Lock()
		delete(f.all, inst)
		f.mu.Unlock()
		close(inst.exited)
	}()
	return inst, nil
}

func (inst *instance) kill() {
	_ = inst.cmd.Process.Kill()
	<-inst.exited
}

// release makes a living process available again.
func (inst *instance) release() {
	select {
	case <-inst.exited:
	default:
		f := inst.f
		f.mu.Lock()
		defer f.mu.Unlock()
		f.idle = append(f.idle, inst)
		if f.cfg.IdleAfter > 0 {
			inst.expiry = time.AfterFunc(f.cfg.IdleAfter, inst.expire)
		}
	}
}

// expire ends the process if it is still waiting for work.
func (inst *instance) expire() {
	f := inst.f
	f.mu.Lock()
	i := slices.Index(f.idle, inst)
	if i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
	}
	f.mu.Unlock()
	if i >= 0 {
		inst.kill()
	}
}

// run hands inv to the process; taken is false when it ended before it took it.
func (inst *instance) run(inv *invocation) (r Result, taken bool) {
	timeout := inst.f.cfg.Timeout
	starting := time.NewTimer(initTimeout + timeout)
	defer starting.Stop()
	select {
	case inst.work <- inv:
	case <-inst.exited:
		return failure(inv.id, "Runtime.ExitError", "RequestId: "+inv.id+" Error: Runtime exited: "+
			inst.cmd.ProcessState.String()), false
	case <-starting.C:
		inst.kill()
		return failure(inv.id, "Sandbox.Timedout", "RequestId: "+inv.id+" Error: the function did not ask for work"),
			true
	}
	begun := time.Now()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	select {
	case r = <-inv.answer:
	case <-inst.exited:
		// The answer and the end of the process can arrive together.
		select {
		case r = <-inv.answer:
		default:
			r = failure(inv.id, "Runtime.ExitError", "RequestId: "+inv.id+" Error: Runtime exited: "+
				inst.cmd.ProcessState.String())
		}
	case <-limit.C:
		inst.kill()
		r = failure(inv.id, "Sandbox.Timedout",
			fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", inv.id, timeout.Seconds()))
	}
	report := fmt.Sprintf("REPORT RequestId: %s Duration: %.2f ms", inv.id,
		float64(time.Since(begun).Microseconds())/1000)
	inst.mu.Lock()
	inst.current = nil
	if inst.initMS > 0 {
		report += fmt.Sprintf(" Init Duration: %.2f ms", inst.initMS)
		inst.initMS = 0
	}
	inst.mu.Unlock()
	if r.Failed {
		report += " Status: error " + string(r.Payload)
	}
	inst.f.cfg.Log(report)
	return r, true
}

func (inst *instance) next(w http.ResponseWriter, r *http.Request) {
	inst.mu.Lock()
	if !inst.polled {
		inst.polled = true
		inst.initMS = float64(time.Since(inst.started).Microseconds()) / 1000
	}
	inst.mu.Unlock()
	var inv *invocation
	select {
	case inv = <-inst.work:
	case <-r.Context().Done():
		return
	}
	inst.mu.Lock()
	inst.current = inv
	inst.mu.Unlock()
	h := w.Header()
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(inst.f.cfg.Timeout).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", inst.f.cfg.ARN)
	h.Set("Lambda-Runtime-Trace-Id", "Root=1-"+inv.id[:8]+"-"+strings.ReplaceAll(inv.id, "-", "")[8:]+";Sampled=0")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
	_, _ = w.Write(inv.payload)
}

func (inst *instance) response(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPayload+1))
	inst.mu.Lock()
	inv := inst.current
	inst.mu.Unlock()
	switch {
	case err != nil || inv == nil || r.PathValue("id") != inv.id:
		http.Error(w, `{"errorType":"InvalidRequestID"}`, http.StatusBadRequest)
		return
	case len(body) > MaxPayload:
		inv.deliver(failure(inv.id, "Function.ResponseSizeTooLarge",
			"Response payload size exceeded maximum allowed payload size (6291556 bytes)."))
		http.Error(w, `{"errorType":"RequestEntityTooLarge"}`, http.StatusRequestEntityTooLarge)
		return
	}
	inv.deliver(Result{RequestID: inv.id, Payload: body, Failed: strings.HasSuffix(r.URL.Path, "/error")})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

// deliver keeps the first answer.
func (inv *invocation) deliver(r Result) {
	select {
	case inv.answer <- r:
	default:
	}
}

func failure(id, kind, message string) Result {
	doc, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	return Result{RequestID: id, Payload: doc, Failed: true}
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// lines cuts a stream into lines.
type lines struct {
	each func(string)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.each(string(line))
		l.rest = rest
	}
}

func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.each(string(l.rest))
	}
}
