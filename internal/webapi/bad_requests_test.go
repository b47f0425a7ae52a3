package webapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/problem"
)

// badRequest is a request that is refused with a status and a code (want) and, in order, what is wrong: the pointer and
// code of each field, or only the code where it is a parameter, a header or the body as a whole (errors).
type badRequest struct {
	name string
	request
	want   string
	errors string
}

const (
	profilePath     = "/v1/profiles/hq"
	holderPath      = "/v1/holders/E-1"
	credentialsPath = holderPath + "/credentials"
	invalid         = "422 validation_failed"
)

var tooLong = strings.Repeat("x", 200)

func profileWith(field string, value any) m {
	return m{"name": "HQ", "account": account, "partNumber": "MID-SUB-CRD_FTPN_1001", field: value}
}

func visitorUntil(validUntil any) m { return m{"kind": "visitor", "validUntil": validUntil} }

func header(name, value string) map[string]string { return map[string]string{name: value} }

// Nothing is written by any of them.
func TestBadRequests(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	writes := 0
	w.Store.Fail = func(op string) error {
		if strings.HasPrefix(op, "Commit") || strings.HasPrefix(op, "Claim") || strings.HasPrefix(op, "Put") ||
			strings.HasPrefix(op, "Set") {
			writes++
		}
		return nil
	}
	tests := slices.Concat(
		notJSON(t, path), wrongJSON(t, path), badHolders(t, path), badProfiles(t, path), badAssignments(t, path),
		badIDs(t, path), badHeaders(t, path), badQueries(t, path), badSizesAndTypes(t, path),
	)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.wrong = true
			writes = 0
			got := w.do(test.request)
			if got.says(t) != test.want {
				t.Fatalf("got %s, want %s: %s", got.says(t), test.want, got.body)
			}
			var wrong []string
			list, _ := got.at(t, "errors").([]any)
			for _, item := range list {
				e := item.(map[string]any)
				if e["pointer"] != nil {
					wrong = append(wrong, fmt.Sprint(e["pointer"], " ", e["code"]))
				} else {
					wrong = append(wrong, fmt.Sprint(e["code"]))
				}
			}
			if s := strings.Join(wrong, ", "); s != test.errors {
				t.Errorf("got  %s\nwant %s", s, test.errors)
			}
			if got.header["Content-Type"] != "application/problem+json" || got.at(t,
				"requestId") != fmt.Sprint("request-", w.requests) {
				t.Errorf("%v %s", got.header, got.body)
			}
			if writes != 0 {
				t.Error("something was written")
			}
		})
	}
	t.Logf("%d bad requests", len(tests))
}

// notJSON is what is no JSON value.
func notJSON(_ *testing.T, path string) []badRequest {
	return []badRequest{
		{"empty body", request{method: "PUT", path: holderPath, body: ""}, "400 malformed_json", ""},
		{"spaces", request{method: "PUT", path: holderPath, body: " \n"}, "400 malformed_json", ""},
		{"no body", request{method: "POST", path: credentialsPath}, "400 malformed_json", ""},
		{"truncated", request{method: "PUT", path: holderPath, body: `{"firstName":`}, "400 malformed_json", ""},
		{"two values", request{method: "PUT", path: holderPath, body: `{} {}`}, "400 malformed_json", ""},
		{"trailing comma", request{method: "PUT", path: holderPath, body: `{"firstName":"A",}`}, "400 malformed_json", ""},
		{"single quotes", request{method: "PUT", path: holderPath, body: `{'firstName':'A'}`}, "400 malformed_json", ""},
		{"comment", request{method: "PUT", path: holderPath, body: `{/* */}`}, "400 malformed_json", ""},
		{"NaN", request{method: "PUT", path: holderPath, body: `{"firstName":NaN}`}, "400 malformed_json", ""},
		{"byte order mark", request{method: "PUT", path: holderPath, body: "\ufeff{}"}, "400 malformed_json", ""},
		{"invalid UTF-8", request{method: "PUT", path: holderPath, body: "{\"firstName\":\"\xff\"}"}, "400 malformed_json",
			""},
		{"raw control character", request{method: "PUT", path: holderPath, body: "{\"firstName\":\"a\nb\"}"},
			"400 malformed_json", ""},
		{"open depth bomb", request{method: "PUT", path: holderPath, body: strings.Repeat("[", 60000)},
			"400 malformed_json", ""},
		{"closed depth bomb", request{method: "PUT", path: holderPath, body: strings.Repeat("[",
			30000) + strings.Repeat("]", 30000)}, "400 malformed_json", ""},
		{"text for nothing", request{method: "POST", path: path + "/lost", body: `lost`}, "400 malformed_json", ""},
	}
}

