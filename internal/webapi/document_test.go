package webapi_test

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
	"github.com/mobilecred/mobilecred/internal/webapi/openapi"
)

// documented lists the operations of the document by route key, each with its scope, its statuses, and those of the
// statuses that are the gateway's alone.
func documented(t *testing.T) (scopes map[string]string, statuses map[string][]string, gateways map[string]bool) {
	t.Helper()
	d, err := libopenapi.NewDocument(openapi.Document)
	if err != nil {
		t.Fatal(err)
	}
	model, err := d.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	scopes, statuses, gateways = map[string]string{}, map[string][]string{}, map[string]bool{}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, operation := range item.GetOperations().FromOldest() {
			key := strings.ToUpper(method) + " " + path
			scopes[key] = ""
			for _, requirement := range operation.Security {
				if names, ok := requirement.Requirements.Get("token"); ok {
					scopes[key] = strings.Join(names, " ")
				}
			}
			for status, response := range operation.Responses.Codes.FromOldest() {
				statuses[key] = append(statuses[key], status)
				ours := response.Content != nil && response.Content.GetOrZero("application/problem+json") != nil
				gateways[key+" "+status] = status >= "400" && !ours
			}
		}
	}
	return scopes, statuses, gateways
}

func TestDocumentIsValid(t *testing.T) {
	if ok, errs := document().ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors)
		}
	}
}

func TestDocumentAndTemplateHaveTheSameRoutesAndScopes(t *testing.T) {
	scopes, _, _ := documented(t)
	template := map[string]string{}
	for key, r := range templateRoutes(t) {
		// The holder's page is for people, not for programs.
		if !strings.Contains(key, " /i/") {
			template[key] = r.scope
		}
	}
	if !maps.Equal(scopes, template) {
		t.Errorf("document %v\ntemplate %v", scopes, template)
	}
}

// What the gateway answers by itself, in its own form, is in the document for every call.
func TestEveryOperationDeclaresWhatTheGatewayAnswersByItself(t *testing.T) {
	_, statuses, _ := documented(t)
	for key := range statuses {
		method, path, _ := strings.Cut(key, " ")
		byItself := map[int]string{429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}
		if strings.Contains(path, "{") {
			byItself[404] = "Not Found"
		}
		if method == "POST" || method == "PUT" {
			byItself[413] = "Request Entity Too Large"
		}
		if !strings.HasPrefix(path, "/v1/webhooks/") {
			byItself[401], byItself[403] = "Unauthorized", "Forbidden"
		}
		url := "https://api.example.com" + strings.NewReplacer("{", "", "}", "").Replace(path)
		for status, message := range byItself {
			sent, err := http.NewRequestWithContext(t.Context(), method, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(`{"message":"` + message + `"}`))}
			if ok, errs := document().ValidateHttpResponse(sent, answer); !ok {
				t.Errorf("%s: the gateway's %d is not in the document: %v", key, status, errs)
			}
		}
	}
}

