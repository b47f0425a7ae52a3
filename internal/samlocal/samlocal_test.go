package samlocal_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
)

// TestMain lets the test binary play a whole run that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("SAMLOCAL_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := play(context.Background(), options(dir), func(at addresses) { _ = json.NewEncoder(os.Stdout).Encode(at) })
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type addresses struct{ API, World string }

func options(dir string) samlocal.Options {
	return samlocal.Options{Template: "testdata/toy/template.yaml", Dir: dir, IssuerParameter: "JwtIssuer",
		Parameters: map[string]string{
			"MailFrom": "toy@example.com",
		}, Sender: "toy@example.com", ClockVariable: "TOY_CLOCK"}
}

// play opens a world and runs it.
func play(ctx context.Context, opts samlocal.Options, ready func(addresses)) error {
	w, err := samlocal.Open(opts)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Run(ctx, func(context.Context) error {
		ready(addresses{w.API(), w.URL()})
		return nil
	})
}

// run is one run of the toy template in this process.
type run struct {
	addresses
	t    *testing.T
	stop func()
}

func start(t *testing.T, opts samlocal.Options) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan addresses, 1)
	go func() { ended <- play(ctx, opts, func(at addresses) { ready <- at }) }()
	r := &run{t: t}
	select {
	case r.addresses = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// call makes a request and decodes a JSON answer into out, if given.
func (r *run) call(method, url, body string, out any) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Webhook-Secret", "local-webhook-secret")
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(url, r.API) {
		req.Header.Set("Authorization", "Bearer "+r.token())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			r.t.Fatalf("%s %s: %s: %v", method, url, text, err)
		}
	}
	return resp.StatusCode, string(text)
}

func (r *run) token() string {
	resp, err := http.Get(r.World + "/token")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	token, _ := io.ReadAll(resp.Body)
	return string(token)
}

func (r *run) want(method, url, body string, status int, part string) {
	r.t.Helper()
	if got, text := r.call(method, url, body, nil); got != status || !strings.Contains(text, part) {
		r.t.Errorf("%s %s: got %d %.300s, want %d with %q", method, url, got, text, status, part)
	}
}

// subjects are those of all mails, newest first.
func (r *run) subjects() string {
	r.t.Helper()
	var mails []struct{ ID, Subject, To string }
	r.call("GET", r.World+"/mail", "", &mails)
	var out []string
	for _, m := range mails {
		if !strings.HasPrefix(m.Subject, "ticks") {
			out = append(out, m.Subject)
		}
	}
	return strings.Join(out, ", ")
}

func TestACallRunsThroughEveryPartAndComesToRest(t *testing.T) {
	r := start(t, options(t.TempDir()))
	hook := r.API + "/v1/webhooks/shop"
	r.want("POST", hook, "", 200, "")
	r.want("POST", r.World+"/settle", "", 200, `"settled":true`)
	if got := r.subjects(); got != "called 1" {
		t.Errorf("mails: %q", got)
	}
	r.want("GET", r.API+"/things/called", "", 200, "1")
	r.want("GET", r.API+"/things/nothing", "", 404, "")
	r.want("GET", r.World+"/events", "", 200, `"detail-type":"Called"`)
	r.want("GET", r.World+"/events?bus=default", "", 200, "[]")

	// The function fails once and is tried again a minute later.
	r.want(
		"POST",
		r.World+"/faults",
		`{"service":"dynamodb","op":"put","kind":"error","count":3}`,
		200,
		`"when":"before"`,
	)
	r.want("POST", hook, "", 200, "")
	r.want("POST", r.World+"/settle", "", 200, `"waiting":1`)
	r.want("POST", r.World+"/clock", `{"advance":"1m"}`, 200, `"settled":true`)
	if got := r.subjects(); got != "called 2, called 1" {
		t.Errorf("mails: %q", got)
	}

	// It fails for good: two attempts of three calls each.
	r.want("POST", r.World+"/faults", `{"service":"dynamodb","op":"put","kind":"error","count":1000}`, 200, "")
	r.want("POST", hook, "", 200, "")
	r.want("POST", r.World+"/settle", "", 200, `"waiting":1`)
	r.want("POST", r.World+"/clock", `{"advance":"1m"}`, 200, "")
	r.want("GET", r.World+"/deadletters", "", 200, `"queue":"Failed"`)
	r.want("DELETE", r.World+"/faults", "", 200, "[]")
}

