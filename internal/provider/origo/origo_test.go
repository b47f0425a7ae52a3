package origo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

var _ provider.Provider = (*origo.Client)(nil)

var (
	start = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	aimee = provider.Person{ExternalID: "E-1042", FirstName: "Aimée", LastName: "Tremblay",
		Email: "aimee.tremblay@example.com"}
)

const part = "MID-SUB-CRD_FTPN_1001"

func fixture(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// hid answers requests by "METHOD path", the path without the organisation's part, and remembers them. What it has no
// answer for is a 404 in HID's own form.
type hid struct {
	*httptest.Server
	mu       sync.Mutex
	answers  map[string]func() (int, string)
	requests []request
}

type request struct {
	what   string
	header http.Header
	body   string
}

func newHID(t *testing.T) *hid {
	h := &hid{answers: map[string]func() (int, string){}}
	h.says("POST token", 200, string(fixture(t, "token.json")))
	h.says("GET part-number", 200, `{"schemas":[],"urn:hid:scim:api:ma:2.2:PartNumber":[`+string(fixture(t,
		"part-number-reply.json"))+`]}`)
	h.says("GET part-number/41", 200, string(fixture(t, "part-number-reply.json")))
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hid) says(what string, status int, body string) {
	h.does(what, func() (int, string) { return status, body })
}

func (h *hid) does(what string, answer func() (int, string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[what] = answer
}

func (h *hid) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path := r.URL.EscapedPath()
	path = strings.TrimPrefix(path, "/authentication/customer/1003233/")
	path = strings.TrimPrefix(path, "/credential-management/customer/1003233/")
	what := r.Method + " " + path
	h.mu.Lock()
	h.requests = append(h.requests, request{what, r.Header.Clone(), string(body)})
	answer := h.answers[what]
	h.mu.Unlock()
	if answer == nil {
		answer = func() (int, string) {
			return 404, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"404"}`
		}
	}
	status, text := answer()
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (h *hid) asked(what string) (found []request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		if r.what == what {
			found = append(found, r)
		}
	}
	return found
}

type limiter struct {
	taken atomic.Int64
	err   error
}

func (l *limiter) Take(context.Context) error {
	l.taken.Add(1)
	return l.err
}

type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return start.Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

func config(base string) origo.Config {
	return origo.Config{Account: "acme-origo", OrganizationID: "1003233", ClientID: "1003233-OSRV1",
		ClientSecret:  "CANARY-secret",
		ApplicationID: "APP", ApplicationVersion: "1.0",
		Endpoints: origo.Endpoints{Token: base, Management: base + "/credential-management", Events: base}}
}

func (h *hid) client() *origo.Client {
	return origo.New(config(h.URL), h.Client(), new(clock).Now, new(limiter))
}

func sameJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal(want, &w)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

func equal[T any](t *testing.T, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func isKind(t *testing.T, err, want error) {
	t.Helper()
	all := []error{provider.ErrUnavailable, provider.ErrOverLimit, provider.ErrNotFound, provider.ErrEmpty,
		provider.ErrEmailInUse,
		provider.ErrRefused, provider.ErrNotOurs}
	for _, kind := range all {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("%v: is %q: %t", err, kind, errors.Is(err, kind))
		}
	}
}

func TestReserveCreatesUserInvitationAndReservationInOneCall(t *testing.T) {
	h := newHID(t)
	h.says("POST users", 201, string(fixture(t, "create-user-reply.json")))
	got, err := h.client().Reserve(t.Context(), "", aimee, part)
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	equal(t, got, credential.Reserved{UserID: "103367", InvitationRef: "16247463", CredentialRef: "887001",
		Code:      "BPEX-LQTC-4E33-QT6N",
		ExpiresAt: &expires, Mobile: &credential.MobileID{ID: part + ":56", Number: "56", Format: "H10301",
			FacilityCode: "42"}})

	sent := h.asked("POST users")
	if len(sent) != 1 {
		t.Fatalf("%d calls", len(sent))
	}
	sameJSON(t, []byte(sent[0].body), fixture(t, "create-user-request.json"))
	for name, want := range map[string]string{
		"Authorization": "Bearer eyJhbGciOi-example", "Application-ID": "APP", "Application-Version": "1.0",
		"Content-Type": "application/vnd.assaabloy.ma.credential-management-2.2+json",
	} {
		if got := sent[0].header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	token := h.asked("POST token")
	if len(token) != 1 ||
		token[0].body != "client_id=1003233-OSRV1&client_secret=CANARY-secret&grant_type=client_credentials" {
		t.Errorf("token request %v", token)
	}
}

func TestReserveForAUserThatExists(t *testing.T) {
	h := newHID(t)
	h.says("POST users/103367/invitation", 200, `{
	  "urn:hid:scim:api:ma:2.2:UserInvitation": [{"id": "77", "invitationCode": "AAAA-BBBB-CCCC-DDDD",
		"status": "PENDING"}],
	  "urn:hid:scim:api:ma:2.2:Credential": [{"id": "88", "partNumber": "`+part+`", "status": "ISSUE_INITIATED",
		"cardNumber": 57}]}`)
	got, err := h.client().Reserve(t.Context(), "103367", aimee, part)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, credential.Reserved{UserID: "103367", InvitationRef: "77", CredentialRef: "88",
		Code:   "AAAA-BBBB-CCCC-DDDD",
		Mobile: &credential.MobileID{ID: part + ":57", Number: "57", Format: "H10301", FacilityCode: "42"}})
	if body := h.asked("POST users/103367/invitation")[0].body; strings.Contains(body, "Tremblay") {
		t.Errorf("the person is sent where HID does not ask for it: %s", body)
	}
}

func TestFormatIsReadOncePerClient(t *testing.T) {
	h := newHID(t)
	h.says("POST users", 201, string(fixture(t, "create-user-reply.json")))
	c := h.client()
	for range 3 {
		if _, err := c.Reserve(t.Context(), "", aimee, part); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.asked("GET part-number")) + len(h.asked("GET part-number/41")); n != 1 {
		t.Errorf("%d readings of the part number", n)
	}
}

func TestUserOnADevice(t *testing.T) {
	h := newHID(t)
	h.says("GET users/103367", 200, string(fixture(t, "get-user-activated-reply.json")))
	got, err := h.client().User(t.Context(), "103367")
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	equal(t, got, provider.User{ID: "103367", ExternalID: "E-1042",
		Invitations: []provider.Invitation{{ID: "16247463", Status: provider.InvitationAccepted,
			Code: "BPEX-LQTC-4E33-QT6N", ExpiresAt: &expires, CreatedAt: start}},
		Credentials: []provider.Credential{{ID: "887001", PartNumber: part,
			MobileID: credential.MobileID{ID: part + ":56", Number: "56"},
			Device:   &credential.Device{ID: "550017", Model: "iPhone 17", Platform: "iOS"}}}})
}

func TestUserInEveryStateOfACredential(t *testing.T) {
	const urn = `"urn:hid:scim:api:ma:2.2:`
	cred := func(id, status string) string {
		return fmt.Sprintf(`{"id": %s, "partNumber": "P", "status": %q, "cardNumber": "9"}`, id, status)
	}
	phone := func(status string, creds ...string) string {
		return fmt.Sprintf(
			`{"id": "phone", "status": %q, "manufacturer": "Google", "model": "Pixel 11", %sCredential": [%s]}`, status,
			urn, strings.Join(creds, ","))
	}
	type seen struct {
		id            string
		device, going bool
		ended         string // why it is over; "revoking" while it is not
	}
	for _, tt := range []struct {
		name, reserved, containers string
		want                       []seen
	}{
		{"reserved", cred("1", "ISSUE_INITIATED"), "", []seen{{"1", false, false, ""}}},
		{"on its way", "", phone("ACTIVE", cred("1", "ISSUE_INITIATED")), []seen{{"1", true, true, ""}}},
		{"on the device", "", phone("ACTIVE", cred("1", "ISSUED")), []seen{{"1", true, false, ""}}},
		{"issued, but in no container", cred("1", "ISSUED"), "", []seen{{"1", false, true, ""}}},
		{"in both lists", cred("1", "ISSUE_INITIATED"), phone("ACTIVE", cred("1", "ISSUED")),
			[]seen{{"1", true, false, ""}}},
		{"being revoked", cred("1", "REVOKE_INITIATED"), phone("ACTIVE", cred("2", "REVOKE_INITIATED"),
			cred("3", "REVOKED")), []seen{{"2", true, false, "revoking"}, {"1", false, false, "revoking"},
			{"3", true, true, "revoked"}}},
		{"revoked on the device, still in the other list", cred("1", "ISSUED"),
			phone("ACTIVE", cred("1", "REVOKED")), []seen{{"1", true, true, "revoked"}}},
		{"on a device that was removed", cred("1", "ISSUED"), phone("INACTIVE", cred("1", "ISSUED")),
			[]seen{{"1", true, false, "inactive"}}},
		{"an unknown status", cred("1", "BLESSED"), phone("ACTIVE", cred("2", "BLESSED")),
			[]seen{{"2", true, true, ""}, {"1", false, false, ""}}},
		{"without an id", cred(`"undefined"`, "ISSUED"), phone("ACTIVE", cred("null", "ISSUED"), cred(`""`, "ISSUED")),
			nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHID(t)
			h.says("GET users/5", 200,
				fmt.Sprintf(`{"id": "5", "somethingNew": {}, %sCredential": [%s], %sCredentialContainer": [%s]}`, urn,
					tt.reserved, urn, tt.containers))
			user, err := h.client().User(t.Context(), "5")
			if err != nil {
				t.Fatal(err)
			}
			var got []seen
			for _, c := range user.Credentials {
				one := seen{c.ID, c.Device != nil, c.Issuing, ""}
				if c.Revoking {
					one.ended = "revoking"
				}
				got = append(got, one)
			}
			for _, c := range user.Ended {
				got = append(got, seen{c.ID, c.Device != nil, c.Issuing, string(c.Why)})
			}
			equal(t, fmt.Sprint(got), fmt.Sprint(tt.want))
		})
	}
}

func TestInvitationStatuses(t *testing.T) {
	for status, want := range map[string]provider.InvitationStatus{
		"PENDING": "pending", "ACKNOWLEDGED": "accepted", "CANCEL_INITIATED": "cancelled", "CANCELLED": "cancelled",
		"EXPIRED": "expired",
		"BLESSED": "pending",
	} {
		h := newHID(t)
		h.says("GET users/5", 200,
			`{"id": 5, "urn:hid:scim:api:ma:2.2:UserInvitation": [{"id": 1, "status": "`+status+`",
				"expirationDate": "soon"}, {"id": null}]}`)
		user, err := h.client().User(t.Context(), "5")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, user.Invitations, []provider.Invitation{{ID: "1", Status: want}})
	}
}

