package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"go.yaml.in/yaml/v3"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
)

// document is the problem document as a caller reads it.
type document struct {
	Type, Title, Detail, Code, RequestID, CredentialID string

	Status int
	Errors []struct{ Pointer, Code, Detail string }
}

func answer(t *testing.T, err error) (events.APIGatewayV2HTTPResponse, document) {
	t.Helper()
	var req events.APIGatewayV2HTTPRequest
	req.RequestContext.RequestID = "request-1"
	res := problem.Answer(req, err)
	var d document
	if err := json.Unmarshal([]byte(res.Body), &d); err != nil {
		t.Fatalf("%v in %s", err, res.Body)
	}
	if d.Status != res.StatusCode || d.RequestID != "request-1" || d.Type != "urn:mobilecred:problem:"+d.Code {
		t.Errorf("%d %s", res.StatusCode, res.Body)
	}
	if res.Headers["Content-Type"] != "application/problem+json" || res.Headers["Cache-Control"] != "no-store" {
		t.Errorf("headers: %v", res.Headers)
	}
	return res, d
}

// documentedCodes reads the closed list of codes from the document of the API.
func documentedCodes(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../webapi/openapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	// Schemas hold values of other shapes too; what does not fit is not needed here.
	var other *yaml.TypeError
	if err := yaml.Unmarshal(text, &api); err != nil && !errors.As(err, &other) {
		t.Fatal(err)
	}
	codes := api.Components.Schemas["Problem"].Properties["code"].Enum
	if len(codes) < 20 {
		t.Fatalf("only %d codes are documented", len(codes))
	}
	return codes
}

func TestEveryDocumentedCodeHasAStatusAndATitle(t *testing.T) {
	for _, code := range documentedCodes(t) {
		res, d := answer(t, credential.Refuse(credential.Code(code), ""))
		if d.Code != code || res.StatusCode < 400 || res.StatusCode > 599 || http.StatusText(res.StatusCode) == "" {
			t.Errorf("%s answers %d %s", code, res.StatusCode, d.Code)
		}
		if d.Title == "" || strings.HasSuffix(d.Title, ".") || d.Detail != d.Title+"." {
			t.Errorf("%s: title %q, detail %q", code, d.Title, d.Detail)
		}
		wait := res.Headers["Retry-After"]
		if retry := res.StatusCode == 429 || res.StatusCode == 503; retry != (wait != "") {
			t.Errorf("%s: %d with Retry-After %q", code, res.StatusCode, wait)
		}
	}
}

func TestARefusalIsToldWithAllItSays(t *testing.T) {
	refused := &credential.Error{Code: credential.CodeTooSoon, Detail: "A mail was sent just now.", RetryAfter: 17,
		CredentialID: "c1",
		Fields:       []credential.FieldError{{Pointer: "/a", Code: "required", Detail: "Must be given."}}}
	res, d := answer(t, fmt.Errorf("while resending: %w", refused))
	if res.StatusCode != 429 || d.Code != "too_soon" || d.Detail != refused.Detail || d.CredentialID != "c1" {
		t.Errorf("%d %+v", res.StatusCode, d)
	}
	if res.Headers["Retry-After"] != "17" {
		t.Errorf("Retry-After %q", res.Headers["Retry-After"])
	}
	if len(d.Errors) != 1 || d.Errors[0].Pointer != "/a" || d.Errors[0].Code != "required" {
		t.Errorf("%+v", d.Errors)
	}
}

func TestErrorsThatAreNoRefusalsAreTryLaterAndLeakNothing(t *testing.T) {
	res, d := answer(t, fmt.Errorf("reading: %w", errors.New("row of ada@example.com is locked")))
	if res.StatusCode != 503 || d.Code != "try_later" || res.Headers["Retry-After"] == "" {
		t.Errorf("%d %s %v", res.StatusCode, d.Code, res.Headers)
	}
	if strings.Contains(res.Body, "ada") || strings.Contains(res.Body, "locked") {
		t.Errorf("the error's text left: %s", res.Body)
	}
}

func TestFaultsAndUnknownCodesAreInternalAndLeakNothing(t *testing.T) {
	for _, err := range []error{
		problem.Fault("panic about ada@example.com"),
		fmt.Errorf("serving: %w", problem.Fault("panic about ada@example.com")),
		credential.Refuse(credential.CodeInternal, "panic about ada@example.com"),
		credential.Refuse("no_such_code", "panic about ada@example.com"),
	} {
		res, d := answer(t, err)
		if res.StatusCode != 500 || d.Code != "internal" || strings.Contains(res.Body, "panic") {
			t.Errorf("%v answers %d %s", err, res.StatusCode, res.Body)
		}
		if r := problem.Refusal(err); r.Code != credential.CodeInternal {
			t.Errorf("%v is refused as %s", err, r.Code)
		}
	}
}

func TestAHopelessBodyIsToldItsFirstHundredErrors(t *testing.T) {
	var fields []credential.FieldError
	for i := range 150 {
		fields = append(fields, credential.FieldError{Pointer: "/" + strconv.Itoa(i), Code: "unknown_field"})
	}
	res, d := answer(t, credential.Invalid(fields...))
	if res.StatusCode != 422 || len(d.Errors) != 100 || d.Errors[99].Pointer != "/99" {
		t.Errorf("%d with %d errors", res.StatusCode, len(d.Errors))
	}
}

func TestAnAnswerWithoutABodyHasNoContentType(t *testing.T) {
	res := problem.JSON(204, nil)
	if _, has := res.Headers["Content-Type"]; has || res.Body != "" || res.Headers["Cache-Control"] != "no-store" {
		t.Errorf("%+v", res)
	}
	if res := problem.JSON(200, map[string]string{"a": "<b>"}); res.Body != "{\"a\":\"<b>\"}\n" {
		t.Errorf("%q", res.Body)
	}
}
