package mail

import (
	"context"
	"errors"
	"net/http/httptrace"
	"net/mail"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
)

// The three ways a mail is not known to be sent. Every error of Send is exactly one of them for errors.Is.
var (
	// ErrThrottled: certainly not sent, and nothing is wrong with the mail. SES limits the rate, or was not reached at
	// all (no connection, or the context ended before there was one). Try later.
	ErrThrottled = errors.New("not sent for now")
	// ErrRejected: certainly not sent, and trying again changes nothing until somebody changes the sender, the
	// address, the profile or the account.
	ErrRejected = errors.New("rejected")
	// ErrInDoubt: may have been sent. The answer was lost, late, or a failure inside SES.
	ErrInDoubt = errors.New("in doubt")
)

// SendError is the error of Send. Its text never holds the address, the code or a name, and so it does not wrap what SES said.
type SendError struct {
	Kind   error  // ErrThrottled, ErrRejected or ErrInDoubt
	Reason string // one word: SES's error code such as MessageRejected, an HTTP status such as HTTP502, or one of this package
}

func (e *SendError) Error() string { return "mail: " + e.Kind.Error() + ": " + e.Reason }
func (e *SendError) Unwrap() error { return e.Kind }

// SESAPI is the one call of SES v2 this package makes.
type SESAPI interface {
	SendEmail(context.Context, *sesv2.SendEmailInput, ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error)
}

// SES sends invitations through Amazon SES v2.
type SES struct {
	client           SESAPI
	from             string
	configurationSet string
	retryer          aws.Retryer
}

// NewSES returns a sender whose mails come from the address from. configurationSet may be empty.
//
// Whatever retries client is configured with, a SendEmail is repeated only after a throttle: SES takes no token that would
// make a second one harmless.
func NewSES(client SESAPI, from, configurationSet string) *SES {
	return &SES{
		client:           client,
		from:             from,
		configurationSet: configurationSet,
		retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				return aws.BoolTernary(isThrottle(err))
			})}
			o.MaxBackoff = time.Second
		}),
	}
}

// Send renders the invitation and hands it to SES; messageID is SES's name for it. The error is a *SendError.
func (s *SES) Send(ctx context.Context, inv Invitation) (messageID string, err error) {
	input, err := s.input(inv)
	if err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", &SendError{ErrThrottled, "NoTimeLeft"}
	}
	// An attempt that got no connection has sent nothing. Only the transport knows: the errors for it are many and some unexported.
	var connecting atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connecting.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connecting.Store(false) },
	})
	out, err := s.client.SendEmail(ctx, input, func(o *sesv2.Options) { o.Retryer = s.retryer })
	switch {
	case err == nil:
		return aws.ToString(out.MessageId), nil
	case connecting.Load():
		return "", &SendError{ErrThrottled, "NotReached"}
	default:
		return "", classify(err)
	}
}

// input builds the request, or fails with ErrRejected for what SES could only reject.
func (s *SES) input(inv Invitation) (*sesv2.SendEmailInput, error) {
	from, err := mail.ParseAddress(s.from)
	if err != nil {
		return nil, &SendError{ErrRejected, "InvalidSender"}
	}
	for _, name := range []string{inv.Sender.Name, inv.Sender.Company} {
		if name = oneLine(name); name != "" {
			from.Name = name
			break
		}
	}
	// One bare address each: anything longer could smuggle in a second recipient.
	if to, err := mail.ParseAddress(inv.To); err != nil || to.Address != inv.To {
		return nil, &SendError{ErrRejected, "InvalidAddress"}
	}
	var replyTo []string
	if r := inv.Sender.ReplyTo; r != "" {
		if a, err := mail.ParseAddress(r); err != nil || a.Address != r {
			return nil, &SendError{ErrRejected, "InvalidReplyTo"}
		}
		replyTo = []string{r}
	}
	m, err := Render(inv)
	if err != nil {
		return nil, &SendError{ErrRejected, "NoCodeOrExpiry"}
	}
	var tags []types.MessageTag
	for _, t := range [...]struct{ name, id string }{{"credentialId", inv.CredentialID}, {"holderId", inv.HolderID}} {
		if tagValue.MatchString(t.id) {
			tags = append(tags, types.MessageTag{Name: aws.String(t.name), Value: aws.String(t.id)})
		}
	}
	input := &sesv2.SendEmailInput{
		FromEmailAddress: aws.String(from.String()),
		Destination:      &types.Destination{ToAddresses: []string{inv.To}},
		ReplyToAddresses: replyTo,
		EmailTags:        tags,
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: utf8(m.Subject),
			Body:    &types.Body{Html: utf8(m.HTML), Text: utf8(m.Text)},
			// Keeps out-of-office replies away from whoever reads the Reply-To address (RFC 3834).
			Headers: []types.MessageHeader{{Name: aws.String("Auto-Submitted"), Value: aws.String("auto-generated")}},
		}},
	}
	if s.configurationSet != "" {
		input.ConfigurationSetName = aws.String(s.configurationSet)
	}
	return input, nil
}

// tagValue is what SES allows in a tag. Ids may also hold dots; such an id gets no tag.
var tagValue = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func utf8(s string) *types.Content {
	return &types.Content{Data: aws.String(s), Charset: aws.String("UTF-8")}
}

// classify says what an error of SendEmail means for the mail. What nothing proves to be unsent is in doubt.
func classify(err error) *SendError {
	var (
		api      smithy.APIError
		answered interface{ HTTPStatusCode() int }
		waiting  *aws.RequestCanceledError
		status   int
		fault    smithy.ErrorFault
	)
	reason := "NoAnswer"
	if errors.As(err, &answered) && answered.HTTPStatusCode() != 0 {
		status = answered.HTTPStatusCode()
		reason = "HTTP" + strconv.Itoa(status)
	}
	if errors.As(err, &api) {
		fault = api.ErrorFault()
		if code := api.ErrorCode(); errorCode.MatchString(code) {
			reason = code
		}
	}
	switch {
	case isThrottle(err):
		return &SendError{ErrThrottled, reason}
	case errors.As(err, &waiting): // the SDK's word for a context that ended between two attempts, so after a throttle
		return &SendError{ErrThrottled, "NoTimeLeft"}
	case status >= 400 && status < 500, status == 0 && fault == smithy.FaultClient:
		return &SendError{ErrRejected, reason}
	default:
		return &SendError{ErrInDoubt, reason}
	}
}

// errorCode keeps a reason one short word, whatever a proxy in between answers.
var errorCode = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// isThrottle reports whether SES refused only because there was too much; LimitExceededException counts.
func isThrottle(err error) bool {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) && answered.HTTPStatusCode() == 429 {
		return true
	}
	return retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err).Bool()
}
