// Package samlocal runs a SAM template on one machine, without AWS and without containers: the functions' real binaries
// behind the Lambda Runtime API, the HTTP API with its JWT authorizer, EventBridge with rules, retries and dead
// letters, the tables in DynamoDB Local with their streams, the schedules, SES and Secrets Manager, and a clock that
// can be moved. Everything is durable: a run that was killed goes on where it was.
//
//	w, err := samlocal.Open(samlocal.Options{Template: "template.yaml", Dir: ".local", Port: 8080, WorldPort: 8081,
//		DynamoDBPort: 8082, IssuerParameter: "JwtIssuer", Sender: "shop@example.com", Out: os.Stderr})
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	return w.Run(ctx, func(context.Context) error { fmt.Println(w.API(), w.URL()); return nil })
//
// # What it reads of a template
//
// Functions in Go (their packages are built for this machine; with "." as CodeUri the package is functions/<logical id
// in small letters, without "Function">), with Environment, Timeout, MemorySize, ReservedConcurrentExecutions,
// EventInvokeConfig and the events HttpApi, EventBridgeRule, Schedule, ScheduleV2 (rates) and DynamoDB (streams). One
// HttpApi with one JWT authorizer, whose first audience is that of the tokens given out here. Tables, event buses,
// queues. Parameters, Conditions, Mappings, Globals and the intrinsic functions, but for Fn::ImportValue and its like.
// Alarms, dashboards, rights and log groups have no effect on a laptop and are passed over, from a list. Everything
// else is refused when the world is opened, each by resource and property, all in one error: nothing of a template is
// ignored by accident. Package template has the details.
//
// # What the functions meet
//
// An environment of their own (nothing of this machine's but PATH), with AWS_ENDPOINT_URL_<SERVICE> for DYNAMODB,
// SESV2, EVENTBRIDGE and SECRETS_MANAGER, which clients have to honour, and ClockVariable. As many processes as there
// are invocations at a time, up to Options.Processes or the template's reserved concurrency. DynamoDB Local needs Java
// 17 and is fetched with npm. It never throttles, has no lag and knows no rights: weather is ordered instead (package
// faults).
//
// # What the world offers
//
// On the second port, as JSON, for people and for tests:
//
//	GET  /token?sub=&scope=     a bearer token, by default with every scope the routes ask for
//	GET  /mail  /mail/{id}      what was sent, newest first; one mail as its reader sees it
//	GET  /events?bus=&after=    what crossed a bus, by default the template's first, oldest first; after the event
//	                            with the id, if one is given
//	GET  /deadletters           messages in the template's queues
//	GET  /clock                 {"now","offset"}
//	POST /clock                 {"advance":"192h"}: moves the clock, runs every schedule once, and again while one
//	                            answers {"more":true}, and returns when everything has come to rest
//	POST /settle                returns when everything has come to rest; 504 names what still moves after 27 seconds
//	GET, POST, DELETE /faults   planned failures of the services
//	GET  /stream                Server-Sent Events: one for every change
//	GET  /.well-known/…         the issuer's discovery document and keys
//
// A caller adds routes with [World.Handle], and what moves of its own accord (a simulated provider, say) with
// [World.Add]. Here belongs what a template says; what one application's surroundings are does not.
package samlocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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

// Options say what to run and where. Only Template and Dir are required. Ports are on 127.0.0.1, but for the
// database's, which has no such choice; 0 takes any free one.
type Options struct {
	Template   string            // path; the functions' packages lie relative to its directory
	Dir        string            // everything durable, and what is built; made if need be
	Stack      string            // AWS::StackName; default "local"
	Parameters map[string]string // of the template
	// IssuerParameter is the parameter that gets the world's address, which is the issuer of the tokens; empty: none.
	IssuerParameter string

	Port             int
	WorldPort        int
	DynamoDBPort     int
	DynamoDBEndpoint string // another engine instead of DynamoDB Local

	ClockVariable string         // environment variable that names the file with the clock's offset; empty: none
	Sender        string         // the one address that SES may send from
	Code          *regexp.Regexp // what is a code in a mail; nil: nothing
	Services      []Service      // the caller's own services that faults can name, besides those served here
	// Secret is what Secrets Manager has under a name; nil: nothing.
	Secret func(name string) (value string, found bool)

	Processes int       // of one function at most; default 32
	Out       io.Writer // warnings and errors that functions log; default none
}

const (
	defaultProcesses = 32
	// idleAfter is how long a process of a function waits for work before it is ended.
	idleAfter = time.Minute
)

// BusyError says that a port cannot be had.
type BusyError struct {
	Of   string // "api", "world", or what [Listen] was given
	Port int
}

func (e *BusyError) Error() string { return fmt.Sprintf("port %d is busy", e.Port) }

// ErrInUse says that another run uses the directory.
var ErrInUse = state.ErrInUse

// ErrDatabasePort says that the database's port cannot be had.
var ErrDatabasePort = dynamodb.ErrPortBusy

// Listen takes a port on this machine only, any free one for 0. It returns a [BusyError].
func Listen(of string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, &BusyError{of, port}
	}
	return l, nil
}