func TestAJumpRunsSchedulesOnceAndAgainWhileTheyAskForMore(t *testing.T) {
	r := start(t, options(t.TempDir()))
	r.want("POST", r.World+"/settle", "", 200, "")
	r.want("GET", r.API+"/things/ticks%20at%200s", "", 200, "1")
	r.want("POST", r.World+"/clock", `{"advance":"192h"}`, 200, `"offset":"192h0m0s"`)
	r.want("GET", r.API+"/things/ticks%20at%20192h0m0s", "", 200, "3")
	var clock struct{ Now time.Time }
	r.call("GET", r.World+"/clock", "", &clock)
	if ahead := time.Until(clock.Now); ahead < 191*time.Hour || ahead > 193*time.Hour {
		t.Errorf("the clock is %v ahead", ahead)
	}
	for _, body := range []string{`{"advance":"-1h"}`, `{"advance":"soon"}`, `{"retreat":"1h"}`, `nonsense`} {
		r.want("POST", r.World+"/clock", body, 400, "error")
	}
}

func TestAMailIsShownAsAPersonSeesIt(t *testing.T) {
	r := start(t, options(t.TempDir()))
	r.want("POST", r.API+"/v1/webhooks/shop", "", 200, "")
	r.want("POST", r.World+"/settle", "", 200, "")
	var mails []struct{ ID string }
	r.call("GET", r.World+"/mail", "", &mails)
	resp, err := http.Get(r.World + "/mail/" + mails[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "<p>hi</p>" || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("got %s with %v", body, resp.Header)
	}
}

func TestThePageHearsOfChanges(t *testing.T) {
	r := start(t, options(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", r.World+"/stream", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line := make([]byte, len("event: change\ndata: {}\n\n"))
	for _, when := range []string{"at first", "after a fault was ordered"} {
		if _, err := io.ReadFull(resp.Body, line); err != nil || !strings.HasPrefix(string(line), "event: change") {
			t.Fatalf("%s: %q %v", when, line, err)
		}
		r.call("POST", r.World+"/faults", `{"service":"ses","kind":"error"}`, nil)
	}
}

func TestNothingIsLostWhenTheRunIsKilled(t *testing.T) {
	dir := t.TempDir()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "SAMLOCAL_TEST_DIR="+dir)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	victim.Stderr = os.Stderr
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	r := &run{t: t}
	if err := json.NewDecoder(out).Decode(&r.addresses); err != nil {
		t.Fatal(err)
	}

	// A second run on the same directory does not start.
	if _, err := samlocal.Open(options(dir)); !errors.Is(err, samlocal.ErrInUse) {
		t.Errorf("got %v", err)
	}

	// The event is held back between the bus and its row when the run dies.
	r.want("POST", r.World+"/clock", `{"advance":"24h"}`, 200, "")
	r.want("POST", r.World+"/faults", `{"service":"dynamodb","op":"put","kind":"timeout","holdMs":60000}`, 200, "")
	r.want("POST", r.World+"/faults", `{"service":"ses","kind":"throttle","count":7}`, 200, "")
	r.want("POST", r.API+"/v1/webhooks/shop", "", 200, "")
	token := r.token()
	for text := ""; strings.Contains(text, "dynamodb") || text == ""; {
		_, text = r.call("GET", r.World+"/faults", "", nil)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()

	r = start(t, options(dir))
	r.want("GET", r.World+"/faults", "", 200, `"count":7`)
	r.want("DELETE", r.World+"/faults", "", 200, "")
	r.want("GET", r.World+"/clock", "", 200, `"offset":"24h0m0s"`)
	r.want("POST", r.World+"/settle", "", 200, "")
	r.want("POST", r.World+"/clock", `{"advance":"1h"}`, 200, "")
	if got := r.subjects(); got != "called 1" {
		t.Errorf("mails: %q", got)
	}
	if _, text := r.call("GET", r.World+"/.well-known/jwks.json", "", nil); !strings.Contains(text, keyID(t, token)) {
		t.Error("the signing key changed")
	}
}

// keyID is the kid of a token's header, which is its first part in base64.
func keyID(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	var header struct{ Kid string }
	if err := json.NewDecoder(base64.NewDecoder(base64.RawURLEncoding,
		strings.NewReader(head))).Decode(&header); err != nil ||
		header.Kid == "" {
		t.Fatal(err, header)
	}
	return header.Kid
}

func TestTheWorldsInterface(t *testing.T) {
	r := start(t, options(t.TempDir()))
	for _, tt := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/.well-known/jwks.json", "", 200, `"kty":"RSA"`},
		{"POST", "/faults", `{"service":"moon","kind":"error"}`, 400, "service must be ses, dynamodb or events"},
		{"POST", "/faults", `{"service":"ses","kind":"drop"}`, 400, "no service makes calls that can be dropped"},
		{"POST", "/faults", `{"service":"ses","kind":"error","holdMs":5}`, 200, `"count":1`},
		{"GET", "/faults", "", 200, `[{"service":"ses"`},
		{"GET", "/deadletters", "", 200, "[]"},
		{"GET", "/mail/000000000009", "", 404, ""},
		{"GET", "/nothing", "", 404, ""},
	} {
		r.want(tt.method, r.World+tt.path, tt.body, tt.status, tt.part)
	}
	for path, want := range map[string]int{"/token": 404, "/token?scope=other": 403, "/token?scope=": 403} {
		_, token := r.call("GET", r.World+path, "", nil)
		req, _ := http.NewRequest("GET", r.API+"/things/x", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestACallersOwnPartAndRoutes(t *testing.T) {
	opts := options(t.TempDir())
	opts.Services = []samlocal.Service{{Name: "shop", Ops: []string{"buy"}, Callbacks: true}}
	w, err := samlocal.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	restless, jumps := true, 0
	w.Add(samlocal.Part{Name: "the shop", Settled: func() bool { return !restless },
		Jumped: func() error { jumps++; return nil }})
	w.HandleMoving("POST /shop/{do}", func(q *http.Request) (any, error) {
		if q.PathValue("do") == "close" {
			restless = false
			return map[string]bool{"open": false}, nil
		}
		return nil, samlocal.Refuse(http.StatusConflict, "the shop cannot "+q.PathValue("do"))
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- w.Run(ctx, func(context.Context) error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	r := &run{t: t, addresses: addresses{w.API(), w.URL()}}
	r.want("POST", r.World+"/shop/fly", "", 409, "the shop cannot fly")
	r.want("POST", r.World+"/shop/close", "", 200, `{"open":false}`)
	r.want("POST", r.World+"/settle", "", 200, `"settled":true`)
	r.want("POST", r.World+"/faults", `{"service":"shop","kind":"drop"}`, 200, `"op":"callback"`)
	if _, ok := w.Faults().Take("shop", "callback", faults.About{}); !ok {
		t.Error("a fault ordered for the caller's service is not there")
	}
	r.want("POST", r.World+"/clock", `{"advance":"1h"}`, 200, "")
	cancel()
	if err := <-ended; err != nil || jumps != 1 {
		t.Errorf("got %v, %d jumps", err, jumps)
	}
}

func TestWhatCannotRunIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for name, tt := range map[string]struct {
		change func(*samlocal.Options)
		want   string
	}{
		"API port":      {func(o *samlocal.Options) { o.Port = port }, "is busy"},
		"world port":    {func(o *samlocal.Options) { o.WorldPort = port }, "is busy"},
		"database port": {func(o *samlocal.Options) { o.DynamoDBPort = port }, "is busy"},
		"no template": {func(o *samlocal.Options) { o.Template = filepath.Join(t.TempDir(), "template.yaml") },
			"template.yaml"},
		"no function": {func(o *samlocal.Options) { o.Template = withoutCode(t) },
			"its code is expected in functions/toy"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(t.TempDir())
			tt.change(&opts)
			err := play(t.Context(), opts, func(addresses) { t.Error("ready") })
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// withoutCode is the toy template without its functions.
func withoutCode(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/toy/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "template.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "template.yaml")
}
