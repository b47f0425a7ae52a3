// Package problem turns an error into the problem document (RFC 9457) that a caller of the HTTP API gets.
//
// What belongs here is the wording and the status of every code, once, for all functions that answer HTTP, and which
// errors are refusals a caller can act on. What does not: deciding to refuse (credential, issuance), and reading
// requests (webapi, webhook).
package problem

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Codes of refusals that only HTTP knows. CodeWrongSecret is for a webhook whose caller does not know the account's
// secret.
const (
	CodeMalformedJSON        credential.Code = "malformed_json"
	CodeTooLarge             credential.Code = "too_large"
	CodeUnsupportedMediaType credential.Code = "unsupported_media_type"
	CodeWrongSecret          credential.Code = "wrong_secret"
)

type meaning struct {
	status     int
	title      string
	retryAfter int // seconds, when the error itself does not say
}

// meanings is the one place that gives each code its status and title.
var meanings = map[credential.Code]meaning{
	CodeMalformedJSON:                   {400, "The body is not one JSON value", 0},
	CodeWrongSecret:                     {401, "The account's secret is missing or wrong", 0},
	credential.CodeHolderNotFound:       {404, "There is no such holder", 0},
	credential.CodeProfileNotFound:      {404, "There is no such profile", 0},
	credential.CodeCredentialNotFound:   {404, "The holder has no such credential", 0},
	credential.CodeInvalidState:         {409, "Not possible in the present state", 0},
	credential.CodeImmutable:            {409, "The field cannot be changed any more", 0},
	credential.CodePartNumberInUse:      {409, "Another profile draws from this part number", 0},
	credential.CodeNoLicenceLeft:        {409, "The provider has no mobile ID left", 0},
	credential.CodeEmailInUse:           {409, "The e-mail belongs to another user at the provider", 0},
	credential.CodeHolderBeingErased:    {409, "The holder is being erased", 0},
	credential.CodeReplacementPending:   {409, "The credential is being replaced for another reason", 0},
	credential.CodeAlreadyAssigned:      {409, "The holder has a live credential of this profile", 0},
	credential.CodeRevisionMismatch:     {409, "The resource has another revision", 0},
	CodeTooLarge:                        {413, "The body is too large", 0},
	CodeUnsupportedMediaType:            {415, "The content type is not supported", 0},
	credential.CodeValidationFailed:     {422, "The request is not valid", 0},
	credential.CodeProfileRequired:      {422, "A profile has to be named", 0},
	credential.CodeIdempotencyKeyReused: {422, "The Idempotency-Key was used for another request", 0},
	credential.CodeInvalidCursor:        {422, "The cursor is not one of this list", 0},
	credential.CodeTooSoon:              {429, "Too soon after the last time", 60},
	credential.CodeInternal:             {500, "Something went wrong on our side", 0},
	credential.CodeTryLater:             {503, "Not possible at the moment; try again", 5},
}

// maxFieldErrors keeps the answer to a body with very many errors readable.
const maxFieldErrors = 100

type problemView struct {
	Type         string           `json:"type"`
	Title        string           `json:"title"`
	Status       int              `json:"status"`
	Detail       string           `json:"detail"`
	Code         credential.Code  `json:"code"`
	RequestID    string           `json:"requestId"`
	Errors       []fieldErrorView `json:"errors,omitempty"`
	CredentialID string           `json:"credentialId,omitempty"`
}

// fieldErrorView has no pointer when the error is not inside the body: it concerns the body as a whole, or a parameter
// or header that the detail names.
type fieldErrorView struct {
	Pointer string `json:"pointer,omitempty"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// Fault is a fault in mobilecred itself, described for the log. A caller gets 500 without the description.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

// Refusal returns the refusal that an error answers with: the *credential.Error in it, CodeInternal for a Fault or a
// code that is not in the table, and CodeTryLater for any other error: a service we depend on failed.
func Refusal(err error) *credential.Error {
	if r, ok := errors.AsType[*credential.Error](err); ok {
		if _, known := meanings[r.Code]; known {
			return r
		}
		return credential.Refuse(credential.CodeInternal, "")
	}
	if _, ours := errors.AsType[Fault](err); ours {
		return credential.Refuse(credential.CodeInternal, "")
	}
	return credential.Refuse(credential.CodeTryLater, "")
}

// Answer answers a request with the problem document of an error, as Refusal reads it. The text of errors that are not
// a *credential.Error is not part of the answer.
func Answer(req events.APIGatewayV2HTTPRequest, err error) events.APIGatewayV2HTTPResponse {
	r := Refusal(err)
	m := meanings[r.Code]
	view := problemView{
		Type:         "urn:mobilecred:problem:" + string(r.Code),
		Title:        m.title,
		Status:       m.status,
		Detail:       r.Detail,
		Code:         r.Code,
		RequestID:    req.RequestContext.RequestID,
		CredentialID: r.CredentialID,
	}
	if view.Detail == "" || r.Code == credential.CodeInternal {
		view.Detail = m.title + "."
	}
	for _, f := range r.Fields[:min(len(r.Fields), maxFieldErrors)] {
		view.Errors = append(view.Errors, fieldErrorView(f))
	}
	res := JSON(m.status, view)
	res.Headers["Content-Type"] = "application/problem+json"
	if r.Replayed {
		res.Headers["Idempotent-Replayed"] = "true"
	}
	if wait := cmp.Or(r.RetryAfter, m.retryAfter); wait > 0 {
		res.Headers["Retry-After"] = strconv.Itoa(wait)
	}
	return res
}

// JSON answers with a status and a body, nil for none. Caches on the way must not store the answer, since it may hold
// personal data. It panics when the body cannot be encoded, which is a mistake in the code.
func JSON(status int, body any) events.APIGatewayV2HTTPResponse {
	res := events.APIGatewayV2HTTPResponse{StatusCode: status, Headers: map[string]string{"Cache-Control": "no-store"}}
	if body == nil {
		return res
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		panic(err)
	}
	res.Headers["Content-Type"] = "application/json"
	res.Body = out.String()
	return res
}