// Service is something of the caller's own whose calls can be made to fail.
type Service = faults.Service

// Part is something of the caller's own that moves within the world.
type Part struct {
	Name    string       // what is said of it while it moves
	Settled func() bool  // nothing of it moves now
	Jumped  func() error // called after the clock was moved
}

// World is a template that runs, with all that is around it.
type World struct {
	opts      Options
	ctx       context.Context // ends when the run does
	api, ctl  net.Listener
	template  *template.Template
	db        *state.DB
	clock     *clock
	hub       hub
	activity  activity
	issuer    *gateway.Issuer
	faults    *faults.Faults
	queue     *bus.Queue
	bus       *bus.Bus
	mux       *http.ServeMux
	parts     []Part
	functions map[string]*runtimeapi.Function // by logical id
	streams   []*stream.Mapping
	schedules []*schedule
	jump      sync.Mutex // one POST /clock at a time
}

// Open reads the template and takes the directory and the ports; nothing runs yet. It returns [ErrInUse], a
// [BusyError], or an error with a line for everything in the template that is not understood.
func Open(opts Options) (w *World, err error) {
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, err
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.Processes == 0 {
		opts.Processes = defaultProcesses
	}
	if opts.Stack == "" {
		opts.Stack = "local"
	}
	w = &World{opts: opts, mux: http.NewServeMux(), functions: map[string]*runtimeapi.Function{}}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.db, err = state.Open(opts.Dir); err != nil {
		return w, err
	}
	if w.api, err = Listen("api", opts.Port); err != nil {
		return w, err
	}
	if w.ctl, err = Listen("world", opts.WorldPort); err != nil {
		return w, err
	}
	params := map[string]string{"AWS::StackName": opts.Stack}
	for name, value := range opts.Parameters {
		params[name] = value
	}
	if opts.IssuerParameter != "" {
		params[opts.IssuerParameter] = w.URL()
	}
	if w.template, err = template.Load(opts.Template, params); err != nil {
		return w, err
	}
	if w.clock, err = openClock(filepath.Join(opts.Dir, "clock")); err != nil {
		return w, err
	}
	if w.issuer, err = w.openIssuer(); err != nil {
		return w, err
	}
	w.faults = faults.New(w.db, opts.Services...)
	if w.queue, err = bus.NewQueue(w.db, w.clock.Now, w.template.Functions, w.invoke, w.hub.changed); err != nil {
		return w, err
	}
	w.bus = bus.New(w.queue, w.template.Buses)
	w.routes()
	return w, nil
}

// Close gives back the directory and the ports. It is to be called after Run has returned.
func (w *World) Close() {
	for _, l := range []net.Listener{w.api, w.ctl} {
		if l != nil {
			l.Close()
		}
	}
	if w.db != nil {
		w.db.Close()
	}
}

// API is the address of the HTTP API, without a slash at the end.
func (w *World) API() string { return "http://" + w.api.Addr().String() }

// URL is the address of the world's own interface, without a slash at the end.
func (w *World) URL() string { return "http://" + w.ctl.Addr().String() }

// Dir is the directory of the run, absolute.
func (w *World) Dir() string { return w.opts.Dir }

// Now is the world's clock.
func (w *World) Now() time.Time { return w.clock.Now() }

// Store is where the run keeps its state; the caller may use buckets of its own.
func (w *World) Store() *state.DB { return w.db }

// Faults are the planned failures. The caller's own service takes those meant for it.
func (w *World) Faults() *faults.Faults { return w.faults }

// Changed tells the open pages that something has changed.
func (w *World) Changed() { w.hub.changed() }

// Add makes a part of the caller's own count when the world comes to rest and when its clock jumps.
func (w *World) Add(p Part) { w.parts = append(w.parts, p) }

// Token returns a bearer token for the API, good for twelve hours.
func (w *World) Token(sub, scope string) (string, error) { return w.issuer.Token(sub, scope) }

