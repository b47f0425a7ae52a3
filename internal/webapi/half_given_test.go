package webapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/mail/ses"
)

// fields is what the answer says is wrong: pointer and code of each field.
func (a answer) fields(t *testing.T) string {
	t.Helper()
	var wrong []string
	list, _ := a.at(t, "errors").([]any)
	for _, item := range list {
		e := item.(map[string]any)
		wrong = append(wrong, fmt.Sprint(e["pointer"], " ", e["code"]))
	}
	return strings.Join(wrong, ", ")
}

// describes is the holder of an answer, without what the portal does not describe.
func (a answer) describes(t *testing.T) string {
	t.Helper()
	h := a.json(t)
	maps.DeleteFunc(h, func(name string, value any) bool {
		return value == nil || value == "" || name == "id" || name == "hasPicture" || name == "credentials"
	})
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAPartialPutLeavesAHolderWithALiveCredentialComplete(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	before := w.get(holderPath).describes(t)
	got := w.put(holderPath, m{}).want(t, 422)
	if got.says(t) != invalid || got.fields(t) != "/firstName required, /lastName required, /email required" ||
		!strings.Contains(got.body, "The holder has live credentials") {
		t.Errorf("%s", got.body)
	}
	for name, body := range map[string]m{
		"/firstName": {"lastName": "Lovelace", "email": "ada@example.com", "firstName": " "},
		"/lastName":  {"firstName": "Ada", "email": "ada@example.com", "lastName": nil},
		"/email":     {"firstName": "Ada", "lastName": "Lovelace"},
	} {
		if got := w.put(holderPath, body).want(t, 422); got.fields(t) != name+" required" {
			t.Errorf("without %s: %s", name, got.body)
		}
	}
	if after := w.get(holderPath).describes(t); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	w.put(holderPath, m{"firstName": "Ada", "lastName": "Byron", "email": "ada@example.com"}).want(t, 200)

	w.delete(path).want(t, 200)
	w.put(holderPath, m{}).want(t, 200)
	if got := w.get(holderPath).describes(t); got != `{"kind":"cardholder"}` {
		t.Errorf("once nothing is live: %s", got)
	}
}

func TestAPatchChangesWhatItNames(t *testing.T) {
	const complete = `{"email":"ada@example.com","firstName":"Ada","kind":"cardholder","lastName":"Lovelace"}`
	for _, test := range []struct {
		name   string
		before m // on top of ada
		patch  any
		want   string // the holder, or what is wrong
	}{
		{"one field", nil, m{"lastName": "Byron"}, strings.Replace(complete, "Lovelace", "Byron", 1)},
		{"nothing", nil, m{}, complete},
		{"what is there already", nil, m{"firstName": " Ada "}, complete},
		{"null removes", m{"locale": "de-CH", "timeZone": "UTC"}, m{"locale": nil, "timeZone": ""}, complete},
		{"a name, while nothing is live", nil, m{"firstName": nil}, strings.Replace(complete, `"firstName":"Ada",`, "", 1)},
		{"to a visitor", nil, m{"kind": "visitor", "validUntil": "2031-01-01T00:00:00+01:00"},
			`{"email":"ada@example.com","firstName":"Ada","kind":"visitor","lastName":"Lovelace",` +
				`"validUntil":"2030-12-31T23:00:00Z"}`},
		{"to a visitor without end", nil, m{"kind": "visitor"}, "/validUntil required"},
		{"an end of a cardholder", nil, m{"validUntil": "2031-01-01T00:00:00Z"}, "/validUntil not_allowed"},
		{"a longer visit", visitorUntil("2031-01-01T00:00:00Z"), m{"validUntil": "2031-02-01T00:00:00Z"},
			`{"email":"ada@example.com","firstName":"Ada","kind":"visitor","lastName":"Lovelace",` +
				`"validUntil":"2031-02-01T00:00:00Z"}`},
		{"a visit without end", visitorUntil("2031-01-01T00:00:00Z"), m{"validUntil": nil}, "/validUntil required"},
		{"a visitor's name", visitorUntil("2031-01-01T00:00:00Z"), m{"lastName": "Byron"},
			`{"email":"ada@example.com","firstName":"Ada","kind":"visitor","lastName":"Byron",` +
				`"validUntil":"2031-01-01T00:00:00Z"}`},
		{"no longer a visitor", visitorUntil("2031-01-01T00:00:00Z"), m{"kind": nil, "validUntil": nil}, complete},
		{"no longer a visitor, with an end", visitorUntil("2031-01-01T00:00:00Z"), m{"kind": "cardholder"},
			"/validUntil not_allowed"},
		{"fields of answers", nil, m{"id": "E-2", "hasPicture": true, "credentials": []any{}},
			"/credentials read_only, /hasPicture read_only, /id read_only"},
		{"what there is not", nil, m{"FirstName": nil, "email": "x"}, "/email invalid_format, /FirstName unknown_field"},
		{"a field twice", nil, `{"firstName":"A","firstName":"B"}`, "/firstName duplicate_field"},
		{"no object", nil, `[]`, "<nil> wrong_type"},
		{"null", nil, `null`, "<nil> wrong_type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			holder := maps.Clone(ada)
			maps.Copy(holder, test.before)
			before := w.put(holderPath, holder).want(t, 201)
			got := w.do(request{method: "PATCH", path: holderPath, body: test.patch, header: asMergePatch, wrong: true})
			if !strings.HasPrefix(test.want, "{") {
				if got.says(t) != invalid || got.fields(t) != test.want {
					t.Errorf("%d %s, want %s", got.status, got.body, test.want)
				}
				if now := w.get(holderPath); now.header["ETag"] != before.header["ETag"] {
					t.Errorf("it is changed all the same: %s", now.body)
				}
				return
			}
			if got.want(t, 200).describes(t) != test.want {
				t.Errorf("%s, want %s", got.describes(t), test.want)
			}
			now := w.get(holderPath)
			if now.describes(t) != test.want || now.header["ETag"] != got.header["ETag"] {
				t.Errorf("stored: %s, ETag %s, answered %s", now.describes(t), now.header["ETag"], got.header["ETag"])
			}
			isSame := before.describes(t) == test.want
			if isSame != (now.header["ETag"] == before.header["ETag"]) {
				t.Errorf("same %v, but ETag was %s and is %s", isSame, before.header["ETag"], now.header["ETag"])
			}
		})
	}
}

