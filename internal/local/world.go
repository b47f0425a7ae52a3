package local

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/local/world"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
)

// patience is how long /settle and /clock take at most, a little under their
// promise of 30 seconds.
const patience = 27 * time.Second

// worldHandler serves the page, its JSON, and the issuer's key set.
func (r *runner) worldHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", world.Handler())
	mux.Handle("/.well-known/", r.issuer.Handler())
	mux.Handle("GET /stream", &r.hub)
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"GET /overview":          func(*http.Request) (any, error) { return r.overview() },
		"GET /mail":              func(*http.Request) (any, error) { return awsapi.Mails(r.db) },
		"GET /phones":            func(*http.Request) (any, error) { return r.sim.Phones(), nil },
		"GET /phones/{id}":       func(q *http.Request) (any, error) { return r.sim.Phone(q.PathValue("id")), nil },
		"POST /phones/{id}/{do}": r.phone,
		"GET /provider":          func(*http.Request) (any, error) { return r.sim.State(), nil },
		"POST /provider/{do}":    r.administer,
		"GET /events":            r.events,
		"GET /deadletters":       func(*http.Request) (any, error) { return r.queue.DeadLetters() },
		"GET /clock":             func(*http.Request) (any, error) { return r.time(), nil },
		"POST /clock":            r.postClock,
		"POST /settle":           r.postSettle,
		"GET /faults":            func(*http.Request) (any, error) { return r.faults.List() },
		"POST /faults":           r.postFault,
		"DELETE /faults":         r.deleteFaults,
	} {
		mux.HandleFunc(pattern, r.serveJSON(h))
	}
	mux.HandleFunc("GET /token", r.token)
	mux.HandleFunc("GET /mail/{id}", r.mail)
	return mux
}

// refusal is an error that is the caller's.
type refusal struct {
	status int
	text   string
}

func (e refusal) Error() string { return e.text }

func (r *runner) serveJSON(h func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			defer r.hub.changed()
		}
		v, err := h(req)
		status := http.StatusOK
		var refused refusal
		switch {
		case errors.As(err, &refused):
			status = refused.status
		case err != nil:
			status = http.StatusInternalServerError
		}
		if err != nil && v == nil {
			v = map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(v)
	}
}

// read decodes a small JSON body.
func read(req *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(req.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refusal{http.StatusBadRequest, "the body: " + err.Error()}
	}
	return nil
}

func (r *runner) token(w http.ResponseWriter, req *http.Request) {
	scope, sub := req.FormValue("scope"), req.FormValue("sub")
	if !req.Form.Has("scope") {
		scope = strings.Join(r.scopes(), " ")
	}
	if sub == "" {
		sub = "portal"
	}
	token, err := r.issuer.Token(sub, scope)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, token)
}

