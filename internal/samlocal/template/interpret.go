package template

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// stackName is the one pseudo parameter that can be given.
const stackName = "AWS::StackName"

// noValue is what !Ref AWS::NoValue resolves to: the property is absent.
type noValue struct{}

type resource struct {
	kind  string
	props *yaml.Node // nil when the resource has none
}

type interpreter struct {
	params            map[string]any
	conditions        map[string]*yaml.Node
	mappings          *yaml.Node
	globals           map[string]*yaml.Node // by section: Function, HttpApi
	resources         map[string]resource
	order             []string
	defaultAuthorizer bool
	depth             int
	problems          []error
}

func newInterpreter(text []byte, given map[string]string) (*interpreter, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("not a template")
	}
	stack := cmp.Or(given[stackName], "local")
	in := &interpreter{
		params: map[string]any{
			"AWS::Region": Region, "AWS::AccountId": AccountID, "AWS::Partition": Partition, "AWS::NoValue": noValue{},
			"AWS::StackName": stack, "AWS::URLSuffix": "amazonaws.com",
			"AWS::StackId": "arn:aws:cloudformation:" + Region + ":" + AccountID + ":stack/" + stack + "/local",
		},
		conditions: map[string]*yaml.Node{},
		globals:    map[string]*yaml.Node{},
		resources:  map[string]resource{},
	}
	top := fields(doc.Content[0])
	for name := range top {
		switch name {
		case "AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Outputs",
			"Parameters", "Conditions", "Mappings", "Globals", "Resources":
		default:
			in.refuse(name, "section is not interpreted")
		}
	}
	in.mappings = top["Mappings"]
	if n := top["Conditions"]; n != nil {
		in.conditions = fields(n)
	}
	if n := top["Globals"]; n != nil {
		in.globals = fields(n)
	}
	in.parameters(top["Parameters"], given)
	for _, id := range names(top["Resources"]) {
		body := fields(fields(top["Resources"])[id])
		if c := body["Condition"]; c != nil && !in.condition(c.Value) {
			continue
		}
		kind := body["Type"]
		if kind == nil {
			in.refuse(id, "has no Type")
			continue
		}
		in.resources[id] = resource{kind: kind.Value, props: body["Properties"]}
		in.order = append(in.order, id)
	}
	// Routes inherit the API's default authorizer, so APIs come first.
	slices.SortStableFunc(in.order, func(a, b string) int {
		return rank(in.resources[a].kind) - rank(in.resources[b].kind)
	})
	return in, nil
}

func rank(kind string) int {
	if kind == "AWS::Serverless::HttpApi" {
		return 0
	}
	return 1
}

func (in *interpreter) parameters(n *yaml.Node, given map[string]string) {
	declared := fields(n)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if declared[name] == nil && name != stackName {
			in.refuse(name, "a value is given for a parameter the template does not declare")
		}
	}
	for _, name := range names(n) {
		body := fields(declared[name])
		value, ok := given[name]
		if !ok {
			if body["Default"] == nil {
				in.refuse("Parameters."+name, "has no default, and the local run has no value for it")
				continue
			}
			value = body["Default"].Value
		}
		in.params[name] = value
		if t := body["Type"]; t != nil && (t.Value == "CommaDelimitedList" || strings.HasPrefix(t.Value, "List<")) {
			list := []any{}
			for s := range strings.SplitSeq(value, ",") {
				list = append(list, strings.TrimSpace(s))
			}
			in.params[name] = list
		}
	}
}

func (in *interpreter) refuse(where, why string) {
	in.problems = append(in.problems, fmt.Errorf("  %s: %s", where, why))
}

// name is what !Ref of a resource gives where that is a name.
func (in *interpreter) name(id string) string {
	props := fields(in.resources[id].props)
	for _, key := range []string{"FunctionName", "TableName", "QueueName", "Name"} {
		if n := props[key]; n != nil {
			s, _ := in.eval(id+"."+key, n).(string)
			return s
		}
	}
	return id
}

func (in *interpreter) arn(id string) string {
	name := in.name(id)
	prefix := func(service, rest string) string {
		return "arn:" + Partition + ":" + service + ":" + Region + ":" + AccountID + ":" + rest
	}
	switch in.resources[id].kind {
	case "AWS::Serverless::Function":
		return prefix("lambda", "function:"+name)
	case "AWS::DynamoDB::Table":
		return prefix("dynamodb", "table/"+name)
	case "AWS::Events::EventBus":
		return prefix("events", "event-bus/"+name)
	case "AWS::SQS::Queue":
		return prefix("sqs", name)
	}
	return prefix("local", id)
}