func TestFindUser(t *testing.T) {
	page := func(ids ...string) string {
		var hits []string
		for _, id := range ids {
			hits = append(hits, `{"meta": {"location": "https://example.invalid/customer/1003233/users/`+id+`"}}`)
		}
		return `{"totalResults": ` + fmt.Sprint(len(ids)) + `, "Resources": [` + strings.Join(hits, ",") + `]}`
	}
	const refusal = `{"schemas": [], "status": "400", "scimType": "invalidFilter"}`
	for _, tt := range []struct {
		name             string
		byEmail          string
		byExternalID     string
		externalIDStatus int
		want             error
		wantID           string
	}{
		{"by e-mail", page("1"), refusal, 400, nil, "1"},
		{"no user, search by externalId refused", page(), refusal, 400, provider.ErrNotFound, ""},
		{"no user", page(), page(), 200, provider.ErrNotFound, ""},
		{"e-mail changed since", page(), page("1"), 200, nil, "1"},
		{"e-mail is another's", page("2"), refusal, 400, provider.ErrEmailInUse, ""},
		{"e-mail is another's now", page("2"), page("1"), 200, nil, "1"},
		{"filter ignored: everybody", page(), page("2", "1", "3"), 200, provider.ErrNotFound, ""},
		{"filter ignored: another user", page(), page("2"), 200, provider.ErrNotFound, ""},
		{"deleted since", page("3"), refusal, 400, provider.ErrNotFound, ""},
		{"a hit without an id", `{"Resources": [{"id": "undefined"}]}`, refusal, 400, provider.ErrUnavailable, ""},
		{"unwell at the second search", page(), refusal, 500, provider.ErrUnavailable, ""},
		{"over the limit at the second search", page(), "", 403, provider.ErrOverLimit, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHID(t)
			h.says("GET users/1", 200, `{"id": 1, "externalId": "E-1042"}`)
			h.says("GET users/2", 200, `{"id": 2, "externalId": "E-9"}`)
			h.does("POST users/.search", func() (int, string) {
				h.mu.Lock()
				body := h.requests[len(h.requests)-1].body
				h.mu.Unlock()
				switch {
				case strings.Contains(body, `"filter":"emails eq \"aimee.tremblay@example.com\""`):
					return 200, tt.byEmail
				case strings.Contains(body, `"filter":"externalId eq \"E-1042\""`):
					return tt.externalIDStatus, tt.byExternalID
				}
				return 500, ""
			})
			user, err := h.client().FindUser(t.Context(), aimee)
			isKind(t, err, tt.want)
			if user.ID != tt.wantID {
				t.Errorf("found %q, want %q", user.ID, tt.wantID)
			}
		})
	}
}

