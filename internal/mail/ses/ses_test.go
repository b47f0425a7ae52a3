package ses_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"

	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/mail/ses"
)

const from = "no-reply@acme.example"

// fakeSES keeps what it was sent and answers with err, or with the message id m-1.
type fakeSES struct {
	sent []*sesv2.SendEmailInput
	err  error
}

func (f *fakeSES) SendEmail(_ context.Context, in *sesv2.SendEmailInput,
	_ ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error) {
	f.sent = append(f.sent, in)
	if f.err != nil {
		return nil, f.err
	}
	return &sesv2.SendEmailOutput{MessageId: aws.String("m-1")}, nil
}

func TestSendHandsOverTheWholeMail(t *testing.T) {
	api := &fakeSES{}
	outcome := ses.New(api, from, "mobilecred").Send(t.Context(), full())
	if outcome != (mail.Outcome{Fate: mail.Sent, MessageID: "m-1"}) {
		t.Fatalf("got %+v", outcome)
	}
	m := render(t, full())
	in := api.sent[0]
	if got := *in.FromEmailAddress; got != `"Acme Security" <no-reply@acme.example>` {
		t.Errorf("from %s", got)
	}
	if got := in.Destination; !reflect.DeepEqual(got, &types.Destination{ToAddresses: []string{"ada@example.com"}}) {
		t.Errorf("to %+v", got)
	}
	if got := in.ReplyToAddresses; !slices.Equal(got, []string{"badges@acme.example"}) {
		t.Errorf("reply to %v", got)
	}
	if got := *in.ConfigurationSetName; got != "mobilecred" {
		t.Errorf("configuration set %s", got)
	}
	simple := in.Content.Simple
	for name, part := range map[string]struct {
		got  *types.Content
		want string
	}{"subject": {simple.Subject, m.Subject}, "HTML": {simple.Body.Html, m.HTML}, "text": {simple.Body.Text, m.Text}} {
		if *part.got.Data != part.want || *part.got.Charset != "UTF-8" {
			t.Errorf("the %s differs from what was rendered, or is not UTF-8", name)
		}
	}
	tags := map[string]string{}
	for _, tag := range in.EmailTags {
		tags[*tag.Name] = *tag.Value
	}
	if want := map[string]string{"credentialId": "c7Jq0", "holderId": "E-1042"}; !reflect.DeepEqual(tags, want) {
		t.Errorf("tags %v, want %v", tags, want)
	}
}

func TestInternationalDomainsGoOutAsPunycode(t *testing.T) {
	api := &fakeSES{}
	letter := full()
	letter.To, letter.Sender.ReplyTo = "x@exämple.com", "badges@bücher.example"
	if outcome := ses.New(api, from, "").Send(t.Context(), letter); outcome.Fate != mail.Sent {
		t.Fatal(outcome)
	}
	in := api.sent[0]
	if to := in.Destination.ToAddresses; !slices.Equal(to, []string{"x@xn--exmple-cua.com"}) {
		t.Errorf("to %q", to)
	}
	if !slices.Equal(in.ReplyToAddresses, []string{"badges@xn--bcher-kva.example"}) {
		t.Errorf("reply to %q", in.ReplyToAddresses)
	}
}

func TestOnlyIdsThatFitBecomeTags(t *testing.T) {
	api := &fakeSES{}
	inv := full()
	inv.HolderID, inv.CredentialID = "a.lovelace", ""
	if outcome := ses.New(api, from, "").Send(t.Context(), inv); outcome.Fate != mail.Sent {
		t.Fatal(outcome)
	}
	if in := api.sent[0]; len(in.EmailTags) != 0 || in.ConfigurationSetName != nil {
		t.Errorf("tags %v, configuration set %v, want none", in.EmailTags, in.ConfigurationSetName)
	}
}

func TestTheFromLineHoldsOneAddressAndOneName(t *testing.T) {
	tests := []struct{ name, company, want string }{
		{"Acme Security", "Acme", "Acme Security"},
		{"", "Acme", "Acme"},
		{"", "", ""},
		{"Zürich Tür", "", "Zürich Tür"},
		{"A\r\nBcc: eve@example.com\r\n\r\nHello", "", "A Bcc: eve@example.com Hello"},
		{`x" <eve@example.com>, "y`, "", `x" <eve@example.com>, "y`},
		{strings.Repeat("é", 200), "", strings.Repeat("é", 200)},
	}
	for _, tt := range tests {
		api := &fakeSES{}
		inv := full()
		inv.Sender.Name, inv.Sender.Company = tt.name, tt.company
		if outcome := ses.New(api, from, "").Send(t.Context(), inv); outcome.Fate != mail.Sent {
			t.Fatal(outcome)
		}
		got := *api.sent[0].FromEmailAddress
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: the header %q is not printable ASCII", tt.name, got)
		}
		list, err := netmail.ParseAddressList(got)
		if err != nil || len(list) != 1 || list[0].Address != from || list[0].Name != tt.want {
			t.Errorf("%q: a reader sees %v (%v), want %q", tt.name, list, err, tt.want)
		}
	}
}

