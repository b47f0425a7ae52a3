package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/samlocal/child"
)

const (
	account       = "acme-origo"
	webhookHeader = "X-Webhook-Secret"
	webhookSecret = "local-webhook-secret"
	part1         = "MID-SUB-CRD_FTPN_1001" // profile hq
	part2         = "MID-SUB-CRD_FTPN_1002" // no profile draws from it on a fresh start
	root          = "../.."
)

// patience is how long to wait for anything that should happen at once.
const patience = 30 * time.Second

// scratch is where the program and the data of the shared run are.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "mobilecred-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		build := exec.Command("go", "build", "-o", program(), "./internal/local/cmd/mobilecred-local")
		build.Dir, build.Stdout, build.Stderr = root, os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the local run:", err)
			return 1
		}
		defer stopShared()
		return m.Run()
	}())
}

func program() string { return filepath.Join(scratch, "mobilecred-local") }

// process is a run of the program: it may be stopped, killed and started again on the same directory and ports.
type process struct {
	dir   string
	ports map[string]int // by environment variable
	cmd   *exec.Cmd
	said  *output
	ended chan struct{}
	err   error // why it ended; read it after ended is closed

	mu      sync.Mutex
	tokens  map[string]string // by scopes
	foreign map[string]bool   // externalIds that are no holders of ours
}

// run is a process as one test sees it.
type run struct {
	*process
	t *testing.T
}

var startShared = sync.OnceValues(func() (*process, error) {
	p := newProcess(filepath.Join(scratch, "shared"))
	return p, p.start()
})

var sharedStarted atomic.Bool

func stopShared() {
	if sharedStarted.Load() {
		if p, err := startShared(); err == nil {
			p.stop()
		}
	}
}

func theShared(t *testing.T) *process {
	t.Helper()
	sharedStarted.Store(true)
	p, err := startShared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shared is the run for tests that leave clock and weather alone and use holders of their own.
func shared(t *testing.T) *run {
	t.Helper()
	return see(t, theShared(t))
}

// private is a fresh run of the test's own. It ends with the test.
func private(t *testing.T) *run {
	t.Helper()
	dir := t.TempDir()
	// What the shared run has compiled is up to date, so that nothing is linked again.
	functions := filepath.Join("bin", "functions")
	if err := os.CopyFS(filepath.Join(dir, functions),
		os.DirFS(filepath.Join(theShared(t).dir, functions))); err != nil {
		t.Fatal(err)
	}
	p := newProcess(dir)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.running() {
			p.stop()
		}
	})
	return see(t, p)
}

func see(t *testing.T, p *process) *run {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the run said:\n%s", p.said.tail())
		}
	})
	return &run{p, t}
}

func newProcess(dir string) *process {
	return &process{dir: dir, said: &output{}, tokens: map[string]string{}, foreign: map[string]bool{}}
}

// start returns when the run says that it is ready. The first start chooses the ports.
func (p *process) start() error {
	for attempt := 0; ; attempt++ {
		choose := p.ports == nil
		if choose {
			ports, err := local.FreePorts(4)
			if err != nil {
				return err
			}
			p.ports = map[string]int{
				"PORT": ports[0], "WORLD_PORT": ports[1], "DYNAMODB_PORT": ports[2], "ORIGO_PORT": ports[3],
			}
		}
		err := p.startOnce()
		if err == nil {
			return nil
		}
		// Another process can take a free port before the run listens on it.
		if !choose || attempt == 2 || !strings.Contains(err.Error(), "is busy") {
			return err
		}
		p.ports = nil
	}
}

func (p *process) startOnce() error {
	cmd := exec.Command(program())
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "LOCAL_DIR="+p.dir, "DYNAMODB_ENDPOINT=")
	for name, port := range p.ports {
		cmd.Env = append(cmd.Env, name+"="+strconv.Itoa(port))
	}
	cmd.Stderr = p.said
	ready := make(chan struct{})
	cmd.Stdout = &firstLine{line: "ready", seen: ready, to: p.said}
	if err := child.Start(cmd); err != nil { // it ends with the test binary, however that ends
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("the run ended before it was ready: %v\n%s", p.err, p.said.tail())
	case <-time.After(3 * time.Minute): // the first one compiles everything
		p.kill9()
		return fmt.Errorf("the run was not ready in time:\n%s", p.said.tail())
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stop does what Ctrl-C does: it interrupts the run, and waits for its end.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill9()
	}
}

// kill9 kills the run's own process only; the run is responsible for the end of its children.
func (p *process) kill9() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
}

// startAgain starts a run that was stopped or killed, on the same directory and ports.
func (r *run) startAgain() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatal(err)
	}
}

// restart is Ctrl-C and another start.
func (r *run) restart() {
	r.t.Helper()
	r.stop()
	r.startAgain()
}

// processes are the command lines of every process that belongs to the run: its own, its children's, and those of
// children of a run that has ended. They are known by the run's directory, in their arguments or their environment.
func (r *run) processes() []string {
	r.t.Helper()
	var found []string
	if dirs, _ := filepath.Glob("/proc/[0-9]*"); len(dirs) > 0 {
		for _, dir := range dirs {
			args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // one that has just ended has none
			env, _ := os.ReadFile(filepath.Join(dir, "environ"))
			if bytes.Contains(args, []byte(r.dir)) || bytes.Contains(env, []byte(r.dir)) {
				found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
			}
		}
		return found
	}
	list, err := exec.Command("ps", "-A", "-ww", "-o", "args=").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, r.dir) {
			found = append(found, line)
		}
	}
	return found
}

// waitUntilGone waits until no process of the run is left. It has to look again and again, because the kernel reports
// the end of a process to its parent only.
func (r *run) waitUntilGone() {
	r.t.Helper()
	deadline, tick := time.After(5*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		left := r.processes()
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("left behind: %s", strings.Join(left, "\n"))
		}
	}
}

// output keeps what a run prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.text.Bytes()
	return string(b[max(0, len(b)-8<<10):])
}

// firstLine passes on what is written and closes seen at the first line that is line.
type firstLine struct {
	line string
	seen chan struct{}
	to   io.Writer
	rest string
	done bool
}

func (f *firstLine) Write(b []byte) (int, error) {
	f.rest += string(b)
	for !f.done {
		line, rest, ok := strings.Cut(f.rest, "\n")
		if !ok {
			break
		}
		if f.rest = rest; line == f.line {
			f.done = true
			close(f.seen)
		}
	}
	return f.to.Write(b)
}
