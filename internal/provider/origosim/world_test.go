package origosim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	hq   = "MID-SUB-CRD_FTPN_1001"
	labs = "MID-SUB-CRD_FTPN_1002"
)

// world is what surrounds the simulator in a test: a clock, a disk, planned faults, and mobilecred's webhook.
type world struct {
	t *testing.T
	*Sim

	around    sync.Mutex // guards what follows
	offset    time.Duration
	disk      []byte
	saveErr   error
	faults    map[string][]Fault // by operation, or by operation and holder
	delivered [][]cloudEvent
	refuse    int // how many callbacks the webhook still refuses
	token     string
}

// newWorld starts a simulator with 5 mobile IDs of each part number, from card 56 on.
func newWorld(t *testing.T, switches ...func(*Switches)) *world {
	w := &world{t: t, faults: map[string][]Fault{}}
	w.restart(switches...)
	if err := w.Seed(SeedPartNumber{hq, "HQ H10301 FC42", "H10301", "42", 56, 5},
		SeedPartNumber{labs, "Labs H10304", "H10304", "7", 56, 5}); err != nil {
		t.Fatal(err)
	}
	return w
}

// restart kills the simulator and starts another from what was saved.
func (w *world) restart(switches ...func(*Switches)) {
	opts := Options{
		Account: "acme-origo", OrganizationID: "1003233", ClientID: "1003233-OSRV1", ClientSecret: "swordfish",
		ApplicationID: "APP",
		Now: func() time.Time {
			w.around.Lock()
			defer w.around.Unlock()
			return time.Now().Add(w.offset)
		},
		Load: func() ([]byte, error) { return slices.Clone(w.disk), nil },
		Save: func(lines []byte) error {
			if w.saveErr == nil {
				w.disk = append(w.disk, lines...)
			}
			return w.saveErr
		},
		Replace: func(journal []byte) error {
			if w.saveErr == nil {
				w.disk = slices.Clone(journal)
			}
			return w.saveErr
		},
		Fault: func(op, holder string) (Fault, bool) {
			w.around.Lock()
			defer w.around.Unlock()
			if len(w.faults[op+" "+holder]) > 0 {
				op += " " + holder
			}
			if len(w.faults[op]) == 0 {
				return Fault{}, false
			}
			f := w.faults[op][0]
			w.faults[op] = w.faults[op][1:]
			return f, true
		},
		Deliver:  w.receive,
		Changed:  func() {},
		Switches: Switches{CancelFreesID: true},
	}
	for _, set := range switches {
		set(&opts.Switches)
	}
	sim, err := New(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Sim = sim
}

func (w *world) receive(_ context.Context, body []byte) error {
	w.around.Lock()
	defer w.around.Unlock()
	if w.refuse > 0 {
		w.refuse--
		return fmt.Errorf("503")
	}
	var events []cloudEvent
	if err := json.Unmarshal(body, &events); err != nil {
		return err
	}
	w.delivered = append(w.delivered, events)
	return nil
}

func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.around.Lock()
	w.offset += d
	w.around.Unlock()
	w.ok(w.Tick())
}

func (w *world) plan(op string, faults ...Fault) {
	w.around.Lock()
	defer w.around.Unlock()
	w.faults[op] = faults
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// statuses lists data.status of the events the provider remembers, after the first n.
func (w *world) statuses(n int) []string {
	var list []string
	for _, e := range w.st.Events[n:] {
		list = append(list, e.Data["status"].(string))
	}
	return list
}

type answer struct {
	status int
	raw    []byte
	body   map[string]any
}

// at walks into the JSON body: names of members, numbers of items.
func (a answer) at(t *testing.T, path ...any) any {
	t.Helper()
	var v any = a.body
	for _, step := range path {
		switch s := step.(type) {
		case string:
			v = v.(map[string]any)[s]
		case int:
			list, _ := v.([]any)
			if s >= len(list) {
				t.Fatalf("nothing at %v in %s", path, a.raw)
			}
			v = list[s]
		}
	}
	return v
}

func (w *world) request(method, path string, body any) *http.Request {
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	default:
		raw, _ = json.Marshal(b)
	}
	r := httptest.NewRequest(method, "/credential-management/customer/1003233/"+path, bytes.NewReader(raw))
	if w.token == "" {
		w.token = w.newToken()
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Application-ID", "APP")
	r.Header.Set("Application-Version", "1.0")
	if body != nil {
		r.Header.Set("Content-Type", mediaType+"+json")
	}
	return r
}

func (w *world) do(r *http.Request) answer {
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	a := answer{status: rec.Code, raw: rec.Body.Bytes()}
	_ = json.Unmarshal(a.raw, &a.body)
	return a
}

// call makes a request and fails the test if it is not answered with the status.
func (w *world) call(status int, method, path string, body any) answer {
	w.t.Helper()
	a := w.do(w.request(method, path, body))
	if a.status != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.raw)
	}
	return a
}

