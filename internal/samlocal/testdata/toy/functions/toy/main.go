// Command toy plays every function of the template beside it. A call of the
// webhook becomes an event, the event a row, the row a mail; a tick counts
// itself and asks for more until it has run three times after a jump.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	sestypes "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
)

func config(service string) aws.Config {
	return aws.Config{Region: os.Getenv("AWS_REGION"),
		BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL_" + service)),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond })
		},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"),
				SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}, nil
		})}
}

var (
	db     = dynamodb.NewFromConfig(config("DYNAMODB"))
	events = eventbridge.NewFromConfig(config("EVENTBRIDGE"))
	mail   = sesv2.NewFromConfig(config("SESV2"))
	table  = aws.String(os.Getenv("TABLE"))
)

func main() {
	plays := map[string]any{"http": call, "rule": rule, "stream": stream, "tick": tick}
	lambda.Start(plays[os.Getenv("PLAY")])
}

type answer struct {
	StatusCode int    `json:"statusCode"`
	Body       string `json:"body"`
}

func call(ctx context.Context, in struct {
	RouteKey        string
	PathParameters  map[string]string
	Headers         map[string]string
	Body            string
	IsBase64Encoded bool
}) (answer, error) {
	if strings.HasPrefix(in.RouteKey, "GET") {
		out, err := db.GetItem(ctx,
			&dynamodb.GetItemInput{TableName: table, ConsistentRead: aws.Bool(true), Key: key(in.PathParameters["id"])})
		if err != nil || out.Item == nil {
			return answer{StatusCode: 404}, err
		}
		return answer{200, out.Item["n"].(*types.AttributeValueMemberN).Value}, nil
	}
	if in.Headers["x-webhook-secret"] != "local-webhook-secret" {
		return answer{StatusCode: 401}, nil
	}
	_, err := events.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{{
		EventBusName: aws.String(os.Getenv("BUS")), Source: aws.String("toy"), DetailType: aws.String("Called"),
		Detail: aws.String(`{"id":"called"}`)}}})
	return answer{200, ""}, err
}

func rule(ctx context.Context, in struct{ Detail struct{ ID string } }) error {
	_, err := count(ctx, in.Detail.ID)
	return err
}

func stream(ctx context.Context, in struct {
	Records []struct {
		Dynamodb struct {
			SequenceNumber string
			NewImage       map[string]map[string]string
		}
	}
}) error {
	for _, r := range in.Records {
		subject := r.Dynamodb.NewImage["pk"]["S"] + " " + r.Dynamodb.NewImage["n"]["N"]
		_, err := mail.SendEmail(ctx, &sesv2.SendEmailInput{FromEmailAddress: aws.String(os.Getenv("FROM")),
			Destination: &sestypes.Destination{ToAddresses: []string{"ada@example.com"}},
			Content: &sestypes.EmailContent{Simple: &sestypes.Message{Subject: &sestypes.Content{Data: &subject},
				Body: &sestypes.Body{Html: &sestypes.Content{Data: aws.String("<p>hi</p>")}}}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func tick(ctx context.Context, in map[string]any) (json.RawMessage, error) {
	if in["source"] != "aws.scheduler" {
		return nil, errors.New("not the scheduler's event")
	}
	offset, err := os.ReadFile(os.Getenv("TOY_CLOCK"))
	if err != nil {
		return nil, err
	}
	id := "ticks at " + strings.TrimSpace(string(offset))
	n, err := count(ctx, id)
	return json.RawMessage(fmt.Sprintf(`{"more":%v}`, n < 3 && !strings.HasSuffix(id, " 0s"))), err
}

func key(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: id}}
}

// count adds one to a row and returns what it holds now.
func count(ctx context.Context, id string) (n int, err error) {
	out, err := db.UpdateItem(ctx,
		&dynamodb.UpdateItemInput{TableName: table, Key: key(id), UpdateExpression: aws.String("ADD n :one"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":one": &types.AttributeValueMemberN{Value: "1"}},
			ReturnValues:              types.ReturnValueUpdatedNew})
	if err == nil {
		_, err = fmt.Sscan(out.Attributes["n"].(*types.AttributeValueMemberN).Value, &n)
	}
	return n, err
}
