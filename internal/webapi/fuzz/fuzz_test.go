package fuzz

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
	"github.com/mobilecred/mobilecred/internal/store/memory"
	"github.com/mobilecred/mobilecred/internal/webapi"
)

const account = "acme-origo"

// taker takes every command and remembers the last of each kind: what it is given has passed all checks of requests.
type taker struct {
	profile *credential.PutProfile
	holder  *credential.PutHolder
	assign  *credential.Assign
	resend  *credential.Resend
	replace *credential.Replace

	webapi.Directory // what no target here needs
}

func (k *taker) PutProfile(_ context.Context, c credential.PutProfile) (credential.Profile, bool, error) {
	k.profile = &c
	return c.Profile, true, nil
}

func (k *taker) PutHolder(_ context.Context, c credential.PutHolder) (credential.Holder, bool, error) {
	k.holder = &c
	return c.Holder, true, nil
}

func (k *taker) Assign(_ context.Context, c credential.Assign) (credential.Result, error) {
	k.assign = &c
	return credential.Result{}, nil
}

func (k *taker) Resend(_ context.Context, c credential.Resend) (credential.Result, error) {
	k.resend = &c
	return credential.Result{}, nil
}

func (k *taker) Replace(_ context.Context, c credential.Replace) (credential.Result, error) {
	k.replace = &c
	return credential.Result{}, nil
}

func (k *taker) Stock(context.Context, string, string) (credential.Stock, error) {
	return credential.Stock{}, store.ErrNotFound
}

func fuzzNow() time.Time { return time.Date(2030, 1, 10, 9, 0, 0, 0, time.UTC) }

func (k *taker) directory() webapi.Handler {
	none := func([]byte) (credential.Picture, error) { return credential.Picture{}, nil }
	return webapi.NewDirectory(k, k, []string{account}, none, fuzzNow)
}

// quiet discards the log: a fuzzing run would print a line for each call.
func quiet(f *testing.F) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	f.Cleanup(func() { slog.SetDefault(before) })
}

// asked is a call as the gateway hands it on.
func asked(key, body string, params, headers map[string]string) events.APIGatewayV2HTTPRequest {
	if headers == nil {
		headers = map[string]string{}
	}
	if _, given := headers["content-type"]; body != "" && !given {
		headers["content-type"] = "application/json"
	}
	req := events.APIGatewayV2HTTPRequest{RouteKey: key, Body: body, Headers: headers, PathParameters: params}
	req.RequestContext.RequestID = "request-1"
	req.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: map[string]string{"sub": "portal"}}}
	return req
}

// answered makes a call and checks what holds for every answer: it is no 5xx, it is JSON, a refusal is a problem
// document, and a pointer of it leads into the body. It returns whether the call was accepted.
func answered(t *testing.T, h webapi.Handler, req events.APIGatewayV2HTTPRequest) bool {
	t.Helper()
	res, err := h(t.Context(), req)
	if err != nil || res.StatusCode >= 500 {
		t.Fatalf("%d %v: %s", res.StatusCode, err, res.Body)
	}
	if !json.Valid([]byte(res.Body)) || !utf8.ValidString(res.Body) {
		t.Fatalf("%d: no JSON in UTF-8: %q", res.StatusCode, res.Body)
	}
	if res.StatusCode < 400 {
		return true
	}
	var d struct {
		Status       int
		Code, Detail string
		Errors       []struct {
			Pointer      *string
			Code, Detail string
		}
	}
	if err := json.Unmarshal([]byte(res.Body), &d); err != nil || d.Status != res.StatusCode || d.Code == "" ||
		d.Detail == "" || res.Headers["Content-Type"] != "application/problem+json" {
		t.Fatalf("%d is no problem document: %s", res.StatusCode, res.Body)
	}
	if d.Code == "validation_failed" && len(d.Errors) == 0 {
		t.Fatalf("a request is refused and nothing is wrong with it: %s", res.Body)
	}
	for _, e := range d.Errors {
		if e.Code == "" || e.Detail == "" {
			t.Fatalf("an error says nothing: %s", res.Body)
		}
		if e.Pointer != nil && !leads(req.Body, *e.Pointer, e.Code == "required") {
			t.Fatalf("pointer %q leads nowhere in %q: %s", *e.Pointer, req.Body, res.Body)
		}
	}
	return false
}

