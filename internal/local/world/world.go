// Package world is the page of the local run: the mails, phones, mobile IDs, events and clock of a run on one machine,
// live, with the buttons that move it. The page is plain HTML, CSS and JavaScript, embedded as it is: no build step,
// and nothing is loaded from elsewhere.
//
// Here belongs what is seen. What is shown and what the buttons do is the runner's JSON (package local), which the page
// reads and posts to like any other client:
//
//	GET /overview   {"mails": [{id, to, subject, html, text, code, link, invitation?}], "phones": [...],
//	                 "provider": {...}, "events": [{id, source, detail-type, time, detail}],
//	                 "mailCount": n, "clock": {"now", "offset"}, "faults": [...], "deadletters": n}
//	GET /stream     Server-Sent Events; a "change" event means that the overview is worth reading again
//
// and the paths of DESIGN §10 below /phones, /provider, /mail, /clock, /settle and /faults. Mails and events come
// newest first. A mail's optional invitation is {"status", "mobileId"} of its code at the provider; without it the page
// offers to redeem every mail's code and lets the answer speak.
package world

import (
	"embed"
	"net/http"
)

//go:embed assets
var assets embed.FS

// policy lets the page load only what is served beside it, and run no script that stands in the page itself: what a
// name or a mail contains cannot become one.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at / and what it loads below /assets/; other paths are 404.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, assets, "assets/world.html")
	})
	mux.Handle("GET /assets/", http.FileServerFS(assets))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		mux.ServeHTTP(w, r)
	})
}
