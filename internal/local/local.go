// Package local is `make run`: mobilecred on one machine, without AWS. Package samlocal runs the template; here is what
// surrounds mobilecred and nothing else would have: the simulated provider of each account (package origosim) with its
// phones and administrators, what a fresh run starts with, and the page that shows it all (package world, which also
// lists the routes of the world).
//
// What is deployed must not depend on anything here.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal"
)

// Config says where everything is. Ports are on 127.0.0.1, but for the database's, which has no such choice.
type Config struct {
	Root             string // directory of template.yaml
	Dir              string // everything durable, and what is built
	Port             int    // the API
	WorldPort        int    // the world
	OrigoPort        int    // the provider's HTTP interface
	DynamoDBPort     int
	DynamoDBEndpoint string                               // another engine instead of DynamoDB Local
	Accounts         []string                             // besides the first; each has a provider of its own
	Parameters       map[string]string                    // of the template, but for JwtIssuer and MailFrom
	Seed             func(context.Context, *Seeder) error // run once, on a fresh start
	Out              io.Writer                            // the terminal
}

// Addresses are the URLs of a run, without a slash at the end.
type Addresses struct{ API, World, Provider string }

type runner struct {
	cfg       Config
	world     *samlocal.World
	customers []*customer // the first account's first
}

// Run runs everything until ctx ends; it calls ready when all of it answers and the seed is in. The error is one line a
// person can act on, or several for a template that is not understood.
func Run(ctx context.Context, cfg Config, ready func(Addresses)) error {
	at := Addresses{}
	opts := samlocal.Options{
		Template: filepath.Join(cfg.Root, "template.yaml"), Dir: cfg.Dir, Stack: "mobilecred",
		Parameters: map[string]string{"MailFrom": sender}, IssuerParameter: "JwtIssuer",
		Port: cfg.Port, WorldPort: cfg.WorldPort, DynamoDBPort: cfg.DynamoDBPort,
		DynamoDBEndpoint: cfg.DynamoDBEndpoint,
		ClockVariable:    "MOBILECRED_CLOCK", Sender: sender, Code: invitationCode,
		Services: []samlocal.Service{weather}, Out: cfg.Out,
	}
	r := &runner{cfg: cfg, customers: customers(cfg.Accounts)}
	opts.Secret = func(name string) (string, bool) { return r.secret(name, at.Provider) }
	for name, value := range cfg.Parameters {
		opts.Parameters[name] = value
	}
	world, err := samlocal.Open(opts)
	if err != nil {
		return explained(err, cfg)
	}
	defer world.Close()
	origo, err := samlocal.Listen("provider", cfg.OrigoPort)
	if err != nil {
		return explained(err, cfg)
	}
	defer origo.Close()
	at = Addresses{API: world.API(), World: world.URL(), Provider: "http://" + origo.Addr().String()}

	r.world = world
	address := &origosim.Address{} // all functions are behind one
	for _, c := range r.customers {
		journal, err := origosim.OpenJournal(filepath.Join(world.Dir(), c.journal))
		if err != nil {
			return err
		}
		defer journal.Close()
		if c.sim, err = r.openProvider(c, journal, address); err != nil {
			return err
		}
		world.Add(samlocal.Part{Name: "the callbacks of " + c.account, Settled: c.sim.Settled, Jumped: c.sim.Tick})
	}
	r.routes()

	var background sync.WaitGroup
	defer background.Wait()
	server := samlocal.NewServer(world.Counted(r.providers()))
	defer server.Close()
	err = world.Run(ctx, func(ctx context.Context) error {
		background.Go(func() { _ = server.Serve(origo) })
		for _, c := range r.customers {
			background.Go(func() { c.sim.Run(ctx) })
		}
		if err := r.seed(ctx, at.API); err != nil {
			return err
		}
		ready(at)
		return nil
	})
	return explained(err, cfg)
}

// explained adds to an error what can be done about it.
func explained(err error, cfg Config) error {
	var busy *samlocal.BusyError
	switch {
	case errors.Is(err, samlocal.ErrInUse):
		dir, _ := filepath.Abs(cfg.Dir)
		return fmt.Errorf("%s is in use by another run; stop it, or choose another directory with LOCAL_DIR", dir)
	case errors.As(err, &busy):
		variable := map[string]string{"api": "PORT", "world": "WORLD_PORT", "provider": "ORIGO_PORT"}[busy.Of]
		return fmt.Errorf("%w; choose another with %s", err, variable)
	case errors.Is(err, samlocal.ErrDatabasePort):
		return fmt.Errorf("%w; choose another with DYNAMODB_PORT", err)
	}
	return err
}

// answered is nil for a success, and says what else it was.
func answered(resp *http.Response) error {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	var problem struct{ Detail, Message string }
	_ = json.Unmarshal(text, &problem)
	return fmt.Errorf("%s %s", resp.Status, problem.Detail+problem.Message)
}
