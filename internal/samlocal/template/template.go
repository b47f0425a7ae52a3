// Package template reads a SAM template and says what it means on a laptop:
// functions with their triggers, tables, buses and queues, every intrinsic
// function resolved.
//
// It interprets what the local run acts on, leaves aside what has no effect
// there (rights, alarms, log groups), from explicit lists, and refuses all the
// rest by name, so that nothing in a template is ignored by accident. Running
// anything does not belong here.
package template

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Region, AccountID and Partition are what the pseudo parameters and ARNs say.
const (
	Region    = "eu-central-1"
	AccountID = "000000000000"
	Partition = "aws"
)

// Template is a whole template, resolved. Lists are in the order of the file.
type Template struct {
	Functions  []*Function
	Authorizer *Authorizer // nil when the API has none
	Tables     []*Table
	Buses      []string // names; "default" is always there and not listed
	Queues     map[string]string
}

// Function is one AWS::Serverless::Function.
type Function struct {
	LogicalID   string
	Name        string
	ARN         string
	Package     string // directory of its main package, relative to the template
	Timeout     time.Duration
	MemoryMB    int
	Environment map[string]string
	Reserved    int // ReservedConcurrentExecutions; 0 = none
	Async       Async

	Routes    []Route
	Rules     []Rule
	Schedules []Schedule
	Streams   []Stream
}

// Async is how asynchronous invocations of a function are retried.
type Async struct {
	MaxRetries int
	MaxAge     time.Duration
	OnFailure  string // name of the queue; empty = none
}

// Authorizer is the API's JWT authorizer.
type Authorizer struct {
	Issuer   string
	Audience []string
}

// Route is one method and path of the HTTP API.
type Route struct {
	Method, Path string
	Authorized   bool
	Scopes       []string // one of them suffices; empty = any valid token
}

// Rule is one EventBridge rule with its function as target.
type Rule struct {
	ID      string // unique in the template
	Bus     string // name
	Pattern map[string]any
}

// Schedule ticks every Period.
type Schedule struct {
	ID     string
	Period time.Duration
	Input  string // JSON; empty = the service's own event
	V2     bool   // EventBridge Scheduler, not a rule
}

// Stream feeds a table's changes to its function.
type Stream struct {
	ID                 string
	Table              string // name
	BatchSize          int
	MaxRetries         int           // -1 = for ever
	MaxAge             time.Duration // 0 = for ever
	Bisect, ReportItem bool
	OnFailure          string           // name of the queue; empty = none
	Filters            []map[string]any // patterns, one of which a record must match; empty = all records
}

// Table is one AWS::DynamoDB::Table. Create is the body of CreateTable.
type Table struct {
	Name         string
	Create       map[string]any
	TTLAttribute string // empty = none
}

// inert are resource types without effect on a laptop.
var inert = []string{
	"AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy",
	"AWS::IAM::Role",
	"AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Logs::MetricFilter", "AWS::SNS::Topic",
	"AWS::SQS::QueuePolicy",
}

// Load reads the template at path. params override parameters and stand in for
// missing defaults; AWS::StackName can be among them. The error joins everything that was refused, each naming
// resource and property.
func Load(path string, params map[string]string) (*Template, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	t, err := Parse(b, params)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", filepath.Base(path), err)
	}
	return t, nil
}

// Parse is Load of a text.
func Parse(text []byte, params map[string]string) (*Template, error) {
	in, err := newInterpreter(text, params)
	if err != nil {
		return nil, err
	}
	t := &Template{Queues: map[string]string{}}
	for _, id := range in.order {
		kind := in.resources[id].kind
		p := in.properties(id)
		switch {
		case kind == "AWS::Serverless::Function":
			t.Functions = append(t.Functions, in.function(id, p))
		case kind == "AWS::Serverless::HttpApi":
			t.Authorizer = in.api(id, p)
		case kind == "AWS::DynamoDB::Table":
			t.Tables = append(t.Tables, in.table(id, p))
		case kind == "AWS::Events::EventBus":
			t.Buses = append(t.Buses, in.name(id))
			p.inert("Name", "Description", "Tags", "DeadLetterConfig", "KmsKeyIdentifier")
			p.done()
		case kind == "AWS::SQS::Queue":
			t.Queues[in.arn(id)] = in.name(id)
			p.inert("QueueName", "MessageRetentionPeriod", "SqsManagedSseEnabled", "VisibilityTimeout",
				"KmsMasterKeyId", "Tags")
			p.done()
		case !slices.Contains(inert, kind):
			in.refuse(id, "type "+kind+" is not interpreted")
		}
	}
	in.references(t)
	return t, errors.Join(in.problems...)
}

