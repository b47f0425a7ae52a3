package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// wrong is a call that must not have any effect.
type wrong struct {
	name, method, path string
	body               any
	headers            []string
	want               string // status, code
	errors             string // pointers, each with its code
}

// refusal is a problem document in one line.
func (a answer) refusal() (status, errors string) {
	a.t.Helper()
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body)), ""
	}
	var p struct {
		Type, Title, Detail, Code, RequestID string
		Status                               int
		Errors                               []struct{ Pointer, Code, Detail string }
	}
	a.into(&p)
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.Status != a.status {
		a.t.Errorf("%s: an incomplete problem: %s", a.call, a.body)
	}
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, strings.TrimSpace(e.Pointer+" "+e.Code))
	}
	return fmt.Sprintf("%d %s", a.status, p.Code), strings.Join(fields, ", ")
}

// bookkeeping reports whether a key belongs to an item that every sweep writes, whether or not a call was made: its
// place in the provider's feed, the calls it has spent, and the stock it saw.
func bookkeeping(key string) bool {
	return strings.HasPrefix(key, "ACCOUNT#"+account+" ")
}

func TestWrongCallsChangeNothing(t *testing.T) {
	t.Parallel()
	r := private(t)
	r.put("/v1/profiles/branch", m{"name": "Branches", "account": account, "partNumber": part2}).want(201)
	c := r.invited()
	final := r.activated("final")
	r.delete(final.path()).want(200)
	nameless := r.holder(m{"firstName": ""})
	r.settle()
	user, invitation := r.userOf(c.HolderID)
	before := r.items()

	calls := wrongCalls(t, c, final, nameless)
	for _, x := range calls {
		status, fields := r.call(x.method, x.path, x.body, x.headers...).refusal()
		if status != x.want || fields != x.errors {
			t.Errorf("%s: %s [%s], want %s [%s]", x.name, status, fields, x.want, x.errors)
		}
	}

	webhooks := wrongWebhooks(user, invitation)
	for _, x := range webhooks {
		a := r.webhook(x.body, x.headers...)
		status, fields := a.refusal()
		if status != x.want || fields != x.errors {
			t.Errorf("webhook, %s: %s [%s], want %s", x.name, status, fields, x.want)
		}
	}
	r.settle()
	t.Logf("%d calls and %d webhooks", len(calls), len(webhooks))

	after := r.items()
	for _, key := range slices.Sorted(maps.Keys(union(before, after))) {
		was, _ := json.Marshal(before[key])
		is, _ := json.Marshal(after[key])
		switch {
		case bytes.Equal(was, is):
		case bookkeeping(key):
			t.Logf("bookkeeping of the sweep and of calls: %s", key)
		default:
			t.Errorf("%s was %s and is %s", key, was, is)
		}
	}
	r.expectNoDeadLetters()
}

func union(a, b map[string]m) map[string]m {
	u := maps.Clone(a)
	maps.Copy(u, b)
	return u
}