func TestSearchByExternalIDIsTriedOnce(t *testing.T) {
	h := newHID(t)
	searches := 0
	h.does("POST users/.search", func() (int, string) {
		if searches++; searches%2 == 0 && searches == 2 {
			return 400, `{"status": "400"}`
		}
		return 200, `{"Resources": []}`
	})
	c := h.client()
	for range 3 {
		_, err := c.FindUser(t.Context(), aimee)
		isKind(t, err, provider.ErrNotFound)
	}
	if searches != 4 { // two, and then one each
		t.Errorf("%d searches", searches)
	}
}

func TestFilterQuotesTheAddress(t *testing.T) {
	h := newHID(t)
	h.says("POST users/.search", 200, `{"Resources": []}`)
	person := aimee
	person.Email = `"a\"<b>"@example.com`
	_, err := h.client().FindUser(t.Context(), person)
	isKind(t, err, provider.ErrNotFound)
	var sent struct{ Filter string }
	if err := json.Unmarshal([]byte(h.asked("POST users/.search")[0].body), &sent); err != nil {
		t.Fatal(err)
	}
	equal(t, sent.Filter, `emails eq "\"a\\\"<b>\"@example.com"`)
}

// every is every method, by the request that is refused in the tests below.
var every = []struct {
	name, request string
	call          func(context.Context, *origo.Client) error
}{
	{"token", "POST token", func(ctx context.Context, c *origo.Client) error {
		_,
			err := c.User(ctx, "5")
		return err
	}},
	{"find", "POST users/.search", func(ctx context.Context, c *origo.Client) error {
		_,
			err := c.FindUser(ctx, aimee)
		return err
	}},
	{"read", "GET users/5", func(ctx context.Context, c *origo.Client) error {
		_,
			err := c.User(ctx, "5")
		return err
	}},
	{"create", "POST users", func(ctx context.Context, c *origo.Client) error {
		_, err := c.Reserve(ctx, "", aimee, part)
		return err
	}},
	{"invite", "POST users/5/invitation", func(ctx context.Context, c *origo.Client) error {
		_, err := c.Reserve(ctx, "5", aimee, part)
		return err
	}},
	{"cancel", "DELETE invitation/5", func(ctx context.Context, c *origo.Client) error { return c.Cancel(ctx, "5") }},
	{"revoke", "DELETE credential/5", func(ctx context.Context, c *origo.Client) error { return c.Revoke(ctx, "5") }},
	{"update", "PUT users/5", func(ctx context.Context, c *origo.Client) error {
		return c.UpdateUser(ctx,
			"5", aimee)
	}},
	{"delete", "DELETE users/5", func(ctx context.Context, c *origo.Client) error { return c.DeleteUser(ctx, "5") }},
	{"photo", "POST users/5/photo", func(ctx context.Context, c *origo.Client) error {
		_, err := c.SetPhoto(ctx, "5", credential.Picture{ContentType: "image/jpeg", Data: []byte("jpeg")})
		return err
	}},
	{"remove photo", "DELETE users/5/photo/6",
		func(ctx context.Context, c *origo.Client) error { return c.RemovePhoto(ctx, "5", "6") }},
	{"stock", "GET part-number/41", func(ctx context.Context, c *origo.Client) error {
		_,
			err := c.Stock(ctx, part)
		return err
	}},
	{"feed", "GET /events", func(ctx context.Context, c *origo.Client) error {
		_,
			err := c.Feed(ctx, "", start, 0)
		return err
	}},
}

