// Command load measures how lively the local run stays when it is full: it starts one with many mobile IDs, gives it
// holders with an invitation each, and has phones redeem them, some at a time. It prints how long it takes from the
// redemption until the credential is activated and until the portal hears of that, what the run costs at rest, and how
// much memory it takes.
//
//	go run ./internal/local/cmd/load -ids 10000 -holders 5000 -inflight 20
//
// The run is a process of its own (this program again) on ports and in a directory of its own, so that its costs are
// not those of the measuring. Processor time and memory are read from /proc, on Linux only. Three moments are measured:
// when the change was made, as the event says on the clock that both processes share (before it is written); when the
// API first shows it, of every twentieth, asked every 20 ms; and when the portal hears of it, which asks for new events
// every 20 ms. A redemption counts as in flight until the last.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
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
	partNumber = "MID-SUB-CRD_FTPN_1001"
	pollEvery  = 20 * time.Millisecond
	// sampleEvery is how many redemptions there are for each that the API is asked about. Asking about all would
	// measure the asking.
	sampleEvery = 20
)

func main() {
	log.SetFlags(0)
	ids := flag.Int("ids", 10000, "mobile IDs at the provider")
	holders := flag.Int("holders", 5000, "holders with an invitation each")
	redeem := flag.Int("redeem", 1000, "invitations to redeem")
	inFlight := flag.Int("inflight", 20, "how many at a time")
	idle := flag.Duration("idle", 20*time.Second, "how long to watch the run at rest")
	profile := flag.String("cpuprofile", "", "file for a CPU profile of the run, from the first redemption on")
	serve := flag.String("serve", "", "be the run, in this directory (the program calls itself so)")
	flag.Parse()
	var err error
	if *serve != "" {
		err = run(*serve, *ids, *profile)
	} else {
		err = measure(*ids, *holders, *redeem, *inFlight, *idle, *profile)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run is the local run with a larger pool. It writes its addresses to standard output as JSON. With a profile it starts
// that on SIGUSR1 and writes it at its end.
func run(dir string, ids int, profile string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		begin := make(chan os.Signal, 1)
		signal.Notify(begin, syscall.SIGUSR1)
		go func() {
			<-begin
			_ = pprof.StartCPUProfile(f)
		}()
		defer pprof.StopCPUProfile()
	}
	cfg := local.Config{Root: ".", Dir: dir, Parameters: local.Parameters(), Out: os.Stderr,
		Seed: func(_ context.Context, s *local.Seeder) error {
			err := s.Provider.Seed(origosim.SeedPartNumber{PartNumber: partNumber, FriendlyName: "HQ", Format: "H10301",
				FacilityCode: "42", First: 1, Count: ids})
			if err != nil {
				return err
			}
			return s.Put("/v1/profiles/hq",
				`{"name":"HQ","account":"acme-origo","partNumber":"`+partNumber+`","invitationDays":7}`)
		}}
	return local.Run(ctx, cfg, func(at local.Addresses) { _ = json.NewEncoder(os.Stdout).Encode(at) })
}

// client talks to the run.
type client struct {
	local.Addresses
	http  *http.Client
	token string
}

func (c *client) do(method, url, body string, out any) error {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s %.200s", method, url, resp.Status, text)
	case out != nil:
		return json.Unmarshal(text, out)
	}
	return nil
}

// each calls do for 0 to n-1, some at a time, and returns the first error.
func each(n, inFlight int, do func(int) error) error {
	next := make(chan int)
	errs := make(chan error, inFlight)
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var failed error
	for i := 0; i < n && failed == nil; i++ {
		select {
		case next <- i:
		case failed = <-errs:
		}
	}
	close(next)
	workers.Wait()
	close(errs)
	return cmp.Or(failed, <-errs)
}

func holderID(i int) string { return fmt.Sprintf("L-%d", i) }

