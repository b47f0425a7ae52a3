package overhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/app/wiring/overhttp"
	"github.com/mobilecred/mobilecred/internal/problem"
)

var get = apptest.Request("GET /v1/profiles", "")

// logged redirects the log until the test ends.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&out, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &out
}

func TestAHandlerThatHeedsNoContextIsAnsweredForBeforeTheTimeLimit(t *testing.T) {
	log, over := logged(t), make(chan struct{})
	t.Cleanup(func() { close(over) })
	apptest.InTime(t, overhttp.InTime(func(
		context.Context, events.APIGatewayV2HTTPRequest,
	) (events.APIGatewayV2HTTPResponse, error) {
		<-over
		return events.APIGatewayV2HTTPResponse{}, nil
	}), get)
	if !strings.Contains(log.String(), "given up before the time limit") ||
		!strings.Contains(log.String(), "request-1") {
		t.Errorf("the log does not tell which request was given up: %s", log)
	}
}

func TestWhatAHandlerAnswersWhenItsTimeIsOverIsTheAnswer(t *testing.T) {
	handler := overhttp.InTime(func(
		ctx context.Context, req events.APIGatewayV2HTTPRequest,
	) (events.APIGatewayV2HTTPResponse, error) {
		<-ctx.Done()
		return problem.JSON(202, map[string]string{"id": "c1"}), nil
	})
	res, err := handler(apptest.Limited(t), get)
	if err != nil || res.StatusCode != 202 || !strings.Contains(res.Body, "c1") {
		t.Errorf("%+v, %v: want what the handler answered", res, err)
	}
}

func TestAPanicAndAnErrorAreAnswersToo(t *testing.T) {
	log := logged(t)
	panics := func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		panic("about ada@example.com")
	}
	apptest.Ask(t, overhttp.InTime(panics), get, 500, "internal")
	if !strings.Contains(log.String(), "panic of type string") || strings.Contains(log.String(), "ada@example.com") {
		t.Errorf("want the type of the panic in the log, and not its value: %s", log)
	}
	fails := func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		return events.APIGatewayV2HTTPResponse{}, errors.New("the table is unwell")
	}
	body := apptest.Ask(t, overhttp.InTime(fails), get, 503, "try_later")
	if !json.Valid([]byte(body)) || strings.Contains(body, "unwell") {
		t.Errorf("%s", body)
	}
}
