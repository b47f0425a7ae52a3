package samlocal

import (
	"net/http"
	"sync"
	"time"
)

// hub tells the open pages that something changed, not what.
type hub struct {
	mu    sync.Mutex
	pages map[chan struct{}]bool
}

func (h *hub) changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for page := range h.pages {
		select {
		case page <- struct{}{}:
		default: // it has not yet looked at the last change
		}
	}
}

// ServeHTTP is GET /stream: Server-Sent Events, at most twenty a second.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := make(chan struct{}, 1)
	page <- struct{}{}
	h.mu.Lock()
	if h.pages == nil {
		h.pages = map[chan struct{}]bool{}
	}
	h.pages[page] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.pages, page)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case <-page:
		}
		if _, err := w.Write([]byte("event: change\ndata: {}\n\n")); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
