// Package awsconf builds the aws.Config every AWS client of a function starts from.
//
// It belongs to wiring: region, credentials, endpoint, time limits and retries, read from the environment Lambda gives.
// It imports the SDK's core only and knows no service client, because each client a function links costs start-up
// time. The SDK's own LoadDefaultConfig is avoided for the same reason: it looks in files, in
// instance metadata and in sign-in caches that no Lambda function has.
package awsconf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/mobilecred/mobilecred/internal/backoff"
)

// The services New can be asked for, spelled as in AWS_ENDPOINT_URL_<SERVICE>.
const (
	DynamoDB       = "DYNAMODB"
	SESv2          = "SESV2"
	EventBridge    = "EVENTBRIDGE"
	SecretsManager = "SECRETS_MANAGER"
)

const (
	connectTimeout   = time.Second
	handshakeTimeout = 2 * time.Second
	// While Lambda has a function frozen, it does not notice that AWS closed its connections. The transport compares
	// wall clocks before it uses one again: with a limit below the services' own, none that is closed is written to.
	idleTimeout = 30 * time.Second
	// The SDK would wait up to 20 s between attempts, most of the time that an HTTP caller has. With its own setting
	// for a shorter wait it waits exactly that long, and functions refused together would come back together.
	baseBackoff = 50 * time.Millisecond
	maxBackoff  = time.Second
)

// attempts bounds one attempt at a service, from dialling to the last byte of the answer; the caller's context bounds
// all. An attempt that hangs is given up early enough for another one, within the time that the fastest function has.
// Mail is the exception: a lost answer may be a mail that was sent, so it is waited for, and not tried again.
var attempts = map[string]time.Duration{
	DynamoDB:       1500 * time.Millisecond, // answers within tens of milliseconds; lookup has 4 s
	SecretsManager: 2 * time.Second,         // webhook has 9 s for this
	EventBridge:    2 * time.Second,         // and for this
	SESv2:          5 * time.Second,
}

// New returns the configuration for one service, named by one of the constants above.
//
// It reads AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and if set AWS_SESSION_TOKEN and
// AWS_ENDPOINT_URL_<service>, an http or https URL that replaces the service's public endpoint. The error names
// every variable that is missing or unusable, and never holds a value.
func New(getenv func(string) string, service string) (aws.Config, error) {
	var problems []error
	region := getenv("AWS_REGION")
	if region == "" {
		problems = append(problems, missing("AWS_REGION"))
	}
	if _, err := credentials(getenv); err != nil {
		problems = append(problems, err)
	}
	var endpoint *string
	if name := "AWS_ENDPOINT_URL_" + service; getenv(name) != "" {
		u, err := url.Parse(getenv(name))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			problems = append(problems, fmt.Errorf("awsconf: %s is not an http or https URL", name))
		}
		endpoint = aws.String(getenv(name))
	}
	if len(problems) > 0 {
		return aws.Config{}, errors.Join(problems...)
	}
	return aws.Config{
		Region: region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return credentials(getenv)
		}),
		BaseEndpoint: endpoint,
		HTTPClient:   httpClient(attempts[service]),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
					return backoff.Backoff{First: baseBackoff, Most: maxBackoff}.Delay(attempt), nil
				})
			})
		},
	}, nil
}

// credentials reads the environment's keys.
func credentials(getenv func(string) string) (aws.Credentials, error) {
	c := aws.Credentials{
		AccessKeyID:     getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    getenv("AWS_SESSION_TOKEN"),
		Source:          "environment",
	}
	var problems []error
	if c.AccessKeyID == "" {
		problems = append(problems, missing("AWS_ACCESS_KEY_ID"))
	}
	if c.SecretAccessKey == "" {
		problems = append(problems, missing("AWS_SECRET_ACCESS_KEY"))
	}
	return c, errors.Join(problems...)
}

func missing(name string) error { return fmt.Errorf("awsconf: %s is not set", name) }

func httpClient(attempt time.Duration) aws.HTTPClient {
	return awshttp.NewBuildableClient().
		WithTimeout(attempt).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = handshakeTimeout
			t.IdleConnTimeout = idleTimeout
		}).
		Freeze() // or a service client may put its own limits in place of these
}
