package origosim

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"
)

// lateCall is a request whose sender has given up, and which is executed all the same.
type lateCall struct {
	ID          int64
	At          time.Time
	Method, URL string
	ContentType string
	Body        []byte
}

// overdue marks the context of such a request.
type overdue struct{}

// unheard is where the answer to it goes.
type unheard struct{ header http.Header }

func (u unheard) Header() http.Header         { return u.header }
func (u unheard) Write(b []byte) (int, error) { return len(b), nil }
func (u unheard) WriteHeader(int)             {}

// delay keeps a request to be executed later, durably.
func (s *Sim) delay(c call, fault Fault) error {
	if c.Method == http.MethodGet {
		return nil
	}
	after := LateAfter
	if fault.Kind == "late" && fault.Hold > 0 {
		after = fault.Hold
	}
	return s.change(func(st *state, now time.Time) error {
		st.delay(&lateCall{At: now.Add(after), Method: c.Method, URL: c.URL.RequestURI(),
			ContentType: c.Header.Get("Content-Type"), Body: c.body})
		return nil
	})
}

// arrive executes the requests that were late, and are due.
func (s *Sim) arrive() error {
	for {
		var due *lateCall
		s.mu.Lock()
		if late := s.st.Late; len(late) > 0 && !s.opts.Now().Before(late[0].At) {
			due = late[0]
		}
		s.mu.Unlock()
		if due == nil {
			return nil
		}
		taken := false
		err := s.change(func(st *state, _ time.Time) error { // before it is executed: at most once
			taken = slices.ContainsFunc(st.Late, func(c *lateCall) bool { return c.ID == due.ID })
			if taken {
				st.arrived(due.ID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !taken { // another goroutine executes it
			continue
		}
		r, err := http.NewRequestWithContext(context.WithValue(context.Background(), overdue{}, true), due.Method,
			due.URL, bytes.NewReader(due.Body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", due.ContentType)
		s.Handler().ServeHTTP(unheard{http.Header{}}, r)
	}
}