func onePixel(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Every operation is driven to every status in the document that this code can give. The harness holds each request and
// answer against the document; here it is made sure that none is left out.
func TestEveryOperationIsDrivenToEveryStatusOfTheDocument(t *testing.T) {
	w := settled(t)
	const holders, credentials = "/v1/holders/", "/v1/holders/E-1/credentials"

	w.put("/v1/profiles/hq", hq).want(t, 200)
	w.put(holders+"E-1", ada).want(t, 200)
	w.patch(holders+"E-1", m{"locale": "en-GB"}).want(t, 200)
	w.patch(holders+"none", m{"locale": "en-GB"}).want(t, 404)
	w.put(holders+"V-1", m{"kind": "visitor", "validUntil": "2030-02-01T00:00:00+01:00"}).want(t, 201)
	w.get("/v1/profiles").want(t, 200)
	w.get("/v1/profiles/hq").want(t, 200)
	if err := w.Store.PutStock(t.Context(), credential.Stock{Account: account, PartNumber: "MID-SUB-CRD_FTPN_1001",
		Available: 99, AsOf: w.Now()}); err != nil {
		t.Fatal(err)
	}
	w.get("/v1/profiles").want(t, 200)
	w.get("/v1/profiles/none").want(t, 404)
	w.put("/v1/profiles/hq", m{"name": "HQ", "account": "other", "partNumber": "P"}).want(t, 409)
	w.put(holders+"E-1/picture", onePixel(t)).want(t, 204)
	w.put(holders+"none/picture", onePixel(t)).want(t, 404)

	// assign, resend, replace
	one := w.post(credentials, m{"profileId": "hq"}, "Idempotency-Key", "k1").want(t, 201).header["Location"]
	w.post(credentials, m{"profileId": "hq"}, "Idempotency-Key", "k1").want(t, 200)
	w.post(credentials, m{}, "Idempotency-Key", "k1").want(t, 422)
	w.post(holders+"none/credentials", m{}).want(t, 404)
	w.post(holders+"E-2/credentials", m{"holder": m{"firstName": "Grace", "lastName": "Hopper",
		"email": "grace@example.com"}}).want(t, 201)
	w.post(one+"/invitation", nil).want(t, 429)
	w.Advance(time.Minute)
	w.post(one+"/invitation", nil, "Idempotency-Key", "k2").want(t, 202)
	w.post(one+"/invitation", m{}, "Idempotency-Key", "k2").want(t, 200)
	two := w.post(one+"/replacement", m{"reason": "upgrade"}, "Idempotency-Key", "k3").want(t, 201).header["Location"]
	w.post(one+"/replacement", m{"reason": "upgrade"}, "Idempotency-Key", "k3").want(t, 200)
	w.post(one+"/replacement", m{"reason": "lost"}).want(t, 409)
	w.post(one+"/invitation", nil).want(t, 409)
	w.mailDown()
	late := w.post(credentials, m{}).want(t, 202).header["Location"]
	w.post(late+"/replacement", m{"reason": "stolen"}).want(t, 202)
	w.Mend()

	// reads
	w.get(credentials).want(t, 200)
	w.get(one).want(t, 200)
	w.get(one+"/history").want(t, 200)
	w.get(holders+"E-1").want(t, 200)
	w.get("/v1/credentials?profileId=hq&limit=1&status=revoked").want(t, 200)
	w.get("/v1/credentials?profileId=none").want(t, 404)
	for _, path := range []string{"none", "none/credentials", "none/credentials/x", "E-1/credentials/x",
		"none/credentials/x/history", "E-1/credentials/x/history"} {
		w.get(holders+path).want(t, 404)
	}

	// the ends
	w.post(two+"/lost", nil, "Idempotency-Key", "k4").want(t, 200)
	w.post(two+"/lost", nil, "Idempotency-Key", "k4").want(t, 200)
	w.post(two+"/stolen", m{}).want(t, 409)
	w.post(w.assigned()+"/stolen", nil).want(t, 200)
	w.post(late+"/lost", nil).want(t, 409)
	w.delete(w.assigned()).want(t, 200)
	pending := []string{w.assigned(), w.assigned(), w.assigned()}
	w.providerDown()
	w.post(pending[0]+"/lost", nil).want(t, 202)
	w.post(pending[1]+"/stolen", nil).want(t, 202)
	w.delete(pending[2]).want(t, 202)
	w.Mend()
	for _, end := range []string{"/lost", "/stolen", "/invitation"} {
		w.post(credentials+"/none"+end, nil).want(t, 404)
	}
	w.post(credentials+"/none/replacement", m{"reason": "lost"}).want(t, 404)
	w.delete(credentials+"/none").want(t, 404)

	w.delete(holders+"E-1/picture").want(t, 204)
	w.delete(holders+"none/picture").want(t, 404)
	w.providerDown()
	w.delete(holders+"E-1").want(t, 202)
	w.get(holders+"E-1").want(t, 200)
	w.put(holders+"E-1", ada).want(t, 409)
	w.patch(holders+"E-1", ada).want(t, 409)
	w.put(holders+"E-1/picture", onePixel(t)).want(t, 409)
	w.delete(holders+"E-1/picture").want(t, 409)
	w.post(credentials, m{}).want(t, 409)
	w.delete(holders+"none").want(t, 404)
	w.Mend()
	w.delete("/v1/profiles/hq").want(t, 204)
	w.delete("/v1/profiles/none").want(t, 404)

	report := func(status int, secret, body string) {
		t.Helper()
		w.do(request{method: "POST", path: "/v1/webhooks/" + account, body: body, wrong: status == 400 || status == 413,
			header: map[string]string{"X-Webhook-Secret": secret,
				"Content-Type": "application/cloudevents-batch+json"}}).want(t, status)
	}
	batch, err := os.ReadFile("../provider/origo/testdata/events-batch.json")
	if err != nil {
		t.Fatal(err)
	}
	report(200, "s3cret", string(batch))
	report(401, "guessed", string(batch))
	report(400, "s3cret", "no JSON")
	report(413, "s3cret", strings.Repeat(" ", 1<<20+1))
	w.busFails = errors.New("the bus is unwell")
	report(503, "s3cret", string(batch))
	w.busFails = problem.Fault("a mistake of ours")
	report(500, "s3cret", string(batch))

	// What goes wrong the same way everywhere: the body, the headers, the store, ourselves.
	for key, r := range w.routes {
		method, path, _ := strings.Cut(key, " ")
		if r.function == "WebhookFunction" {
			continue
		}
		path = strings.NewReplacer("{holderId}", "E-2", "{profileId}", "hq", "{credentialId}", "x").Replace(path)
		if path == "/v1/credentials" {
			path += "?profileId=hq"
		}
		try := func(status int, body any, header ...string) {
			t.Helper()
			r := request{method: method, path: path, body: body, header: map[string]string{}, wrong: true}
			if method == "PATCH" {
				maps.Copy(r.header, asMergePatch)
			}
			for i := 0; i < len(header); i += 2 {
				r.header[header[i]] = header[i+1]
			}
			w.do(r).want(t, status)
		}
		isPicture := method == "PUT" && strings.HasSuffix(path, "/picture")
		switch {
		case isPicture:
			try(413, make([]byte, 4<<20+1))
			try(415, []byte("x"), "Content-Type", "image/gif")
			try(422, []byte("x"))
		case method == "PUT", method == "POST", method == "PATCH":
			try(400, "{")
			try(413, `"`+strings.Repeat("x", 64<<10)+`"`)
			try(415, "{}", "Content-Type", "text/plain")
			try(422, `{"nonsense":1}`)
		case method == "DELETE":
			try(422, nil, "Mobilecred-Actor", strings.Repeat("x", 129))
		case strings.HasPrefix(path, "/v1/credentials"):
			path += "&limit=0"
			try(422, nil)
			path = "/v1/credentials?profileId=hq"
		}
		valid := map[string]any{
			"PUT /v1/profiles/{profileId}": hq, "PUT /v1/holders/{holderId}": ada, "PATCH /v1/holders/{holderId}": m{},
			"POST /v1/holders/{holderId}/credentials":                            m{},
			"POST /v1/holders/{holderId}/credentials/{credentialId}/replacement": m{"reason": "lost"},
		}[key]
		if isPicture {
			valid = onePixel(t)
		}
		w.Store.Fail = func(string) error { return errors.New("the table is unwell") }
		try(503, valid)
		w.Store.Fail = func(string) error { panic("a mistake of ours") }
		try(500, valid)
		w.Store.Fail = nil
	}

	_, statuses, gateways := documented(t)
	for key, documented := range statuses {
		for _, status := range documented {
			if !gateways[key+" "+status] && !w.driven[key][int(status[0]-'0')*100+int(status[1]-'0')*10+int(status[2]-'0')] {
				t.Errorf("%s was not driven to %s", key, status)
			}
		}
	}
}

// What the document says of a header and what the code does with it are the same.
func TestTheCodeRefusesTheHeadersThatTheDocumentRefuses(t *testing.T) {
	w := settled(t)
	for header, values := range map[string][]string{
		"If-Match": {`"1"`, `"12"`, `"0"`, `"01"`, `1`, `*`, `W/"1"`, `"1", "2"`, `"-1"`, `"+1"`, `""`, `"x"`},
		"Mobilecred-Actor": {"ada", "ä", "a b", strings.Repeat("ä", 128), strings.Repeat("a", 129), "a\tb", "a\u0085",
			"\ufffd"},
		"Idempotency-Key": {"k", strings.Repeat("k", 255), strings.Repeat("k", 256), "ä", "a\tb", "a b"},
	} {
		for _, value := range values {
			r := request{method: "PUT", path: "/v1/holders/E-1", body: ada, header: map[string]string{header: value},
				wrong: true}
			if header == "Idempotency-Key" {
				r.method, r.path, r.body = "POST", "/v1/holders/E-1/credentials", m{}
			}
			sent, err := http.NewRequestWithContext(t.Context(), r.method, "https://api.example.com"+r.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := encode(t, r.body)
			sent.Body = io.NopCloser(bytes.NewReader(text))
			sent.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer token"},
				http.CanonicalHeaderKey(header): {value}}
			isDocumented, _ := document().ValidateHttpRequestSync(sent)
			if status := w.do(r).status; isDocumented != (status != 422) {
				t.Errorf("%s: %q is answered %d, and in the document: %v", header, value, status, isDocumented)
			}
		}
	}
}
