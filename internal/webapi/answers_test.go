package webapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// says is an answer in short: status, and the code of a problem or the state of a credential.
func (a answer) says(t *testing.T) string {
	t.Helper()
	v := a.json(t)
	if a.status >= 400 {
		return fmt.Sprint(a.status, " ", v["code"])
	}
	if v["stage"] != nil {
		return fmt.Sprint(a.status, " ", v["stage"])
	}
	return fmt.Sprint(a.status, " ", v["status"])
}

// Every state with every operator call.
func TestEveryStateWithEveryCall(t *testing.T) {
	phone := &credential.Device{ID: "phone-1"}
	states := map[string][]credential.Event{
		"invited":    nil,
		"activating": {{Kind: credential.EventAccepted}},
		"activated":  {{Kind: credential.EventActivated, Device: phone}},
		"declined":   {{Kind: credential.EventDeclined}},
		"expired":    {{Kind: credential.EventExpired}},
		"reassigned": {{Kind: credential.EventGivenToAnother}},
		"revoked":    {{Kind: credential.EventRevoke}},
		"lost":       {{Kind: credential.EventLost}},
		"stolen":     {{Kind: credential.EventStolen}},
		"failed":     {{Kind: credential.EventRefused}},
	}
	calls := []string{"resend", "lost", "stolen", "delete", "replace lost", "replace stolen", "replace upgrade"}
	const no = "409 invalid_state"
	// A replacement answers with the new credential.
	want := map[string][]string{
		"invited": {"202 invited", "200 lost", "200 stolen", "200 revoked", "201 invited", "201 invited",
			"201 invited"},
		"activating": {no, "200 lost", "200 stolen", "200 revoked", "201 invited", "201 invited", "201 invited"},
		"activated":  {no, "200 lost", "200 stolen", "200 revoked", "201 invited", "201 invited", "201 invited"},
		"declined":   {no, no, no, "200 declined", no, no, no},
		"expired":    {no, no, no, "200 expired", no, no, no},
		"reassigned": {no, no, no, "200 reassigned", no, no, no},
		"revoked":    {no, "200 revoked", "200 revoked", "200 revoked", no, no, no},
		"lost":       {no, no, no, "200 lost", no, no, no},
		"stolen":     {no, no, no, "200 stolen", no, no, no},
		"failed":     {no, no, no, "200 failed", no, no, no},
	}
	for state, events := range states {
		for i, name := range calls {
			t.Run(state+"/"+name, func(t *testing.T) {
				w := settled(t)
				path := w.assigned()
				for _, e := range events {
					w.happens(path, e)
				}
				w.Advance(2 * time.Minute)
				var got answer
				switch verb, reason, _ := strings.Cut(name, " "); verb {
				case "resend":
					got = w.post(path+"/invitation", nil)
				case "delete":
					got = w.delete(path)
				case "replace":
					got = w.post(path+"/replacement", m{"reason": reason})
				default:
					got = w.post(path+"/"+verb, nil)
				}
				if got.says(t) != want[state][i] {
					t.Errorf("got %s, want %s", got.says(t), want[state][i])
				}
				if again := w.delete(path); again.status != 200 {
					t.Errorf("deleting after all: %d", again.status)
				}
			})
		}
	}
}

func TestCreatedOnlyWhenTheInvitationIsSent(t *testing.T) {
	w := settled(t)
	w.mailDown()
	if got := w.post("/v1/holders/E-1/credentials", m{}); got.status != 202 || got.header["Location"] == "" {
		t.Errorf("%d %v", got.status, got.header)
	}
	w.Mend()
	w.providerDown()
	got := w.post("/v1/holders/E-1/credentials", m{}).want(t, 202)
	if got.at(t, "provider.state") != "pending" {
		t.Error(got.body)
	}
}

func TestReplayShowsTheSameResourceAndDoesNothing(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	w.Advance(2 * time.Minute)
	for _, test := range []struct {
		path        string
		body, other any // the same value otherwise spaced, and another one
	}{
		{"/v1/holders/E-1/credentials", "{\"profileId\":\n \"hq\"}", m{}},
		{path + "/invitation", m{}, nil},
		{path + "/replacement", m{"reason": "upgrade"}, m{"reason": "lost"}},
		{path + "/lost", nil, nil},
		{path + "/stolen", nil, nil},
	} {
		t.Run(test.path, func(t *testing.T) {
			first := m{}
			if s, ok := test.body.(string); ok {
				if err := json.Unmarshal([]byte(s), &first); err != nil {
					t.Fatal(err)
				}
			} else if b, ok := test.body.(m); ok {
				first = b
			}
			one := w.post(test.path, first, "Idempotency-Key", "the key")
			if one.status >= 300 {
				t.Fatal(one.says(t))
			}
			mails, reservations := w.Mailbox.Count(), w.reservations()
			two := w.post(test.path, test.body, "Idempotency-Key", "the key").want(t, 200)
			if two.header["Idempotent-Replayed"] != "true" || one.header["Idempotent-Replayed"] != "" || one.at(t,
				"id") != two.at(t, "id") {
				t.Errorf("%v, then %v", one, two)
			}
			if w.Mailbox.Count() != mails || w.reservations() != reservations {
				t.Error("it was done twice")
			}
			if test.other != nil {
				if got := w.post(test.path, test.other, "Idempotency-Key",
					"the key"); got.says(t) != "422 idempotency_key_reused" {
					t.Error(got.says(t))
				}
			}
		})
	}
	// A key is good for one path: another holder's is a new request.
	w.put("/v1/holders/E-2", m{"firstName": "Grace", "lastName": "Hopper", "email": "grace@example.com"}).want(t, 201)
	w.post("/v1/holders/E-2/credentials", m{"profileId": "hq"}, "Idempotency-Key", "the key").want(t, 201)
}

