package template_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const toy = `
Transform: AWS::Serverless-2016-10-31
Parameters:
  Issuer: {Type: String}
  Accounts: {Type: CommaDelimitedList, Default: "a, b"}
  Extra: {Type: String, Default: ""}
Conditions:
  HasExtra: !Not [!Equals [!Ref Extra, ""]]
Globals:
  Function:
    Timeout: 10
    Environment:
      Variables:
        ACCOUNTS: !Join [",", !Ref Accounts]
        EXTRA: !If [HasExtra, !Ref Extra, none]
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/f
      ReservedConcurrentExecutions: 1
      Environment: {Variables: {TABLE: !Ref T, WHERE: !Sub "${T.Arn}/index/${AWS::Region}"}}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Q.Arn}}
      Events:
        Get: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: get, Path: "/x/{id}",
        	Auth: {AuthorizationScopes: [r]}}}
        Hook: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: /hook, Auth: {Authorizer: NONE}}}
        Rule:
          Type: EventBridgeRule
          Properties:
            EventBusName: !GetAtt B.Arn
            Pattern: {source: [s], detail: {n: [{prefix: x}]}}
            DeadLetterConfig: {Arn: !GetAtt Q.Arn}
        Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(5 minutes)}}
        Changes:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt T.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 7
            MaximumRetryAttempts: 3
            BisectBatchOnFunctionError: true
            FunctionResponseTypes: [ReportBatchItemFailures]
            FilterCriteria: {Filters: [{Pattern: '{"eventName":["INSERT"]}'}]}
            DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Q.Arn}}
  G:
    Type: AWS::Serverless::Function
    Condition: HasExtra
    Properties: {CodeUri: functions/g}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Jwt
        Authorizers: {Jwt: {JwtConfiguration: {issuer: !Ref Issuer, audience: [us]}}}
  T:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: things
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      BillingMode: PAY_PER_REQUEST
      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}
      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}
  B: {Type: AWS::Events::EventBus, Properties: {Name: bus}}
  Q: {Type: AWS::SQS::Queue, Properties: {MessageRetentionPeriod: 60}}
  Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {Namespace: !GetAtt Nothing.At.All}}
`

func TestEverythingTheLocalRunNeedsIsResolved(t *testing.T) {
	got, err := template.Parse([]byte(toy), map[string]string{"Issuer": "http://issuer"})
	if err != nil {
		t.Fatal(err)
	}
	want := &template.Template{
		Functions: []*template.Function{{
			LogicalID: "F", Name: "F", ARN: "arn:aws:lambda:eu-central-1:000000000000:function:F",
			Package: "functions/f", Timeout: 10 * time.Second, MemoryMB: 128, Reserved: 1,
			Environment: map[string]string{"ACCOUNTS": "a,b", "EXTRA": "none", "TABLE": "things",
				"WHERE": "arn:aws:dynamodb:eu-central-1:000000000000:table/things/index/eu-central-1"},
			Async: template.Async{MaxRetries: 1, MaxAge: 6 * time.Hour, OnFailure: "Q"},
			Routes: []template.Route{
				{Method: "GET", Path: "/x/{id}", Authorized: true, Scopes: []string{"r"}},
				{Method: "POST", Path: "/hook"},
			},
			Rules: []template.Rule{{ID: "FRule", Bus: "bus",
				Pattern: map[string]any{
					"source": []any{"s"},
					"detail": map[string]any{"n": []any{map[string]any{"prefix": "x"}}},
				}}},
			Schedules: []template.Schedule{{ID: "FTick", Period: 5 * time.Minute, V2: true}},
			Streams: []template.Stream{{ID: "FChanges", Table: "things", BatchSize: 7, MaxRetries: 3,
				Bisect: true, ReportItem: true, OnFailure: "Q",
				Filters: []map[string]any{{"eventName": []any{"INSERT"}}}}},
		}},
		Authorizer: &template.Authorizer{Issuer: "http://issuer", Audience: []string{"us"}},
		Tables: []*template.Table{{Name: "things", TTLAttribute: "ttl", Create: map[string]any{
			"TableName": "things", "BillingMode": "PAY_PER_REQUEST",
			"AttributeDefinitions": []any{map[string]any{"AttributeName": "pk", "AttributeType": "S"}},
			"KeySchema":            []any{map[string]any{"AttributeName": "pk", "KeyType": "HASH"}},
			"StreamSpecification":  map[string]any{"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"},
		}}},
		Buses:  []string{"bus"},
		Queues: map[string]string{"arn:aws:sqs:eu-central-1:000000000000:Q": "Q"},
	}
	g, _ := json.MarshalIndent(got, "", " ")
	w, _ := json.MarshalIndent(want, "", " ")
	if string(g) != string(w) {
		t.Errorf("got %s\nwant %s", g, w)
	}
}

