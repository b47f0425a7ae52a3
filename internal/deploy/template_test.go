//go:build verify

package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/issuance"
	local "github.com/mobilecred/mobilecred/internal/samlocal/template"
	"github.com/mobilecred/mobilecred/internal/telemetry"
	"github.com/mobilecred/mobilecred/internal/webhook"
)

// What a role may do, one line each: action, resource, condition.
var (
	writeLogs = []string{"logs:CreateLogStream ${FunctionLogs.Arn}", "logs:PutLogEvents ${FunctionLogs.Arn}"}
	readTable = []string{"dynamodb:BatchGetItem ${Table.Arn}", "dynamodb:GetItem ${Table.Arn}",
		"dynamodb:Query ${Table.Arn}"}
	writeTable = []string{"dynamodb:ConditionCheckItem ${Table.Arn}", "dynamodb:DeleteItem ${Table.Arn}",
		"dynamodb:PutItem ${Table.Arn}", "dynamodb:UpdateItem ${Table.Arn}"}
	listByProfile = []string{"dynamodb:Query ${Table.Arn}/index/byProfile",
		"dynamodb:Query ${Table.Arn}/index/byWarning"}
	listDue = []string{"dynamodb:Query ${Table.Arn}/index/byWarning",
		"dynamodb:Query ${Table.Arn}/index/due"}
	readStream = []string{"dynamodb:DescribeStream ${Table.StreamArn}", "dynamodb:GetRecords ${Table.StreamArn}",
		"dynamodb:GetShardIterator ${Table.StreamArn}", "dynamodb:ListStreams ${Table.StreamArn}"}
	readSecrets = []string{"secretsmanager:GetSecretValue " + secrets}
	sendMail    = []string{"ses:SendEmail " + ses + "identity/${MailIdentity}" + fromUs,
		`ses:SendEmail {"Fn::If":["HasMailConfigurationSet",{"Fn::Sub":"` + ses +
			`configuration-set/${MailConfigurationSet}"},{"Ref":"AWS::NoValue"}]}` + fromUs}
	publishEvents  = []string{"events:PutEvents ${Bus.Arn}"}
	reportFailures = []string{"sqs:SendMessage ${FailedQueue.Arn}"}
)

// secrets is the only resource with a wildcard: the accounts' names are a parameter, the last six characters are AWS's.
const secrets = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:" +
	"secret:mobilecred/accounts/*-??????"

// What mails are sent with: the beginning of its resources, and the condition.
const (
	ses    = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:"
	fromUs = " if StringEquals ses:FromAddress ${MailFrom}"
)

var rights = map[string][]string{
	"AssignRole":    slices.Concat(writeLogs, readTable, writeTable, readSecrets, sendMail),
	"RevokeRole":    slices.Concat(writeLogs, readTable, writeTable, readSecrets, sendMail),
	"LookupRole":    slices.Concat(writeLogs, readTable, listByProfile),
	"DirectoryRole": slices.Concat(writeLogs, readTable, writeTable),
	"WebhookRole":   slices.Concat(writeLogs, readSecrets, publishEvents),
	"CleanupRole":   slices.Concat(writeLogs, readTable, writeTable, readSecrets, sendMail, reportFailures),
	"SweepRole":     slices.Concat(writeLogs, readTable, writeTable, listDue, readSecrets, sendMail, reportFailures),
	"NotifyRole":    slices.Concat(writeLogs, readStream, publishEvents, reportFailures),
	"SweepFunctionEveryMinuteRole": {
		"lambda:InvokeFunction ${SweepFunction.Arn}", "sqs:SendMessage ${UndeliveredQueue.Arn}"},
}