// leads says whether a JSON pointer (RFC 6901) leads to a value in a body; to a field that may be absent if it is
// about a field that is required.
func leads(body, pointer string, mayBeAbsent bool) bool {
	var value any
	if json.Unmarshal([]byte(body), &value) != nil {
		return false
	}
	steps := strings.Split(pointer, "/")
	if steps[0] != "" {
		return false
	}
	for i, step := range steps[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch at := value.(type) {
		case map[string]any:
			next, there := at[step]
			if !there {
				return mayBeAbsent && i == len(steps)-2
			}
			value = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(at) {
				return false
			}
			value = at[n]
		case nil: // null counts as absent
			return mayBeAbsent
		default:
			return false
		}
	}
	return true
}

// isLine is the rule for names, told once more: one trimmed line of printable text.
func isLine(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && s == strings.TrimSpace(s) &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
		})
}

func isAddress(s string) bool {
	if s == "" {
		return true
	}
	_, err := mail.ParseAddress(s)
	return err == nil && len(s) <= 254 && strings.Count(s, "@") >= 1 && !strings.ContainsAny(s, "\r\n,<>")
}

func checkHolder(t *testing.T, h credential.Holder) {
	t.Helper()
	if !isLine(h.FirstName, 128) || !isLine(h.LastName, 128) || !isAddress(h.Email) {
		t.Errorf("accepted: %q %q %q", h.FirstName, h.LastName, h.Email)
	}
	if h.Kind != credential.Cardholder && h.Kind != credential.Visitor {
		t.Errorf("accepted: kind %q", h.Kind)
	}
	if h.Kind == credential.Visitor && h.ValidUntil == nil {
		t.Error("accepted: a visitor without an end")
	}
	if h.ValidUntil != nil && (h.ValidUntil.Year() < 1970 || h.ValidUntil.Year() > 9999) {
		t.Errorf("accepted: an end at %v", h.ValidUntil)
	}
	if _, err := json.Marshal(h); err != nil {
		t.Errorf("accepted, and cannot be stored: %v", err)
	}
}

var (
	anID       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	aPart      = regexp.MustCompile(`^[!-~]{1,100}$`)
	aKey       = regexp.MustCompile(`^[ -~]{1,255}$`)
	aColor     = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	holderSeed = []string{
		`{"firstName":"Ada","lastName":"Lovelace","email":"ada@example.com"}`,
		`{"kind":"visitor","validUntil":"2030-01-31T17:00:00+01:00","locale":"de-CH","timeZone":"Europe/Zurich"}`,
		`{"kind":"visitor","validUntil":"9999-12-31T23:59:59-23:59"}`,
		`{"firstName":"\ud800","lastName":"\u2028","email":"\"a b\"@exämple.com"}`,
		`{"firstName":1,"a/b~c":{},"email":null,"email":""}`, `[]`, `null`, `"x"`, `{`, ``, "\xff",
		`{"validUntil":{"a":[1,2]}}`, strings.Repeat("[", 10_001),
	}
)

func FuzzPutHolder(f *testing.F) {
	quiet(f)
	for _, body := range holderSeed {
		f.Add("E-1", body)
	}
	f.Add("a/b\x00", `{}`)
	f.Fuzz(func(t *testing.T, id, body string) {
		k := &taker{}
		req := asked("PUT /v1/holders/{holderId}", body, map[string]string{"holderId": id}, nil)
		if answered(t, k.directory(), req) {
			if !anID.MatchString(k.holder.Holder.ID) || k.holder.Holder.ID != id {
				t.Errorf("accepted: id %q", id)
			}
			checkHolder(t, k.holder.Holder)
		}
	})
}

func FuzzPutProfile(f *testing.F) {
	quiet(f)
	for _, body := range append([]string{
		`{"name":"HQ","account":"acme-origo","partNumber":"P"}`,
		`{"name":"HQ","account":"acme-origo","partNumber":"P","app":{"name":"","appleUrl":"https://a.example/x"},` +
			`"invitationDays":14,"locale":"de-CH","timeZone":"Europe/Zurich","lowStock":25,"sender":{"name":"Acme",` +
			`"replyTo":"a@example.com","company":"Acme","logoUrl":null,"color":"#b00020","support":"+41"}}`,
		`{"name":"HQ","account":"acme-origo","partNumber":"P","invitationDays":1e1,"lowStock":-0}`,
		`{"name":"HQ","account":"acme-origo","partNumber":"P","app":[],"sender":{"color":7,"x":1}}`,
		`{"name":"HQ","account":"acme-origo","partNumber":"P","timeZone":"../UTC","lowStock":99999999999999999999}`,
	}, holderSeed...) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		k := &taker{}
		req := asked("PUT /v1/profiles/{profileId}", body, map[string]string{"profileId": "hq"}, nil)
		if !answered(t, k.directory(), req) {
			return
		}
		p := k.profile.Profile
		texts := []string{p.Name, p.App.Name, p.Sender.Name, p.Sender.Company}
		isWrong := p.Name == "" || p.Account != account || !aPart.MatchString(p.PartNumber) ||
			strings.Contains(p.PartNumber, "#") || p.InvitationDays < 1 || p.InvitationDays > 30 || p.LowStock < 0 ||
			p.LowStock > 1_000_000 || !aColor.MatchString(p.Sender.Color) || !isAddress(p.Sender.ReplyTo) ||
			!isLine(p.Description, 1000) || !isLine(p.Sender.Support, 256) ||
			slices.ContainsFunc(texts, func(s string) bool { return !isLine(s, 128) })
		links := []string{p.App.AppleURL, p.App.GoogleURL}
		if p.Sender.LogoURL != nil {
			links = append(links, *p.Sender.LogoURL)
		}
		for _, link := range links {
			u, err := url.Parse(link)
			isWrong = isWrong || err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(link, "\"<> ")
		}
		if _, err := time.LoadLocation(p.TimeZone); isWrong || err != nil {
			t.Errorf("accepted: %+v", p)
		}
	})
}

