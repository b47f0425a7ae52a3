package origosim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	mediaType     = "application/vnd.assaabloy.ma.credential-management-2.2"
	urn           = "urn:hid:scim:api:ma:2.2:"
	userSchema    = "urn:ietf:params:scim:schemas:core:2.0:User"
	listSchema    = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	errorSchema   = "urn:ietf:params:scim:api:messages:2.0:Error"
	tokenLifetime = time.Hour
	maxBody       = 8 << 20
)

// baseURL is the start of every location and event source: a name that cannot be mistaken for HID's.
const baseURL = "https://origo-simulator.invalid/credential-management/customer/"

// refusal is an answer of the provider other than success, in HID's SCIM-like form.
type refusal struct {
	status            int
	scimType, message string
}

func (r *refusal) Error() string { return r.message }

func notFound(what string) error {
	return &refusal{http.StatusNotFound, "notFound", what + " not found"}
}

func invalid(message string) error {
	return &refusal{http.StatusBadRequest, "invalidValue", message}
}

// call is one authenticated request, its body read.
type call struct {
	*http.Request
	body []byte
}

// id is the id in the path; text that is none is 0, which no record has.
func (c call) id(name string) int64 { return parseID(c.PathValue(name)) }

func (c call) decode(v any) error {
	if c.Header.Get("Content-Type") != mediaType+"+json" {
		return &refusal{http.StatusUnsupportedMediaType, "", "Content-Type must be exactly " + mediaType + "+json"}
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return &refusal{http.StatusBadRequest, "invalidSyntax", "the body is not the JSON expected"}
	}
	return nil
}

// reply is a success.
type reply struct {
	status int
	body   any
}

// Handler serves the provider: the token endpoint, Mobile Identities v2.2 below /credential-management/customer/{org},
// and the reading of events.
//
// The last is OUR shape, since nothing public shows HID's: GET /events?dateFrom=&dateTo=&startIndex=&count= lists the
// events with dateFrom <= time < dateTo (RFC 3339, each optional), oldest first, from the startIndex-th (from 1) on and
// at most count of them (100 by default, at most 500), as {"totalResults": all in the interval, "startIndex",
// "itemsPerPage": those here, "Resources": [CloudEvents as in a callback]}. Only the latest events are remembered.
func (s *Sim) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /authentication/customer/{org}/token", s.serve("token", false, s.token))
	mux.HandleFunc("GET /events", s.serve("feed", true, s.feed))
	for _, route := range []struct {
		pattern, op string
		do          func(call) (reply, error)
	}{
		{"POST users", "reserve", s.createUser},
		{"POST users/.search", "search", s.search},
		{"GET users/{id}", "read", s.getUser},
		{"PUT users/{id}", "update", s.putUser},
		{"DELETE users/{id}", "revoke", s.deleteUser},
		{"POST users/{id}/invitation", "reserve", s.invite},
		{"DELETE invitation/{id}", "cancel", s.deleteInvitation},
		{"DELETE credential/{id}", "revoke", s.deleteCredential},
		{"GET part-number", "stock", s.partNumbers},
		{"GET part-number/{id}", "stock", s.getPartNumber},
		{"POST users/{id}/photo", "photo", s.postPhoto},
		{"PUT users/{id}/photo/{pid}/status", "photo", s.approvePhoto},
		{"DELETE users/{id}/photo/{pid}", "photo", s.deletePhoto},
	} {
		method, path, _ := strings.Cut(route.pattern, " ")
		mux.HandleFunc(method+" /credential-management/customer/{org}/"+path, s.serve(route.op, true, route.do))
	}
	return mux
}

// serve reads the request, checks who asks and how often, plays what is to go wrong, and writes what do answers.
func (s *Sim) serve(op string, authenticated bool, do func(call) (reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Answering before the client has sent its body cuts connections; and only a body read to its end lets the
		// server notice that the client has gone.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		c := call{r, body}
		if r.Context().Value(overdue{}) != nil { // its sender was let in long ago, and hears nothing of it
			_, _ = do(c)
			return
		}
		sw := s.Switches()
		fails := func(err error) { sw.write(w, op, reply{}, err) }
		if !isUndisturbed(r.Context()) && !s.opts.Address.take(op, sw, s.opts.Now()) {
			fails(overLimit())
			return
		}
		if err := s.check(r, authenticated); err != nil {
			fails(err)
			return
		}
		fault, faulty := s.trouble(op, c)
		if !faulty {
			rep, err := do(c)
			sw.write(w, op, rep, err)
			return
		}
		isTimeout := fault.Kind == "timeout" && fault.When != "after"
		switch {
		case fault.Kind == "late", isTimeout && sw.LateExecution:
			if err := s.delay(c, fault); err != nil {
				fails(err)
				return
			}
			fault.Kind = "timeout"
		case fault.Kind == "slow":
			wait(r.Context(), fault.Hold)
			rep, err := do(c)
			sw.write(w, op, rep, err)
			return
		case fault.Kind == Malformed:
			rep, err := do(c)
			if rep.body != nil {
				rep.body = json.RawMessage(`{"schemas": [], "id": `)
			}
			sw.write(w, op, rep, err)
			return
		case fault.When == "after":
			_, _ = do(c)
		}
		sw.misbehave(w, r, op, fault)
	}
}

// trouble says what is to go wrong with a call.
func (s *Sim) trouble(op string, c call) (Fault, bool) {
	if isUndisturbed(c.Context()) {
		return Fault{}, false
	}
	holder, unwell := s.about(c)
	if unwell != "" {
		return Fault{Kind: unwell}, true
	}
	return s.opts.Fault(op, holder)
}

