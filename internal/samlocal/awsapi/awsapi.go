// Package awsapi answers the AWS calls the functions make: SES v2 SendEmail,
// EventBridge PutEvents, Secrets Manager GetSecretValue, and DynamoDB, which
// it passes on to the real engine. It fails them as ordered.
//
// It knows wire formats and error answers. What an event sets off belongs to
// package bus.
package awsapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/bus"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

// Server serves all services on one address; the functions' SDK clients all
// point there.
type Server struct {
	DB       *state.DB
	Faults   *faults.Faults
	Bus      *bus.Bus
	DynamoDB string // endpoint of the engine
	Verified string // the one address SES may send from
	Secret   func(name string) (string, bool)
	Now      func() time.Time
	Changed  func() // called when a mail was sent
}

// answer is a complete HTTP answer, ready before its first byte is written.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func jsonAnswer(status int, kind string, v any) answer {
	body, _ := json.Marshal(v)
	return answer{status, http.Header{"Content-Type": {kind}}, body}
}

// failure is an error answer as the JSON protocols have it: the type in the
// body for awsJson, in a header for restJson.
func failure(status int, code, message string) answer {
	a := jsonAnswer(status, "application/x-amz-json-1.1", map[string]string{"__type": code, "message": message})
	a.header.Set("X-Amzn-Errortype", code)
	return a
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The SDK drops connections, and larger replies with them, when a server answers before the transport is through
	// with the request: nothing is answered before the whole body is read, see also write.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	target := r.Header.Get("X-Amz-Target")
	service, op, _ := strings.Cut(target, ".")
	switch {
	case strings.HasPrefix(service, "DynamoDB_"):
		s.faulty(w, r, "dynamodb", dynamoOps[op], faults.About{}, func() answer { return s.dynamo(r, body) })
	case target == "AWSEvents.PutEvents":
		s.faulty(w, r, "events", "publish", faults.About{}, func() answer { return s.putEvents(body) })
	case target == "secretsmanager.GetSecretValue":
		s.write(w, s.secret(body))
	case r.Method == http.MethodPost && r.URL.Path == "/v2/email/outbound-emails":
		about := faults.About{Addresses: recipients(body)}
		s.faulty(w, r, "ses", "send", about, func() answer { return s.sendEmail(body) })
	default:
		s.write(w, failure(http.StatusBadRequest, "UnknownOperationException", "not served on a laptop: "+r.Method+" "+
			r.URL.Path+" "+target))
	}
}

// faulty carries out the call, unless a fault was ordered for it.
func (s *Server) faulty(w http.ResponseWriter, r *http.Request, service, op string, about faults.About,
	effect func() answer) {
	f, ordered := s.Faults.Take(service, op, about)
	if !ordered {
		s.write(w, effect())
		return
	}
	if f.When == "after" {
		effect()
	}
	if f.Kind == "timeout" && f.HoldMs == 0 {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	select {
	case <-r.Context().Done():
	case <-time.After(f.Hold()):
	}
	switch f.Kind {
	case "timeout":
		panic(http.ErrAbortHandler)
	case "throttle":
		s.write(w, throttled(service, op))
	case faults.Reject:
		s.write(w, failure(http.StatusBadRequest, "MessageRejected", "The message was rejected."))
	default:
		s.write(w, broken(service))
	}
}

func throttled(service, op string) answer {
	switch {
	case service == "ses":
		return failure(http.StatusTooManyRequests, "TooManyRequestsException", "Too many requests.")
	case service == "events":
		return failure(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	case op == "transact":
		return failure(http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ThrottlingException",
			"Throughput exceeds the current capacity of your table or index.")
	}
	return failure(http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
		"The level of configured provisioned throughput for the table was exceeded.")
}

func broken(service string) answer {
	switch service {
	case "ses":
		return failure(http.StatusInternalServerError, "InternalServiceErrorException", "Internal failure")
	case "events":
		return failure(http.StatusInternalServerError, "InternalException", "Internal failure")
	}
	return failure(http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError",
		"Internal server error")
}

func (s *Server) write(w http.ResponseWriter, a answer) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// dynamoOps are the calls that faults can name.
var dynamoOps = map[string]string{
	"GetItem": "read", "BatchGetItem": "read", "Query": "read", "Scan": "read", "TransactGetItems": "read",
	"PutItem": "put", "UpdateItem": "put", "DeleteItem": "put", "BatchWriteItem": "put",
	"TransactWriteItems": "transact",
}

var engine = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}

// dynamo passes a call on, byte by byte.
func (s *Server) dynamo(r *http.Request, body []byte) answer {
	// A caller who goes away does not stop the engine on AWS either.
	req, err := http.NewRequest(r.Method, s.DynamoDB+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return broken("dynamodb")
	}
	req.Header = r.Header.Clone()
	resp, err := engine.Do(req)
	if err != nil {
		return broken("dynamodb")
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		return broken("dynamodb")
	}
	return answer{resp.StatusCode, resp.Header, reply}
}

const maxEntries = 10

func (s *Server) putEvents(body []byte) answer {
	var in struct{ Entries []bus.Entry }
	if err := json.Unmarshal(body, &in); err != nil {
		return failure(http.StatusBadRequest, "SerializationException", "malformed body")
	}
	size := 0
	for _, e := range in.Entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail)
	}
	switch {
	case len(in.Entries) == 0 || len(in.Entries) > maxEntries:
		return failure(http.StatusBadRequest, "ValidationException",
			"1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length between 1 and 10")
	case size > 256<<10:
		return failure(http.StatusBadRequest, "ValidationException",
			"Total size of the entries in the request is over the limit.")
	}
	out := s.Bus.Put(in.Entries)
	failed := 0
	for _, o := range out {
		if o.ErrorCode != "" {
			failed++
		}
	}
	return jsonAnswer(http.StatusOK, "application/x-amz-json-1.1",
		map[string]any{"FailedEntryCount": failed, "Entries": out})
}