// references checks what one resource says of another.
func (in *interpreter) references(t *Template) {
	for _, f := range t.Functions {
		for _, r := range f.Routes {
			if r.Authorized && t.Authorizer == nil {
				in.refuse(f.LogicalID, "a route wants an authorizer and the API has none")
			}
		}
		for _, r := range f.Rules {
			if r.Bus != "default" && !slices.Contains(t.Buses, r.Bus) {
				in.refuse(r.ID, "no bus "+r.Bus+" in the template")
			}
		}
		for _, s := range f.Streams {
			if !slices.ContainsFunc(t.Tables, func(tb *Table) bool { return tb.Name == s.Table }) {
				in.refuse(s.ID, "no table "+s.Table+" in the template")
			}
		}
	}
}

func (in *interpreter) function(id string, p *object) *Function {
	p.inert("Architectures", "Description", "Handler", "LoggingConfig", "Policies", "Role", "Runtime", "Tags",
		"Tracing", "PermissionsBoundary")
	f := &Function{
		LogicalID:   id,
		Name:        in.name(id),
		ARN:         in.arn(id),
		Timeout:     time.Duration(p.integer("Timeout", 3)) * time.Second,
		MemoryMB:    p.integer("MemorySize", 128),
		Reserved:    p.integer("ReservedConcurrentExecutions", 0),
		Environment: map[string]string{},
		Async:       Async{MaxRetries: 2, MaxAge: 6 * time.Hour},
	}
	p.inert("FunctionName")
	// One go.mod for all functions: with the whole tree as CodeUri the
	// Makefile picks the directory by the function's name, and so do we.
	f.Package = filepath.Clean(p.text("CodeUri", "."))
	if f.Package == "." {
		f.Package = "functions/" + strings.ToLower(strings.TrimSuffix(id, "Function"))
	}
	if env := p.object("Environment"); env != nil {
		if vars := env.object("Variables"); vars != nil {
			for _, k := range vars.keys() {
				f.Environment[k] = vars.text(k, "")
			}
		}
		env.done()
	}
	if a := p.object("EventInvokeConfig"); a != nil {
		f.Async.MaxRetries = a.integer("MaximumRetryAttempts", 2)
		f.Async.MaxAge = time.Duration(a.integer("MaximumEventAgeInSeconds", 21600)) * time.Second
		f.Async.OnFailure = a.destination()
		a.done()
	}
	if events := p.object("Events"); events != nil {
		for _, k := range events.keys() {
			e := events.object(k)
			if e == nil {
				continue
			}
			in.event(f, id+k, e.text("Type", ""), e.object("Properties"))
			e.done()
		}
	}
	p.done()
	return f
}

func (in *interpreter) event(f *Function, id, kind string, p *object) {
	if p == nil {
		in.refuse(id, "event without Properties")
		return
	}
	switch kind {
	case "HttpApi":
		p.inert("ApiId")
		r := Route{Method: strings.ToUpper(p.text("Method", "")), Path: p.text("Path", ""),
			Authorized: in.defaultAuthorizer}
		if v := p.text("PayloadFormatVersion", "2.0"); v != "2.0" {
			p.refuse("PayloadFormatVersion", "only 2.0 is served")
		}
		if r.Method == "" || r.Path == "" {
			p.refuse("Path", "Method and Path are needed")
		}
		if a := p.object("Auth"); a != nil {
			if name := a.text("Authorizer", ""); name != "" {
				r.Authorized = name != "NONE"
			}
			r.Scopes = a.texts("AuthorizationScopes")
			a.done()
		}
		f.Routes = append(f.Routes, r)
	case "EventBridgeRule", "CloudWatchEvent":
		r := Rule{ID: id, Bus: arnTail(p.text("EventBusName", "default"))}
		r.Pattern, _ = p.value("Pattern").(map[string]any)
		if err := checkPattern(r.Pattern); err != nil {
			p.refuse("Pattern", err.Error())
		}
		p.delivery()
		f.Rules = append(f.Rules, r)
	case "Schedule", "ScheduleV2":
		p.inert("Name", "Description", "RoleArn", "PermissionsBoundary")
		s := Schedule{ID: id, V2: kind == "ScheduleV2", Input: p.text("Input", "")}
		key := "Schedule"
		if s.V2 {
			key = "ScheduleExpression"
		}
		var err error
		if s.Period, err = rate(p.text(key, "")); err != nil {
			p.refuse(key, err.Error())
		}
		p.delivery()
		f.Schedules = append(f.Schedules, s)
	case "DynamoDB":
		p.inert("ParallelizationFactor", "MaximumBatchingWindowInSeconds")
		s := Stream{
			ID:         id,
			Table:      in.tableOfStream(p.text("Stream", "")),
			BatchSize:  p.integer("BatchSize", 100),
			MaxRetries: p.integer("MaximumRetryAttempts", -1),
			MaxAge:     max(0, time.Duration(p.integer("MaximumRecordAgeInSeconds", -1))) * time.Second,
			Bisect:     p.boolean("BisectBatchOnFunctionError"),
			ReportItem: slices.Contains(p.texts("FunctionResponseTypes"), "ReportBatchItemFailures"),
			OnFailure:  p.destination(),
		}
		if c := p.object("FilterCriteria"); c != nil {
			s.Filters = c.filters()
			c.done()
		}
		if p.text("StartingPosition", "") != "TRIM_HORIZON" {
			p.refuse("StartingPosition", "only TRIM_HORIZON is interpreted")
		}
		f.Streams = append(f.Streams, s)
	default:
		in.refuse(id, "event type "+kind+" is not interpreted")
		return
	}
	p.done()
}

