// Package local is `make run`: mobilecred on one machine, without AWS. It reads
// template.yaml, builds the functions, and connects the parts its sub-packages
// hold: the functions' real binaries, the HTTP API, the services they call, the
// bus, the table's stream, the schedules, the database, and the world around
// them (provider, phones, mails, clock).
//
// What is deployed must not depend on anything here. The provider is package
// origosim, the page package world.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/bus"
	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
	"github.com/mobilecred/mobilecred/internal/samlocal/gateway"
	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/stream"
	"github.com/mobilecred/mobilecred/internal/samlocal/tables"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

// Config says where everything is. Ports are on 127.0.0.1, but for the
// database's, which has no such choice.
type Config struct {
	Root             string // directory of template.yaml
	Dir              string // everything durable, and what is built
	Port             int    // the API
	WorldPort        int    // the world
	OrigoPort        int    // the provider's HTTP interface
	DynamoDBPort     int
	DynamoDBEndpoint string                               // another engine instead of DynamoDB Local
	Parameters       map[string]string                    // of the template, besides JwtIssuer and MailFrom, which Run sets
	Seed             func(context.Context, *Seeder) error // run once, on a fresh start
	Out              io.Writer                            // the terminal
}

// Addresses are the URLs of a run, without a slash at the end.
type Addresses struct{ API, World, Provider string }

// maxProcesses is how many processes serve one function at most.
const maxProcesses = 8

type runner struct {
	cfg       Config
	ctx       context.Context // ends when the run does
	template  *template.Template
	db        *state.DB
	clock     *clock
	hub       hub
	activity  activity
	issuer    *gateway.Issuer
	faults    *faults.Faults
	queue     *bus.Queue
	bus       *bus.Bus
	sim       *origosim.Sim
	functions map[string]*runtimeapi.Function // by logical id
	streams   []*stream.Mapping
	schedules []*schedule
	jump      sync.Mutex // one POST /clock at a time
}

// Run runs everything until ctx ends; it calls ready when all of it answers and
// the seed is in. The error is one line a person can act on, or several for a
// template that is not understood.
func Run(ctx context.Context, cfg Config, ready func(Addresses)) (err error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return err
	}
	cfg.Dir = dir
	r := &runner{cfg: cfg, functions: map[string]*runtimeapi.Function{}}
	if r.db, err = state.Open(dir); errors.Is(err, state.ErrInUse) {
		return fmt.Errorf("%s is in use by another run; stop it, or choose another directory with LOCAL_DIR", cfg.Dir)
	} else if err != nil {
		return err
	}
	defer r.db.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.ctx = ctx

	var listeners [4]net.Listener
	for i, want := range []struct {
		port     int
		variable string
	}{{cfg.Port, "PORT"}, {cfg.WorldPort, "WORLD_PORT"}, {cfg.OrigoPort, "ORIGO_PORT"}, {0, ""}} {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(want.port))
		if err != nil {
			return fmt.Errorf("port %d is busy; choose another with %s", want.port, want.variable)
		}
		defer l.Close()
		listeners[i] = l
	}
	api, worldL, origo, aws := listeners[0], listeners[1], listeners[2], listeners[3]
	at := Addresses{API: "http://" + api.Addr().String(), World: "http://" + worldL.Addr().String(), Provider: "http://" + origo.Addr().String()}

	params := map[string]string{"JwtIssuer": at.World, "MailFrom": sender}
	maps.Copy(params, cfg.Parameters)
	if r.template, err = template.Load(filepath.Join(cfg.Root, "template.yaml"), params); err != nil {
		return err
	}
	if r.clock, err = openClock(filepath.Join(dir, "clock")); err != nil {
		return err
	}
	if r.issuer, err = r.openIssuer(at.World); err != nil {
		return err
	}
	r.faults = faults.New(r.db)
	if r.queue, err = bus.NewQueue(r.db, r.clock.Now, r.template.Functions, r.invoke, r.hub.changed); err != nil {
		return err
	}
	r.bus = bus.New(r.queue, r.template.Buses)
	if r.sim, err = r.openProvider(at.API); err != nil {
		return err
	}

	// The two slow things, side by side.
	built := make(chan error, 1)
	go func() { built <- build(ctx, cfg.Root, filepath.Join(dir, "bin"), r.template.Functions) }()
	database, stopDatabase, err := r.startDatabase(ctx)
	if err := errors.Join(<-built, err); err != nil {
		return err
	}
	defer stopDatabase()

	if err := r.prepare(ctx, database, "http://"+aws.Addr().String()); err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer func() {
		cancel() // first: what is cut short now has not failed
		for _, f := range r.functions {
			f.Close()
		}
	}()
	for l, h := range map[net.Listener]http.Handler{
		api: r.apiHandler(), worldL: r.worldHandler(), origo: r.counted(r.sim.Handler()),
		aws: &awsapi.Server{DB: r.db, Faults: r.faults, Bus: r.bus, DynamoDB: database, Verified: sender,
			Secret: func(name string) (string, bool) { return secret(name, at.Provider) },
			Now:    r.clock.Now, Changed: r.hub.changed},
	} {
		s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
		background.Go(func() { _ = s.Serve(l) })
		defer s.Close()
	}
	background.Go(func() { r.sim.Run(ctx) })
	background.Go(func() { r.queue.Run(ctx) })
	for _, s := range r.streams {
		background.Go(func() { s.Run(ctx) })
	}
	if cfg.Seed != nil {
		if err := r.seed(ctx, at.API); err != nil {
			return err
		}
	}
	ready(at)
	for _, s := range r.schedules {
		background.Go(func() { r.runSchedule(ctx, s) })
	}
	<-ctx.Done()
	return nil
}

