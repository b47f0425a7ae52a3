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
//
// The weather has no buttons. A phone has the badges of every account; what is below /provider is about the first
// account, or the one of ?account=, and answers the provider's state:
//
//	POST /phones/{id}/redeem {"code"}      also /accept, which fetches nothing yet; 412: the phone has a mobile ID of
//	                                       this part number
//	POST /phones/{id}/sync {}              it fetches what was accepted, and gives up what was revoked meanwhile
//	POST /phones/{id}/fail {}              it cannot store what was accepted
//	POST /phones/{id}/reinstall {}         the app is new: {"deviceId"} is another container, the old one INACTIVE
//	POST /phones/{id}/remove {}            the container is removed at the provider
//	GET  /provider/settings                the positions of all switches, named and explained at origosim.Switches
//	POST /provider/settings {"<switch>": true}   sets some, at every account unless ?account= names one, and answers
//	                                       all; 422 for a name or a value there is not. They outlast the run.
//	POST /provider/reserve {"externalId", "partNumber"}  an administrator invites a user of ours by hand
//	POST /provider/existing {"externalId", "email", "partNumber", "deviceId"}  a user with another system's live badge
//	POST /provider/strangers {"users": 2000, "events": 2000}  adds users of other systems; their systems do so many
//	                                       things with all there are
//	POST /provider/forbid {"mobileId", "forbidden": true}  revoking and cancelling that one answers 403
//	POST /provider/unbind {"mobileId"}     its phone drops it, and nothing has revoked it
//
// POST /faults has, besides what DESIGN §10 lists:
//
//	"holder": "E-1"           of origo: only calls about this holder's user, and callbacks with kind drop
//	"account": "globex-origo" of origo: only calls of this account
//	"address": "a@example.com" of ses: only mail to this address
//	kinds of origo: late      the client hears nothing, and the call is executed holdMs later on the world's clock
//	                          (ten minutes if 0)
//	                slow      the answer comes after holdMs
//	                malformed the JSON of the answer breaks off
//	                missing   404 without a body
//	                forbidden 403 that does not speak of a limit
//	kind of ses:    reject    the mail is refused, and would be again
//
// What is to last gets a large count, and ends with DELETE /faults: a mail service that refuses for good is {"service":
// "ses", "kind": "reject", "count": 1000000}, one whose answers get lost {"service": "ses", "kind": "timeout", "when":
// "after", "holdMs": 1, "count": 1000000}, a user that cannot be read {"service": "origo", "kind": "missing", "holder":
// "E-1", "count": 1000000}, a slow account {"service": "origo", "kind": "slow", "account": "globex-origo", "holdMs":
// 4000, "count": 1000000}.
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