func tokenRequest(form string) *http.Request {
	r := httptest.NewRequest("POST", "/authentication/customer/1003233/token", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (w *world) newToken() string {
	a := w.do(
		tokenRequest(
			url.Values{
				"grant_type":    {"client_credentials"},
				"client_id":     {"1003233-OSRV1"},
				"client_secret": {"swordfish"},
			}.Encode(),
		),
	)
	return a.body["access_token"].(string)
}

// person is the body that creates a user, with an invitation and a mobile ID of the part number if one is given.
func person(name, partNumber string) map[string]any {
	body := map[string]any{
		"schemas": []string{urn + "UserAction", userSchema}, "externalId": "E-" + name,
		"name": map[string]any{"familyName": "Okafor", "givenName": name},
		"emails": []any{
			map[string]any{"value": name + "@example.com"},
		}, "meta": map[string]any{"resourceType": "PACSUser"},
	}
	if partNumber != "" {
		body[urn+"UserAction"] = invitationFor(partNumber)
	}
	return body
}

func invitationFor(partNumber string) map[string]any {
	return map[string]any{
		"createInvitationCode": "Y",
		"sendInvitationEmail":  "N",
		"assignCredential":     "Y",
		"partNumber":           partNumber,
		"credential":           "",
	}
}

// invited is what mobilecred remembers of an assignment.
type invited struct {
	user, invitation, credential int64
	code, mobileID               string
}

func (w *world) assign(name, partNumber string) invited {
	w.t.Helper()
	a := w.call(201, "POST", "users", person(name, partNumber))
	return w.invited(int64(a.body["id"].(float64)), a)
}

func (w *world) assignMore(userID int64, partNumber string) invited {
	w.t.Helper()
	body := map[string]any{"schemas": []string{urn + "UserAction"}, urn + "UserAction": invitationFor(partNumber)}
	return w.invited(userID, w.call(200, "POST", fmt.Sprintf("users/%d/invitation", userID), body))
}

func (w *world) invited(userID int64, a answer) invited {
	w.t.Helper()
	return invited{
		user:       userID,
		invitation: int64(a.at(w.t, urn+"UserInvitation", 0, "id").(float64)),
		code:       a.at(w.t, urn+"UserInvitation", 0, "invitationCode").(string),
		credential: int64(a.at(w.t, urn+"Credential", 0, "id").(float64)),
		mobileID: a.at(w.t, urn+"Credential", 0, "partNumber").(string) + ":" +
			a.at(w.t, urn+"Credential", 0, "cardNumber").(string),
	}
}

func (w *world) getUser(id int64) answer {
	w.t.Helper()
	return w.call(200, "GET", fmt.Sprintf("users/%d", id), nil)
}

// wantPool compares the card numbers of part number hq.
func (w *world) wantPool(available, reserved, issued string) {
	w.t.Helper()
	p := w.State().PartNumbers[0]
	cards := func(ids []string) string {
		var list []string
		for _, id := range ids {
			list = append(list, strings.TrimPrefix(id, hq+":"))
		}
		return strings.Join(list, " ")
	}
	got := fmt.Sprintf("available %s, reserved %s, issued %s", cards(p.Available), cards(p.Reserved), cards(p.Issued))
	if want := fmt.Sprintf("available %s, reserved %s, issued %s", available, reserved, issued); got != want {
		w.t.Errorf("pool: %s; want %s", got, want)
	}
}

// wantInvitation compares one invitation in the administrator's view: its status, and the mobile ID or "".
func (w *world) wantInvitation(in invited, status, mobileID string) {
	w.t.Helper()
	inv, ok := w.Invitation(in.code)
	got := ""
	if inv.MobileID != nil {
		got = *inv.MobileID
	}
	if !ok || inv.ID != fmt.Sprint(in.invitation) || inv.Status != status || got != mobileID {
		w.t.Errorf("invitation is %s with %q, want %s with %q", inv.Status, got, status, mobileID)
	}
}

func (w *world) badges(deviceID string) string {
	var list []string
	for _, b := range w.Phone(deviceID).Badges {
		list = append(list, b.MobileID)
	}
	return strings.Join(list, " ")
}

var statusWord = regexp.MustCompile(`^[A-Z_]{4,}$`)

// wantShape fails unless got has every member of the golden file, with values of the same JSON types and the same
// status words.
func wantShape(t *testing.T, file string, got []byte) {
	t.Helper()
	golden, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var want, have any
	if err := json.Unmarshal(golden, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatal(err)
	}
	compareShape(t, file, want, have)
}

func compareShape(t *testing.T, at string, want, have any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		have, _ := have.(map[string]any)
		for name := range want {
			if _, ok := have[name]; !ok {
				t.Errorf("%s has no %q", at, name)
				continue
			}
			compareShape(t, at+"/"+name, want[name], have[name])
		}
	case []any:
		have, _ := have.([]any)
		if len(have) != len(want) {
			t.Errorf("%s has %d items, want %d", at, len(have), len(want))
			return
		}
		for i := range want {
			compareShape(t, fmt.Sprintf("%s/%d", at, i), want[i], have[i])
		}
	case string:
		if text, ok := have.(string); !ok || statusWord.MatchString(want) && text != want {
			t.Errorf("%s is %v, want something like %q", at, have, want)
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", have) {
			t.Errorf("%s is %v, want something like %v", at, have, want)
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
