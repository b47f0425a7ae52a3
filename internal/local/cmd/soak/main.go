// Command soak lets a random portal, random phones and a random provider loose on the local run, while processes of
// functions, the run itself and the database are killed (kill -9) and started again, the clock jumps and calls fail.
// Then it lets everything come to rest, and holds the provider, the mails, the table, the histories and the events
// against each other.
//
//	go run ./internal/local/cmd/soak -minutes 10
//
// It prints what it did and what is broken, and ends with an error if anything is. The run is a process of its own
// (this program again) on ports and in a directory of its own; the directory is kept when anything is broken. What is
// drawn depends on the seed alone; what happens, on the machine, too. Processes of functions are found in /proc, so it
// needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/ownership"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

const (
	partNumber = "MID-SUB-CRD_FTPN_1001"
	account    = "acme-origo"
	profile    = "hq"
	// pool is more mobile IDs than a soak of an hour can spend.
	pool = 20_000
	// workers is how many clients of the portal there are.
	workers = 4
)

func main() {
	log.SetFlags(0)
	minutes := flag.Float64("minutes", 10, "how long the traffic lasts")
	seed := flag.Uint64("seed", 0, "what is done is drawn from; 0 draws one")
	var cfg local.Config
	flag.StringVar(&cfg.Dir, "serve", "", "be the run, in this directory (the program calls itself so)")
	flag.StringVar(&cfg.DynamoDBEndpoint, "engine", "", "of the run")
	flag.IntVar(&cfg.Port, "port", 0, "of the run")
	flag.IntVar(&cfg.WorldPort, "world", 0, "of the run")
	flag.IntVar(&cfg.OrigoPort, "origo", 0, "of the run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if cfg.Dir != "" {
		if err := serve(ctx, cfg); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	broken, err := soak(ctx, *seed, time.Duration(*minutes*float64(time.Minute)))
	if err != nil {
		log.Fatalf("seed %d: %v", *seed, err)
	}
	if broken > 0 {
		log.Fatalf("%d invariants are broken; seed %d", broken, *seed)
	}
}

// serve is the local run with a pool that lasts.
func serve(ctx context.Context, cfg local.Config) error {
	cfg.Root, cfg.Parameters, cfg.Out = ".", local.Parameters(), os.Stderr
	cfg.Seed = func(_ context.Context, s *local.Seeder) error {
		err := s.Provider.Seed(origosim.SeedPartNumber{PartNumber: partNumber, FriendlyName: "HQ", Format: "H10301",
			FacilityCode: "42", First: 1, Count: pool})
		if err != nil {
			return err
		}
		return s.Put("/v1/profiles/"+profile,
			`{"name":"HQ","account":"`+account+`","partNumber":"`+partNumber+`","invitationDays":7}`)
	}
	return local.Run(ctx, cfg, func(local.Addresses) { fmt.Println(ready) })
}

// soaking is a soak under way.
type soaking struct {
	*run
	started time.Time
	witness ownership.Witness

	// calm is held for reading by whatever is under way, and for writing by what needs that nothing is.
	calm sync.RWMutex

	mu     sync.Mutex
	did    map[string]int
	codes  []mail // the newest, the newest first
	broken []string
	keys   int
}

func soak(ctx context.Context, seed uint64, duration time.Duration) (broken int, err error) {
	r, err := newRun(ctx)
	if err != nil {
		return 0, err
	}
	defer r.close()
	fmt.Printf("seed %d, %s of traffic, in %s\n", seed, duration, r.dir)
	s := &soaking{run: r, started: time.Now(), did: map[string]int{}}
	if err := r.startAll(); err != nil {
		return 0, err
	}
	traffic, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var all sync.WaitGroup
	for n := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() { s.portal(traffic, random) })
	}
	all.Go(func() { s.watch(traffic, rand.New(rand.NewPCG(seed, workers))) })
	all.Go(func() { s.readMails(traffic) })
	s.disturb(traffic, rand.New(rand.NewPCG(seed, workers+1)))
	all.Wait()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	fmt.Printf("traffic is over after %s; everything comes to rest\n", time.Since(s.started).Round(time.Second))
	if err := s.rest(ctx); err != nil {
		s.wrong("it does not come to rest: %v", err)
	}
	s.check(ctx)
	s.report()
	return len(s.broken), nil
}

// count counts what was done.
func (s *soaking) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what]++
}

// wrong notes a broken invariant.
func (s *soaking) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

// report prints the figures, and what is broken.
func (s *soaking) report() {
	for _, kind := range []string{"calls", "killed", "disturbed", "portal", "phones", "provider", "answers", "found"} {
		var words []string
		for _, what := range slices.Sorted(maps.Keys(s.did)) {
			if name, ok := strings.CutPrefix(what, kind+": "); ok {
				words = append(words, fmt.Sprintf("%s %d", name, s.did[what]))
			}
		}
		fmt.Printf("%-10s %s\n", kind, strings.Join(words, ", "))
	}
	slices.Sort(s.broken)
	fmt.Printf("broken invariants: %d\n", len(s.broken))
	for _, b := range s.broken {
		fmt.Println("  " + b)
	}
	s.keep = len(s.broken) > 0
	if s.keep {
		fmt.Printf("all that there is of it is kept in %s\n", s.dir)
	}
}

// errNotYet says that something is not as it has to be yet.
var errNotYet = errors.New("not yet")