const streamSuffix = "/stream/local"

func (in *interpreter) tableOfStream(arn string) string {
	return arnTail(strings.TrimSuffix(arn, streamSuffix))
}

// arnTail is the name at the end of an ARN, or the name itself.
func arnTail(s string) string { return s[strings.LastIndexAny(s, ":/")+1:] }

func (in *interpreter) ref(where, id string) any {
	if v, ok := in.params[id]; ok {
		return v
	}
	if _, ok := in.resources[id]; ok {
		if in.resources[id].kind == "AWS::SQS::Queue" {
			return "http://sqs.invalid/" + AccountID + "/" + in.name(id)
		}
		return in.name(id)
	}
	in.refuse(where, "!Ref "+id+" names nothing in the template")
	return ""
}

func (in *interpreter) getAtt(where, id, attribute string) any {
	r, ok := in.resources[id]
	switch {
	case !ok:
		in.refuse(where, "!GetAtt "+id+" names no resource of the template")
	case attribute == "Arn":
		return in.arn(id)
	case attribute == "StreamArn" && r.kind == "AWS::DynamoDB::Table":
		return in.arn(id) + streamSuffix
	case attribute == "Name" || attribute == "QueueName":
		return in.name(id)
	default:
		in.refuse(where, "!GetAtt "+id+"."+attribute+" is not interpreted")
	}
	return ""
}

func (in *interpreter) condition(name string) bool {
	n := in.conditions[name]
	if n == nil {
		in.refuse("Conditions."+name, "is not declared")
		return false
	}
	v, _ := in.eval("Conditions."+name, n).(bool)
	return v
}

var subVariable = regexp.MustCompile(`\$\{([^}]*)\}`)

func (in *interpreter) sub(where, text string, local map[string]any) string {
	return subVariable.ReplaceAllStringFunc(text, func(m string) string {
		name := strings.TrimSpace(m[2 : len(m)-1])
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		if v, ok := local[name]; ok {
			return scalar(v)
		}
		if id, attribute, ok := strings.Cut(name, "."); ok {
			return scalar(in.getAtt(where, id, attribute))
		}
		return scalar(in.ref(where, name))
	})
}

// eval turns a node into plain Go values (string, int, float64, bool, []any,
// map[string]any, nil or noValue), every intrinsic function applied.
func (in *interpreter) eval(where string, n *yaml.Node) any {
	if in.depth++; in.depth > 200 {
		in.refuse(where, "refers to itself")
		return ""
	}
	defer func() { in.depth-- }()
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if tag := n.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") {
		bare := *n
		bare.Tag = ""
		return in.intrinsic(where, strings.TrimPrefix(tag, "!"), &bare)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := []any{}
		for i, c := range n.Content {
			if v := in.eval(fmt.Sprintf("%s[%d]", where, i), c); v != (noValue{}) {
				list = append(list, v)
			}
		}
		return list
	case yaml.MappingNode:
		if len(n.Content) == 2 {
			key := n.Content[0].Value
			if key == "Ref" || key == "Condition" && in.conditions[n.Content[1].Value] != nil {
				return in.intrinsic(where, key, n.Content[1])
			}
			if f, ok := strings.CutPrefix(key, "Fn::"); ok {
				return in.intrinsic(where, f, n.Content[1])
			}
		}
		m := map[string]any{}
		for k, c := range fields(n) {
			if v := in.eval(where+"."+k, c); v != (noValue{}) {
				m[k] = v
			}
		}
		return m
	}
	var v any
	if err := n.Decode(&v); err != nil {
		in.refuse(where, err.Error())
	}
	return v
}