// Scopes are those any route of the template asks for, in alphabetical order.
func (w *World) Scopes() []string {
	var all []string
	for _, f := range w.template.Functions {
		for _, route := range f.Routes {
			all = append(all, route.Scopes...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Run builds the functions, starts the database and everything else, and calls ready when all of it answers; the
// schedules start when ready has returned. It runs until ctx ends, or ready fails, which is its error then.
func (w *World) Run(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.ctx = ctx
	aws, err := Listen("aws", 0)
	if err != nil {
		return err
	}
	defer aws.Close()

	// The two slow things, side by side.
	built := make(chan error, 1)
	go func() {
		built <- build(ctx, filepath.Dir(w.opts.Template), filepath.Join(w.opts.Dir, "bin"), w.template.Functions)
	}()
	database, stopDatabase, err := w.startDatabase(ctx)
	if err := errors.Join(<-built, err); err != nil {
		return err
	}
	defer stopDatabase()
	if err := w.prepare(ctx, database, "http://"+aws.Addr().String()); err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer func() {
		cancel() // first: what is cut short now has not failed
		for _, f := range w.functions {
			f.Close()
		}
	}()
	secret := w.opts.Secret
	if secret == nil {
		secret = func(string) (string, bool) { return "", false }
	}
	for l, h := range map[net.Listener]http.Handler{
		w.api: w.apiHandler(), w.ctl: w.mux,
		aws: &awsapi.Server{DB: w.db, Faults: w.faults, Bus: w.bus, DynamoDB: database, Verified: w.opts.Sender,
			Secret: secret, Now: w.clock.Now, Changed: w.hub.changed},
	} {
		s := NewServer(h)
		background.Go(func() { _ = s.Serve(l) })
		defer s.Close()
	}
	background.Go(func() { w.queue.Run(ctx) })
	for _, s := range w.streams {
		background.Go(func() { s.Run(ctx) })
	}
	if err := ready(ctx); err != nil {
		return err
	}
	for _, s := range w.schedules {
		background.Go(func() { w.runSchedule(ctx, s) })
	}
	<-ctx.Done()
	return nil
}

// NewServer is a quiet server for one of the world's addresses.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
}

func (w *World) openIssuer() (*gateway.Issuer, error) {
	var key []byte
	found, err := w.db.Get("run", "signing key", &key)
	if err == nil && !found {
		if key, err = gateway.GenerateKey(); err == nil {
			err = w.db.Put("run", "signing key", key)
		}
	}
	if err != nil {
		return nil, err
	}
	audience := "local"
	if a := w.template.Authorizer; a != nil && len(a.Audience) > 0 {
		audience = a.Audience[0]
	}
	return gateway.NewIssuer(key, w.URL(), audience)
}

func (w *World) startDatabase(ctx context.Context) (string, func(), error) {
	endpoint, stop := w.opts.DynamoDBEndpoint, func() {}
	if endpoint == "" {
		var err error
		if endpoint, stop, err = dynamodb.Start(ctx, filepath.Join(w.opts.Dir, "dynamodb"),
			w.opts.DynamoDBPort); err != nil {
			return "", nil, err
		}
	}
	for _, t := range w.template.Tables {
		if err := tables.Ensure(ctx, endpoint, t); err != nil {
			stop()
			return "", nil, err
		}
	}
	return endpoint, stop, nil
}

// prepare makes functions, streams and schedules ready to run.
func (w *World) prepare(ctx context.Context, database, services string) error {
	logs := filepath.Join(w.opts.Dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	for _, f := range w.template.Functions {
		line, err := functionLog(logs, f.LogicalID, w.opts.Out)
		if err != nil {
			return err
		}
		concurrency := w.opts.Processes
		if f.Reserved > 0 {
			concurrency = min(f.Reserved, concurrency)
		}
		bin := filepath.Join(w.opts.Dir, "bin")
		w.functions[f.LogicalID] = runtimeapi.New(runtimeapi.Config{
			Name: f.Name, ARN: f.ARN, Binary: binary(bin, f), Dir: filepath.Dir(binary(bin, f)),
			Env: w.environment(f, services), Timeout: f.Timeout, Concurrency: concurrency, IdleAfter: idleAfter,
			Log: line,
		})
		for _, s := range f.Streams {
			arn, err := tables.StreamARN(ctx, database, s.Table)
			if err != nil {
				return err
			}
			w.streams = append(w.streams,
				stream.New(stream.Mapping{Source: s, Function: f, StreamARN: arn, Endpoint: database,
					DB: w.db, Now: w.clock.Now, Invoke: w.invoke, Bury: w.queue.Bury}))
		}
		for _, s := range f.Schedules {
			w.schedules = append(w.schedules, &schedule{Schedule: s, function: f})
		}
	}
	return nil
}

// environment is a function's whole environment; nothing is inherited, so no proxy, profile or CA bundle of this
// machine gets into it.
func (w *World) environment(f *template.Function, services string) []string {
	env := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
		"AWS_REGION": template.Region, "AWS_DEFAULT_REGION": template.Region,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "local",
		"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB), "_HANDLER": "bootstrap",
		"AWS_ENDPOINT_URL_DYNAMODB": services, "AWS_ENDPOINT_URL_SESV2": services,
		"AWS_ENDPOINT_URL_EVENTBRIDGE": services, "AWS_ENDPOINT_URL_SECRETS_MANAGER": services,
	}
	if w.opts.ClockVariable != "" {
		env[w.opts.ClockVariable] = w.clock.file
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

func (w *World) apiHandler() http.Handler {
	var routes []gateway.Route
	for _, f := range w.template.Functions {
		for _, route := range f.Routes {
			routes = append(routes, gateway.Route{Route: route,
				Invoke: func(payload []byte) runtimeapi.Result { return w.invoke(f, payload) }})
		}
	}
	return w.Counted(gateway.New(routes, w.issuer))
}

// Counted makes requests count as activity, so that nothing comes to rest between a request and the invocation it
// leads to.
func (w *World) Counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		defer w.activity.begin()()
		h.ServeHTTP(out, req)
	})
}

// allScopes is every scope as a token has them.
func (w *World) allScopes() string { return strings.Join(w.Scopes(), " ") }
