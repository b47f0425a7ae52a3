// Command contract drives the local run with requests made from the document of the API, and holds every answer against
// it: valid requests, wrong ones, and chains in which one call goes on with what another answered.
//
//	go run ./internal/local/cmd/contract -requests 2000 -schemathesis .local/venv/bin/schemathesis
//
// The requests are made by Schemathesis (schemathesis.toml, hooks.py); this program gives it a run on ports and in a
// directory of its own, counts what passes, and asks for more with the next seed until enough was asked. It fails when
// an answer is not in the document, when any is a 5xx, and when an event ends among the dead letters. What is drawn
// depends on the seed alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

const (
	document   = "internal/webapi/openapi/openapi.yaml"
	own        = "internal/local/cmd/contract"
	partNumber = "MID-SUB-CRD_FTPN_1001"
	// pool is more mobile IDs than a drive can spend.
	pool = 50_000
	// A drive makes about 50 requests for each example per operation that it is asked for, those for the borders of the
	// schemas among them; what is more than one drive is cut into several, each with a seed of its own.
	fewest, most = 10, 100
	// A drive waits for each answer before the next request, so that its seed decides all of it; a long one is several
	// at once, each with a seed of its own.
	long, atOnce = 10_000, 3
)

func main() {
	log.SetFlags(0)
	requests := flag.Int("requests", 2000, "how many to make at least")
	tool := flag.String("schemathesis", ".local/venv/bin/schemathesis", "the program that makes them")
	seed := flag.Uint64("seed", 0, "what the requests are drawn from; 0 draws one")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 31)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := drive(ctx, *tool, *requests, *seed); err != nil {
		log.Fatalf("contract: seed %d: %v", *seed, err)
	}
}

// drive starts a run, drives it, and prints the figures.
func drive(ctx context.Context, tool string, requests int, seed uint64) error {
	tool, err := filepath.Abs(tool)
	if err != nil {
		return err
	}
	if _, err := os.Stat(tool); err != nil {
		return fmt.Errorf("no Schemathesis; make verify installs it, with Python: %w", err)
	}
	dir, err := os.MkdirTemp("", "mobilecred-contract-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run, stop, err := start(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	count := &counter{statuses: map[int]int{}}
	front, err := count.front(run.API)
	if err != nil {
		return err
	}
	defer front.Close()

	started := time.Now()
	fmt.Printf("seed %d: at least %d requests\n", seed, requests)
	var broken []error
	drives := 1
	if requests >= long {
		drives = atOnce
	}
	for n := seed; count.total() < requests && len(broken) == 0; n += uint64(drives) {
		token, err := get(ctx, run.World+"/token")
		if err != nil {
			return err
		}
		before := count.total()
		left := (requests - before) / drives
		ended := make(chan error, drives)
		for i := range uint64(drives) {
			go func() {
				err := schemathesis(ctx, tool, dir, front.URL, token, n+i, examples(left))
				if err != nil {
					err = fmt.Errorf("with seed %d: %w", n+i, err)
				}
				ended <- err
			}()
		}
		for range drives {
			if err := <-ended; err != nil {
				broken = append(broken, err)
			}
		}
		fmt.Printf("%d requests after %s\n", count.total(), time.Since(started).Round(time.Second))
		if count.total() == before && len(broken) == 0 {
			broken = append(broken, fmt.Errorf("the drives of seed %d made no request", n))
		}
	}
	fmt.Printf("%d requests in %s: %s\n", count.total(), time.Since(started).Round(time.Second), count)
	if bad := count.failures(); len(bad) > 0 {
		broken = append(broken, fmt.Errorf("%d answers are a 5xx, the first: %s", len(bad), bad[0]))
	}
	if err := rest(ctx, run.World); err != nil {
		broken = append(broken, err)
	}
	return errors.Join(broken...)
}

// examples is how many requests to ask for of each operation, for about as many as are left.
func examples(left int) int { return max(fewest, min(most, left/50)) }

// start starts a run whose pool lasts. What the run prints is in the directory.
func start(ctx context.Context, dir string) (at local.Addresses, stop func(), err error) {
	said, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return at, nil, err
	}
	log.SetOutput(said)
	ports, err := local.FreePorts(4)
	if err != nil {
		return at, nil, err
	}
	cfg := local.Config{
		Root: ".", Dir: filepath.Join(dir, "local"), Parameters: local.Parameters(), Out: said,
		Port: ports[0], WorldPort: ports[1], OrigoPort: ports[2], DynamoDBPort: ports[3],
	}
	cfg.Seed = func(_ context.Context, s *local.Seeder) error {
		err := s.Provider.Seed(origosim.SeedPartNumber{PartNumber: partNumber, FriendlyName: "HQ", Format: "H10301",
			FacilityCode: "42", First: 1, Count: pool})
		if err != nil {
			return err
		}
		return s.Put("/v1/profiles/hq", `{"name":"HQ","account":"acme-origo","partNumber":"`+partNumber+`"}`)
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan local.Addresses, 1), make(chan error, 1)
	go func() { ended <- local.Run(ctx, cfg, func(a local.Addresses) { ready <- a }) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Fprintln(said, err)
		}
		log.SetOutput(os.Stderr)
		_ = said.Close()
	}
	select {
	case at = <-ready:
		return at, stop, nil
	case err := <-ended:
		cancel()
		log.SetOutput(os.Stderr)
		return at, nil, fmt.Errorf("the run ended before it was ready: %w", err)
	}
}

