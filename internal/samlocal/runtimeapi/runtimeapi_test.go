package runtimeapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "toy")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", binary, "./testdata/toy")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) line(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(s + "\n")
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, change func(*runtimeapi.Config)) (*runtimeapi.Function, *logged) {
	log := &logged{}
	cfg := runtimeapi.Config{Name: "Toy", ARN: "arn:toy", Binary: binary, Dir: t.TempDir(),
		Env: []string{"GREETING=hello"}, Timeout: 5 * time.Second, Concurrency: 2, Log: log.line}
	if change != nil {
		change(&cfg)
	}
	f := runtimeapi.New(cfg)
	t.Cleanup(f.Close)
	return f, log
}

func TestInvocations(t *testing.T) {
	tests := []struct {
		name, payload string
		failed        bool
		want          string // in the payload
	}{
		{"answer", `{"a":[1,2]}`, false, `{"a":[1,2]}`},
		{"environment", `{"do":"env","name":"GREETING"}`, false, `{"value":"hello"}`},
		{"nothing inherited", `{"do":"env","name":"HOME"}`, false, `{"value":""}`},
		{"error", `{"do":"fail"}`, true, `"errorMessage":"as asked"`},
		{"crash", `{"do":"exit"}`, true, "exit status 3"},
		{"too big", `{"do":"big"}`, true, "Function.ResponseSizeTooLarge"},
		{"after a crash", `{"b":1}`, false, `{"b":1}`},
	}
	f, log := start(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.Invoke([]byte(tt.payload))
			if r.Failed != tt.failed || !strings.Contains(string(r.Payload), tt.want) {
				t.Errorf("got %v %.200s", r.Failed, r.Payload)
			}
		})
	}
	for _, want := range []string{"toy is up", "Init Duration: ", "REPORT RequestId: "} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

func TestATimeoutKillsTheProcessAndTheNextInvocationWorks(t *testing.T) {
	f, _ := start(t, func(c *runtimeapi.Config) { c.Timeout = 300 * time.Millisecond })
	r := f.Invoke([]byte(`{"do":"hang"}`))
	if !r.Failed || !strings.Contains(string(r.Payload), "Task timed out after 0.30 seconds") {
		t.Fatalf("got %s", r.Payload)
	}
	if r := f.Invoke([]byte(`{"x":1}`)); r.Failed {
		t.Errorf("got %s", r.Payload)
	}
}

func TestTheDeadlineIsTheTimeout(t *testing.T) {
	f, _ := start(t, nil)
	var got struct{ Left float64 }
	if err := json.Unmarshal(f.Invoke([]byte(`{"do":"deadline"}`)).Payload, &got); err != nil || got.Left < 3 ||
		got.Left > 5 {
		t.Errorf("got %v %v, want a little under 5 s", got, err)
	}
}

func TestInvocationsOverlapInProcessesOfTheirOwn(t *testing.T) {
	f, _ := start(t, nil)
	dir := t.TempDir()
	pids := make(chan string, 2)
	for range 2 {
		go func() { pids <- string(f.Invoke(fmt.Appendf(nil, `{"do":"meet","at":%q}`, dir)).Payload) }()
	}
	a, b := <-pids, <-pids
	if a == b || !strings.Contains(a, `"met":2`) {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestConcurrencyIsKept(t *testing.T) {
	f, _ := start(t, func(c *runtimeapi.Config) { c.Concurrency, c.Timeout = 1, 500*time.Millisecond })
	dir := t.TempDir()
	failed := make(chan bool, 2)
	for range 2 {
		go func() { failed <- f.Invoke(fmt.Appendf(nil, `{"do":"meet","at":%q}`, dir)).Failed }()
	}
	// The first waits in vain for the second and is killed; the second then
	// finds the first one's file.
	if a, b := <-failed, <-failed; !a || b {
		t.Errorf("got %v, %v", a, b)
	}
}

func TestNoProgramAndAClosedFunctionAreErrors(t *testing.T) {
	f, _ := start(t, func(c *runtimeapi.Config) { c.Binary = "/nonexistent" })
	if r := f.Invoke(nil); !r.Failed {
		t.Errorf("got %s", r.Payload)
	}
	g, _ := start(t, nil)
	g.Invoke([]byte(`{}`))
	g.Close()
	if r := g.Invoke([]byte(`{}`)); !r.Failed {
		t.Errorf("got %s", r.Payload)
	}
}

// pid is which process answered.
func pid(t *testing.T, r runtimeapi.Result) string {
	t.Helper()
	var got struct{ PID int }
	if err := json.Unmarshal(r.Payload, &got); err != nil || r.Failed || got.PID == 0 {
		t.Fatalf("got %s", r.Payload)
	}
	return fmt.Sprint(got.PID)
}

func TestThereAreAsManyProcessesAsInvocationsAtATime(t *testing.T) {
	f, _ := start(t, func(c *runtimeapi.Config) { c.Concurrency = 6 })
	answers := make(chan runtimeapi.Result, 4)
	dir := t.TempDir()
	for range 4 {
		go func() { answers <- f.Invoke(fmt.Appendf(nil, `{"do":"meet","at":%q,"all":4}`, dir)) }()
	}
	busy := map[string]bool{}
	for range 4 {
		busy[pid(t, <-answers)] = true
	}
	if len(busy) != 4 {
		t.Errorf("%d processes for four invocations that waited for each other", len(busy))
	}
	for range 5 {
		if p := pid(t, f.Invoke([]byte(`{"do":"pid"}`))); !busy[p] {
			t.Error("another process was started while others were idle")
		}
	}
}

func TestAnIdleProcessIsEnded(t *testing.T) {
	f, _ := start(t, func(c *runtimeapi.Config) { c.IdleAfter = time.Millisecond })
	first := pid(t, f.Invoke([]byte(`{"do":"pid"}`)))
	for begun := time.Now(); ; {
		number, err := strconv.Atoi(first)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(number, 0) != nil {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("it is still there")
		}
		runtime.Gosched()
	}
	if second := pid(t, f.Invoke([]byte(`{"do":"pid"}`))); second == first {
		t.Error("the process that was ended answered")
	}
}