// routes says which function answers a call and the scope its token needs; public is no token at all.
var routes = map[string]string{
	"PUT /v1/profiles/{profileId}":                                       "DirectoryFunction profiles:write",
	"DELETE /v1/profiles/{profileId}":                                    "DirectoryFunction profiles:write",
	"GET /v1/profiles":                                                   "LookupFunction credentials:read",
	"GET /v1/profiles/{profileId}":                                       "LookupFunction credentials:read",
	"PUT /v1/holders/{holderId}":                                         "DirectoryFunction credentials:write",
	"PATCH /v1/holders/{holderId}":                                       "DirectoryFunction credentials:write",
	"GET /v1/holders/{holderId}":                                         "LookupFunction credentials:read",
	"DELETE /v1/holders/{holderId}":                                      "RevokeFunction credentials:write",
	"PUT /v1/holders/{holderId}/picture":                                 "DirectoryFunction credentials:write",
	"DELETE /v1/holders/{holderId}/picture":                              "DirectoryFunction credentials:write",
	"POST /v1/holders/{holderId}/credentials":                            "AssignFunction credentials:write",
	"GET /v1/holders/{holderId}/credentials":                             "LookupFunction credentials:read",
	"GET /v1/holders/{holderId}/credentials/{credentialId}":              "LookupFunction credentials:read",
	"DELETE /v1/holders/{holderId}/credentials/{credentialId}":           "RevokeFunction credentials:write",
	"GET /v1/holders/{holderId}/credentials/{credentialId}/history":      "LookupFunction credentials:read",
	"POST /v1/holders/{holderId}/credentials/{credentialId}/invitation":  "AssignFunction credentials:write",
	"POST /v1/holders/{holderId}/credentials/{credentialId}/replacement": "AssignFunction credentials:write",
	"POST /v1/holders/{holderId}/credentials/{credentialId}/lost":        "RevokeFunction credentials:write",
	"POST /v1/holders/{holderId}/credentials/{credentialId}/stolen":      "RevokeFunction credentials:write",
	"GET /v1/credentials":                                                "LookupFunction credentials:read",
	"POST /v1/webhooks/{account}":                                        "WebhookFunction public",
}