// about says whom a call is about, by externalId, and how that user is unwell.
func (s *Sim) about(c call) (holder, unwell string) {
	_, path, _ := strings.Cut(c.URL.Path, "/credential-management/customer/")
	parts := strings.Split(path, "/")
	if len(parts) == 2 && parts[1] == "users" {
		var req userRequest
		_ = json.Unmarshal(c.body, &req) // decode refuses what is no JSON
		return req.ExternalID, ""
	}
	if len(parts) < 3 {
		return "", ""
	}
	id := parseID(parts[2])
	s.mu.Lock()
	defer s.mu.Unlock()
	var u *user
	switch parts[1] {
	case "users":
		u = s.st.user(id)
	case "invitation":
		u = s.st.invitations.first(id)
	case "credential":
		u = s.st.credentials.first(id)
	}
	if u == nil {
		return "", ""
	}
	return u.ExternalID, u.Unwell
}

// wait returns after a while, or when the client has stopped waiting.
func wait(ctx context.Context, hold time.Duration) {
	select {
	case <-time.After(hold):
	case <-ctx.Done():
	}
}

type undisturbed struct{}

// Undisturbed is a context whose requests see the provider as it is: no lag, no partial reading, no unwell user, no
// planned fault, and they are not counted. It is for looking at the provider from outside of what is simulated.
func Undisturbed(ctx context.Context) context.Context {
	return context.WithValue(ctx, undisturbed{}, true)
}

func isUndisturbed(ctx context.Context) bool { return ctx.Value(undisturbed{}) != nil }

// switchesFor are the switches that decide what a call sees.
func (s *Sim) switchesFor(c call) Switches {
	sw := s.Switches()
	if isUndisturbed(c.Context()) {
		sw.SearchLags = false
	}
	return sw
}

func overLimit() error { return &refusal{http.StatusForbidden, "", "the rate limit is exceeded"} }

func forbidden() error {
	return &refusal{http.StatusForbidden, "", "the operation is forbidden for this credential"}
}

func (c *credential) isForbidden() bool { return c != nil && c.Forbidden }

func (s *Sim) check(r *http.Request, authenticated bool) error {
	if org := r.PathValue("org"); org != "" && org != s.opts.OrganizationID {
		return notFound("organization")
	}
	if !authenticated {
		return nil
	}
	if r.Header.Get("Application-ID") != s.opts.ApplicationID || r.Header.Get("Application-Version") == "" {
		return &refusal{http.StatusUnauthorized, "", "Application-ID or Application-Version is missing or unknown"}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !s.tokenValid(token) {
		return &refusal{http.StatusUnauthorized, "", "the access token is missing, wrong or expired"}
	}
	return nil
}

func (sw Switches) misbehave(w http.ResponseWriter, r *http.Request, op string, fault Fault) {
	switch fault.Kind {
	case "timeout":
		var over <-chan time.Time
		if fault.Hold > 0 {
			over = time.After(fault.Hold)
		}
		select {
		case <-over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case "throttle":
		sw.write(w, op, reply{}, overLimit())
	case "forbidden":
		sw.write(w, op, reply{}, forbidden())
	case Missing:
		http.Error(w, "404 page not found", http.StatusNotFound)
	default:
		sw.write(w, op, reply{}, errors.New("a planned fault"))
	}
}

func (sw Switches) write(w http.ResponseWriter, op string, rep reply, err error) {
	if err != nil {
		ref := &refusal{http.StatusInternalServerError, "", "internal server error"}
		errors.As(err, &ref)
		text := "message"
		if sw.DetailErrors {
			text = "detail"
		}
		body := map[string]any{"schemas": []string{errorSchema}, "status": strconv.Itoa(ref.status), text: ref.message}
		if ref.scimType != "" {
			body["scimType"] = ref.scimType
		}
		rep = reply{ref.status, body}
	}
	if rep.body == nil {
		w.WriteHeader(rep.status)
		return
	}
	contentType := mediaType + "+json"
	if op == "token" || op == "feed" {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(rep.status)
	if raw, spoiled := rep.body.(json.RawMessage); spoiled {
		_, _ = w.Write(raw) // no encoder would write it
		return
	}
	_ = json.NewEncoder(w).Encode(rep.body) // the client has gone
}

// token issues a bearer token that carries its own end and a proof, so that it outlives the simulator's process.
func (s *Sim) token(c call) (reply, error) {
	form, err := url.ParseQuery(string(c.body))
	if err != nil || !strings.HasPrefix(c.Header.Get("Content-Type"), "application/x-www-form-urlencoded") ||
		form.Get("grant_type") != "client_credentials" {
		return reply{}, &refusal{http.StatusBadRequest, "", "a form with grant_type=client_credentials is expected"}
	}
	id := subtle.ConstantTimeCompare([]byte(form.Get("client_id")), []byte(s.opts.ClientID))
	secret := subtle.ConstantTimeCompare([]byte(form.Get("client_secret")), []byte(s.opts.ClientSecret))
	if id&secret != 1 {
		return reply{}, &refusal{http.StatusUnauthorized, "", "unknown client"}
	}
	until := strconv.FormatInt(s.opts.Now().Add(tokenLifetime).Unix(), 10)
	token := until + "." + s.sign(until)
	return reply{http.StatusOK, map[string]any{"access_token": token, "id_token": token, "token_type": "Bearer",
		"expires_in": int(tokenLifetime.Seconds())}}, nil
}

func (s *Sim) tokenValid(token string) bool {
	until, proof, _ := strings.Cut(token, ".")
	end, err := strconv.ParseInt(until, 10, 64)
	return err == nil && hmac.Equal([]byte(proof), []byte(s.sign(until))) && s.opts.Now().Unix() < end
}

func (s *Sim) sign(text string) string {
	mac := hmac.New(sha256.New, []byte(s.opts.ClientSecret))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