func (k *taker) assigning() webapi.Handler { return webapi.NewAssign(k, fuzzNow) }

func FuzzAssign(f *testing.F) {
	quiet(f)
	for _, body := range append([]string{
		`{}`, `{"profileId":"hq"}`, `{"profileId":"h q"}`, `{"profileId":7,"holder":null}`,
		`{"holder":{"firstName":"Ada","lastName":"Lovelace","email":"ada@example.com"}}`,
		`{"holder":{"kind":"visitor"}}`, `{"holder":[{}]}`, `{"holder":{"a":1,"a":2}}`,
	}, holderSeed...) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		k := &taker{}
		req := asked("POST /v1/holders/{holderId}/credentials", body, map[string]string{"holderId": "E-1"}, nil)
		if !answered(t, k.assigning(), req) {
			return
		}
		if k.assign.ProfileID != "" && !anID.MatchString(k.assign.ProfileID) {
			t.Errorf("accepted: profile %q", k.assign.ProfileID)
		}
		if k.assign.Holder != nil {
			checkHolder(t, *k.assign.Holder)
		}
		// The same value, written in another way, is the same request.
		var value any
		if json.Unmarshal([]byte(body), &value) != nil {
			t.Fatalf("accepted: %q", body)
		}
		hash := k.assign.PayloadHash
		if answered(t, k.assigning(), asked(req.RouteKey, " "+body+"\n", req.PathParameters, nil)) &&
			k.assign.PayloadHash != hash {
			t.Errorf("white space around %q makes another request of it", body)
		}
	})
}