func (in *interpreter) intrinsic(where, f string, n *yaml.Node) any {
	list := func(want int) []any {
		v, ok := in.eval(where, n).([]any)
		if !ok || len(v) < want {
			in.refuse(where, "!"+f+" needs a list of "+strconv.Itoa(want))
			return make([]any, want)
		}
		return v
	}
	switch f {
	case "Ref":
		return in.ref(where, n.Value)
	case "GetAtt":
		id, attribute, _ := strings.Cut(n.Value, ".")
		if n.Kind == yaml.SequenceNode && len(n.Content) == 2 {
			id, attribute = n.Content[0].Value, n.Content[1].Value
		}
		return in.getAtt(where, id, attribute)
	case "Sub":
		if n.Kind != yaml.SequenceNode {
			return in.sub(where, n.Value, nil)
		}
		v := list(2)
		local, _ := v[1].(map[string]any)
		return in.sub(where, scalar(v[0]), local)
	case "Join":
		v := list(2)
		parts, _ := v[1].([]any)
		out := make([]string, len(parts))
		for i, p := range parts {
			out[i] = scalar(p)
		}
		return strings.Join(out, scalar(v[0]))
	case "Split":
		v := list(2)
		out := []any{}
		for s := range strings.SplitSeq(scalar(v[1]), scalar(v[0])) {
			out = append(out, s)
		}
		return out
	case "Select":
		v := list(2)
		from, _ := v[1].([]any)
		i, err := strconv.Atoi(scalar(v[0]))
		if err != nil || i < 0 || i >= len(from) {
			in.refuse(where, "!Select is out of range")
			return ""
		}
		return from[i]
	case "If":
		// Only the branch taken is looked at.
		if n.Kind != yaml.SequenceNode || len(n.Content) != 3 {
			in.refuse(where, "!If needs a condition and two values")
			return noValue{}
		}
		if in.condition(n.Content[0].Value) {
			return in.eval(where, n.Content[1])
		}
		return in.eval(where, n.Content[2])
	case "Condition":
		return in.condition(n.Value)
	case "Equals":
		v := list(2)
		return scalar(v[0]) == scalar(v[1])
	case "Not":
		return list(1)[0] != true
	case "And":
		return !slices.Contains(list(2), any(false))
	case "Or":
		return slices.Contains(list(2), any(true))
	case "Base64":
		return base64.StdEncoding.EncodeToString([]byte(scalar(in.eval(where, n))))
	case "FindInMap":
		v := list(3)
		if in.mappings != nil {
			if m := fields(fields(in.mappings)[scalar(v[0])])[scalar(v[1])]; m != nil &&
				fields(m)[scalar(v[2])] != nil {
				return in.eval(where, fields(m)[scalar(v[2])])
			}
		}
		in.refuse(where, "!FindInMap finds nothing")
		return ""
	}
	in.refuse(where, "!"+f+" is not interpreted")
	return ""
}

// object reads a mapping key by key and remembers which keys were read, so
// that done can refuse the others.
type object struct {
	in     *interpreter
	where  string
	values map[string]*yaml.Node
	order  []string
	read   map[string]bool
}

// properties returns a resource's Properties with the Globals of its type
// merged below them.
func (in *interpreter) properties(id string) *object {
	r := in.resources[id]
	o := in.open(id, r.props)
	if short, ok := strings.CutPrefix(r.kind, "AWS::Serverless::"); ok && in.globals[short] != nil {
		g := in.open("Globals."+short, in.globals[short])
		for _, k := range g.order {
			own := o.values[k]
			if own == nil {
				o.order = append(o.order, k)
				o.values[k] = g.values[k]
			} else {
				o.values[k] = merge(g.values[k], own)
			}
		}
	}
	return o
}

// merge lays one mapping over another, as SAM does with Globals; anything else
// is replaced.
func merge(below, above *yaml.Node) *yaml.Node {
	if below.Kind != yaml.MappingNode || above.Kind != yaml.MappingNode {
		return above
	}
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: above.Tag}
	over := fields(above)
	for i := 0; i < len(below.Content); i += 2 {
		k, v := below.Content[i], below.Content[i+1]
		if o := over[k.Value]; o != nil {
			v = merge(v, o)
			delete(over, k.Value)
		}
		out.Content = append(out.Content, k, v)
	}
	for i := 0; i < len(above.Content); i += 2 {
		if over[above.Content[i].Value] != nil {
			out.Content = append(out.Content, above.Content[i], above.Content[i+1])
		}
	}
	return out
}

func (in *interpreter) open(where string, n *yaml.Node) *object {
	return &object{in: in, where: where, values: fields(n), order: names(n), read: map[string]bool{}}
}

func (o *object) keys() []string { return o.order }

func (o *object) refuse(key, why string) { o.in.refuse(o.where+"."+key, why) }