// wrongJSON is one JSON value, but not the one that is wanted.
func wrongJSON(_ *testing.T, path string) []badRequest {
	return []badRequest{
		{"array", request{method: "PUT", path: holderPath, body: `[]`}, invalid, "wrong_type"},
		{"null", request{method: "PUT", path: profilePath, body: `null`}, invalid, "wrong_type"},
		{"text", request{method: "POST", path: credentialsPath, body: `"hq"`}, invalid, "wrong_type"},
		{"number", request{method: "POST", path: path + "/replacement", body: `1`}, invalid, "wrong_type"},
		{"deep", request{method: "PUT", path: holderPath, body: strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
			invalid, "wrong_type"},
		{"deep inside", request{method: "PUT", path: holderPath, body: `{"x":` + strings.Repeat(`{"y":`,
			4000) + "1" + strings.Repeat("}", 4001)}, invalid, "/x unknown_field"},
		{"field twice", request{method: "PUT", path: holderPath, body: `{"firstName":"A","firstName":"B"}`}, invalid,
			"/firstName duplicate_field"},
		{"field twice, escaped", request{method: "PUT", path: holderPath, body: `{"firstName":"A","\u0066irstName":"A"}`},
			invalid, "/firstName duplicate_field"},
		{"field twice, deeper", request{method: "POST", path: credentialsPath,
			body: `{"holder":{"email":"a@b.example","email":null}}`}, invalid, "/holder/email duplicate_field"},
		{"other case", request{method: "PUT", path: holderPath, body: m{"FirstName": "A"}}, invalid,
			"/FirstName unknown_field"},
		{"pointer escapes", request{method: "PUT", path: holderPath, body: m{"a/b~c": 1}}, invalid,
			"/a~1b~0c unknown_field"},
		{"read-only", request{method: "PUT", path: holderPath, body: m{"id": "E-1", "hasPicture": true}}, invalid,
			"/hasPicture read_only, /id read_only"},
		{"read-only of a profile", request{method: "PUT", path: profilePath, body: profileWith("retired", false)}, invalid,
			"/retired read_only"},
		{"field for nothing", request{method: "POST", path: path + "/stolen", body: m{"reason": "x"}}, invalid,
			"/reason unknown_field"},
		{"field for a deletion", request{method: "DELETE", path: path, body: m{"reason": "x"}}, invalid,
			"/reason unknown_field"},
	}
}

// badHolders are holders.
func badHolders(_ *testing.T, _ string) []badRequest {
	return []badRequest{
		{"name of another type", request{method: "PUT", path: holderPath, body: m{"firstName": 1, "lastName": []any{}}},
			invalid, "/firstName wrong_type, /lastName wrong_type"},
		{"newline in a name", request{method: "PUT", path: holderPath, body: m{"firstName": "A\nB"}}, invalid,
			"/firstName invalid_text"},
		{"NUL in a name", request{method: "PUT", path: holderPath, body: m{"lastName": "A\x00B"}}, invalid,
			"/lastName invalid_text"},
		{"text turned around", request{method: "PUT", path: holderPath, body: m{"lastName": "A\u202eB"}}, invalid,
			"/lastName invalid_text"},
		{"half a surrogate", request{method: "PUT", path: holderPath, body: `{"lastName":"A\ud800"}`}, invalid,
			"/lastName invalid_text"},
		{"long name", request{method: "PUT", path: holderPath, body: m{"lastName": tooLong}}, invalid,
			"/lastName invalid_text"},
		{"e-mail without @", request{method: "PUT", path: holderPath, body: m{"email": "ada"}}, invalid,
			"/email invalid_format"},
		{"e-mail with a name", request{method: "PUT", path: holderPath, body: m{"email": "Ada <ada@b.example>"}}, invalid,
			"/email invalid_format"},
		{"two e-mails", request{method: "PUT", path: holderPath, body: m{"email": "a@b.example,c@d.example"}}, invalid,
			"/email invalid_format"},
		{"e-mail with a header", request{method: "PUT", path: holderPath,
			body: m{"email": "a@b.example\r\nBcc: c@d.example"}}, invalid, "/email invalid_format"},
		{"e-mail in another script", request{method: "PUT", path: holderPath, body: m{"email": "ädä@b.example"}}, invalid,
			"/email invalid_format"},
		{"e-mail at an address", request{method: "PUT", path: holderPath, body: m{"email": "a@[127.0.0.1]"}}, invalid,
			"/email invalid_format"},
		{"e-mail without a dot", request{method: "PUT", path: holderPath, body: m{"email": "a@localhost"}}, invalid,
			"/email invalid_format"},
		{"quoted e-mail", request{method: "PUT", path: holderPath, body: m{"email": `"a b"@c.example`}}, invalid,
			"/email invalid_format"},
		{"long e-mail", request{method: "PUT", path: holderPath, body: m{"email": "a@" + strings.Repeat("abcdefgh.",
			30) + "example"}}, invalid, "/email invalid_format"},
		{"kind", request{method: "PUT", path: holderPath, body: m{"kind": "Visitor", "validUntil": "2031-01-01T00:00:00Z"}},
			invalid, "/kind unknown_value"},
		{"visitor without end", request{method: "PUT", path: holderPath, body: m{"kind": "visitor"}}, invalid,
			"/validUntil required"},
		{"visitor with null", request{method: "PUT", path: holderPath, body: visitorUntil(nil)}, invalid,
			"/validUntil required"},
		{"cardholder with end", request{method: "PUT", path: holderPath, body: m{"validUntil": "2031-01-01T00:00:00Z"}},
			invalid, "/validUntil not_allowed"},
		{"end without zone", request{method: "PUT", path: holderPath, body: visitorUntil("2031-01-01T00:00:00")}, invalid,
			"/validUntil invalid_format"},
		{"end as a date", request{method: "PUT", path: holderPath, body: visitorUntil("2031-01-01")}, invalid,
			"/validUntil invalid_format"},
		{"no such day", request{method: "PUT", path: holderPath, body: visitorUntil("2031-02-30T00:00:00Z")}, invalid,
			"/validUntil invalid_format"},
		{"end as a number", request{method: "PUT", path: holderPath, body: visitorUntil(1924992000)}, invalid,
			"/validUntil wrong_type"},
		{"end in the year 10000", request{method: "PUT", path: holderPath, body: visitorUntil("9999-12-31T23:59:59-01:00")},
			invalid, "/validUntil out_of_range"},
		{"end in the year 1", request{method: "PUT", path: holderPath, body: visitorUntil("0001-01-01T00:00:00Z")}, invalid,
			"/validUntil out_of_range"},
		{"locale", request{method: "PUT", path: holderPath, body: m{"locale": "en_US"}}, invalid, "/locale invalid_format"},
		{"time zone", request{method: "PUT", path: holderPath, body: m{"timeZone": "Mars/Olympus"}}, invalid,
			"/timeZone invalid_format"},
		{"time zone as a path", request{method: "PUT", path: holderPath, body: m{"timeZone": "../../etc/passwd"}}, invalid,
			"/timeZone invalid_format"},
		{"local time", request{method: "PUT", path: holderPath, body: m{"timeZone": "Local"}}, invalid,
			"/timeZone invalid_format"},
		{"all at once", request{method: "PUT", path: "/v1/holders/a%20b", body: m{"email": 1, "locale": "x",
			"nope": nil},
			header: map[string]string{"If-Match": "3", "Mobilecred-Actor": "a\x01"}}, invalid,
			"invalid_format, invalid_format, invalid_format, /email wrong_type, /locale invalid_format, /nope unknown_field"},
	}
}

// badProfiles are profiles.
func badProfiles(_ *testing.T, _ string) []badRequest {
	return []badRequest{
		{"nothing in a profile", request{method: "PUT", path: profilePath, body: m{}}, invalid,
			"/name required, /account required, /partNumber required"},
		{"empty name", request{method: "PUT", path: profilePath, body: profileWith("name", " \t")}, invalid,
			"/name required"},
		{"null name", request{method: "PUT", path: profilePath, body: profileWith("name", nil)}, invalid, "/name required"},
		{"unknown account", request{method: "PUT", path: profilePath, body: profileWith("account", "none")}, invalid,
			"/account unknown_value"},
		{"part number with a hash", request{method: "PUT", path: profilePath, body: profileWith("partNumber", "A#1")},
			invalid, "/partNumber invalid_format"},
		{"invitation of no day", request{method: "PUT", path: profilePath, body: profileWith("invitationDays", 0)}, invalid,
			"/invitationDays out_of_range"},
		{"invitation of 31 days", request{method: "PUT", path: profilePath, body: profileWith("invitationDays", 31)},
			invalid, "/invitationDays out_of_range"},
		{"half a day", request{method: "PUT", path: profilePath, body: profileWith("invitationDays", 1.5)}, invalid,
			"/invitationDays wrong_type"},
		{"days as text", request{method: "PUT", path: profilePath, body: profileWith("invitationDays", "7")}, invalid,
			"/invitationDays wrong_type"},
		{"negative stock", request{method: "PUT", path: profilePath, body: profileWith("lowStock", -1)}, invalid,
			"/lowStock out_of_range"},
		{"huge stock", request{method: "PUT", path: profilePath,
			body: `{"name":"HQ","account":"acme-origo","partNumber":"P","lowStock":99999999999999999999}`}, invalid,
			"/lowStock out_of_range"},
		{"app as text", request{method: "PUT", path: profilePath, body: profileWith("app", "HID")}, invalid,
			"/app wrong_type"},
		{"link without TLS", request{method: "PUT", path: profilePath, body: profileWith("app",
			m{"appleUrl": "http://a.example", "x": 1})}, invalid, "/app/appleUrl invalid_format, /app/x unknown_field"},
		{"link with script", request{method: "PUT", path: profilePath, body: profileWith("app",
			m{"googleUrl": "javascript:alert(1)"})}, invalid, "/app/googleUrl invalid_format"},
		{"link with a user", request{method: "PUT", path: profilePath, body: profileWith("sender",
			m{"logoUrl": "https://a.example@b.example/"})}, invalid, "/sender/logoUrl invalid_format"},
		{"link with quotes", request{method: "PUT", path: profilePath, body: profileWith("sender",
			m{"logoUrl": `https://a.example/"onload=`})}, invalid, "/sender/logoUrl invalid_format"},
		{"colour", request{method: "PUT", path: profilePath, body: profileWith("sender", m{"color": "red",
			"replyTo": "x"})}, invalid, "/sender/replyTo invalid_format, /sender/color invalid_format"},
	}
}

// badAssignments are assignments and replacements.
func badAssignments(_ *testing.T, path string) []badRequest {
	return []badRequest{
		{"profile id", request{method: "POST", path: credentialsPath, body: m{"profileId": "a b"}}, invalid,
			"/profileId invalid_format"},
		{"profile id as a number", request{method: "POST", path: credentialsPath, body: m{"profileId": 1}}, invalid,
			"/profileId wrong_type"},
		{"holder as text", request{method: "POST", path: credentialsPath, body: m{"holder": "E-1"}}, invalid,
			"/holder wrong_type"},
		{"switches as texts", request{method: "POST", path: credentialsPath, body: `{"ifNone":"yes","wait":1}`}, invalid,
			"/ifNone wrong_type, /wait wrong_type"},
		{"bad holder", request{method: "POST", path: credentialsPath, body: m{"holder": m{"kind": "visitor", "email": "x",
			"Email": ""}}}, invalid,
			"/holder/email invalid_format, /holder/validUntil required, /holder/Email unknown_field"},
		{"holder without a name", request{method: "POST", path: credentialsPath, body: m{"holder": m{"firstName": "A"}}},
			invalid, "/holder/lastName required, /holder/email required"},
		{"no reason", request{method: "POST", path: path + "/replacement", body: m{}}, invalid, "/reason required"},
		{"unknown reason", request{method: "POST", path: path + "/replacement", body: m{"reason": "deleted"}}, invalid,
			"/reason unknown_value"},
		{"unknown profile", request{method: "POST", path: credentialsPath, body: m{"profileId": "none"}},
			"404 profile_not_found", ""},
	}
}

// badIDs are ids in the path.
func badIDs(_ *testing.T, path string) []badRequest {
	return []badRequest{
		{"holder to be put", request{method: "PUT", path: "/v1/holders/a%2Fb", body: m{}}, invalid, "invalid_format"},
		{"profile to be put", request{method: "PUT", path: "/v1/profiles/" + tooLong, body: hq}, invalid,
			"invalid_format"},
		{"holder to assign to", request{method: "POST", path: "/v1/holders/%C3%A4/credentials", body: m{}}, invalid,
			"invalid_format"},
		{"holder to be read", request{method: "GET", path: "/v1/holders/a%20b"}, "404 holder_not_found", ""},
		{"holder to be erased", request{method: "DELETE", path: "/v1/holders/" + tooLong}, "404 holder_not_found", ""},
		{"profile to be read", request{method: "GET", path: "/v1/profiles/a%23b"}, "404 profile_not_found", ""},
		{"profile to be retired", request{method: "DELETE", path: "/v1/profiles/a%23b"}, "404 profile_not_found", ""},
		{"credential to be read", request{method: "GET", path: credentialsPath + "/a%00b"}, "404 credential_not_found", ""},
		{"credential to be lost", request{method: "POST", path: credentialsPath + "/a%20b/lost"},
			"404 credential_not_found", ""},
		{"another holder's credential", request{method: "DELETE", path: strings.Replace(path, "E-1", "E-2", 1)},
			"404 holder_not_found", ""},
	}
}

// badHeaders are headers.
func badHeaders(_ *testing.T, path string) []badRequest {
	return []badRequest{
		{"empty key", request{method: "POST", path: credentialsPath, body: m{}, header: header("Idempotency-Key", "")},
			invalid, "invalid_format"},
		{"long key", request{method: "POST", path: path + "/lost", header: header("Idempotency-Key", strings.Repeat("k",
			256))}, invalid, "invalid_format"},
		{"key with umlaut", request{method: "POST", path: path + "/invitation", header: header("Idempotency-Key",
			"schlüssel")}, invalid, "invalid_format"},
		{"long actor", request{method: "DELETE", path: path, header: header("Mobilecred-Actor", strings.Repeat("ä",
			129))}, invalid, "invalid_format"},
		{"actor in no UTF-8", request{method: "DELETE", path: holderPath, header: header("Mobilecred-Actor", "\xff")},
			invalid, "invalid_format"},
		{"If-Match without quotes", request{method: "PUT", path: holderPath, body: m{}, header: header("If-Match", "1")},
			invalid, "invalid_format"},
		{"If-Match of any", request{method: "PUT", path: holderPath, body: m{}, header: header("If-Match", "*")}, invalid,
			"invalid_format"},
		{"weak If-Match", request{method: "PUT", path: holderPath, body: m{}, header: header("If-Match", `W/"1"`)}, invalid,
			"invalid_format"},
		{"two in If-Match", request{method: "PUT", path: holderPath, body: m{}, header: header("If-Match", `"1", "2"`)},
			invalid, "invalid_format"},
		{"empty If-Match", request{method: "PUT", path: profilePath, body: hq, header: header("If-Match", "")}, invalid,
			"invalid_format"},
	}
}

// badQueries are queries.
func badQueries(_ *testing.T, _ string) []badRequest {
	return []badRequest{
		{"no profile", request{method: "GET", path: "/v1/credentials"}, invalid, "required"},
		{"bad profile", request{method: "GET", path: "/v1/credentials?profileId=a%20b"}, invalid, "invalid_format"},
		{"two profiles", request{method: "GET", path: "/v1/credentials?profileId=hq&profileId=annex"}, invalid,
			"invalid_format"},
		{"limit 0", request{method: "GET", path: "/v1/credentials?profileId=hq&limit=0"}, invalid, "out_of_range"},
		{"limit 101", request{method: "GET", path: "/v1/credentials?profileId=hq&limit=101"}, invalid, "out_of_range"},
		{"limit in words", request{method: "GET", path: "/v1/credentials?profileId=hq&limit=ten"}, invalid,
			"out_of_range"},
		{"status", request{method: "GET", path: "/v1/credentials?profileId=hq&status=invited"}, invalid,
			"unknown_value"},
		{"warning", request{method: "GET", path: "/v1/credentials?profileId=hq&warning=none"}, invalid, "unknown_value"},
		{"unknown parameter", request{method: "GET", path: "/v1/credentials?profileId=hq&Status=active"}, invalid,
			"unknown_parameter"},
		{"everything", request{method: "GET", path: "/v1/credentials?status=x&limit=x&y=z"}, invalid,
			"out_of_range, required, unknown_value, unknown_parameter"},
		{"cursor", request{method: "GET", path: "/v1/credentials?profileId=hq&cursor=abc"}, "422 invalid_cursor", ""},
	}
}

// badSizesAndTypes are sizes and media types.
func badSizesAndTypes(t *testing.T, path string) []badRequest {
	return []badRequest{
		{"large body", request{method: "PUT", path: holderPath, body: `{"x":"` + strings.Repeat("x", 64<<10) + `"}`},
			"413 too_large", ""},
		{"large body for nothing", request{method: "POST", path: path + "/lost", body: strings.Repeat(" ", 64<<10+1)},
			"413 too_large", ""},
		{"form", request{method: "PUT", path: holderPath, body: "{}", header: header("Content-Type",
			"application/x-www-form-urlencoded")}, "415 unsupported_media_type", ""},
		{"other JSON", request{method: "PUT", path: holderPath, body: "{}", header: header("Content-Type",
			"application/merge-patch+json")}, "415 unsupported_media_type", ""},
		{"other charset", request{method: "PUT", path: holderPath, body: "{}", header: header("Content-Type",
			"application/json; charset=latin1")}, "415 unsupported_media_type", ""},
		{"nonsense type", request{method: "PUT", path: holderPath, body: "{}", header: header("Content-Type", ";;")},
			"415 unsupported_media_type", ""},
		{"large picture", request{method: "PUT", path: holderPath + "/picture", body: make([]byte, 4<<20+1)},
			"413 too_large", ""},
		{"GIF", request{method: "PUT", path: holderPath + "/picture", body: []byte("GIF89a"), header: header("Content-Type",
			"image/gif")}, "415 unsupported_media_type", ""},
		{"picture of no type", request{method: "PUT", path: holderPath + "/picture", body: onePixel(t),
			header: header("Content-Type", "-")}, "415 unsupported_media_type", ""},
		{"no picture", request{method: "PUT", path: holderPath + "/picture", body: []byte("hello")}, invalid,
			"invalid_format"},
		{"empty picture", request{method: "PUT", path: holderPath + "/picture", body: []byte{}}, invalid, "invalid_format"},
		{"half a picture", request{method: "PUT", path: holderPath + "/picture", body: onePixel(t)[:50]}, invalid,
			"invalid_format"},
		{"picture of an unknown holder", request{method: "PUT", path: "/v1/holders/none/picture", body: onePixel(t)},
			"404 holder_not_found", ""},
	}
}

func TestWhatIsAccepted(t *testing.T) {
	w := settled(t)
	for name, r := range map[string]request{
		"charset": {method: "PUT", path: "/v1/holders/N-1", body: m{},
			header: map[string]string{"Content-Type": "Application/JSON; charset=UTF-8"}},
		"no content type": {method: "PUT", path: "/v1/holders/N-1", body: "{}",
			header: map[string]string{"Content-Type": "-"}, wrong: true},
		"nulls": {method: "PUT", path: "/v1/holders/N-1", body: m{"kind": nil, "firstName": nil,
			"email": nil, "validUntil": nil, "locale": ""}},
		"other scripts": {method: "PUT", path: "/v1/holders/E-1", body: m{"firstName": "Žofie 🌻",
			"lastName": "O’Brien-Ł", "email": "a+b@bücher.example"}},
		"end in the past": {method: "PUT", path: "/v1/holders/V-1", body: m{"kind": "visitor",
			"validUntil": "2001-01-01T00:00:00Z"}},
		"longest key": {method: "POST", path: "/v1/holders/E-1/credentials", body: m{"holder": ada},
			header: map[string]string{"Idempotency-Key": strings.Repeat("~ ", 127) + "k"}},
		"longest actor": {method: "DELETE", path: "/v1/holders/E-1/picture",
			header: map[string]string{"Mobilecred-Actor": strings.Repeat("a", 128)}},
		"form of no body": {method: "DELETE", path: "/v1/holders/E-1/picture",
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
		"largest picture": {method: "PUT", path: "/v1/holders/E-1/picture", body: append(onePixel(t), make([]byte,
			4<<20-len(onePixel(t)))...)},
		"null for nothing": {method: "POST", path: "/v1/holders/E-1/credentials", body: m{"profileId": nil,
			"holder": ada}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.do(r); got.status >= 300 {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

func TestProblemOfAnyErrorSaysNothingOfIt(t *testing.T) {
	for _, err := range []error{errors.New("ada@example.com"), fmt.Errorf("read: %w", errors.New("ada@example.com"))} {
		if got := problem.Answer(eventWithID("r-1"), err); got.StatusCode != 503 || strings.Contains(got.Body,
			"ada@") || !strings.Contains(got.Body, `"requestId":"r-1"`) {
			t.Errorf("%d %s", got.StatusCode, got.Body)
		}
	}
}