// wrongCalls are calls of the portal about the live credential c, the final one, and a holder without a first name.
func wrongCalls(t *testing.T, c, final credential, nameless string) []wrong {
	holder, none := "/v1/holders/"+c.HolderID, "/v1/holders/unknown"
	creds, prof := holder+"/credentials", "/v1/profiles/hq"
	const invalid = "422 validation_failed"
	return []wrong{
		{"no body", "POST", creds, nil, nil, "400 malformed_json", ""},
		{"half a body", "PUT", holder, []byte(`{"firstName":`), nil, "400 malformed_json", ""},
		{"two values", "PUT", holder, []byte(`{}{}`), nil, "400 malformed_json", ""},
		{"no UTF-8", "PUT", holder, []byte("{\"firstName\":\"\xff\"}"), nil, "400 malformed_json", ""},
		{"a deep one", "PUT", holder, bytes.Repeat([]byte("["), 60000), nil, "400 malformed_json", ""},
		{"a list", "PUT", holder, []any{}, nil, invalid, "wrong_type"},
		{"null", "PUT", prof, []byte(`null`), nil, invalid, "wrong_type"},
		{"a form", "POST", creds, []byte(`profileId=hq`), []string{"Content-Type", "application/x-www-form-urlencoded"},
			"415 unsupported_media_type", ""},
		{"another charset", "PUT", holder, m{}, []string{"Content-Type", "application/json; charset=latin1"},
			"415 unsupported_media_type", ""},
		{"65 kB", "PUT", holder, m{"firstName": strings.Repeat("x", 65<<10)}, nil, "413 too_large", ""},
		{"11 MB", "PUT", holder, bytes.Repeat([]byte(" "), 11<<20), nil,
			`413 {"message":"Request Entity Too Large"}`, ""},

		{"a field of another case", "PUT", holder, m{"FirstName": "A"}, nil, invalid, "/FirstName unknown_field"},
		{"a field that is an answer's", "PUT", holder, m{"hasPicture": true}, nil, invalid, "/hasPicture read_only"},
		{"a field twice", "PUT", holder, []byte(`{"email":"a@b.example","email":"c@b.example"}`), nil, invalid,
			"/email duplicate_field"},
		{"a field to be escaped", "PUT", holder, m{"a/b~c": 1}, nil, invalid, "/a~1b~0c unknown_field"},
		{"types", "PUT", holder, m{"firstName": 1, "lastName": m{}}, nil, invalid,
			"/firstName wrong_type, /lastName wrong_type"},
		{"a control character", "PUT", holder, m{"lastName": "a\u0000b"}, nil, invalid, "/lastName invalid_text"},
		{"no address", "PUT", holder, m{"email": "Ada <a@b.example>"}, nil, invalid, "/email invalid_format"},
		{"an address with a header", "PUT", holder, m{"email": "a@b.example\r\nBcc: c@d.example"}, nil, invalid,
			"/email invalid_format"},
		{"a visitor for ever", "PUT", holder, m{"kind": "visitor"}, nil, invalid, "/validUntil required"},
		{"a cardholder until", "PUT", holder, m{"validUntil": "2031-01-01T00:00:00Z"}, nil, invalid,
			"/validUntil not_allowed"},
		{"no day", "PUT", holder, m{"kind": "visitor", "validUntil": "2031-02-30T00:00:00Z"}, nil, invalid,
			"/validUntil invalid_format"},
		{"all at once", "PUT", holder, m{"kind": "robot", "email": 7, "locale": "?", "timeZone": "Mars/Olympus",
			"nope": 1}, nil, invalid,
			"/kind unknown_value, /email wrong_type, /locale invalid_format, /timeZone invalid_format, /nope " +
				"unknown_field"},

		{"an empty profile", "PUT", "/v1/profiles/new", m{}, nil, invalid,
			"/name required, /account required, /partNumber required"},
		{"an unknown account", "PUT", "/v1/profiles/new", m{"name": "N", "account": "other", "partNumber": "P"}, nil,
			invalid, "/account unknown_value"},
		{"inside a profile", "PUT", "/v1/profiles/new", m{"name": "N", "account": account, "partNumber": "P",
			"invitationDays": 1.5, "app": m{"appleUrl": "http://x.example"}, "sender": m{"color": "red", "x": 1}},
			nil, invalid,
			"/app/appleUrl invalid_format, /invitationDays wrong_type, /sender/color invalid_format, /sender/x " +
				"unknown_field"},
		{"another part number", "PUT", prof, m{"name": "HQ", "account": account, "partNumber": "P"}, nil,
			"409 immutable", "/partNumber immutable"},
		{"another profile's part number", "PUT", "/v1/profiles/new", m{"name": "N", "account": account,
			"partNumber": part1},
			nil, "409 part_number_in_use", ""},
		{"an id", "PUT", "/v1/profiles/a%20b", m{"name": "N", "account": account, "partNumber": "P"}, nil, invalid,
			"invalid_format"},
		{"no profile", "DELETE", "/v1/profiles/none", nil, nil, "404 profile_not_found", ""},

		{"an unknown holder", "POST", none + "/credentials", m{"profileId": "hq"}, nil, "404 holder_not_found", ""},
		{"an unknown holder, described in part", "POST", none + "/credentials",
			m{"profileId": "hq", "holder": m{"firstName": "A"}}, nil,
			invalid, "/holder/lastName required, /holder/email required"},
		{"a wrong newcomer", "POST", none + "/credentials", m{"holder": m{"email": "x", "Kind": ""}}, nil, invalid,
			"/holder/email invalid_format, /holder/Kind unknown_field"},
		{"a holder without a name", "POST", "/v1/holders/" + nameless + "/credentials", m{"profileId": "hq"}, nil,
			invalid, "/firstName required"},
		{"which profile", "POST", creds, m{}, nil, "422 profile_required", "/profileId required"},
		{"an unknown profile", "POST", creds, m{"profileId": "none"}, nil, "404 profile_not_found", ""},
		{"no profile's id", "POST", creds, m{"profileId": "a b"}, nil, invalid, "/profileId invalid_format"},
		{"an unknown credential", "POST", creds + "/none/lost", nil, nil, "404 credential_not_found", ""},
		{"another's credential", "POST", "/v1/holders/" + final.HolderID + "/credentials/" + c.ID + "/invitation", nil,
			nil, "404 credential_not_found", ""},
		{"no reason", "POST", c.path() + "/replacement", m{}, nil, invalid, "/reason required"},
		{"an unknown reason", "POST", c.path() + "/replacement", m{"reason": "Lost"}, nil, invalid,
			"/reason unknown_value"},
		{"a body for nothing", "POST", c.path() + "/lost", m{"reason": "x"}, nil, invalid, "/reason unknown_field"},
		{"text for nothing", "DELETE", c.path(), []byte(`now`), nil, "400 malformed_json", ""},
		{"too soon", "POST", c.path() + "/invitation", nil, nil, "429 too_soon", ""},
		{"too late", "POST", final.path() + "/invitation", nil, nil, "409 invalid_state", ""},
		{"nothing to replace", "POST", final.path() + "/replacement", m{"reason": "upgrade"}, nil,
			"409 invalid_state", ""},

		{"an empty key", "POST", creds, m{"profileId": "hq"}, []string{"Idempotency-Key", " "}, invalid,
			"invalid_format"},
		{"a long key", "POST", creds, m{"profileId": "hq"}, []string{"Idempotency-Key", strings.Repeat("k", 256)},
			invalid, "invalid_format"},
		{"a key of other letters", "POST", c.path() + "/lost", nil, []string{"Idempotency-Key", "schlüssel"}, invalid,
			"invalid_format"},
		{"a long actor", "DELETE", c.path(), nil, []string{"Mobilecred-Actor", strings.Repeat("x", 129)}, invalid,
			"invalid_format"},
		{"no ETag", "PUT", holder, m{}, []string{"If-Match", "1"}, invalid, "invalid_format"},
		{"another ETag", "PUT", holder, m{}, []string{"If-Match", `"77"`}, "409 revision_mismatch", ""},

		{"a picture of text", "PUT", holder + "/picture", []byte("no picture"), []string{"Content-Type", "image/png"},
			invalid, "invalid_format"},
		{"a picture of half a PNG", "PUT", holder + "/picture", picture(t)[:40], []string{"Content-Type", "image/png"},
			invalid, "invalid_format"},
		{"a GIF", "PUT", holder + "/picture", []byte("GIF89a"), []string{"Content-Type", "image/gif"},
			"415 unsupported_media_type", ""},
		{"a picture of 4 MB and one byte", "PUT", holder + "/picture", make([]byte, 4<<20+1),
			[]string{"Content-Type", "image/png"}, "413 too_large", ""},
		{"a picture of an unknown holder", "PUT", none + "/picture", picture(t), []string{"Content-Type", "image/png"},
			"404 holder_not_found", ""},

		{"a list of what", "GET", "/v1/credentials", nil, nil, invalid, "required"},
		{"a list by everything", "GET", "/v1/credentials?profileId=hq&status=Active&limit=0&sort=id", nil, nil, invalid,
			"out_of_range, unknown_parameter, unknown_value"},
		{"a cursor", "GET", "/v1/credentials?profileId=hq&cursor=!", nil, nil, "422 invalid_cursor", ""},
		{"another list's cursor", "GET",
			"/v1/credentials?profileId=hq&cursor=YnJhbmNoADIwMjYtMDEtMDFUMDA6MDA6MDAuMDAwWiN4", nil, nil,
			"422 invalid_cursor", ""},
		{"a list of nothing", "GET", "/v1/credentials?profileId=none", nil, nil, "404 profile_not_found", ""},
		{"no such holder", "GET", "/v1/holders/a%2Fb", nil, nil, "404 holder_not_found", ""},
		{"no such history", "GET", creds + "/none/history", nil, nil, "404 credential_not_found", ""},
		{"an unknown holder to erase", "DELETE", none, nil, nil, "404 holder_not_found", ""},
		{"no such route", "GET", "/v1/people", nil, nil, `404 {"message":"Not Found"}`, ""},
		{"no such method", "PATCH", holder + "/picture", m{}, nil, `404 {"message":"Not Found"}`, ""},
	}
}