func TestErrorKinds(t *testing.T) {
	unless := func(want error, others map[string]error) map[string]error {
		kinds := map[string]error{}
		for _, m := range every {
			kinds[m.name] = want
		}
		for name, kind := range others {
			kinds[name] = kind
		}
		return kinds
	}
	scim := func(status int, scimType, message string) string {
		return fmt.Sprintf(
			`{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"%d","scimType":%q,"message":%q}`,
			status, scimType, message)
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   map[string]error
	}{
		{"500", 500, scim(500, "", ""), unless(provider.ErrUnavailable, nil)},
		{"503 of a gateway", 503, "<html>", unless(provider.ErrUnavailable, nil)},
		{"408", 408, "", unless(provider.ErrUnavailable, nil)},
		{"redirect", 304, "", unless(provider.ErrUnavailable, nil)},
		{"403 without a word", 403, "", unless(provider.ErrOverLimit, nil)},
		{"403 of a gateway", 403, `{"message":"Forbidden"}`, unless(provider.ErrOverLimit, nil)},
		{"403 over the limit", 403, scim(403, "", "You are not authorized to exceed the request limit"),
			unless(provider.ErrOverLimit, nil)},
		{"403 without permission", 403, scim(403, "", "The client lacks the permission"),
			unless(provider.ErrNotOurs, nil)},
		{"429", 429, "", unless(provider.ErrOverLimit, nil)},
		{"401, twice", 401, scim(401, "", ""), unless(provider.ErrNotOurs, nil)},
		{"404", 404, scim(404, "", ""), unless(provider.ErrNotFound, map[string]error{"token": provider.ErrNotOurs,
			"find": provider.ErrUnavailable})},
		{"404 of a gateway", 404, "default backend",
			unless(provider.ErrNotFound, map[string]error{"token": provider.ErrNotOurs,
				"read": provider.ErrUnavailable, "find": provider.ErrUnavailable})},
		{"400", 400, scim(400, "invalidValue", ""),
			unless(provider.ErrRefused, map[string]error{"token": provider.ErrNotOurs})},
		{"409", 409, scim(409, "", ""), unless(provider.ErrRefused, map[string]error{"token": provider.ErrNotOurs,
			"create": provider.ErrEmailInUse, "update": provider.ErrEmailInUse})},
		{"uniqueness", 400, scim(400, "uniqueness", ""),
			unless(provider.ErrRefused, map[string]error{"token": provider.ErrNotOurs,
				"create": provider.ErrEmailInUse, "update": provider.ErrEmailInUse})},
		{"empty pool", 400, scim(400, "poolExhausted", ""),
			unless(provider.ErrRefused, map[string]error{"token": provider.ErrNotOurs,
				"create": provider.ErrEmpty, "invite": provider.ErrEmpty})},
		{"empty pool in words", 409, scim(409, "", "No available credentials"),
			unless(provider.ErrRefused, map[string]error{
				"token": provider.ErrNotOurs, "create": provider.ErrEmpty, "invite": provider.ErrEmpty,
				"update": provider.ErrEmailInUse})},
		{"success, but not JSON", 200, "<html>", unless(provider.ErrUnavailable, map[string]error{
			"cancel": nil, "revoke": nil, "delete": nil, "remove photo": nil, "update": nil})},
		{"success, but of another shape", 200, `{"id": [1], "Resources": 1, "access_token": 1, "availableQty": "many"}`,
			unless(provider.ErrUnavailable, map[string]error{"cancel": nil, "revoke": nil, "delete": nil,
				"remove photo": nil, "update": nil})},
		{"success, but nothing in it", 200, `{}`, unless(provider.ErrUnavailable, map[string]error{
			"cancel": nil, "revoke": nil, "delete": nil, "remove photo": nil, "update": nil, "feed": nil,
			"find": provider.ErrNotFound})},
	} {
		if tt.want["token"] == provider.ErrUnavailable { // without one nothing was asked for
			tt.want["token"] = provider.ErrNoAccess
		}
		for _, m := range every {
			t.Run(tt.name+"/"+m.name, func(t *testing.T) {
				h := newHID(t)
				h.says(m.request, tt.status, tt.body)
				isKind(t, m.call(t.Context(), h.client()), tt.want[m.name])
				tries := 1
				if tt.status == 401 && m.name != "token" || tt.want[m.name] == provider.ErrNotFound &&
					m.name == "find" {
					tries = 2 // a 401 once more with a new token; a search goes on by externalId
				}
				if got := len(h.asked(m.request)); got != tries {
					t.Errorf("asked %d times, want %d", got, tries)
				}
			})
		}
	}
}

