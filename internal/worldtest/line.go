package worldtest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"
)

const (
	// CallLimit is how long a process waits for an answer of the provider.
	CallLimit = 5 * time.Second
	// LateAtMost is how long after it was sent a request whose sender gave up arrives at the latest, in a world that
	// was not told otherwise.
	LateAtMost = 9 * time.Second
	// VeryLate is how long it can take where a queue in front of the provider keeps it, see World.SetLateAfter.
	VeryLate = 10 * time.Minute
)

// operations are the kinds of requests to the provider.
var operations = []string{
	"token", "search", "read user", "create user", "invite", "update user", "delete user", "cancel", "revoke",
	"list stock", "read stock",
	"upload picture", "approve picture", "remove picture", "feed",
}

// providerReads are those of the operations that change nothing.
var providerReads = []string{"token", "search", "read user", "list stock", "read stock", "feed"}

// Operation names the kind of a request to the provider.
func Operation(r *http.Request) string {
	switch {
	case strings.HasSuffix(r.URL.Path, "/token"):
		return "token"
	case r.URL.Path == "/events":
		return "feed"
	}
	_, path, _ := strings.Cut(r.URL.Path, "/customer/"+organization+"/")
	parts := strings.Split(path, "/")
	for i := range parts {
		if i%2 == 1 && parts[i] != ".search" {
			parts[i] = "*"
		}
	}
	return map[string]string{
		"POST users/.search": "search", "GET users/*": "read user", "POST users": "create user",
		"POST users/*/invitation": "invite",
		"PUT users/*":             "update user", "DELETE users/*": "delete user", "DELETE invitation/*": "cancel",
		"DELETE credential/*": "revoke",
		"GET part-number":     "list stock", "GET part-number/*": "read stock", "POST users/*/photo": "upload picture",
		"PUT users/*/photo/*/status": "approve picture", "DELETE users/*/photo/*": "remove picture",
	}[r.Method+" "+strings.Join(parts, "/")]
}

// direct calls a handler without a network.
type direct struct{ http.Handler }

// Do implements origo.Doer.
func (d direct) Do(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() != nil { // the simulator cut the connection
			err = io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// line is the way of one process to the provider of one account. Requests and answers meet the weather on it.
type line struct {
	world   *World
	account string
	to      direct
}

// Do implements origo.Doer.
func (l *line) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil { // read now, for the request may arrive later
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.WithContext(l.world.Ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	call := Call{Kind: Operation(r), Account: l.account}
	if resp, err, lost := l.meet(r, call); lost {
		return resp, err
	}
	resp, err := l.to.Do(r)
	if err != nil {
		return nil, err
	}
	if call.Kind == "upload picture" {
		l.world.ledger.uploaded(l.account, r, resp)
	}
	if slow := l.world.slowness(l.account); slow > 0 {
		l.world.Advance(min(slow, CallLimit))
		if slow >= CallLimit {
			return nil, io.ErrUnexpectedEOF
		}
	}
	call.After = true
	if changed, err, lost := l.meet(r, call); lost {
		return changed, err
	}
	return resp, nil
}

// meet lets a request, or its answer, meet the weather; lost says that it gets no further.
func (l *line) meet(r *http.Request, call Call) (resp *http.Response, err error, lost bool) {
	switch l.world.options.Weather.Meet(call) {
	case Unwell:
		return answer(http.StatusInternalServerError), nil, true
	case Throttled:
		return answer(http.StatusForbidden), nil, true
	case Late:
		l.world.sendLate(func() { _, _ = l.to.Do(r) })
		fallthrough
	case Timeout:
		l.world.Advance(CallLimit)
		return nil, io.ErrUnexpectedEOF, true
	}
	return nil, nil, false
}

func answer(status int) *http.Response {
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	return w.Result()
}

// lateRequest is a request on its way whose sender has given up.
type lateRequest struct {
	at      time.Time
	arrives func()
}

func (w *World) sendLate(arrives func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = append(w.late, lateRequest{w.now.Add(w.options.LateAfter), arrives})
	slices.SortStableFunc(w.late, func(a, b lateRequest) int { return a.at.Compare(b.at) })
}

// SetLateAfter says how long after it was sent a Late request arrives, from now on.
func (w *World) SetLateAfter(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.options.LateAfter = d
}

// SetSlow makes each call of an account's provider take so long; after CallLimit its sender gives up, though it has
// taken effect. 0 makes it quick again.
func (w *World) SetSlow(account string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow[account] = d
}

func (w *World) slowness(account string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slow[account]
}

// Advance lets time go by, without a sweep. Late requests arrive meanwhile, and the providers look at the clock.
func (w *World) Advance(d time.Duration) {
	w.Helper()
	until := w.Now().Add(d)
	for {
		w.mu.Lock()
		if len(w.late) == 0 || w.late[0].at.After(until) {
			w.mu.Unlock()
			break
		}
		first := w.late[0]
		w.late = slices.Delete(w.late, 0, 1)
		w.mu.Unlock()
		w.SetNow(first.at)
		first.arrives()
	}
	w.SetNow(until)
	w.Tick()
}