// wrongWebhooks are what the provider, or a stranger who has its secret, may send. 200 says how many of the batch could
// be used and how many not: a refusal of the whole would make the provider send it again for nothing.
func wrongWebhooks(user, invitation string) []wrong {
	said := func(kind, source string, data m) m {
		return m{"specversion": "1.0", "id": "e-1", "type": kind, "source": "x/" + source,
			"time": "2026-01-01T00:00:00Z", "data": data}
	}
	about := func(what, ref, status string, user any) m {
		return said("com.origo.mi."+what, what+"/"+ref, m{"userId": user, "status": status})
	}
	useless := func(n int) string { return fmt.Sprintf(`200 {"accepted":0,"rejected":%d}`, n) }
	useful := func(n int) string { return fmt.Sprintf(`200 {"accepted":%d,"rejected":0}`, n) }
	huge := make([]m, 0, 5000)
	for i := range cap(huge) {
		huge = append(huge, about("user", "1", "USER_UPDATED", i))
	}
	return []wrong{
		{"no secret", "", "", []m{}, []string{webhookHeader, ""}, "401 wrong_secret", ""},
		{"another secret", "", "", []m{}, []string{webhookHeader, "x"}, "401 wrong_secret", ""},
		{"no body", "", "", nil, nil, "400 malformed_json", ""},
		{"no JSON", "", "", []byte("events"), nil, "400 malformed_json", ""},
		{"null", "", "", []byte("null"), nil, "400 malformed_json", ""},
		{"a number", "", "", []byte("7"), nil, "400 malformed_json", ""},
		{"more than 1 MB", "", "", append([]m{{"pad": strings.Repeat("x", 1<<20)}}, huge[:1]...), nil,
			"413 too_large", ""},
		{"nothing", "", "", []m{}, nil, useless(0), ""},
		{"one that is not in a list", "", "", about("user", "1", "USER_UPDATED", user),
			[]string{"Content-Type", "application/cloudevents+json"}, useful(1), ""},
		{"things that are no events", "", "", []any{1, "x", nil, []int{}, m{}}, nil, useless(5), ""},
		{"another version", "", "",
			[]m{{"specversion": "0.3", "type": "com.origo.mi.user",
				"data": m{"userId": user, "status": "USER_DELETED"}}}, nil, useless(1), ""},
		{"an unknown type", "", "",
			[]m{said("com.origo.passes.pass", "pass/1", m{"userId": user, "status": "PASS_REVOKED"})}, nil,
			useless(1), ""},
		{"data of another type", "", "", []m{{"specversion": "1.0", "type": "com.origo.mi.user", "data": "x"}}, nil,
			useless(1), ""},
		{"no status", "", "", []m{about("user", user, "", user)}, nil, useless(1), ""},
		{"an unknown status", "", "", []m{about("invitation", invitation, "INVITATION_BURNT", user)}, nil,
			useful(1), ""},
		{"the user undefined", "", "", []m{about("invitation", invitation, "INVITATION_CANCELLED", "undefined")}, nil,
			useless(1), ""},
		{"the invitation undefined", "", "", []m{about("invitation", "undefined", "INVITATION_CANCELLED", user)}, nil,
			useful(1), ""},
		{"an unknown user", "", "", []m{about("invitation", "1", "INVITATION_CANCELLED", "999999999")}, nil,
			useful(1), ""},
		{"a user of another form", "", "",
			[]m{about("invitation", invitation, "INVITATION_CANCELLED", "../../etc/passwd?a=b")}, nil, useless(1), ""},
		{"a user with a name", "", "", []m{about("invitation", invitation, "INVITATION_CANCELLED", "Aimée Tremblay")},
			nil, useless(1), ""},
		{"an unknown mobile ID", "", "", []m{said("origo.credential-management.events.credential", "credential/1",
			m{"status": "CREDENTIAL_RESERVED", "metaData": m{"partNumber": "P", "cardNumber": "1"}})}, nil,
			useful(1), ""},
		{"cancelled, untrue", "", "", []m{about("invitation", invitation, "INVITATION_CANCELLED", user)}, nil,
			useful(1), ""},
		{"expired, untrue", "", "", []m{about("invitation", invitation, "INVITATION_EXPIRED", user)}, nil,
			useful(1), ""},
		{"accepted, untrue", "", "", []m{about("invitation", invitation, "INVITATION_ACKNOWLEDGED", user)}, nil,
			useful(1), ""},
		{"deleted, untrue", "", "", []m{about("user", user, "USER_DELETED", user)}, nil, useful(1), ""},
		{"issued, untrue", "", "",
			[]m{said("com.origo.mi.credential", "credential/1",
				m{"mid": "1", "userId": user, "status": "CREDENTIAL_ISSUED", "endpointId": "some-phone"})}, nil,
			useful(1), ""},
		{"revoked, untrue", "", "",
			[]m{said("com.origo.mi.credential", "credential/1",
				m{"mid": "1", "userId": user, "status": "CREDENTIAL_REVOKED"})}, nil, useful(1), ""},
		{"an unknown device removed", "", "", []m{about("endpoint", "some-phone", "ENDPOINT_DELETED", user)},
			nil, useful(1), ""},
		{"all of it twice", "", "", []m{about("invitation", invitation, "INVITATION_CANCELLED", user),
			about("invitation", invitation, "INVITATION_CANCELLED", user)}, nil, useful(2), ""},
	}
}