func (in *interpreter) api(id string, p *object) *Authorizer {
	p.inert("FailOnWarnings", "DefaultRouteSettings", "AccessLogSettings", "Description", "Name", "Tags", "Domain")
	if s := p.text("StageName", "$default"); s != "$default" {
		p.refuse("StageName", "only the stage $default is served")
	}
	auth := p.object("Auth")
	p.done()
	if auth == nil {
		return nil
	}
	name := auth.text("DefaultAuthorizer", "")
	in.defaultAuthorizer = name != ""
	all := auth.object("Authorizers")
	auth.done()
	if all == nil {
		return nil
	}
	if len(all.keys()) != 1 {
		in.refuse(id, "one authorizer is interpreted, not several")
		return nil
	}
	name = all.keys()[0]
	a := all.object(name)
	if s := a.text("IdentitySource", "$request.header.Authorization"); s != "$request.header.Authorization" {
		a.refuse("IdentitySource", "only the Authorization header is read")
	}
	jwt := a.object("JwtConfiguration")
	a.done()
	if jwt == nil {
		in.refuse(id, "authorizer "+name+" has no JwtConfiguration")
		return nil
	}
	defer jwt.done()
	return &Authorizer{Issuer: jwt.text("issuer", ""), Audience: jwt.texts("audience")}
}

func (in *interpreter) table(id string, p *object) *Table {
	p.inert("TableName", "DeletionProtectionEnabled", "PointInTimeRecoverySpecification", "SSESpecification", "Tags",
		"ContributorInsightsSpecification")
	t := &Table{Name: in.name(id), Create: map[string]any{"TableName": in.name(id)}}
	for _, k := range []string{"AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "LocalSecondaryIndexes",
		"BillingMode"} {
		if v := p.value(k); v != nil {
			t.Create[k] = v
		}
	}
	if s := p.object("StreamSpecification"); s != nil {
		t.Create["StreamSpecification"] = map[string]any{"StreamEnabled": true,
			"StreamViewType": s.text("StreamViewType", "")}
		s.done()
	}
	if ttl := p.object("TimeToLiveSpecification"); ttl != nil {
		if name := ttl.text("AttributeName", ""); ttl.boolean("Enabled") {
			t.TTLAttribute = name
		}
		ttl.done()
	}
	p.done()
	return t
}

// rate reads rate(n minutes|hours|days).
func rate(s string) (time.Duration, error) {
	inner, ok := strings.CutPrefix(s, "rate(")
	inner, closed := strings.CutSuffix(inner, ")")
	number, unit, spaced := strings.Cut(inner, " ")
	n, err := strconv.Atoi(number)
	d, known := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour,
		"day": 24 * time.Hour}[strings.TrimSuffix(unit, "s")]
	if !ok || !closed || !spaced || err != nil || n < 1 || !known {
		return 0, fmt.Errorf("%q is not interpreted, only rate(n minutes|hours|days)", s)
	}
	return time.Duration(n) * d, nil
}