func TestWhatCannotBeAddressedIsRejectedUnsent(t *testing.T) {
	tests := []struct {
		name, from, reason string
		spoil              func(*mail.Letter)
	}{
		{"two recipients", from, "InvalidAddress", func(i *mail.Letter) { i.To = "ada@example.com, eve@example.com" }},
		{"recipient with a name", from, "InvalidAddress", func(i *mail.Letter) { i.To = "Ada <ada@example.com>" }},
		{"header in the recipient", from, "InvalidAddress",
			func(i *mail.Letter) { i.To = "ada@example.com\r\nBcc: eve@example.com" }},
		{"recipient in another script", from, "InvalidAddress", func(i *mail.Letter) { i.To = "ä@example.com" }},
		{"no recipient", from, "InvalidAddress", func(i *mail.Letter) { i.To = "" }},
		{"reply-to", from, "InvalidReplyTo",
			func(i *mail.Letter) { i.Sender.ReplyTo = "x@y.example\nBcc: eve@example.com" }},
		{"sender", "no-address", "InvalidSender", func(*mail.Letter) {}},
		{"no code", from, "NoCodeOrExpiry", func(i *mail.Letter) { i.Code = "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := &fakeSES{}
			inv := full()
			tt.spoil(&inv)
			outcome := ses.New(api, tt.from, "").Send(t.Context(), inv)
			checkOutcome(t, outcome, mail.Rejected, tt.reason)
			if len(api.sent) != 0 {
				t.Error("the mail was handed over")
			}
		})
	}
}