func measure(ids, holders, redeem, inFlight int, idle time.Duration, profile string) (err error) {
	dir, err := os.MkdirTemp("", "load-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-serve", dir, "-ids", strconv.Itoa(ids), "-cpuprofile", profile)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt)
		err = errors.Join(err, server.Wait())
	}()
	c := &client{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * inFlight}}}
	if err := json.NewDecoder(out).Decode(&c.Addresses); err != nil {
		return err
	}
	resp, err := http.Get(c.World + "/token")
	if err != nil {
		return err
	}
	token, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	c.token = string(token)
	say("load of the machine before: %s", loadAverage())

	begun := time.Now()
	err = each(holders, inFlight, func(i int) error {
		err := c.do("PUT", c.API+"/v1/holders/"+holderID(i), fmt.Sprintf(
			`{"kind":"cardholder","firstName":"Ada","lastName":"Nr %d","email":"%s@example.com"}`, i, holderID(i)), nil)
		if err != nil {
			return err
		}
		return c.do("POST", c.API+"/v1/holders/"+holderID(i)+"/credentials", `{"profileId":"hq"}`, nil)
	})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	say("%d holders invited in %.1f s, %.1f a second", holders, took.Seconds(), float64(holders)/took.Seconds())

	if err := c.rest(); err != nil {
		return err
	}
	codes, err := c.codes()
	if err != nil {
		return err
	}
	for _, path := range []string{"/provider", "/overview"} {
		begun := time.Now()
		if err := c.do("GET", c.World+path, "", nil); err != nil {
			return err
		}
		say("GET %s: %d ms", path, time.Since(begun).Milliseconds())
	}
	before := tree(server.Process.Pid)
	time.Sleep(idle)
	after := tree(server.Process.Pid)
	say("at rest, of one core: the run %.1f %%, its functions %.1f %%, the database %.1f %%",
		share(before.run, after.run, idle), share(before.functions, after.functions, idle),
		share(before.database, after.database, idle))

	_ = server.Process.Signal(syscall.SIGUSR1)
	portal, err := c.listen()
	if err != nil {
		return err
	}
	recorded := make([]time.Duration, min(redeem, holders))
	heard := make([]time.Duration, len(recorded))
	shown := make([]time.Duration, (len(recorded)+sampleEvery-1)/sampleEvery)
	before = tree(server.Process.Pid)
	begun = time.Now()
	err = each(len(heard), inFlight, func(i int) (err error) {
		begun := time.Now()
		sampled := make(chan error, 1)
		if i%sampleEvery == 0 {
			go func() {
				var err error
				shown[i/sampleEvery], err = c.shown(i, begun)
				sampled <- err
			}()
		} else {
			sampled <- nil
		}
		recorded[i], heard[i], err = c.redeem(portal, i, codes[strings.ToLower(holderID(i))], begun)
		return errors.Join(err, <-sampled)
	})
	if err != nil {
		return err
	}
	took = time.Since(begun)
	after = tree(server.Process.Pid)
	say("%d of %d redeemed, %d in flight, %.1f a second", len(heard), holders, inFlight,
		float64(len(heard))/took.Seconds())
	for _, moment := range []struct {
		what  string
		times []time.Duration
	}{{"activated, by the event's time", recorded}, {"shown by the API", shown}, {"heard by the portal", heard}} {
		times := moment.times
		slices.Sort(times)
		at := func(percent int) int64 { return times[(len(times)-1)*percent/100].Milliseconds() }
		say("redeem → %s: p50 %d ms, p90 %d ms, p99 %d ms, longest %d ms",
			moment.what, at(50), at(90), at(99), at(100))
	}
	say("meanwhile, of one core: the run %.0f %%, its functions %.0f %%, the database %.0f %%",
		share(before.run, after.run, took), share(before.functions, after.functions, took),
		share(before.database, after.database, took))
	say("memory: the run %d MB, %d processes of functions %d MB, the database %d MB",
		after.run.rss>>20, after.functions.processes, after.functions.rss>>20, after.database.rss>>20)
	say("load of the machine after: %s", loadAverage())
	return nil
}

func say(format string, values ...any) { fmt.Printf(format+"\n", values...) }

// rest waits until the run has come to rest, however often that has to be asked.
func (c *client) rest() error {
	var err error
	for range 20 {
		if err = c.do("POST", c.World+"/settle", "", nil); err == nil {
			return nil
		}
	}
	return err
}

// codes are the invitation codes by the first part of the address they were mailed to, in small letters.
func (c *client) codes() (map[string]string, error) {
	var mails []struct{ To, Code string }
	if err := c.do("GET", c.World+"/mail", "", &mails); err != nil {
		return nil, err
	}
	codes := map[string]string{}
	for _, m := range mails {
		name, _, _ := strings.Cut(m.To, "@")
		codes[strings.ToLower(name)] = m.Code
	}
	return codes, nil
}