func (r *runner) openIssuer(issuer string) (*gateway.Issuer, error) {
	var key []byte
	found, err := r.db.Get("run", "signing key", &key)
	if err == nil && !found {
		if key, err = gateway.GenerateKey(); err == nil {
			err = r.db.Put("run", "signing key", key)
		}
	}
	if err != nil {
		return nil, err
	}
	return gateway.NewIssuer(key, issuer, audience)
}

func (r *runner) startDatabase(ctx context.Context) (string, func(), error) {
	endpoint, stop := r.cfg.DynamoDBEndpoint, func() {}
	if endpoint == "" {
		var err error
		if endpoint, stop, err = dynamodb.Start(ctx, filepath.Join(r.cfg.Dir, "dynamodb"), r.cfg.DynamoDBPort); err != nil {
			return "", nil, err
		}
	}
	for _, t := range r.template.Tables {
		if err := tables.Ensure(ctx, endpoint, t); err != nil {
			stop()
			return "", nil, err
		}
	}
	return endpoint, stop, nil
}

// prepare makes functions, streams and schedules ready to run.
func (r *runner) prepare(ctx context.Context, database, services string) error {
	logs := filepath.Join(r.cfg.Dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	for _, f := range r.template.Functions {
		line, err := functionLog(logs, f.LogicalID, r.cfg.Out)
		if err != nil {
			return err
		}
		concurrency := maxProcesses
		if f.Reserved > 0 {
			concurrency = min(f.Reserved, maxProcesses)
		}
		bin := filepath.Join(r.cfg.Dir, "bin")
		r.functions[f.LogicalID] = runtimeapi.New(runtimeapi.Config{
			Name: f.Name, ARN: f.ARN, Binary: binary(bin, f), Dir: filepath.Dir(binary(bin, f)),
			Env: r.environment(f, services), Timeout: f.Timeout, Concurrency: concurrency, Log: line,
		})
		for _, s := range f.Streams {
			arn, err := tables.StreamARN(ctx, database, s.Table)
			if err != nil {
				return err
			}
			r.streams = append(r.streams, stream.New(stream.Mapping{Source: s, Function: f, StreamARN: arn, Endpoint: database,
				DB: r.db, Now: r.clock.Now, Invoke: r.invoke, Bury: r.queue.Bury}))
		}
		for _, s := range f.Schedules {
			r.schedules = append(r.schedules, &schedule{Schedule: s, function: f})
		}
	}
	return nil
}

// environment is a function's whole environment; nothing is inherited, so no
// proxy, profile or CA bundle of this machine gets into it.
func (r *runner) environment(f *template.Function, services string) []string {
	env := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
		"AWS_REGION": template.Region, "AWS_DEFAULT_REGION": template.Region,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "local",
		"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB), "_HANDLER": "bootstrap",
		"AWS_ENDPOINT_URL_DYNAMODB": services, "AWS_ENDPOINT_URL_SESV2": services,
		"AWS_ENDPOINT_URL_EVENTBRIDGE": services, "AWS_ENDPOINT_URL_SECRETS_MANAGER": services,
		"MOBILECRED_CLOCK": r.clock.file,
	}
	for k, v := range f.Environment {
		env[k] = v
	}
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

func (r *runner) apiHandler() http.Handler {
	var routes []gateway.Route
	for _, f := range r.template.Functions {
		for _, route := range f.Routes {
			routes = append(routes, gateway.Route{Route: route, Invoke: func(payload []byte) runtimeapi.Result { return r.invoke(f, payload) }})
		}
	}
	return r.counted(gateway.New(routes, r.issuer))
}

// counted makes requests count as activity, so that nothing comes to rest
// between a request and the invocation it leads to.
func (r *runner) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer r.activity.begin()()
		h.ServeHTTP(w, req)
	})
}

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