func (s *Server) secret(body []byte) answer {
	var in struct {
		SecretID string `json:"SecretId"`
	}
	_ = json.Unmarshal(body, &in)
	name := in.SecretID[strings.LastIndex(in.SecretID, ":")+1:]
	value, ok := s.Secret(name)
	if !ok {
		return failure(http.StatusBadRequest, "ResourceNotFoundException",
			"Secrets Manager can't find the specified secret.")
	}
	return jsonAnswer(http.StatusOK, "application/x-amz-json-1.1", map[string]any{
		"ARN": "arn:" + template.Partition + ":secretsmanager:" + template.Region + ":" + template.AccountID +
			":secret:" + name + "-local0",
		"Name": name, "SecretString": value, "VersionId": "local", "VersionStages": []string{"AWSCURRENT"},
	})
}

type destination struct{ ToAddresses, CcAddresses, BccAddresses []string }

func (d destination) all() []string {
	return slices.Concat(d.ToAddresses, d.CcAddresses, d.BccAddresses)
}

// recipients are the bare addresses that a SendEmail names.
func recipients(body []byte) (bare []string) {
	var in struct{ Destination destination }
	_ = json.Unmarshal(body, &in) // sendEmail refuses what cannot be read
	for _, to := range in.Destination.all() {
		if a, err := mail.ParseAddress(to); err == nil {
			bare = append(bare, a.Address)
		}
	}
	return bare
}

func (s *Server) sendEmail(body []byte) answer {
	var in struct {
		FromEmailAddress string
		Destination      destination
		ReplyToAddresses []string
		Content          struct {
			Simple *struct {
				Subject struct{ Data string }
				Body    struct{ Text, HTML struct{ Data string } }
			}
		}
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Content.Simple == nil {
		return failure(http.StatusBadRequest, "BadRequestException", "only Content.Simple is served on a laptop")
	}
	from, err := mail.ParseAddress(in.FromEmailAddress)
	if err != nil {
		return failure(http.StatusBadRequest, "BadRequestException", "Missing or malformed FromEmailAddress")
	}
	if !strings.EqualFold(from.Address, s.Verified) {
		return failure(http.StatusBadRequest, "MessageRejected",
			"Email address is not verified. The following identities failed the check in region "+
				strings.ToUpper(template.Region)+": "+from.Address)
	}
	to := in.Destination.all()
	if len(to) == 0 {
		return failure(http.StatusBadRequest, "BadRequestException", "Missing destination")
	}
	for _, a := range to {
		if _, err := mail.ParseAddress(a); err != nil {
			return failure(http.StatusBadRequest, "BadRequestException", "Malformed destination")
		}
	}
	simple := in.Content.Simple
	id, err := s.DB.Add(mails, Mail{
		From: in.FromEmailAddress, To: strings.Join(to, ", "), ReplyTo: strings.Join(in.ReplyToAddresses, ", "),
		At:      s.Now().UTC(),
		Subject: simple.Subject.Data, HTML: simple.Body.HTML.Data, Text: simple.Body.Text.Data,
	})
	if err != nil {
		return broken("ses")
	}
	s.Changed()
	return jsonAnswer(http.StatusOK, "application/json", map[string]string{"MessageId": id})
}