// schemathesis drives the API once. What it says is printed when it has found something.
func schemathesis(ctx context.Context, tool, dir, api, token string, seed uint64, examples int) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "--config-file", filepath.Join(root, own, "schemathesis.toml"), "run",
		filepath.Join(root, document), "--url", api, "--header", "Authorization: Bearer "+token,
		"--seed", strconv.FormatUint(seed, 10), "--max-examples", strconv.Itoa(examples), "--no-color")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=hooks", "PYTHONPATH="+filepath.Join(root, own),
		"PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		fmt.Printf("%s\n", out)
	}
	return err
}

// counter counts the answers that pass.
type counter struct {
	mu       sync.Mutex
	statuses map[int]int
	failed   []string
}

// front stands before the API and passes everything on.
func (c *counter) front(api string) (*httptest.Server, error) {
	to, err := url.Parse(api)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		},
		ModifyResponse: func(r *http.Response) error {
			c.answered(r.StatusCode, r.Request)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			if r.Context().Err() == nil { // no answer came, and the caller still waits for one
				c.answered(http.StatusBadGateway, r)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return httptest.NewServer(proxy), nil
}

func (c *counter) answered(status int, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.statuses[status]++; status >= 500 {
		c.failed = append(c.failed, fmt.Sprintf("%d %s %s", status, r.Method, r.URL.Path))
	}
}

func (c *counter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.statuses {
		n += times
	}
	return n
}

func (c *counter) failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

// String lists how often each status was answered.
func (c *counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var words []string
	for _, status := range slices.Sorted(maps.Keys(c.statuses)) {
		words = append(words, fmt.Sprintf("%d × %d", c.statuses[status], status))
	}
	return strings.Join(words, ", ")
}

// rest lets every event come to rest; none may end among the dead letters.
func rest(ctx context.Context, world string) error {
	if _, err := post(ctx, world+"/settle"); err != nil {
		return err
	}
	letters, err := get(ctx, world+"/deadletters")
	if err != nil {
		return err
	}
	if letters = strings.TrimSpace(letters); letters != "[]" {
		return fmt.Errorf("events ended among the dead letters: %.2000s", letters)
	}
	return nil
}

func get(ctx context.Context, url string) (string, error)  { return call(ctx, http.MethodGet, url) }
func post(ctx context.Context, url string) (string, error) { return call(ctx, http.MethodPost, url) }

func call(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, url, res.StatusCode, body)
	}
	return string(body), err
}
