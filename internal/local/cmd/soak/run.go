package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/samlocal/child"
	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
)

// ready is the line by which the run says that all of it answers.
const ready = "ready"

// run is the local run and its database, each of which can be killed and started again on the same directory and ports.
type run struct {
	ctx                        context.Context
	dir                        string
	keep                       bool // the directory
	port, world, origo, engine int
	http                       *http.Client
	stopEngine                 func()
	cmd                        *exec.Cmd
	ended                      chan struct{}
	killed                     bool
	mu                         sync.Mutex
	token                      string
}

func newRun(ctx context.Context) (*run, error) {
	dir, err := os.MkdirTemp("", "mobilecred-soak-")
	if err != nil {
		return nil, err
	}
	r := &run{ctx: ctx, dir: dir, http: &http.Client{Timeout: 40 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 2 * workers}}}
	ports, err := local.FreePorts(4)
	if err != nil {
		return nil, err
	}
	r.port, r.world, r.origo, r.engine = ports[0], ports[1], ports[2], ports[3]
	return r, nil
}

// startAll starts the database and the run.
func (r *run) startAll() error {
	if err := r.startEngine(); err != nil {
		return err
	}
	return r.start()
}

func (r *run) startEngine() (err error) {
	_, r.stopEngine, err = dynamodb.Start(r.ctx, filepath.Join(r.dir, "engine"), r.engine)
	return err
}

// killEngine kills the database, as kill -9 does.
func (r *run) killEngine() { r.stopEngine() }

// start returns when the run says that it is ready.
func (r *run) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(r.dir, "run.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(self, "-serve", filepath.Join(r.dir, "local"), "-engine", r.at(r.engine, ""),
		"-port", strconv.Itoa(r.port), "-world", strconv.Itoa(r.world), "-origo", strconv.Itoa(r.origo))
	cmd.Stderr = out
	said, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	r.mu.Lock()
	r.cmd, r.ended, r.killed = cmd, ended, false
	r.mu.Unlock()
	answers := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if lines.Text() == ready {
				answers <- true
			}
		}
		_ = cmd.Wait()
		close(ended)
	}()
	select {
	case <-answers:
		return nil
	case <-ended:
		return fmt.Errorf("the run ended before it was ready: %s", r.tail())
	case <-time.After(3 * time.Minute): // the first one compiles everything
		r.kill()
		return fmt.Errorf("the run was not ready in time: %s", r.tail())
	}
}

// kill kills the run's own process only; the run is responsible for the end of its children.
func (r *run) kill() {
	r.mu.Lock()
	r.killed = true
	r.mu.Unlock()
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// isGone says that the run has ended although it was not killed.
func (r *run) isGone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.ended:
		return !r.killed
	default:
		return false
	}
}

// tail is the end of what the run has said.
func (r *run) tail() string {
	text, _ := os.ReadFile(filepath.Join(r.dir, "run.log"))
	return string(text[max(0, len(text)-2<<10):])
}

// killFunction kills one process of a function, which process is drawn; the name is empty when there is none.
func (r *run) killFunction(random *rand.Rand) (name string) {
	type process struct {
		pid  int
		name string
	}
	var all []process
	binaries := filepath.Join(r.dir, "local", "bin", "functions")
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		binary, err := os.Readlink(link) // not that of another user's process
		if err != nil || !strings.HasPrefix(binary, binaries) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			name, _, _ := strings.Cut(strings.TrimPrefix(binary, binaries+"/"), "/")
			all = append(all, process{pid, name})
		}
	}
	if len(all) == 0 {
		return ""
	}
	p := all[random.IntN(len(all))]
	if syscall.Kill(p.pid, syscall.SIGKILL) != nil {
		return ""
	}
	return p.name
}

func (r *run) close() {
	if r.cmd != nil {
		r.kill()
	}
	if r.stopEngine != nil {
		r.stopEngine()
	}
	if !r.keep {
		os.RemoveAll(r.dir)
	}
}

func (r *run) at(port int, path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(port) + path
}

// answer is one HTTP answer, read to its end.
type answer struct {
	status int
	body   []byte
}

func (a answer) into(v any) error {
	if a.status/100 != 2 {
		return fmt.Errorf("%d %.200s", a.status, a.body)
	}
	return json.Unmarshal(a.body, v)
}

// call makes a call of the API (paths below /v1) or of the world. The body is JSON unless it is a []byte, a JPEG.
func (r *run) call(method, path string, body any, key string) (answer, error) {
	text, raw := body.([]byte)
	contentType := "image/jpeg"
	if !raw {
		contentType = "application/json"
		if body != nil {
			var err error
			if text, err = json.Marshal(body); err != nil {
				return answer{}, err
			}
		}
	}
	url := r.at(r.world, path)
	isAPI := strings.HasPrefix(path, "/v1/")
	if isAPI {
		url = r.at(r.port, path)
	}
	req, err := http.NewRequestWithContext(r.ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if isAPI {
		token, err := r.aToken()
		if err != nil {
			return answer{}, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusUnauthorized {
		r.mu.Lock()
		r.token = ""
		r.mu.Unlock()
	}
	return answer{resp.StatusCode, got}, err
}

func (r *run) aToken() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.token != "" {
		return r.token, nil
	}
	resp, err := r.http.Get(r.at(r.world, "/token"))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return "", err
	}
	r.token = string(token)
	return r.token, nil
}