func TestUnclearRefusalOfAReservationIsAnEmptyPoolIfTheStockSaysSo(t *testing.T) {
	for available, want := range map[int]error{0: provider.ErrEmpty, 3: provider.ErrRefused} {
		h := newHID(t)
		h.says("POST users", 422, `{"status": "422"}`)
		h.says("GET part-number/41", 200, fmt.Sprintf(`{"id": 41, "partNumber": %q, "availableQty": %d}`,
			part, available))
		_, err := h.client().Reserve(t.Context(), "", aimee, part)
		isKind(t, err, want)
	}
}

func TestUnknownPartNumber(t *testing.T) {
	h := newHID(t)
	c := h.client()
	_, err := c.Stock(t.Context(), "MID-OTHER")
	isKind(t, err, provider.ErrNotFound)
	_, err = c.Reserve(t.Context(), "", aimee, "MID-OTHER")
	isKind(t, err, provider.ErrRefused)
	if len(h.asked("POST users")) != 0 {
		t.Error("a user was created for nothing")
	}
}

func TestMissingListOfPartNumbersIsNoUnknownPartNumber(t *testing.T) {
	h := newHID(t)
	h.says("GET part-number", 404, `{"status": "404"}`)
	_, err := h.client().Reserve(t.Context(), "", aimee, part)
	isKind(t, err, provider.ErrUnavailable)
}

