package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// call is something an operator can ask of a credential.
type call struct {
	name   string
	method string
	path   string // after the credential's
	body   any
	later  bool // a minute after the assignment
}

var operatorCalls = []call{
	{"mail again", "POST", "/invitation", nil, false},
	{"… a minute later", "POST", "/invitation", nil, true},
	{"replace: lost", "POST", "/replacement", m{"reason": "lost"}, false},
	{"replace: stolen", "POST", "/replacement", m{"reason": "stolen"}, false},
	{"replace: upgrade", "POST", "/replacement", m{"reason": "upgrade"}, false},
	{"lost", "POST", "/lost", nil, false},
	{"stolen", "POST", "/stolen", nil, false},
	{"delete", "DELETE", "", nil, false},
	{"assign another", "POST", "/..", m{"profileId": "hq"}, false},
}

// operatorAnswers says what each call is answered in each state, and which state the credential is in afterwards (the
// credential itself, not its replacement).
var operatorAnswers = map[string][]string{
	"invited": {"429 too_soon, invited", "202 invited", "201 lost", "201 stolen", "201 revoked", "200 lost",
		"200 stolen", "200 revoked", "201 invited"},
	"activating": {"409 invalid_state, activating", "409 invalid_state, activating", "201 lost", "201 stolen",
		"201 revoked", "200 lost", "200 stolen", "200 revoked",
		"201 activating"},
	"activated": {"409 invalid_state, activated", "409 invalid_state, activated", "201 lost", "201 stolen",
		"201 revoked", "200 lost", "200 stolen", "200 revoked",
		"201 activated"},
	"declined":   finalAnswers("declined"),
	"expired":    finalAnswers("expired"),
	"reassigned": finalAnswers("reassigned"),
	"revoked": {"409 invalid_state, revoked", "409 invalid_state, revoked", "409 invalid_state, revoked",
		"409 invalid_state, revoked", "409 invalid_state, revoked",
		"200 revoked", "200 revoked", "200 revoked", "201 revoked"},
	"lost":   finalAnswers("lost"),
	"stolen": finalAnswers("stolen"),
	"failed": append(finalAnswers("failed")[:8], "409 email_in_use_at_provider, failed"),
}

func finalAnswers(state string) []string {
	no := "409 invalid_state, " + state
	return []string{no, no, no, no, no, no, no, "200 " + state, "201 " + state}
}

// credentialIn leads a new credential into a state. Those that expire need time to pass, all at once.
func (r *run) credentialIn(state string, n int) credential {
	r.t.Helper()
	device := fmt.Sprintf("%s-%d", state, n)
	switch state {
	case "activated":
		return r.activated(device)
	case "failed":
		r.reassign(fmt.Sprintf("%s:%d", part2, n+1), device)
		for _, u := range r.provider().Users {
			if u.ExternalID == device {
				holder := r.holder(m{"email": u.Email})
				a := r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(409)
				var problem struct{ CredentialID string }
				a.into(&problem)
				return credential{ID: problem.CredentialID, HolderID: holder}
			}
		}
		r.t.Fatalf("no user %s", device)
	}
	c := r.invited()
	switch state {
	case "activating":
		r.post("/phones/"+device+"/accept", m{"code": r.codeOf(c.HolderID)}).want(200)
	case "declined":
		r.decline(device, r.codeOf(c.HolderID)).want(200)
	case "reassigned":
		r.reassign(c.MobileID, device)
	case "revoked":
		r.delete(c.path()).want(200)
	case "lost", "stolen":
		r.post(c.path()+"/"+state, nil).want(200)
	}
	return c
}

func TestEveryStateWithEveryCall(t *testing.T) {
	t.Parallel()
	r := private(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "state")
	for _, x := range operatorCalls {
		fmt.Fprint(w, "\t", x.name)
	}
	for _, state := range []string{"expired", "invited", "activating", "activated", "declined", "reassigned", "revoked",
		"lost", "stolen", "failed"} {
		fmt.Fprint(w, "\n", state)
		made := map[string]credential{}
		prepare := func(later bool) {
			for i, x := range operatorCalls {
				if x.later == later {
					made[x.name] = r.credentialIn(state, i)
				}
			}
			r.settle()
		}
		prepare(true)
		if state == "expired" {
			prepare(false)
			r.advance(192 * time.Hour)
		} else {
			r.advance(5 * time.Minute) // and there is a new budget of calls
			prepare(false)
		}
		for i, x := range operatorCalls {
			c := made[x.name]
			if got := r.read(c).state(); got != state {
				t.Fatalf("credential %s is %s, not %s: %s", c.ID, got, state, r.eventNames(c))
			}
			a := r.call(x.method, strings.TrimSuffix(c.path()+x.path, "/"+c.ID+"/.."), x.body)
			got := fmt.Sprint(a.status)
			if a.status >= 400 {
				got += " " + a.code() + ","
			}
			got += " " + r.read(c).state()
			fmt.Fprint(w, "\t", got)
			if want := operatorAnswers[state][i]; got != want {
				t.Errorf("%s in state %s: %s, want %s: %s", x.name, state, got, want, a.body)
			}
			if x.method == http.MethodPost && a.status == 201 && a.credential().state() != "invited" {
				t.Errorf("%s in state %s: new credential %s", x.name, state, a.body)
			}
		}
		r.expectAgreement()
		r.expectPoolFits()
		r.expectOwnersFit()
	}
	fmt.Fprintln(w)
	_ = w.Flush()
	t.Logf("answers, and the state of the credential after them:\n%s", table.String())
	r.expectNoDeadLetters()
}