func TestAPatchIsRefused(t *testing.T) {
	w := settled(t)
	w.assigned()
	for _, test := range []struct {
		name, path string
		body       any
		header     map[string]string
		want       string
	}{
		{"of no holder", "/v1/holders/none", m{}, nil, "404 holder_not_found"},
		{"of no holder, and wrong", "/v1/holders/none", m{"x": 1}, nil, "404 holder_not_found"},
		{"of no id", "/v1/holders/a%20b", m{}, nil, "404 holder_not_found"},
		{"at another revision", holderPath, m{"locale": "de"}, header("If-Match", `"7"`), "409 revision_mismatch"},
		{"at no revision", holderPath, m{"locale": "de"}, header("If-Match", "7"), invalid},
		{"as JSON", holderPath, m{"locale": "de"}, header("Content-Type", "application/json"), "415 unsupported_media_type"},
		{"as nothing", holderPath, m{"locale": "de"}, header("Content-Type", "-"), "415 unsupported_media_type"},
		{"as a JSON patch", holderPath, `[]`, header("Content-Type", "application/json-patch+json"),
			"415 unsupported_media_type"},
		{"in another charset", holderPath, m{}, header("Content-Type", "application/merge-patch+json; charset=latin1"),
			"415 unsupported_media_type"},
		{"that is not JSON", holderPath, `{`, nil, "400 malformed_json"},
		{"that is empty", holderPath, ``, nil, "400 malformed_json"},
		{"that is large", holderPath, `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, nil, "413 too_large"},
		{"that takes what live credentials need", holderPath, m{"email": nil}, nil, invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := request{
				method: "PATCH",
				path:   test.path,
				body:   test.body,
				wrong:  true,
				header: maps.Clone(asMergePatch),
			}
			maps.Copy(r.header, test.header)
			got := w.do(r)
			if got.says(t) != test.want {
				t.Fatalf("%s, want %s: %s", got.says(t), test.want, got.body)
			}
			accepts := got.header["Accept-Patch"]
			if (got.status == 415) != (accepts == "application/merge-patch+json") {
				t.Errorf("Accept-Patch %q", accepts)
			}
			if got.status == 415 && !strings.Contains(got.body, "application/merge-patch+json") {
				t.Errorf("it does not say which type is wanted: %s", got.body)
			}
		})
	}
	if got := w.get(holderPath); got.header["ETag"] != `"1"` {
		t.Errorf("it is changed all the same: %s", got.body)
	}
	at := maps.Clone(asMergePatch)
	maps.Copy(at, header("If-Match", `"1"`))
	w.do(request{method: "PATCH", path: holderPath, body: m{"locale": "de"}, header: at}).want(t, 200)
}

func TestTwoPatchesOfDifferentFieldsBothHold(t *testing.T) {
	w := settled(t)
	w.Store.Fail = func(op string) error {
		if op == "Commit" {
			w.Store.Fail = nil
			w.patch(holderPath, m{"lastName": "Byron"}).want(t, 200)
		}
		return nil
	}
	got := w.patch(holderPath, m{"email": "byron@example.com"}).want(t, 200)
	const want = `{"email":"byron@example.com","firstName":"Ada","kind":"cardholder","lastName":"Byron"}`
	if got.describes(t) != want || w.get(holderPath).describes(t) != want {
		t.Errorf("answered %s\nstored %s", got.body, w.get(holderPath).body)
	}
}

func TestIfNoneMatchCreatesOnly(t *testing.T) {
	w := newWorld(t)
	bodies := map[string]m{profilePath: hq, holderPath: ada}
	for path, body := range bodies {
		create := request{method: "PUT", path: path, body: body, header: header("If-None-Match", "*")}
		w.do(create).want(t, 201)
		for _, again := range []m{body, {"firstName": "Eve"}, {"name": "Eve", "account": account, "partNumber": "x"}} {
			r := create
			if r.body = again; (again["name"] == nil) != (path == holderPath) {
				continue
			}
			got := w.do(r)
			if got.says(t) != "409 revision_mismatch" || !strings.Contains(got.body, "It exists already") {
				t.Errorf("%s: %s", path, got.body)
			}
		}
		if got := w.get(path); got.header["ETag"] != `"1"` {
			t.Errorf("%s is replaced: %s", path, got.body)
		}
		for _, value := range []string{`"1"`, `W/"1"`, "", "* ", `*, "1"`} {
			r := request{method: "PUT", path: path, body: body, header: header("If-None-Match", value), wrong: true}
			if got := w.do(r); got.says(t) != invalid || !strings.Contains(got.body, "If-None-Match") {
				t.Errorf("%s with %q: %s", path, value, got.body)
			}
		}
	}
	both := request{method: "PUT", path: holderPath, body: ada, header: header("If-None-Match", "*")}
	both.header["If-Match"] = `"1"`
	if got := w.do(both); got.says(t) != "409 revision_mismatch" {
		t.Errorf("with If-Match, too: %s", got.body)
	}
}

func TestOfTwoThatCreateOnlyOneDoes(t *testing.T) {
	w := newWorld(t)
	create := request{method: "PUT", path: holderPath, body: ada, header: header("If-None-Match", "*")}
	w.Store.Fail = func(op string) error {
		if op == "Commit" {
			w.Store.Fail = nil
			w.put(holderPath, m{"firstName": "Eve"}).want(t, 201)
		}
		return nil
	}
	if got := w.do(create); got.says(t) != "409 revision_mismatch" {
		t.Errorf("%s", got.body)
	}
	if got := w.get(holderPath).describes(t); got != `{"firstName":"Eve","kind":"cardholder"}` {
		t.Errorf("%s", got)
	}
}

func TestIfMatchTakesWhatItsPatternSays(t *testing.T) {
	w := settled(t)
	for value, want := range map[string]string{
		`"2"`: "409 revision_mismatch", `"1000000000000000000"`: "409 revision_mismatch",
		`"9999999999999999999"`: "409 revision_mismatch",
		`"0"`:                   invalid, `"01"`: invalid, `"-1"`: invalid, `"+1"`: invalid, `""`: invalid, `"10000000000000000000"`: invalid,
	} {
		for path, body := range map[string]m{profilePath: hq, holderPath: ada} {
			// What is not refused for its form has to be in the document, and what is refused must not be.
			r := request{
				method: "PUT",
				path:   path,
				body:   body,
				header: header("If-Match", value),
				wrong:  want == invalid,
			}
			if got := w.do(r); got.says(t) != want {
				t.Errorf("%s with %s: %s", path, value, got.body)
			}
			if isInDocument := w.fits(r); isInDocument != (want != invalid) {
				t.Errorf("%s with %s: in the document %v, answer %s", path, value, isInDocument, want)
			}
		}
	}
}

func TestAnInternationalDomainIsMailedToAsPunycode(t *testing.T) {
	w := settled(t)
	const given = "x@exämple.com"
	w.patch(holderPath, m{"email": given}).want(t, 200)
	if got := w.get(holderPath).at(t, "email"); got != given {
		t.Errorf("shown as %v", got)
	}
	path := w.assigned()
	if got := w.get(path).at(t, "invitation.sentTo"); got != "x…@exämple.com" {
		t.Errorf("sent to %v", got)
	}
	letter := w.Mailbox.Letters()[0]
	api := &recorder{}
	if outcome := ses.New(api, "from@acme.example", "").Send(t.Context(), letter); outcome.Fate != mail.Sent {
		t.Fatalf("%+v", outcome)
	}
	if got := api.input.Destination.ToAddresses; !slices.Equal(got, []string{"x@xn--exmple-cua.com"}) {
		t.Errorf("SES got %q", got)
	}
	if users := w.Sim.State().Users; len(users) != 1 || users[0].Email != given {
		t.Errorf("the provider has %+v", users)
	}
}

// recorder is SES, which takes everything.
type recorder struct{ input *sesv2.SendEmailInput }

func (r *recorder) SendEmail(
	_ context.Context, in *sesv2.SendEmailInput, _ ...func(*sesv2.Options),
) (*sesv2.SendEmailOutput, error) {
	r.input = in
	return &sesv2.SendEmailOutput{}, nil
}

func TestARefusedEmailSaysWhatIsNotSupported(t *testing.T) {
	w := settled(t)
	for email, want := range map[string]string{
		"ä@example.com": "The part before the @ must be in ASCII; other scripts are supported in the domain only.",
		"x@aא.example":  "The domain is in another script, and is no international domain name (IDNA).",
		"ada":           "Must be an e-mail address, without a name, of at most 254 bytes.",
	} {
		for path, body := range map[string]m{holderPath: {"email": email}, profilePath: {
			"name": "HQ", "account": account, "partNumber": hq["partNumber"], "sender": m{"replyTo": email},
		}} {
			got := w.put(path, body).want(t, 422)
			e := got.at(t, "errors").([]any)[0].(map[string]any)
			if e["code"] != "invalid_format" || e["detail"] != want {
				t.Errorf("%s with %s: %v", path, email, e)
			}
		}
	}
}

func TestANameThatCannotBeSeenIsMissing(t *testing.T) {
	w := settled(t)
	for name, blank := range map[string]string{
		"zero-width spaces": "\u200b\u200b", "a no-break space": "\u00a0", "a soft hyphen": "\u00ad",
		"a word joiner": "\u2060", "a Hangul filler": "\u3164", "a braille blank": "\u2800",
		"an em space between zero-width ones": "\u200b\u2003\u200d", "a variation selector": "\ufe0f",
	} {
		holder := m{"firstName": blank, "lastName": "Lovelace", "email": "ada@example.com"}
		got := w.post("/v1/holders/E-3/credentials", m{"holder": holder}).want(t, 422)
		if got.says(t) != invalid || got.fields(t) != "/holder/firstName required" {
			t.Errorf("%s: %s", name, got.body)
		}
		w.put("/v1/holders/E-4", holder)
		if got := w.get("/v1/holders/E-4"); got.at(t, "firstName") != "" {
			t.Errorf("%s: stored as %s", name, got.body)
		}
		got = w.do(request{method: "PUT", path: profilePath, wrong: true, body: m{
			"name": blank, "account": account, "partNumber": hq["partNumber"],
		}})
		if got.says(t) != invalid || got.fields(t) != "/name required" {
			t.Errorf("%s as the name of a profile: %s", name, got.body)
		}
	}
	w.assigned()
	if got := w.patch(holderPath, m{"firstName": "\u200b"}).want(t, 422); got.fields(t) != "/firstName required" {
		t.Errorf("patched: %s", got.body)
	}
	const visible = "Zo\u200bë" // with an invisible character among others it is a name like any other
	if got := w.patch(holderPath, m{"firstName": visible}).want(t, 200); got.at(t, "firstName") != visible {
		t.Errorf("%s", got.body)
	}
}

func TestAnEmptyPoolShowsInTheProfile(t *testing.T) {
	w := settled(t)
	w.put("/v1/profiles/annex", m{"name": "Annex", "account": account, "partNumber": empty}).want(t, 201)
	known := credential.Stock{Account: account, PartNumber: empty, Available: 100, AsOf: w.Now()}
	if err := w.Store.PutStock(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	w.Advance(time.Minute)
	got := w.post("/v1/holders/E-1/credentials", m{"profileId": "annex"}).want(t, 409)
	if got.says(t) != "409 no_licence_left" {
		t.Fatal(got.body)
	}
	profile := w.get("/v1/profiles/annex")
	if profile.at(t, "stock.available") != 0.0 || profile.at(t, "stock.asOf") != w.Now().Format(time.RFC3339) {
		t.Errorf("it is %s: %s", w.Now(), profile.body)
	}
}

// fits says whether a request is one that the document allows.
func (w *world) fits(r request) bool {
	w.t.Helper()
	data, contentType := encode(w.t, r.body)
	h, err := http.NewRequestWithContext(
		w.t.Context(),
		r.method,
		"https://api.example.com"+r.path,
		bytes.NewReader(data),
	)
	if err != nil {
		w.t.Fatal(err)
	}
	h.Header.Set("Authorization", "Bearer token")
	h.Header.Set("Content-Type", contentType)
	for name, value := range r.header {
		h.Header.Set(name, value)
	}
	ok, _ := document().ValidateHttpRequestSync(h)
	return ok
}