func TestPartNumberInEveryShapeClientsHaveSeen(t *testing.T) {
	const wrapped = `{"schemas": ["urn:hid:scim:api:ma:2.2:PartNumber"],
		"urn:hid:scim:api:ma:2.2:PartNumber": [{"id": "4924_1", "partNumber": "` + part + `",
		"availableQty": 445, "nextNumber": 56, "programmingData": {"facility code": "99",
			"incremental_card id number": "1", "format_number": "TRK-H10301"}}]}`
	for name, list := range map[string]string{
		"wrapped list": wrapped,
		"SCIM list":    `{"totalResults": 1, "Resources": [{"id": "4924_1", "partNumber": "` + part + `"}]}`,
		"SCIM list of places": `{"Resources": [{"meta": {"location": "https://example.invalid/part-number/4924_0"}},
			{"meta": {"location": "https://example.invalid/part-number/4924_1"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHID(t)
			h.says("GET part-number", 200, list)
			h.says("GET part-number/4924_0", 200, `{"id": "4924_0", "partNumber": "MID-OTHER", "availableQty": 1}`)
			h.says("GET part-number/4924_1", 200, wrapped)
			got, err := h.client().Stock(t.Context(), part)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, provider.Stock{PartNumber: part, Available: 445, Format: "TRK-H10301", FacilityCode: "99"})
		})
	}
}

func TestUpdateAndDeleteUser(t *testing.T) {
	h := newHID(t)
	h.says("PUT users/5", 200, "")
	h.says("DELETE users/5", 204, "")
	c := h.client()
	if err := errors.Join(c.UpdateUser(t.Context(), "5", aimee), c.DeleteUser(t.Context(), "5")); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, []byte(h.asked("PUT users/5")[0].body), []byte(`{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "externalId": "E-1042",
		"name": {"familyName": "Tremblay", "givenName": "Aimée"}, "emails": [{"value": "aimee.tremblay@example.com"}],
		"meta": {"resourceType": "PACSUser"}}`))
}

func TestPhotoIsUploadedAndApproved(t *testing.T) {
	for name, answer := range map[string]string{
		"its own id": `{"id": 7001}`,
		"wrapped":    `{"urn:hid:scim:api:ma:2.2:User:Photo": [{"id": "7001"}]}`,
		"a location": `{"meta": {"location": "https://example.invalid/users/5/photo/7001"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHID(t)
			h.says("POST users/5/photo", 201, answer)
			h.says("PUT users/5/photo/7001/status", 200, "")
			ref, err := h.client().SetPhoto(t.Context(), "5", credential.Picture{ContentType: "image/jpeg",
				Data: []byte("\xff\xd8\xff")})
			if err != nil || ref != "7001" {
				t.Fatalf("%q, %v", ref, err)
			}
			upload, approval := h.asked("POST users/5/photo")[0], h.asked("PUT users/5/photo/7001/status")[0]
			equal(t, upload.body, "\xff\xd8\xff")
			equal(t, upload.header.Get("Content-Type"), "application/vnd.assaabloy.ma.credential-management-2.2+jpeg")
			equal(t, approval.body, `{"status":"APPROVE"}`)
		})
	}
	h := newHID(t)
	_, err := h.client().SetPhoto(t.Context(), "5", credential.Picture{ContentType: "image/gif"})
	isKind(t, err, provider.ErrRefused)
}