func TestIfMatch(t *testing.T) {
	w := settled(t)
	put := func(path string, body m, match string) answer {
		return w.do(request{method: "PUT", path: path, body: body, header: map[string]string{"If-Match": match}})
	}
	renamed := m{"name": "Other", "account": account, "partNumber": "MID-SUB-CRD_FTPN_1001"}
	if got := put("/v1/profiles/hq", renamed, `"7"`); got.says(t) != "409 revision_mismatch" {
		t.Error(got.says(t))
	}
	etag := w.get("/v1/profiles/hq").header["ETag"]
	if got := put("/v1/profiles/hq", renamed, etag).want(t, 200); got.header["ETag"] == etag {
		t.Error("the ETag did not change")
	}
	if got := put("/v1/holders/E-1", m{}, `"2"`); got.says(t) != "409 revision_mismatch" {
		t.Error(got.says(t))
	}
	put("/v1/holders/E-1", m{}, w.get("/v1/holders/E-1").header["ETag"]).want(t, 200)
	if got := put("/v1/holders/new", m{}, `"1"`); got.says(t) != "409 revision_mismatch" {
		t.Error(got.says(t))
	}
}

func TestConflicts(t *testing.T) {
	w := settled(t)
	expect := func(want string, got answer) {
		t.Helper()
		if got.says(t) != want {
			t.Errorf("got %s, want %s", got.says(t), want)
		}
	}
	moved := w.put("/v1/profiles/hq", m{"name": "HQ", "account": "other", "partNumber": "P"})
	expect("409 immutable", moved)
	if !strings.Contains(moved.body, `"pointer":"/account"`) || !strings.Contains(moved.body,
		`"pointer":"/partNumber"`) {
		t.Error(moved.body)
	}
	expect("409 part_number_in_use", w.put("/v1/profiles/hq2", hq))
	w.put("/v1/holders/E-2", m{"email": "grace@example.com"}).want(t, 201)
	incomplete := w.post("/v1/holders/E-2/credentials", m{})
	expect("422 validation_failed", incomplete)
	if !strings.Contains(incomplete.body, `"pointer":"/firstName"`) || !strings.Contains(incomplete.body,
		`"pointer":"/lastName"`) {
		t.Error(incomplete.body)
	}
	w.put("/v1/profiles/annex", m{"name": "Annex", "account": account, "partNumber": empty}).want(t, 201)
	expect("422 profile_required", w.post("/v1/holders/E-1/credentials", m{}))
	expect("404 profile_not_found", w.post("/v1/holders/E-1/credentials", m{"profileId": "none"}))
	refused := w.post("/v1/holders/E-1/credentials", m{"profileId": "annex"})
	expect("409 no_licence_left", refused)
	failed := w.get("/v1/holders/E-1/credentials/"+refused.at(t, "credentialId").(string)).want(t, 200)
	if failed.at(t, "status") != "failed" || failed.at(t, "statusReason") != "no_licence_left" {
		t.Error(failed.body)
	}
	path := w.post("/v1/holders/E-1/credentials", m{"profileId": "hq"}).want(t, 201).header["Location"]
	soon := w.post(path+"/invitation", nil)
	expect("429 too_soon", soon)
	if soon.header["Retry-After"] != "60" {
		t.Errorf("Retry-After %q", soon.header["Retry-After"])
	}
	w.put("/v1/holders/E-3", m{"firstName": "Not", "lastName": "Ada", "email": "ada@example.com"}).want(t, 201)
	expect("409 email_in_use_at_provider", w.post("/v1/holders/E-3/credentials", m{"profileId": "hq"}))
}

