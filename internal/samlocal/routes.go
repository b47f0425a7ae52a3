package samlocal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/bus"
	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
)

// patience is how long /settle and /clock take at most, a little under 30 seconds, after which many a client gives up.
const patience = 27 * time.Second

func (w *World) routes() {
	w.mux.Handle("/.well-known/", w.issuer.Handler())
	w.mux.Handle("GET /stream", &w.hub)
	w.mux.HandleFunc("GET /token", w.token)
	w.mux.HandleFunc("GET /mail/{id}", w.mail)
	w.Handle("GET /mail", func(*http.Request) (any, error) { return w.Mails() })
	w.Handle("GET /events", w.events)
	w.Handle("GET /deadletters", func(*http.Request) (any, error) { return w.DeadLetters() })
	w.Handle("GET /clock", func(*http.Request) (any, error) { return w.Time(), nil })
	w.Handle("POST /clock", w.postClock)
	w.Handle("POST /settle", w.postSettle)
	w.Handle("GET /faults", func(*http.Request) (any, error) { return w.faults.List() })
	w.Handle("POST /faults", w.postFault)
	w.Handle("DELETE /faults", w.deleteFaults)
}

// Refusal is an error that is the client's: it is answered with the status.
type Refusal struct {
	Status int
	Text   string
}

func (e Refusal) Error() string { return e.Text }

// Refuse returns a [Refusal].
func Refuse(status int, text string) error { return Refusal{status, text} }

// Handle adds a route to the world's interface, in the manner of [http.ServeMux.Handle]. What h returns is written as
// JSON; an error without a value becomes {"error": …}, with the status of a [Refusal] or 500.
func (w *World) Handle(pattern string, h func(*http.Request) (any, error)) {
	w.mux.HandleFunc(pattern, func(out http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			defer w.hub.changed()
		}
		v, err := h(req)
		status := http.StatusOK
		var refused Refusal
		switch {
		case errors.As(err, &refused):
			status = refused.Status
		case err != nil:
			status = http.StatusInternalServerError
		}
		if err != nil && v == nil {
			v = map[string]string{"error": err.Error()}
		}
		out.Header().Set("Content-Type", "application/json")
		out.Header().Set("Cache-Control", "no-store")
		out.WriteHeader(status)
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(v) // the client has gone
	})
}

// HandleMoving is Handle for a route that sets something in motion: the world is not at rest while h runs.
func (w *World) HandleMoving(pattern string, h func(*http.Request) (any, error)) {
	w.Handle(pattern, func(req *http.Request) (any, error) {
		defer w.activity.begin()()
		return h(req)
	})
}

// HandleRaw adds a route that writes its answer itself.
func (w *World) HandleRaw(pattern string, h http.Handler) { w.mux.Handle(pattern, h) }

// Read decodes a small JSON body that holds nothing but what v has; the error is a [Refusal].
func Read(req *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(req.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return Refuse(http.StatusBadRequest, "the body: "+err.Error())
	}
	return nil
}

func (w *World) token(out http.ResponseWriter, req *http.Request) {
	scope, sub := req.FormValue("scope"), req.FormValue("sub")
	if !req.Form.Has("scope") {
		scope = w.allScopes()
	}
	if sub == "" {
		sub = "portal"
	}
	token, err := w.issuer.Token(sub, scope)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(out, token)
}

// Mails are all mails sent, newest first; never nil.
func (w *World) Mails() ([]awsapi.Mail, error) { return awsapi.Mails(w.db, w.opts.Code) }

// NewestMails are the last n mails, newest first, never nil, and how many there are in all.
func (w *World) NewestMails(n int) (mails []awsapi.Mail, all int, err error) {
	if all, err = awsapi.Count(w.db); err == nil {
		mails, err = awsapi.Newest(w.db, w.opts.Code, n)
	}
	return mails, all, err
}

// mail shows one mail as its reader sees it. Its HTML is not ours: it runs nothing and loads nothing but pictures.
func (w *World) mail(out http.ResponseWriter, req *http.Request) {
	mails, err := w.Mails()
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	i := slices.IndexFunc(mails, func(m awsapi.Mail) bool { return m.ID == req.PathValue("id") })
	if i < 0 {
		http.Error(out, "no such mail", http.StatusNotFound)
		return
	}
	body := mails[i].HTML
	if body == "" {
		body = "<pre>" + html.EscapeString(mails[i].Text) + "</pre>"
	}
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	out.Header().Set("Content-Security-Policy",
		"sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: https:")
	_, _ = io.WriteString(out, body)
}

func (w *World) events(req *http.Request) (any, error) {
	name := cmp.Or(req.FormValue("bus"), w.ownBus())
	if id := req.FormValue("after"); id != "" {
		return w.bus.After(name, id)
	}
	return w.bus.Events(name)
}

// NewestEvents are the last n events that crossed the template's first bus, or the default one if it has none, newest
// first; never nil.
func (w *World) NewestEvents(n int) ([]bus.Envelope, error) { return w.bus.Newest(w.ownBus(), n) }

func (w *World) ownBus() string {
	if len(w.template.Buses) > 0 {
		return w.template.Buses[0]
	}
	return "default"
}

// DeadLetters are all messages in the template's queues, oldest first; never nil.
func (w *World) DeadLetters() ([]bus.DeadLetter, error) { return w.queue.DeadLetters() }

// Time is the world's clock as its interface shows it.
type Time struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"`
}

// Time returns the clock.
func (w *World) Time() Time {
	return Time{w.clock.Now().UTC(), w.clock.Offset().String()}
}

type rest struct {
	Time
	Settled bool     `json:"settled"`
	Moving  []string `json:"moving,omitempty"` // what had not come to rest in time; the status is 504 then
	Waiting int      `json:"waiting"`          // events that wait for a later moment
}

func (w *World) rest(moving []string) (any, error) {
	_, waiting := w.queue.Count()
	answer := rest{w.Time(), len(moving) == 0, moving, waiting}
	if !answer.Settled {
		return answer, Refuse(http.StatusGatewayTimeout, "not at rest")
	}
	return answer, nil
}

func (w *World) postSettle(req *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	return w.rest(w.settle(ctx))
}

func (w *World) postClock(req *http.Request) (any, error) {
	var body struct{ Advance string }
	if err := Read(req, &body); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(body.Advance)
	if err != nil || d <= 0 {
		return nil, Refuse(http.StatusBadRequest,
			`advance must be a duration such as "192h"; the clock never goes back`)
	}
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	moving, err := w.advance(ctx, d)
	if err != nil {
		return nil, err
	}
	return w.rest(moving)
}

func (w *World) postFault(req *http.Request) (any, error) {
	var f faults.Fault
	if err := Read(req, &f); err != nil {
		return nil, err
	}
	f, err := w.faults.Add(f)
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, err.Error())
	}
	return f, nil
}

func (w *World) deleteFaults(*http.Request) (any, error) {
	if err := w.faults.Clear(); err != nil {
		return nil, err
	}
	return w.faults.List()
}