func TestIDsThatAreNoneAreNotAsked(t *testing.T) {
	h := newHID(t)
	c := h.client()
	for _, bad := range []string{"", ".", "..", "undefined", "null"} {
		_, err := c.User(t.Context(), bad)
		isKind(t, err, provider.ErrNotFound)
		isKind(t, c.Cancel(t.Context(), bad), provider.ErrNotFound)
		isKind(t, c.DeleteUser(t.Context(), bad), provider.ErrNotFound)
		isKind(t, c.RemovePhoto(t.Context(), "5", bad), provider.ErrNotFound)
	}
	isKind(t, c.Revoke(t.Context(), "a/../../b?c"), provider.ErrNotFound)
	for _, r := range h.requests {
		if r.what != "POST token" && r.what != "DELETE credential/a%2F..%2F..%2Fb%3Fc" {
			t.Errorf("asked %s", r.what)
		}
	}
}

func TestTokenIsUsedToItsEnd(t *testing.T) {
	h := newHID(t)
	h.says("DELETE credential/5", 204, "")
	var now clock
	c := origo.New(config(h.URL), h.Client(), now.Now, new(limiter))
	for _, step := range []struct {
		after  time.Duration
		tokens int
	}{{0, 1}, {58 * time.Minute, 1}, {time.Minute, 2}, {59 * time.Minute, 3}} {
		now.Advance(step.after)
		if err := c.Revoke(t.Context(), "5"); err != nil {
			t.Fatal(err)
		}
		if got := len(h.asked("POST token")); got != step.tokens {
			t.Errorf("%d tokens, want %d", got, step.tokens)
		}
	}
}

func TestRefusedTokenIsRenewedOnceAndTheCallMadeAgain(t *testing.T) {
	h := newHID(t)
	tokens, calls := 0, 0
	h.does("POST token", func() (int, string) {
		tokens++
		return 200, fmt.Sprintf(`{"access_token": "T%d", "expires_in": 3600}`, tokens)
	})
	h.does("POST users", func() (int, string) {
		if calls++; calls == 1 {
			return 401, ""
		}
		return 201, string(fixture(t, "create-user-reply.json"))
	})
	if _, err := h.client().Reserve(t.Context(), "", aimee, part); err != nil {
		t.Fatal(err)
	}
	sent := h.asked("POST users")
	if tokens != 2 || len(sent) != 2 || sent[0].header.Get("Authorization") != "Bearer T1" ||
		sent[1].header.Get("Authorization") != "Bearer T2" ||
		sent[1].body != sent[0].body {
		t.Errorf("%d tokens, %d calls", tokens, len(sent))
	}
}