// portal hears of activations.
type portal struct {
	mu      sync.Mutex
	waiting map[string]chan time.Time // by holder
	failed  chan struct{}
	err     error
}

// listen starts to ask for new events.
func (c *client) listen() (*portal, error) {
	type event struct {
		ID         string
		DetailType string `json:"detail-type"`
		Detail     struct {
			HolderID string
			At       time.Time
		}
	}
	var events []event
	if err := c.do("GET", c.World+"/events", "", &events); err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, errors.New("no event has crossed the bus")
	}
	last := events[len(events)-1].ID
	p := &portal{waiting: map[string]chan time.Time{}, failed: make(chan struct{})}
	go func() {
		defer close(p.failed)
		for range time.Tick(pollEvery) {
			var news []event
			if p.err = c.do("GET", c.World+"/events?after="+last, "", &news); p.err != nil {
				return
			}
			for _, e := range news {
				last = e.ID
				if e.DetailType != "Credential Activated" {
					continue
				}
				p.mu.Lock()
				if w := p.waiting[e.Detail.HolderID]; w != nil {
					w <- e.Detail.At
					delete(p.waiting, e.Detail.HolderID)
				}
				p.mu.Unlock()
			}
		}
	}()
	return p, nil
}

// redeem enters the code on a phone and waits until the portal has heard of the activation.
func (c *client) redeem(p *portal, i int, code string, begun time.Time) (recorded, heard time.Duration, err error) {
	told := make(chan time.Time, 1)
	p.mu.Lock()
	p.waiting[holderID(i)] = told
	p.mu.Unlock()
	err = c.do("POST", c.World+"/phones/load-"+strconv.Itoa(i)+"/redeem", `{"code":"`+code+`"}`, nil)
	if err != nil {
		return 0, 0, err
	}
	select {
	case at := <-told:
		return at.Sub(begun), time.Since(begun), nil
	case <-p.failed:
		return 0, 0, p.err
	case <-time.After(time.Minute):
		return 0, 0, fmt.Errorf("%s is not activated after a minute", holderID(i))
	}
}

// shown asks the API until it says that the holder's credential is activated.
func (c *client) shown(i int, begun time.Time) (time.Duration, error) {
	for range time.Tick(pollEvery) {
		var holder struct {
			Credentials []struct{ Stage string }
		}
		if err := c.do("GET", c.API+"/v1/holders/"+holderID(i), "", &holder); err != nil {
			return 0, err
		}
		took := time.Since(begun)
		if len(holder.Credentials) == 1 && holder.Credentials[0].Stage == "activated" {
			return took, nil
		}
		if took > time.Minute {
			break
		}
	}
	return 0, fmt.Errorf("%s is not activated after a minute", holderID(i))
}

// cost is what some processes have taken: processor time since their start, and memory now.
type cost struct {
	cpu       time.Duration
	rss       int64
	processes int
}

type costs struct{ run, functions, database cost }

// share is the processor time spent meanwhile, in hundredths of one core. Processes that have ended take theirs with
// them, so that functions that were idle can have spent less than nothing.
func share(before, after cost, over time.Duration) float64 {
	return max(0, 100*float64(after.cpu-before.cpu)/float64(over))
}

// tree reads the costs of the run and of the processes it has started.
func tree(pid int) costs {
	type process struct {
		parent int
		name   string
		cost
	}
	processes := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		head, tail, _ := strings.Cut(string(text), ") ")
		id, name, _ := strings.Cut(head, " (")
		fields := strings.Fields(tail)
		if len(fields) < 22 {
			continue
		}
		number := func(s string) int { n, _ := strconv.Atoi(s); return n }
		const tick = 10 * time.Millisecond
		processes[number(id)] = process{number(fields[1]), name, cost{
			cpu: time.Duration(number(fields[11])+number(fields[12])) * tick,
			rss: int64(number(fields[21]) * os.Getpagesize()), processes: 1}}
	}
	var all costs
	for id, p := range processes {
		to := &all.functions
		switch {
		case id == pid:
			to = &all.run
		case p.parent != pid:
			continue
		case p.name == "java":
			to = &all.database
		}
		to.cpu += p.cpu
		to.rss += p.rss
		to.processes++
	}
	return all
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