// scopes are those any route of the template asks for.
func (r *runner) scopes() []string {
	var all []string
	for _, f := range r.template.Functions {
		for _, route := range f.Routes {
			all = append(all, route.Scopes...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// mail shows one mail as its reader sees it. It is somebody's HTML: it runs
// nothing and loads nothing but pictures.
func (r *runner) mail(w http.ResponseWriter, req *http.Request) {
	mails, err := awsapi.Mails(r.db)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	i := slices.IndexFunc(mails, func(m awsapi.Mail) bool { return m.ID == req.PathValue("id") })
	if i < 0 {
		http.Error(w, "no such mail", http.StatusNotFound)
		return
	}
	body := mails[i].HTML
	if body == "" {
		body = "<pre>" + html.EscapeString(mails[i].Text) + "</pre>"
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: https:")
	_, _ = io.WriteString(w, body)
}

func (r *runner) phone(req *http.Request) (any, error) {
	defer r.activity.begin()()
	id := req.PathValue("id")
	var body struct{ Code string }
	if err := read(req, &body); err != nil {
		return nil, err
	}
	var err error
	switch req.PathValue("do") {
	case "redeem":
		err = r.sim.Redeem(id, body.Code)
	case "decline":
		err = r.sim.Decline(body.Code)
	case "accept":
		err = r.sim.Accept(id, body.Code)
	case "sync":
		err = r.sim.Sync(id)
	case "remove":
		err = r.sim.Remove(id)
	default:
		err = refusal{http.StatusNotFound, "a phone can redeem, decline, accept, sync or be removed"}
	}
	if err != nil {
		return nil, refused(err)
	}
	return r.sim.Phone(id), nil
}

func (r *runner) administer(req *http.Request) (any, error) {
	defer r.activity.begin()()
	var body struct{ MobileID, ExternalID, Code string }
	if err := read(req, &body); err != nil {
		return nil, err
	}
	var err error
	switch req.PathValue("do") {
	case "reassign":
		if body.ExternalID == "" {
			return nil, refusal{http.StatusBadRequest, "externalId is needed"}
		}
		err = r.sim.Reassign(body.MobileID, body.ExternalID)
	case "cancel":
		err = r.sim.Cancel(body.Code)
	case "revoke":
		err = r.sim.Revoke(body.MobileID)
	default:
		err = refusal{http.StatusNotFound, "an administrator can reassign, cancel or revoke"}
	}
	if err != nil {
		return nil, refused(err)
	}
	return r.sim.State(), nil
}

// refused gives the provider's refusals their status.
func refused(err error) error {
	switch {
	case errors.Is(err, origosim.ErrUnknownCode), errors.Is(err, origosim.ErrUnknownMobileID):
		return refusal{http.StatusNotFound, err.Error()}
	case errors.Is(err, origosim.ErrDead):
		return refusal{http.StatusGone, err.Error()}
	case errors.Is(err, origosim.ErrTaken):
		return refusal{http.StatusConflict, err.Error()}
	}
	return err
}

func (r *runner) events(req *http.Request) (any, error) {
	name := req.FormValue("bus")
	if name == "" {
		name = r.ownBus()
	}
	return r.bus.Events(name)
}

// ownBus is the template's first bus.
func (r *runner) ownBus() string {
	if len(r.template.Buses) > 0 {
		return r.template.Buses[0]
	}
	return "default"
}

type worldTime struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"`
}

func (r *runner) time() worldTime {
	return worldTime{r.clock.Now().UTC(), r.clock.Offset().String()}
}

type rest struct {
	worldTime
	Settled bool     `json:"settled"`
	Moving  []string `json:"moving,omitempty"` // what had not come to rest in time; the status is 504 then
	Waiting int      `json:"waiting"`          // events that wait for a later moment
}

func (r *runner) rest(moving []string) (any, error) {
	_, waiting := r.queue.Count()
	answer := rest{r.time(), len(moving) == 0, moving, waiting}
	if !answer.Settled {
		return answer, refusal{http.StatusGatewayTimeout, "not at rest"}
	}
	return answer, nil
}

func (r *runner) postSettle(req *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	return r.rest(r.settle(ctx))
}

func (r *runner) postClock(req *http.Request) (any, error) {
	var body struct{ Advance string }
	if err := read(req, &body); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(body.Advance)
	if err != nil || d <= 0 {
		return nil, refusal{http.StatusBadRequest, `advance must be a duration such as "192h"; the clock never goes back`}
	}
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	moving, err := r.advance(ctx, d)
	if err != nil {
		return nil, err
	}
	return r.rest(moving)
}

func (r *runner) postFault(req *http.Request) (any, error) {
	var f faults.Fault
	if err := read(req, &f); err != nil {
		return nil, err
	}
	f, err := r.faults.Add(f)
	if err != nil {
		return nil, refusal{http.StatusBadRequest, err.Error()}
	}
	return f, nil
}

func (r *runner) deleteFaults(*http.Request) (any, error) {
	if err := r.faults.Clear(); err != nil {
		return nil, err
	}
	return r.faults.List()
}

// pageEvents is how many events the page gets.
const pageEvents = 200

type pageMail struct {
	awsapi.Mail
	Invitation *origosim.InvitationState `json:"invitation,omitempty"`
}

// overview is all that the page shows, newest first.
func (r *runner) overview() (any, error) {
	mails, err := awsapi.Mails(r.db)
	if err != nil {
		return nil, err
	}
	shown := []pageMail{}
	for _, m := range mails {
		p := pageMail{Mail: m}
		if inv, ok := r.sim.Invitation(m.Code); ok && m.Code != "" {
			p.Invitation = &inv
		}
		shown = append(shown, p)
	}
	events, err := r.bus.Events(r.ownBus())
	if err != nil {
		return nil, err
	}
	slices.Reverse(events)
	letters, err := r.queue.DeadLetters()
	if err != nil {
		return nil, err
	}
	ordered, err := r.faults.List()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"mails": shown, "phones": r.sim.Phones(), "provider": r.sim.State(), "events": events[:min(len(events), pageEvents)],
		"clock": r.time(), "faults": ordered, "deadletters": len(letters),
	}, nil
}
