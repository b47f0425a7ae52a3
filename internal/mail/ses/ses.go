package ses

import (
	"context"
	"errors"
	"net/http/httptrace"
	netmail "net/mail"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"

	"github.com/mobilecred/mobilecred/internal/address"
	"github.com/mobilecred/mobilecred/internal/mail"
)

// API is the one call of SES v2 this package makes.
type API interface {
	SendEmail(context.Context, *sesv2.SendEmailInput, ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error)
}

// Mailer sends invitations through Amazon SES v2.
type Mailer struct {
	client           API
	from             string
	configurationSet string
	retryer          aws.Retryer
}

// New returns a mailer whose mails come from the address from. configurationSet names an SES configuration set; empty
// means none.
//
// The retries that client is configured with are not used: a SendEmail is repeated only after a throttle, because SES
// takes no idempotency token that would make a second call harmless.
func New(client API, from, configurationSet string) *Mailer {
	return &Mailer{
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

// Send implements mail.Mailer: it renders the letter and hands it to SES.
func (m *Mailer) Send(ctx context.Context, letter mail.Letter) mail.Outcome {
	input, rejected := m.input(letter)
	if rejected != "" {
		return mail.Outcome{Fate: mail.Rejected, Reason: rejected}
	}
	if ctx.Err() != nil {
		return mail.Outcome{Fate: mail.Throttled, Reason: "NoTimeLeft"}
	}
	// An attempt that got no connection has sent nothing. It is the transport that is asked, because the errors for
	// this are many, and some are not exported.
	var connecting atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connecting.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connecting.Store(false) },
	})
	out, err := m.client.SendEmail(ctx, input, func(o *sesv2.Options) { o.Retryer = m.retryer })
	switch {
	case err == nil:
		return mail.Outcome{Fate: mail.Sent, MessageID: aws.ToString(out.MessageId)}
	case connecting.Load():
		return mail.Outcome{Fate: mail.Throttled, Reason: "NotReached"}
	default:
		return classify(err)
	}
}

// input builds the request; rejected says in one word why SES could only reject it, and is empty otherwise.
func (m *Mailer) input(letter mail.Letter) (input *sesv2.SendEmailInput, rejected string) {
	from, err := netmail.ParseAddress(m.from)
	if err != nil {
		return nil, "InvalidSender"
	}
	for _, name := range []string{letter.Sender.Name, letter.Sender.Company} {
		if name = oneLine(name); name != "" {
			from.Name = name
			break
		}
	}
	// Each must be one address without a name: a longer text could add a second recipient. SES takes no domain in
	// another script than ASCII.
	to, err := address.ForMail(letter.To)
	if err != nil {
		return nil, "InvalidAddress"
	}
	var replyTo []string
	if r := letter.Sender.ReplyTo; r != "" {
		if r, err = address.ForMail(r); err != nil {
			return nil, "InvalidReplyTo"
		}
		replyTo = []string{r}
	}
	message, err := Render(letter)
	if err != nil {
		return nil, "NoCodeOrExpiry"
	}
	var tags []types.MessageTag
	for _, t := range [...]struct{ name, id string }{{"credentialId", letter.CredentialID},
		{"holderId", letter.HolderID}} {
		if tagValue.MatchString(t.id) {
			tags = append(tags, types.MessageTag{Name: aws.String(t.name), Value: aws.String(t.id)})
		}
	}
	input = &sesv2.SendEmailInput{
		FromEmailAddress: aws.String(from.String()),
		Destination:      &types.Destination{ToAddresses: []string{to}},
		ReplyToAddresses: replyTo,
		EmailTags:        tags,
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: utf8(message.Subject),
			Body:    &types.Body{Html: utf8(message.HTML), Text: utf8(message.Text)},
			// Keeps out-of-office replies away from the Reply-To address (RFC 3834).
			Headers: []types.MessageHeader{{Name: aws.String("Auto-Submitted"), Value: aws.String("auto-generated")}},
		}},
	}
	if m.configurationSet != "" {
		input.ConfigurationSetName = aws.String(m.configurationSet)
	}
	return input, ""
}

// tagValue is what SES allows in a tag. Ids may also hold dots; such an id gets no tag.
var tagValue = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func utf8(s string) *types.Content {
	return &types.Content{Data: aws.String(s), Charset: aws.String("UTF-8")}
}

// classify says what an error of SendEmail means for the mail. Any error that SES answers means that it did not send
// it, a server's error included; only without an answer the mail is in doubt.
func classify(err error) mail.Outcome {
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
		return mail.Outcome{Fate: mail.Throttled, Reason: reason}
	case errors.As(err, &waiting): // the SDK's word for a context that ended between two attempts, so after a throttle
		return mail.Outcome{Fate: mail.Throttled, Reason: "NoTimeLeft"}
	case status >= 400, status == 0 && fault == smithy.FaultClient:
		return mail.Outcome{Fate: mail.Rejected, Reason: reason}
	default:
		return mail.Outcome{Fate: mail.InDoubt, Reason: reason}
	}
}

// errorCode is what a reason may look like: one short word. A proxy between us and SES could answer anything else.
var errorCode = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// isThrottle reports whether SES refused only because of too many requests or mails, LimitExceededException included.
func isThrottle(err error) bool {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) && answered.HTTPStatusCode() == 429 {
		return true
	}
	return retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err).Bool()
}