func TestAConditionTakesAResourceIn(t *testing.T) {
	got, err := template.Parse([]byte(toy), map[string]string{"Issuer": "i", "Extra": "more"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Functions); n != 2 || got.Functions[1].Environment["EXTRA"] != "more" {
		t.Errorf("got %d functions with %v", n, got.Functions[n-1].Environment)
	}
}

func TestWhatIsNotInterpretedIsRefusedByName(t *testing.T) {
	function := func(props string) string {
		return "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {" + props + "}\n"
	}
	event := func(e string) string { return function("Events: {E: " + e + "}") }
	tests := []struct{ name, text, want string }{
		{"resource type", "Resources: {X: {Type: AWS::Kinesis::Stream}}", "X: type AWS::Kinesis::Stream"},
		{"function property", function("Layers: [a]"), "F.Layers"},
		{"event type", event("{Type: Kafka, Properties: {}}"), "FE: event type Kafka"},
		{
			"event property",
			event("{Type: EventBridgeRule, Properties: {Pattern: {source: [a]}, InputPath: $.x}}"),
			"F.Events.E.Properties.InputPath",
		},
		{
			"pattern",
			event("{Type: EventBridgeRule, Properties: {Pattern: {n: [{numeric: ['>', 1]}]}}}"),
			"Pattern: n: condition",
		},
		{
			"pattern or",
			event("{Type: EventBridgeRule, Properties: {Pattern: {$or: [{a: [b]}]}}}"),
			"$or is not interpreted",
		},
		{
			"cron",
			event("{Type: ScheduleV2, Properties: {ScheduleExpression: 'cron(0 1 * * ? *)'}}"),
			"ScheduleExpression",
		},
		{
			"bus",
			event("{Type: EventBridgeRule, Properties: {EventBusName: other, Pattern: {source: [a]}}}"),
			"no bus other",
		},
		{"reference", function("Timeout: !Ref Nothing"), "!Ref Nothing"},
		{"intrinsic", function("Timeout: !ImportValue x"), "!ImportValue"},
		{
			"self reference",
			"Resources: {T: {Type: AWS::DynamoDB::Table, Properties: {TableName: !Ref T}}}",
			"refers to itself",
		},
		{"parameter without value", "Parameters: {P: {Type: String}}", "Parameters.P"},
		{"section", "Rules: {}", "Rules: section"},
		{
			"authorizer",
			event("{Type: HttpApi, Properties: {Method: GET, Path: /, Auth: {Authorizer: J}}}"),
			"wants an authorizer",
		},
		{
			"payload format",
			event("{Type: HttpApi, Properties: {Method: GET, Path: /, PayloadFormatVersion: '1.0'}}"),
			"PayloadFormatVersion",
		},
		{"starting position", event("{Type: DynamoDB, Properties: {StartingPosition: LATEST}}"), "StartingPosition"},
		{
			"filter",
			event(
				"{Type: DynamoDB, Properties: {FilterCriteria: {Filters: [{Pattern: '{\"a\":[{\"numeric\":[]}]}'}]}}}",
			),
			"FilterCriteria.Filters",
		},
		{
			"queue",
			function("EventInvokeConfig: {DestinationConfig: {OnFailure: {Destination: nope}}}"),
			"names no queue",
		},
		{"not a number", function("Timeout: soon"), "F.Timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := template.Parse([]byte(tt.text), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	const event = `{"source":"shop","detail-type":"Order Placed","detail":{"n":7,"who":"x","tags":["a","b"],"nil":null}}`
	tests := []struct {
		pattern string
		want    bool
	}{
		{`{"source":["shop"]}`, true},
		{`{"source":["other","shop"]}`, true},
		{`{"source":["other"]}`, false},
		{`{"source":["shop"],"detail-type":["Other"]}`, false},
		{`{"detail":{"n":[7]}}`, true},
		{`{"detail":{"n":["7"]}}`, false},
		{`{"detail":{"nil":[null]}}`, true},
		{`{"detail":{"tags":["b"]}}`, true},
		{`{"detail":{"tags":["c"]}}`, false},
		{`{"source":[{"prefix":"sh"}]}`, true},
		{`{"source":[{"prefix":"cred"}]}`, false},
		{`{"source":[{"anything-but":"shop"}]}`, false},
		{`{"source":[{"anything-but":["a","b"]}]}`, true},
		{`{"source":[{"anything-but":{"prefix":"sho"}}]}`, false},
		{`{"absent":[{"anything-but":"x"}]}`, false},
		{`{"detail":{"who":[{"exists":true}]}}`, true},
		{`{"detail":{"none":[{"exists":false}]}}`, true},
		{`{"detail":{"none":[{"exists":true}]}}`, false},
		{`{"detail":[{"exists":true}]}`, false},
		{`{"nested":{"deep":["x"]}}`, false},
		{`{"nested":{"deep":[{"exists":false}]}}`, true},
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(event), &e); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		var p map[string]any
		if err := json.Unmarshal([]byte(tt.pattern), &p); err != nil {
			t.Fatal(err)
		}
		if got := template.Matches(p, e); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.pattern, got, tt.want)
		}
	}
}

// TestTheProjectsOwnTemplateIsInterpreted keeps template.yaml within what the
// local run understands.
func TestTheProjectsOwnTemplateIsInterpreted(t *testing.T) {
	for reserve, want := range map[string]int{"true": 1, "false": 0} {
		got, err := template.Load("../../../template.yaml", map[string]string{
			"JwtIssuer": "i", "JwtAudience": "a", "MailFrom": "m", "MailIdentity": "m", "ReserveConcurrency": reserve})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Functions) == 0 || len(got.Tables) != 1 || got.Authorizer == nil {
			t.Errorf("functions %d, tables %d, authorizer %v", len(got.Functions), len(got.Tables), got.Authorizer)
		}
		for _, f := range got.Functions {
			if f.LogicalID == "SweepFunction" && f.Reserved != want {
				t.Errorf("ReserveConcurrency %s: %d sweeps at a time, want %d", reserve, f.Reserved, want)
			}
			if f.LogicalID == "NotifyFunction" && (len(f.Streams) != 1 || len(f.Streams[0].Filters) != 2) {
				t.Errorf("notify has the streams %+v, want one with two filters", f.Streams)
			}
		}
	}
}