// TestFate drives the genuine client, because what an error means for the mail depends on how the client wraps it and
// on whether it tries again.
func TestFate(t *testing.T) {
	problem := func(status int, name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Errortype", name)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"message":"about ada@example.com and `+code+`"}`)
		}
	}
	sent := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"MessageId":"m-1"}`)
	}
	throttled := problem(429, "TooManyRequestsException")

	tests := []struct {
		name     string
		answers  []http.HandlerFunc // in turn, the last one again and again; nil cuts the connection
		fate     mail.Fate
		reason   string
		requests int
	}{
		{"sent", []http.HandlerFunc{sent}, mail.Sent, "", 1},
		{"throttled once", []http.HandlerFunc{throttled, sent}, mail.Sent, "", 2},
		{"throttled thrice", []http.HandlerFunc{throttled}, mail.Throttled, "TooManyRequestsException", 3},
		{"throttled by another name", []http.HandlerFunc{problem(400, "ThrottlingException"), sent}, mail.Sent, "", 2},
		{"limit exceeded", []http.HandlerFunc{problem(400, "LimitExceededException")}, mail.Throttled,
			"LimitExceededException", 3},
		{"throttled by something in between", []http.HandlerFunc{problem(429, "")}, mail.Throttled, "UnknownError", 3},
		{"throttled, then cut", []http.HandlerFunc{throttled, nil, sent}, mail.InDoubt, "NoAnswer", 2},
		{"message rejected", []http.HandlerFunc{problem(400, "MessageRejected")}, mail.Rejected, "MessageRejected", 1},
		{"domain not verified", []http.HandlerFunc{problem(400, "MailFromDomainNotVerifiedException")}, mail.Rejected,
			"MailFromDomainNotVerifiedException", 1},
		{"account suspended", []http.HandlerFunc{problem(400, "AccountSuspendedException")}, mail.Rejected,
			"AccountSuspendedException", 1},
		{"sending paused", []http.HandlerFunc{problem(400, "SendingPausedException")}, mail.Rejected,
			"SendingPausedException", 1},
		{"bad request", []http.HandlerFunc{problem(400, "BadRequestException")}, mail.Rejected,
			"BadRequestException", 1},
		{"no permission", []http.HandlerFunc{problem(403, "AccessDeniedException")}, mail.Rejected,
			"AccessDeniedException", 1},
		{"failure inside", []http.HandlerFunc{problem(500, "InternalServiceErrorException"), sent}, mail.Rejected,
			"InternalServiceErrorException", 1},
		{"bad gateway", []http.HandlerFunc{problem(502, "ada@example.com"), sent}, mail.Rejected, "HTTP502", 1},
		{"unavailable", []http.HandlerFunc{problem(503, "ServiceUnavailable"), sent}, mail.Rejected,
			"ServiceUnavailable", 1},
		{"cut", []http.HandlerFunc{nil, sent}, mail.InDoubt, "NoAnswer", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // attempts wait for each other
				requests := 0
				api := client("http://ses.invalid", roundTrip(func(r *http.Request) (*http.Response, error) {
					requests++
					var body struct{ FromEmailAddress string }
					if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.FromEmailAddress == "" {
						t.Errorf("not a SendEmail: %v", err)
					}
					answer := tt.answers[min(requests, len(tt.answers))-1]
					if answer == nil {
						return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
					}
					w := httptest.NewRecorder()
					answer(w, r)
					return w.Result(), nil
				}))

				outcome := ses.New(api, from, "").Send(t.Context(), full())
				checkOutcome(t, outcome, tt.fate, tt.reason)
				if (outcome.MessageID == "m-1") != (tt.fate == mail.Sent) {
					t.Errorf("message id %q of a letter whose fate is %d", outcome.MessageID, tt.fate)
				}
				if requests != tt.requests {
					t.Errorf("%d requests, want %d", requests, tt.requests)
				}
			})
		})
	}
}

func TestALostAnswerIsInDoubt(t *testing.T) {
	tests := map[string]func(cancel func(), r *http.Request){
		"cut":       func(func(), *http.Request) { panic(http.ErrAbortHandler) },
		"cancelled": func(cancel func(), r *http.Request) { cancel(); <-r.Context().Done() },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				requests.Add(1)
				lose(cancel, r)
			}))
			defer server.Close()

			outcome := ses.New(client(server.URL, nil), from, "").Send(ctx, full())

			checkOutcome(t, outcome, mail.InDoubt, "NoAnswer")
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestWithoutAConnectionNothingIsSent(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	refused := gone.URL
	gone.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	unknown := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "ses.invalid", IsNotFound: true}
	}}
	tests := map[string]ses.API{
		"refused":      client(refused, nil),
		"no such host": client("http://ses.invalid", unknown),
		"no handshake": client(strings.Replace(plain.URL, "http:", "https:", 1), nil),
	}
	for name, api := range tests {
		t.Run(name, func(t *testing.T) {
			outcome := ses.New(api, from, "").Send(t.Context(), full())
			checkOutcome(t, outcome, mail.Throttled, "NotReached")
		})
	}
}

func TestAContextThatEndedSendsNothing(t *testing.T) {
	api := &fakeSES{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcome := ses.New(api, from, "").Send(ctx, full())
	checkOutcome(t, outcome, mail.Throttled, "NoTimeLeft")
	if len(api.sent) != 0 {
		t.Error("the mail was handed over")
	}
}

func TestAContextThatEndsWhileWaitingAfterAThrottleLeavesNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// When all goroutines wait, the clock of the bubble jumps to the first event that ends a wait: here always the
		// end of the context.
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		throttle := roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusTooManyRequests,
				Header:     http.Header{"X-Amzn-Errortype": {"TooManyRequestsException"}},
				Body:       io.NopCloser(strings.NewReader("{}")),
			}, nil
		})
		outcome := ses.New(client("http://ses.invalid", throttle), from, "").Send(ctx, full())
		checkOutcome(t, outcome, mail.Throttled, "NoTimeLeft")
	})
}

// A port that answers without HTTP is judged by the error alone.
func TestErrorsWithoutAnAnswerAreJudgedByThemselves(t *testing.T) {
	for _, tt := range []struct {
		err    error
		fate   mail.Fate
		reason string
	}{
		{&types.MessageRejected{}, mail.Rejected, "MessageRejected"},
		{&types.TooManyRequestsException{}, mail.Throttled, "TooManyRequestsException"},
		{&types.InternalServiceErrorException{}, mail.InDoubt, "InternalServiceErrorException"},
		{context.DeadlineExceeded, mail.InDoubt, "NoAnswer"},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, mail.InDoubt, "NoAnswer"},
		{errors.New("anything"), mail.InDoubt, "NoAnswer"},
	} {
		outcome := ses.New(&fakeSES{err: tt.err}, from, "").Send(t.Context(), full())
		checkOutcome(t, outcome, tt.fate, tt.reason)
	}
}

// client is a genuine SES client with the retries a function would configure, which Send must not use.
func client(url string, transport http.RoundTripper) *sesv2.Client {
	return sesv2.NewFromConfig(aws.Config{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String(url),
		HTTPClient:   &http.Client{Transport: transport, Timeout: 5 * time.Second},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "secret"}, nil
		}),
		RetryMaxAttempts: 5,
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// checkOutcome wants a fate and a reason that is one word and holds nothing of the letter.
func checkOutcome(t *testing.T, got mail.Outcome, fate mail.Fate, reason string) {
	t.Helper()
	if got.Fate != fate || got.Reason != reason {
		t.Errorf("got %+v, want fate %d, reason %q", got, fate, reason)
	}
	for _, secret := range []string{"ada", "Ada", "Lovelace", code, "eve"} {
		if strings.Contains(got.Reason, secret) {
			t.Errorf("%q holds %q", got.Reason, secret)
		}
	}
}