func TestOneRefreshAtATime(t *testing.T) {
	h := newHID(t)
	h.says("DELETE credential/5", 204, "")
	asked, release := make(chan bool, 100), make(chan bool)
	h.does("POST token", func() (int, string) {
		asked <- true
		<-release
		return 200, `{"access_token": "T", "expires_in": 3600}`
	})
	c := h.client()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Revoke(t.Context(), "5"); err != nil {
				t.Error(err)
			}
		})
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	isKind(t, c.Revoke(ctx, "5"), provider.ErrNoAccess) // a call that gives up waiting does not disturb the others
	close(release)
	wg.Wait()
	if n := len(h.asked("POST token")); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

func TestLimiterIsAskedBeforeEveryRequest(t *testing.T) {
	h := newHID(t)
	h.says("POST users", 201, string(fixture(t, "create-user-reply.json")))
	l := new(limiter)
	if _, err := origo.New(config(h.URL), h.Client(), new(clock).Now, l).Reserve(t.Context(), "", aimee,
		part); err != nil {
		t.Fatal(err)
	}
	if got := l.taken.Load(); got != 3 || len(h.requests) != 3 { // token, part number, reservation
		t.Errorf("asked the limiter %d times for %d requests", got, len(h.requests))
	}
	sent := len(h.requests)
	for _, m := range every {
		isKind(t, m.call(t.Context(), origo.New(config(h.URL), h.Client(), new(clock).Now,
			&limiter{err: errors.New("no")})), provider.ErrOverLimit)
	}
	if len(h.requests) != sent {
		t.Error("requests were made over the limit")
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestEveryRequestEndsWithinFiveSeconds(t *testing.T) {
	for _, m := range every {
		began := time.Now()
		err := m.call(t.Context(), origo.New(config("http://hid.invalid"),
			doer(func(r *http.Request) (*http.Response, error) {
				if end, ok := r.Context().Deadline(); !ok || end.Sub(began) > 5*time.Second+time.Second {
					t.Errorf("%s: until %v", m.name, end)
				}
				return nil, context.DeadlineExceeded
			}), new(clock).Now, new(limiter)))
		isKind(t, err, provider.ErrNoAccess) // it gets no further than the token
		if !strings.Contains(fmt.Sprint(err), "timeout") {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// TestErrorsTellNothing puts marked texts in every place where a provider or a network can put text, and looks for them
// in every error.
func TestErrorsTellNothing(t *testing.T) {
	const canaries = `CANARY Aimée Tremblay aimee.tremblay@example.com BPEX-LQTC-4E33-QT6N eyJhbGciOi-example`
	body := `{"schemas": "` + canaries + `", "status": "` + canaries + `", "scimType": "` + canaries +
		`", "message": "` + canaries + `", "detail": "` + canaries + `"}`
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			return
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
				text := fmt.Sprintf(verb, e)
				for _, canary := range strings.Fields(canaries + " CANARY-secret E-1042") {
					if strings.Contains(text, canary) {
						t.Errorf("%s: %s tells %s: %s", what, verb, canary, text)
					}
				}
			}
		}
	}
	for _, m := range every {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 409, 422, 500} {
			for _, answer := range []string{body, canaries, `{"id": "` + canaries + `"}`} {
				h := newHID(t)
				h.says(m.request, status, answer)
				check(fmt.Sprint(m.name, status), m.call(t.Context(), h.client()))
			}
		}
		check(m.name,
			m.call(t.Context(), origo.New(config("http://hid.invalid"),
				doer(func(*http.Request) (*http.Response, error) {
					return nil, errors.New(canaries)
				}), new(clock).Now, new(limiter))))
		check(m.name,
			m.call(t.Context(), origo.New(config("http://hid.invalid"),
				doer(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200,
						Body: io.NopCloser(io.MultiReader(bytes.NewReader([]byte(canaries)),
							broken{}))}, nil
				}), new(clock).Now, new(limiter))))
	}
	if text := fmt.Sprintf("%v %+v %#v", config(""), config(""), config("")); strings.Contains(text, "CANARY") {
		t.Errorf("the configuration tells its secret: %s", text)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("CANARY") }
