package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

// TestMain lets the test binary play a whole run that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOCAL_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := local.Run(context.Background(), config(dir), func(at local.Addresses) {
		_ = json.NewEncoder(os.Stdout).Encode(at)
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func config(dir string) local.Config {
	return local.Config{
		Root: "../samlocal/testdata/toy",
		Dir:  dir,
		Out:  io.Discard,
		Seed: func(_ context.Context, s *local.Seeder) error {
			return s.Provider.Seed(
				origosim.SeedPartNumber{
					PartNumber:   "MID-TOY",
					FriendlyName: "Toy",
					Format:       "H10301",
					FacilityCode: "1",
					First:        1,
					Count:        3,
				},
			)
		},
	}
}

// run is one run of the toy template in this process.
type run struct {
	local.Addresses
	t    *testing.T
	stop func()
}

func start(t *testing.T, cfg local.Config) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan local.Addresses, 1)
	go func() { ended <- local.Run(ctx, cfg, func(at local.Addresses) { ready <- at }) }()
	r := &run{t: t}
	select {
	case r.Addresses = <-ready:
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

func TestTheWorldsJSON(t *testing.T) {
	r := start(t, config(t.TempDir()))
	for _, tt := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/", "", 200, "<html"},
		{"GET", "/.well-known/jwks.json", "", 200, `"kty":"RSA"`},
		{"GET", "/phones/p1", "", 200, `{"deviceId":"p1","badges":[]}`},
		{"POST", "/phones/p1/redeem", `{"code":"AAAA-BBBB-CCCC-DDDD"}`, 404, "error"},
		{"POST", "/phones/p1/drop", `{"code":"x"}`, 404, "error"},
		{"GET", "/provider", "", 200, `"available":["MID-TOY:1","MID-TOY:2","MID-TOY:3"]`},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:2","externalId":"E-2"}`, 200, `"reserved":["MID-TOY:2"]`},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:9","externalId":"E-2"}`, 404, "error"},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:1"}`, 400, "externalId"},
		{"POST", "/provider/revoke", `{"mobileId":"MID-TOY:2"}`, 200, `"reserved":[]`},
		{"POST", "/provider/cancel", `{"code":"x"}`, 404, "error"},
		{"POST", "/faults", `{"service":"moon","kind":"error"}`, 400, "service must be"},
		{"POST", "/faults", `{"service":"ses","kind":"error","holdMs":5}`, 200, `"count":1`},
		{"GET", "/faults", "", 200, `[{"service":"ses"`},
		{"GET", "/deadletters", "", 200, "[]"},
		{"GET", "/mail/000000000009", "", 404, ""},
		{"GET", "/overview", "", 200, `"deadletters":0`},
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

func TestNothingIsLostWhenTheRunIsKilled(t *testing.T) {
	dir := t.TempDir()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "LOCAL_TEST_DIR="+dir)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	victim.Stderr = os.Stderr
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	r := &run{t: t}
	if err := json.NewDecoder(out).Decode(&r.Addresses); err != nil {
		t.Fatal(err)
	}

	// A second run on the same directory does not start.
	err = local.Run(t.Context(), config(dir), func(local.Addresses) { t.Error("a second run is ready") })
	if err == nil || !strings.Contains(err.Error(), "in use by another run") {
		t.Errorf("got %v", err)
	}

	r.want("POST", r.World+"/provider/reassign", `{"mobileId":"MID-TOY:2","externalId":"E-2"}`, 200, "")
	r.want("POST", r.World+"/faults", `{"service":"origo","kind":"drop","count":7}`, 200, "")
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()

	r = start(t, config(dir))
	r.want("GET", r.World+"/faults", "", 200, `"service":"origo"`)
	r.want("GET", r.World+"/provider", "", 200, `"available":["MID-TOY:1","MID-TOY:3"],"reserved":["MID-TOY:2"]`)
}

func TestWhatCannotRunIsSaidInOneLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	for name, tt := range map[string]struct {
		change func(*local.Config)
		want   string
	}{
		"API port":      {func(c *local.Config) { c.Port = port }, "choose another with PORT"},
		"world port":    {func(c *local.Config) { c.WorldPort = port }, "choose another with WORLD_PORT"},
		"database port": {func(c *local.Config) { c.DynamoDBPort = port }, "choose another with DYNAMODB_PORT"},
		"no template":   {func(c *local.Config) { c.Root = t.TempDir() }, "template.yaml"},
		"no function":   {func(c *local.Config) { c.Root = withoutCode(t) }, "its code is expected in functions/toy"},
		"failing seed": {func(c *local.Config) {
			c.Seed = func(_ context.Context, s *local.Seeder) error { return s.Put("/nowhere", "{}") }
		}, "seeding: PUT /nowhere: 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			tt.change(&cfg)
			err := local.Run(t.Context(), cfg, func(local.Addresses) { t.Error("ready") })
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// withoutCode is the toy template without its functions.
func withoutCode(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../samlocal/testdata/toy/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "template.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