func TestErasedHolderIsNotFound(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	w.providerDown()
	w.delete("/v1/holders/E-1").want(t, 202)
	if got := w.get("/v1/holders/E-1").want(t, 200).at(t, "erasing"); got != true {
		t.Errorf("erasing is %v", got)
	}
	w.delete("/v1/holders/E-1").want(t, 202)
	w.Mend()
	w.Advance(time.Hour)
	w.delete("/v1/holders/E-1").want(t, 202)
	for _, p := range []string{"/v1/holders/E-1", "/v1/holders/E-1/credentials", path, path + "/history"} {
		if got := w.get(p); got.says(t) != "404 holder_not_found" {
			t.Errorf("%s: %s", p, got.says(t))
		}
	}
}

func TestBadWeather(t *testing.T) {
	w := settled(t)
	w.Store.Fail = func(string) error { return fmt.Errorf("read: %w", codedError{"ada@example.com"}) }
	got := w.get("/v1/holders/E-1")
	if got.says(t) != "503 try_later" || got.header["Retry-After"] == "" ||
		got.header["Content-Type"] != "application/problem+json" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if !strings.Contains(w.log.String(), "codedError(ThrottlingException)") {
		t.Errorf("the log does not say what was wrong: %s", w.log.String())
	}
	w.Store.Fail = func(string) error { panic("ada@example.com") }
	for _, path := range []string{"/v1/holders/E-1", "/v1/profiles"} {
		if got := w.get(path); got.says(t) != "500 internal" {
			t.Error(got.says(t))
		}
	}
	w.Store.Fail = func(op string) error {
		if op == "Stock" {
			panic("in a goroutine")
		}
		return nil
	}
	if got := w.get("/v1/profiles"); got.says(t) != "500 internal" {
		t.Error(got.says(t))
	}
}

type codedError struct{ text string }

func (e codedError) Error() string     { return e.text }
func (e codedError) ErrorCode() string { return "ThrottlingException" }

func TestACallWithoutATokenIsRefused(t *testing.T) {
	w := settled(t)
	w.Store.Fail = func(op string) error { t.Errorf("%s was reached", op); return errors.New("no") }
	w.do(request{method: "GET", path: "/v1/holders/E-1", noToken: true}).want(t, 500)
	w.do(request{method: "DELETE", path: "/v1/holders/E-1", noToken: true}).want(t, 500)
}

func TestOneAuditLineForEachRequest(t *testing.T) {
	w := settled(t)
	w.post("/v1/holders/E-1/credentials", m{}, "Idempotency-Key", "the-key", "Mobilecred-Actor", "ada.user").want(t,
		201)
	w.get("/v1/holders/none").want(t, 404)
	w.do(request{method: "GET", path: "/v1/holders/ada@example.com", wrong: true}).want(t, 404)
	w.do(request{method: "GET", path: "/v1/credentials?profileId=ada@example.com", wrong: true}).want(t, 422)
	w.do(request{method: "PUT", path: "/v1/holders/E-1", body: `{"ada@example.com":1}`, wrong: true}).want(t, 422)
	lines := bytes.Split(bytes.TrimSpace(w.log.Bytes()), []byte("\n"))
	if len(lines) != w.requests {
		t.Fatalf("%d lines for %d requests", len(lines), w.requests)
	}
	var line m
	if err := json.Unmarshal(lines[2], &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	got, _ := json.Marshal(line)
	if want := `{"actor":"portal-1","credentialId":"id-0001","holderId":"E-1","level":"INFO","ms":0,"msg":"request","requestId":"request-3",` +
		`"route":"POST /v1/holders/{holderId}/credentials","status":201}`; string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for i, code := range []string{"holder_not_found", "holder_not_found", "validation_failed", "validation_failed"} {
		if !bytes.Contains(lines[3+i], []byte(`"code":"`+code+`"`)) {
			t.Errorf("%s lacks %s", lines[3+i], code)
		}
	}
	if bytes.Contains(w.log.Bytes(), []byte("the-key")) {
		t.Error("the key is in the log")
	}
}

// In JSON, 28.0 is the same number as 28, and the document asks for an integer.
func TestAWholeNumberMayBeWrittenWithAPoint(t *testing.T) {
	w := newWorld(t)
	for text, want := range map[string]float64{"28.0": 28, "2.8e1": 28, "7": 7} {
		got := w.put("/v1/profiles/hq",
			`{"name":"HQ","account":"acme-origo","partNumber":"P","invitationDays":`+text+`}`).at(t, "invitationDays")
		if got != want {
			t.Errorf("invitationDays %s is stored as %v", text, got)
		}
	}
}

// The gateway puts U+FFFD in the place of bytes that are not UTF-8.
func TestAnActorThatIsNotUTF8IsRefused(t *testing.T) {
	w := settled(t)
	for _, actor := range []string{"\ufffd", "\x84", "a\u0084"} {
		w.do(request{method: "DELETE", path: "/v1/profiles/hq", wrong: true,
			header: map[string]string{"Mobilecred-Actor": actor}}).want(t, 422)
	}
}