func TestExpandedEveryRoleHasTheRightsItNeedsOnNamedResources(t *testing.T) {
	stack := expand(t)
	for id, r := range stack {
		switch r.Type {
		case "AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy", "AWS::IAM::GroupPolicy",
			"AWS::IAM::User", "AWS::IAM::Group":
			t.Errorf("%s: a %s grants rights this test does not see", id, r.Type)
		case "AWS::IAM::ManagedPolicy":
			for _, attached := range []string{"Roles", "Users", "Groups"} {
				if r.Properties[attached] != nil {
					t.Errorf("%s attaches itself to %s", id, attached)
				}
			}
		case "AWS::IAM::Role":
			got, want := grants(t, stack, r), slices.Sorted(slices.Values(rights[id]))
			if !slices.Equal(got, want) {
				t.Errorf("%s may\n\t%s\nwant\n\t%s", id, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
			for _, g := range got {
				if strings.ContainsAny(g, "*?") && !strings.HasSuffix(g, secrets) {
					t.Errorf("%s: wildcard in %q", id, g)
				}
			}
		}
	}
	users := make(map[string]string)
	for id, r := range stack.all("AWS::Lambda::Function") {
		role := text(r.Properties["Role"])
		if other := users[role]; other != "" {
			t.Errorf("%s and %s share the role %s", id, other, role)
		}
		users[role] = id
		if want := "${" + strings.TrimSuffix(id, "Function") + "Role.Arn}"; role != want {
			t.Errorf("%s has role %s, want %s", id, role, want)
		}
	}
}

func TestExpandedEveryRouteHasItsFunctionAndScope(t *testing.T) {
	stack := expand(t)
	api := stack["Api"].Properties["Body"]
	got := make(map[string]string)
	function := regexp.MustCompile(`functions/\$\{([A-Za-z]+)\.Arn\}/invocations$`)
	for path, methods := range at(api, "paths").(map[string]any) {
		for method, operation := range methods.(map[string]any) {
			access := "public"
			for _, requirement := range list(at(operation, "security")) {
				for scheme, scopes := range requirement.(map[string]any) {
					if scheme != "NONE" {
						access = strings.Join(append([]string{scheme}, texts(scopes)...), " ")
						access = strings.TrimPrefix(access, "Jwt ")
					}
				}
			}
			uri := text(at(operation, "x-amazon-apigateway-integration", "uri"))
			m := function.FindStringSubmatch(uri)
			if m == nil {
				t.Fatalf("%s %s goes to %s", method, path, uri)
			}
			got[strings.ToUpper(method)+" "+path] = m[1] + " " + access
		}
	}
	for route, want := range routes {
		if got[route] != want {
			t.Errorf("%s: got %q, want %q", route, got[route], want)
		}
	}
	for route := range got {
		if routes[route] == "" {
			t.Errorf("%s is not in this test's table", route)
		}
	}

	authorizer := at(api, "components", "securitySchemes", "Jwt", "x-amazon-apigateway-authorizer")
	for _, setting := range []struct{ name, got, want string }{
		{"type", text(at(authorizer, "type")), "jwt"},
		{"issuer", text(at(authorizer, "jwtConfiguration", "issuer")), "${JwtIssuer}"},
		{"audience", strings.Join(texts(at(authorizer, "jwtConfiguration", "audience")), ","), "${JwtAudience}"},
		{"identity source", text(at(authorizer, "identitySource")), "$request.header.Authorization"},
	} {
		if setting.got != setting.want {
			t.Errorf("authorizer's %s: got %q, want %q", setting.name, setting.got, setting.want)
		}
	}

	if n := len(stack.all("AWS::ApiGatewayV2::Api")); n != 1 {
		t.Errorf("%d APIs, want one", n)
	}
	if urls := stack.all("AWS::Lambda::Url"); len(urls) > 0 {
		t.Errorf("function URLs go round the gateway: %v", urls)
	}
	for id, r := range stack.all("AWS::Lambda::Permission") {
		principal, source := text(r.Properties["Principal"]), text(r.Properties["SourceArn"])
		fromAPI := principal == "apigateway.amazonaws.com" && strings.Contains(source, ":${Api}/")
		fromRule := principal == "events.amazonaws.com" && stack[owner(source)].Type == "AWS::Events::Rule"
		if !fromAPI && !fromRule {
			t.Errorf("%s lets %s call from %q", id, principal, source)
		}
	}
}

func TestExpandedEveryAlarmWatchesSomethingThatExists(t *testing.T) {
	stack := expand(t)
	// What each namespace's metric is told apart by, and what the dimension's value has to be: a queue's ARN as its
	// name, for instance, gives an alarm that never fires.
	kinds := map[string]struct{ dimension, kind, value string }{
		"AWS/SQS":        {"QueueName", "AWS::SQS::Queue", "${%s.QueueName}"},
		"AWS/Lambda":     {"FunctionName", "AWS::Lambda::Function", "${%s}"},
		"AWS/ApiGateway": {"ApiId", "AWS::ApiGatewayV2::Api", "${%s}"},
		"AWS/DynamoDB":   {"TableName", "AWS::DynamoDB::Table", "${%s}"},
	}
	counted := []string{issuance.MetricAnomaly, issuance.MetricFailed, issuance.MetricUnexplained, issuance.MetricStuck,
		issuance.MetricPoison, issuance.MetricLowStock, webhook.Forged, webhook.Rejected}
	counted = append(counted, issuance.Gauges...)
	watched := make(map[string]bool)
	for id, r := range stack.all("AWS::CloudWatch::Alarm") {
		namespace := text(r.Properties["Namespace"])
		dimensions := list(r.Properties["Dimensions"])
		if len(at(r.Properties, "AlarmActions").(map[string]any)) == 0 {
			t.Errorf("%s has no action", id)
		}
		if namespace == telemetry.Namespace {
			if len(dimensions) > 0 {
				t.Errorf("%s: the service's own metrics have no dimensions", id)
			}
			metric := text(r.Properties["MetricName"])
			if !slices.Contains(counted, metric) {
				t.Errorf("%s: nothing counts %s", id, metric)
			}
			watched[metric] = true
			continue
		}
		kind, ok := kinds[namespace]
		if !ok || len(dimensions) != 1 {
			t.Errorf("%s: %d dimensions of namespace %q", id, len(dimensions), namespace)
			continue
		}
		name, value := text(at(dimensions[0], "Name")), text(at(dimensions[0], "Value"))
		resource := owner(value)
		if name != kind.dimension || stack[resource].Type != kind.kind || value != fmt.Sprintf(kind.value, resource) {
			t.Errorf("%s watches %s = %s, want the %s of a resource of type %s",
				id, name, value, kind.dimension, kind.kind)
		}
		watched[resource+" "+text(r.Properties["MetricName"])] = true
	}
	for id := range stack.all("AWS::SQS::Queue") {
		if !watched[id+" ApproximateNumberOfMessagesVisible"] {
			t.Errorf("no alarm says that messages wait in %s", id)
		}
	}
	for id := range stack.asynchronous() {
		if !watched[id+" Errors"] {
			t.Errorf("no alarm says that %s fails", id)
		}
	}
	for id, r := range stack.all("AWS::Lambda::EventSourceMapping") {
		// Records that a function hands back are no Errors: they only grow old.
		if function := owner(text(r.Properties["FunctionName"])); !watched[function+" IteratorAge"] {
			t.Errorf("no alarm says that %s falls behind %s", function, id)
		}
	}
	for _, metric := range counted {
		if !watched[metric] {
			t.Errorf("no alarm watches %s", metric)
		}
	}
}

func TestExpandedNothingIsLostOnTheWayToAFunction(t *testing.T) {
	stack := expand(t)
	queue := func(v any) bool {
		arn := text(v)
		return stack[owner(arn)].Type == "AWS::SQS::Queue" && strings.HasSuffix(arn, ".Arn}")
	}
	targets := stack.asynchronous()
	if len(targets) == 0 {
		t.Fatal("no rule and no schedule has a target")
	}
	for function, deliveries := range targets {
		for from, target := range deliveries {
			if !queue(at(target, "DeadLetterConfig", "Arn")) {
				t.Errorf("%s → %s: what cannot be delivered is lost", from, function)
			}
			if at(target, "RetryPolicy", "MaximumRetryAttempts") == nil {
				t.Errorf("%s → %s: no retry policy", from, function)
			}
			deadLetters := owner(text(at(target, "DeadLetterConfig", "Arn")))
			if stack[from].Type == "AWS::Events::Rule" && !stack.mayFill(from, deadLetters) {
				t.Errorf("%s may not write to its own dead-letter queue", from)
			}
		}
		destination := false
		for _, r := range stack.all("AWS::Lambda::EventInvokeConfig") {
			if owner(text(r.Properties["FunctionName"])) == function {
				destination = queue(at(r.Properties, "DestinationConfig", "OnFailure", "Destination"))
			}
		}
		if !destination {
			t.Errorf("%s: an event that fails for good is lost", function)
		}
	}
}

func TestExpandedTheHistoryLeavesThroughTheStream(t *testing.T) {
	stack := expand(t)
	mappings := slices.Collect(maps.Values(stack.all("AWS::Lambda::EventSourceMapping")))
	if len(mappings) != 1 {
		t.Fatalf("%d event source mappings, want one", len(mappings))
	}
	mapping := mappings[0].Properties
	for key, want := range map[string]any{
		"EventSourceArn":             "${Table.StreamArn}",
		"FunctionName":               "${NotifyFunction}",
		"StartingPosition":           "TRIM_HORIZON",
		"FunctionResponseTypes":      `["ReportBatchItemFailures"]`,
		"BisectBatchOnFunctionError": "true",
		"DestinationConfig":          `{"OnFailure":{"Destination":{"Fn::GetAtt":["FailedQueue","Arn"]}}}`,
		"ParallelizationFactor":      "", // more than one, and a credential's events overtake each other
	} {
		if got := text(mapping[key]); got != want {
			t.Errorf("%s: got %s, want %s", key, got, want)
		}
	}
	if retries, _ := mapping["MaximumRetryAttempts"].(float64); retries < 1 {
		t.Errorf("%v retries: a record that cannot be told holds up all others, or one refusal loses it", retries)
	}
	// The stream keeps a record for 24 hours, and the queue names it without holding it.
	if age, _ := mapping["MaximumRecordAgeInSeconds"].(float64); age < 3600 || age > 43200 {
		t.Errorf("given up after %v s, want an hour at least and 12 at most", age)
	}

	var patterns []map[string]any
	for _, filter := range list(at(mapping, "FilterCriteria", "Filters")) {
		var pattern map[string]any
		if err := json.Unmarshal([]byte(text(at(filter, "Pattern"))), &pattern); err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, pattern)
	}
	for _, record := range []struct {
		name, sk, attribute string
		want                bool
	}{
		{"INSERT", "HIST#c1#0000000001", "event", true},
		{"MODIFY", "HIST#c1#0000000001", "event", false},
		{"REMOVE", "HIST#c1#0000000001", "event", false},
		{"INSERT", "CRED#c1", "account", false},
		{"INSERT", "HOLDER", "kind", false},
		{"INSERT", "WORK#acme", "wake", true},
		{"MODIFY", "WORK#acme", "wake", true},
		{"MODIFY", "WORK#acme", "dueAt", false},
		{"MODIFY", "CRED#c1", "wake", false},
	} {
		value := func(s string) map[string]any { return map[string]any{"S": s} }
		got := slices.ContainsFunc(patterns, func(pattern map[string]any) bool {
			return local.Matches(pattern, map[string]any{"eventName": record.name, "dynamodb": map[string]any{
				"Keys":     map[string]any{"pk": value("HOLDER#E-1"), "sk": value(record.sk)},
				"NewImage": map[string]any{record.attribute: value("x")}}})
		})
		if got != record.want {
			t.Errorf("%s of %s with %s: delivered %v, want %v", record.name, record.sk, record.attribute, got, record.want)
		}
	}
}

func TestExpandedEveryFunctionIsSetUpAlike(t *testing.T) {
	stack := expand(t)
	overHTTP := make(map[string]bool)
	for _, answer := range routes {
		name, _, _ := strings.Cut(answer, " ")
		overHTTP[name] = true
	}
	want := []string{"ACCOUNTS", "BUS_NAME", "MAIL_CONFIGURATION_SET", "MAIL_FROM", "SECRETS_PREFIX", "TABLE_NAME"}
	for id, r := range stack.all("AWS::Lambda::Function") {
		variables := slices.Sorted(maps.Keys(at(r.Properties, "Environment", "Variables").(map[string]any)))
		if !slices.Equal(variables, want) {
			t.Errorf("%s has the environment %v, want %v", id, variables, want)
		}
		runs := text(r.Properties["Runtime"]) + " " + strings.Join(texts(r.Properties["Architectures"]), " ")
		if runs != "provided.al2023 arm64" {
			t.Errorf("%s runs on %s", id, runs)
		}
		if timeout := r.Properties["Timeout"].(float64); overHTTP[id] && timeout > 29 {
			t.Errorf("%s may take %v s, and the gateway waits 30", id, timeout)
		}
		logging := r.Properties["LoggingConfig"]
		if got := text(at(logging, "LogFormat")) + " " + text(at(logging, "LogGroup")); got != "JSON ${FunctionLogs}" {
			t.Errorf("%s logs %s", id, got)
		}
	}
	for id, r := range stack.all("AWS::Lambda::Function") {
		want := ""
		if id == "SweepFunction" {
			want = `{"Fn::If":["OneSweepAtATime",1,{"Ref":"AWS::NoValue"}]}`
		}
		if got := text(r.Properties["ReservedConcurrentExecutions"]); got != want {
			t.Errorf("%s reserves %s of the account's concurrency, want %s", id, got, want)
		}
	}
}

func TestExpandedTheTableSurvives(t *testing.T) {
	table := expand(t)["Table"]
	if table.DeletionPolicy != "Retain" || table.UpdateReplacePolicy != "Retain" {
		t.Error("the table goes with the stack")
	}
	for _, setting := range []struct {
		path []string
		want any
	}{
		{[]string{"BillingMode"}, "PAY_PER_REQUEST"},
		{[]string{"DeletionProtectionEnabled"}, "${DeletionProtection}"},
		{[]string{"StreamSpecification", "StreamViewType"}, "NEW_AND_OLD_IMAGES"},
		{[]string{"TimeToLiveSpecification", "AttributeName"}, "ttl"},
		{[]string{"PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"}, true},
		{[]string{"SSESpecification", "SSEEnabled"}, true},
	} {
		got := at(table.Properties, setting.path...)
		if m, ok := got.(map[string]any); ok {
			got = text(m)
		}
		if got != setting.want {
			t.Errorf("%s: got %v, want %v", strings.Join(setting.path, "."), got, setting.want)
		}
	}
}

type resource struct {
	Type                                string
	DeletionPolicy, UpdateReplacePolicy string
	Properties                          map[string]any
}

// resources of a stack by their logical ids.
type resources map[string]resource

func (s resources) all(kind string) resources {
	found := make(resources)
	for id, r := range s {
		if r.Type == kind {
			found[id] = r
		}
	}
	return found
}

// asynchronous returns the functions that rules and schedules call: for each the targets, by the rule or schedule.
func (s resources) asynchronous() map[string]map[string]any {
	targets := make(map[string]map[string]any)
	add := func(from string, target any) {
		function := owner(text(at(target, "Arn")))
		if targets[function] == nil {
			targets[function] = make(map[string]any)
		}
		targets[function][from] = target
	}
	for id, r := range s.all("AWS::Events::Rule") {
		for _, target := range list(r.Properties["Targets"]) {
			add(id, target)
		}
	}
	for id, r := range s.all("AWS::Scheduler::Schedule") {
		add(id, r.Properties["Target"])
	}
	return targets
}

// mayFill says whether the queue's policy lets the rule, and the rule alone, send to it.
func (s resources) mayFill(rule, queue string) bool {
	for _, r := range s.all("AWS::SQS::QueuePolicy") {
		for _, statement := range list(at(r.Properties, "PolicyDocument", "Statement")) {
			if slices.Contains(texts(r.Properties["Queues"]), "${"+queue+"}") &&
				text(at(statement, "Resource")) == "${"+queue+".Arn}" &&
				text(at(statement, "Action")) == "sqs:SendMessage" &&
				text(at(statement, "Principal", "Service")) == "events.amazonaws.com" &&
				text(at(statement, "Condition", "ArnEquals", "aws:SourceArn")) == "${"+rule+".Arn}" {
				return true
			}
		}
	}
	return false
}

// grants lists what a role may do, sorted, each as "action resource" with "if test key value" where there is a
// condition.
func grants(t *testing.T, stack resources, role resource) []string {
	t.Helper()
	var documents []any
	for _, arn := range texts(role.Properties["ManagedPolicyArns"]) {
		policy, ok := stack[owner(arn)]
		if !ok {
			t.Errorf("%s is not a policy of this template", arn)
		}
		documents = append(documents, policy.Properties["PolicyDocument"])
	}
	for _, policy := range list(role.Properties["Policies"]) {
		documents = append(documents, at(policy, "PolicyDocument"))
	}
	var lines []string
	for _, document := range documents {
		for _, statement := range list(at(document, "Statement")) {
			for key := range statement.(map[string]any) {
				if !slices.Contains([]string{"Sid", "Effect", "Action", "Resource", "Condition"}, key) {
					t.Errorf("a statement has %s, which this test does not understand", key)
				}
			}
			if at(statement, "Effect") != "Allow" {
				t.Errorf("a statement does not allow: %v", statement)
			}
			var condition string
			if tests, ok := at(statement, "Condition").(map[string]any); ok {
				for test, keys := range tests {
					for key, value := range keys.(map[string]any) {
						condition += " if " + test + " " + key + " " + text(value)
					}
				}
			}
			for _, action := range texts(at(statement, "Action")) {
				for _, resource := range texts(at(statement, "Resource")) {
					lines = append(lines, action+" "+resource+condition)
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// expand returns the stack as the SAM translator hands it to CloudFormation.
func expand(t *testing.T) resources {
	t.Helper()
	python, err := filepath.Abs(root + "/.local/venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "expand.py", root+"/template.yaml")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("expanding template.yaml (make verify sets Python up): %v\n%s", err, stderr.String())
	}
	var template struct{ Resources resources }
	if err := json.Unmarshal(out, &template); err != nil {
		t.Fatal(err)
	}
	return template.Resources
}

// at follows keys down nested objects; nil when one is missing.
func at(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// list returns v's elements, or v itself as the only one: policies and targets may be written either way.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

func texts(v any) []string {
	var all []string
	for _, element := range list(v) {
		all = append(all, text(element))
	}
	return all
}

// text writes a string or a reference as Fn::Sub would: ${Table}, ${Table.Arn}. Anything else becomes its JSON.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			return "${" + ref + "}"
		}
		if path := list(v["Fn::GetAtt"]); path != nil {
			return "${" + strings.Join(texts(path), ".") + "}"
		}
		switch sub := v["Fn::Sub"].(type) {
		case string:
			return sub
		case []any:
			s := text(sub[0])
			for name, value := range sub[1].(map[string]any) {
				s = strings.ReplaceAll(s, "${"+name+"}", text(value))
			}
			return s
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// owner is the logical id in ${id} or ${id.Attribute}.
func owner(reference string) string {
	id, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(reference, "${"), "}"), ".")
	return id
}