// inert marks keys that have no effect on a laptop as read.
func (o *object) inert(keys ...string) {
	for _, k := range keys {
		o.read[k] = true
	}
}

// done refuses what was not read.
func (o *object) done() {
	for _, k := range o.order {
		if !o.read[k] {
			o.refuse(k, "is not interpreted")
		}
	}
}

// value is the resolved value of a key, nil when it is absent.
func (o *object) value(key string) any {
	o.read[key] = true
	n := o.values[key]
	if n == nil {
		return nil
	}
	v := o.in.eval(o.where+"."+key, n)
	if v == (noValue{}) {
		return nil
	}
	return v
}

func (o *object) text(key, otherwise string) string {
	switch v := o.value(key).(type) {
	case nil:
		return otherwise
	case []any, map[string]any:
		o.refuse(key, "must be a single value")
		return ""
	default:
		return scalar(v)
	}
}

func (o *object) integer(key string, otherwise int) int {
	s := o.text(key, strconv.Itoa(otherwise))
	n, err := strconv.Atoi(s)
	if err != nil {
		o.refuse(key, "must be a whole number")
	}
	return n
}

func (o *object) boolean(key string) bool {
	b, err := strconv.ParseBool(o.text(key, "false"))
	if err != nil {
		o.refuse(key, "must be true or false")
	}
	return b
}

func (o *object) texts(key string) []string {
	v := o.value(key)
	list, ok := v.([]any)
	if !ok && v != nil {
		o.refuse(key, "must be a list")
	}
	var out []string
	for _, m := range list {
		out = append(out, scalar(m))
	}
	return out
}

// object opens the mapping under key; nil when there is none.
func (o *object) object(key string) *object {
	o.read[key] = true
	n := o.values[key]
	if n == nil {
		return nil
	}
	where := o.where + "." + key
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode || strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		o.in.refuse(where, "must be written out as a mapping")
		return nil
	}
	return o.in.open(where, n)
}

func (o *object) queue(key string) string {
	arn := o.text(key, "")
	for id, r := range o.in.resources {
		if r.kind == "AWS::SQS::Queue" && o.in.arn(id) == arn {
			return o.in.name(id)
		}
	}
	o.refuse(key, "names no queue of the template")
	return ""
}

// destination reads DestinationConfig.OnFailure, a queue.
func (o *object) destination() string {
	c := o.object("DestinationConfig")
	if c == nil {
		return ""
	}
	defer c.done()
	f := c.object("OnFailure")
	if f == nil {
		return ""
	}
	defer f.done()
	if t := f.text("Type", "SQS"); t != "SQS" {
		f.refuse("Type", "only SQS is interpreted")
	}
	return f.queue("Destination")
}

// filters reads Filters, patterns written as JSON.
func (o *object) filters() []map[string]any {
	list, _ := o.value("Filters").([]any)
	var out []map[string]any
	for _, f := range list {
		var pattern map[string]any
		m, _ := f.(map[string]any)
		err := json.Unmarshal([]byte(scalar(m["Pattern"])), &pattern)
		if err == nil {
			err = checkPattern(pattern)
		}
		if err != nil {
			o.refuse("Filters", err.Error())
		}
		out = append(out, pattern)
	}
	return out
}

// delivery checks what a rule or schedule says of the way to its function. On a
// laptop that way cannot fail, since the function's own queue takes everything;
// only what the function says of failures has an effect.
func (o *object) delivery() {
	if c := o.object("DeadLetterConfig"); c != nil {
		c.queue("Arn")
		c.done()
	}
	if c := o.object("RetryPolicy"); c != nil {
		c.integer("MaximumRetryAttempts", 185)
		c.integer("MaximumEventAgeInSeconds", 86400)
		c.done()
	}
}

// fields are a mapping's values by key; empty for anything else.
func fields(n *yaml.Node) map[string]*yaml.Node {
	m := map[string]*yaml.Node{}
	if n == nil || n.Kind != yaml.MappingNode {
		return m
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		m[n.Content[i].Value] = n.Content[i+1]
	}
	return m
}

// names are a mapping's keys in the order of the file.
func names(n *yaml.Node) []string {
	var out []string
	if n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			out = append(out, n.Content[i].Value)
		}
	}
	return out
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil, noValue:
		return ""
	}
	return fmt.Sprint(v)
}