func FuzzReplaceAndResend(f *testing.F) {
	quiet(f)
	for _, body := range append([]string{
		`{"reason":"lost"}`, `{"reason":"stolen"}`, `{"reason":"upgrade"}`, `{"reason":null}`, `{"reason":["lost"]}`,
		`{"Reason":"lost"}`, `{}`,
	}, holderSeed...) {
		f.Add("c1", body)
	}
	f.Fuzz(func(t *testing.T, id, body string) {
		k := &taker{}
		const one = "POST /v1/holders/{holderId}/credentials/{credentialId}"
		params := map[string]string{"holderId": "E-1", "credentialId": id}
		if answered(t, k.assigning(), asked(one+"/replacement", body, params, nil)) {
			reasons := []credential.EndReason{credential.EndLost, credential.EndStolen, credential.EndUpgrade}
			known := slices.Contains(reasons, k.replace.Reason)
			// Reasons may be added to the list; what stays is that a reason is one short word.
			if !known && !regexp.MustCompile(`^[a-z]{1,10}$`).MatchString(string(k.replace.Reason)) ||
				!anID.MatchString(k.replace.CredentialID) {
				t.Errorf("accepted: %+v", k.replace)
			}
		}
		if answered(t, k.assigning(), asked(one+"/invitation", body, params, nil)) &&
			!anID.MatchString(k.resend.CredentialID) {
			t.Errorf("accepted: %+v", k.resend)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	quiet(f)
	for _, h := range [][4]string{
		{"ada", `"3"`, "key-1", "application/json"}, {"", `"0"`, "", ""}, {strings.Repeat("ü", 129), "*", " ", "text/plain"},
		{"a\tb", `W/"1"`, "k\x7f", `application/json; charset="utf-8"`}, {"\xff", `"9223372036854775808"`, "ü", "a/b;;"},
		{"ada", `"+1"`, strings.Repeat("k", 256), "application/json;charset=latin1"}, {"ada", `"`, "k", ";"},
		{"ada", `""`, "k", "APPLICATION/JSON"}, {"ada", "", "k", "application/json"},
	} {
		f.Add(h[0], h[1], h[2], h[3])
	}
	f.Fuzz(func(t *testing.T, actor, match, key, contentType string) {
		k := &taker{}
		headers := map[string]string{"mobilecred-actor": actor, "If-Match": match, "idempotency-key": key,
			"content-type": contentType}
		body := `{"firstName":"Ada"}`
		ids := map[string]string{"holderId": "E-1"}
		if answered(t, k.directory(), asked("PUT /v1/holders/{holderId}", body, ids, headers)) {
			digits, _ := strings.CutPrefix(match, `"`)
			if n, err := strconv.ParseInt(strings.TrimSuffix(digits, `"`), 10, 64); err != nil || n < 0 ||
				n != k.holder.IfRevision || !strings.HasSuffix(match, `"`) {
				t.Errorf("If-Match %q is taken for revision %d", match, k.holder.IfRevision)
			}
			checkActor(t, k.holder.Request, actor)
		}
		if answered(t, k.assigning(), asked("POST /v1/holders/{holderId}/credentials", `{}`, ids, headers)) {
			if k.assign.Key != key || !aKey.MatchString(key) {
				t.Errorf("Idempotency-Key %q is taken for %q", key, k.assign.Key)
			}
			checkActor(t, k.assign.Request, actor)
		}
	})
}

func checkActor(t *testing.T, r credential.Request, actor string) {
	t.Helper()
	if r.Actor.Claimed != actor || r.Actor.ID != "portal" || !utf8.ValidString(actor) ||
		utf8.RuneCountInString(actor) > 128 || strings.ContainsFunc(actor, unicode.IsControl) {
		t.Errorf("Mobilecred-Actor %q is taken for %+v", actor, r.Actor)
	}
}

// FuzzList asks for a page with any parameters, and goes on with the cursors it gets: every credential is listed once.
func FuzzList(f *testing.F) {
	quiet(f)
	s := &memory.Store{}
	ch := credential.Change{Profile: &credential.Profile{ID: "hq", Account: account, PartNumber: "P", Revision: 1}}
	for i := range 5 {
		ch.Credentials = append(ch.Credentials, credential.Credential{ID: "c" + strconv.Itoa(i), HolderID: "E-1",
			ProfileID: "hq", Account: account, Status: credential.StatusActive, Stage: credential.StageInvited,
			CreatedAt: fuzzNow().Add(time.Duration(i) * time.Second), Revision: 1})
	}
	if err := s.Commit(f.Context(), ch); err != nil {
		f.Fatal(err)
	}
	after := credential.Page{ProfileID: "hq"}.CursorAfter(credential.ListKey(ch.Credentials[2]))
	for _, q := range []string{
		"profileId=hq", "profileId=hq&limit=2", "profileId=hq&cursor=" + after, "profileId=hq&cursor=AA",
		"profileId=hq&status=active&limit=100", "profileId=hq&warning=mail_not_sent", "profileId=none",
		"profileId=hq&warning=account_unknown&limit=1", "profileId=hq&limit=01", "profileId=hq&Limit=1", "profileId=%00",
		"cursor=%ff", "profileId=hq&cursor=" + after + "=", "profileId=hq&status=",
	} {
		f.Add(q)
	}
	list := webapi.NewLookup(s, []string{account}, fuzzNow)
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return // the gateway hands on what it could parse
		}
		req := asked("GET /v1/credentials", "", nil, nil)
		req.QueryStringParameters = map[string]string{}
		for name, values := range query {
			req.QueryStringParameters[name] = strings.Join(values, ",")
		}
		// Errors of parameters have no pointer, which the check of answers sees to: there is no body.
		if !answered(t, list, req) {
			return
		}
		listed := map[string]bool{}
		for range 10 {
			res, _ := list(t.Context(), req)
			var page struct {
				Items      []struct{ ID string }
				NextCursor *string
			}
			if err := json.Unmarshal([]byte(res.Body), &page); err != nil || res.StatusCode != 200 {
				t.Fatalf("the next page: %d %s", res.StatusCode, res.Body)
			}
			for _, item := range page.Items {
				if listed[item.ID] {
					t.Fatalf("%s is listed twice", item.ID)
				}
				listed[item.ID] = true
			}
			if page.NextCursor == nil {
				return
			}
			req.QueryStringParameters["cursor"] = *page.NextCursor
		}
		t.Fatal("the list does not end")
	})
}
