package webapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// codes are the codes of a credential's warnings, in their order.
func codes(t *testing.T, a answer) string {
	t.Helper()
	var all []string
	for _, w := range a.at(t, "warnings").([]any) {
		all = append(all, fmt.Sprint(w.(map[string]any)["code"]))
	}
	return strings.Join(all, " ")
}

func TestARefusedMailIsShownAndListed(t *testing.T) {
	w := settled(t)
	w.mailDown()
	path := w.post("/v1/holders/E-1/credentials", m{}).want(t, 202).header["Location"]
	if got := codes(t, w.get(path)); got != "mail_not_sent" {
		t.Errorf("warnings %q", got)
	}
	list := w.get("/v1/credentials?profileId=hq&warning=mail_not_sent").want(t, 200)
	if items := list.at(t, "items").([]any); len(items) != 1 || list.at(t, "nextCursor") != nil {
		t.Error(list.body)
	}
	same(t, w.get("/v1/credentials?profileId=hq&warning=mail_bounced").want(t, 200).body,
		`{"items":[],"nextCursor":null}`)

	w.Mend()
	w.Pass(time.Minute)
	if got := codes(t, w.get(path)); got != "" {
		t.Errorf("warnings %q once the mail was sent", got)
	}
	same(t, w.get("/v1/credentials?profileId=hq&warning=mail_not_sent").want(t, 200).body,
		`{"items":[],"nextCursor":null}`)
}

func TestTroubleOfTheAccountIsShownOnWhatWaitsForIt(t *testing.T) {
	w := settled(t)
	done := w.assigned()
	w.Must(w.Store.SetOutage(w.Ctx, account, credential.Outage{}.Open(credential.TroubleAccessDenied, w.Now())))
	path := w.post("/v1/holders/E-1/credentials", m{}).want(t, 202).header["Location"]
	waiting := w.get(path)
	if got := codes(t, waiting); got != "provider_unreachable" {
		t.Errorf("warnings %q", got)
	}
	if got := waiting.at(t, "provider.lastError"); got != credential.TroubleAccessDenied {
		t.Errorf("lastError %v", got)
	}
	if got := codes(t, w.get(done)); got != "" {
		t.Errorf("warnings %q of what waits for nothing", got)
	}
	list := w.get("/v1/credentials?profileId=hq&warning=provider_unreachable").want(t, 200)
	if items := list.at(t, "items").([]any); len(items) != 1 {
		t.Error(list.body)
	}
}

func TestWhatTheProviderMayStillHaveIsPending(t *testing.T) {
	w := settled(t)
	w.Break("reserve", "timeout", "after", 1)
	path := w.post("/v1/holders/E-1/credentials", m{}).want(t, 202).header["Location"]
	for _, end := range []func() answer{
		func() answer { return w.post(path+"/lost", nil) },
		func() answer { return w.delete(path) },
	} {
		a := end()
		if a.status != 202 && a.status != 409 || a.status == 202 && a.at(t, "provider.state") != "pending" {
			t.Errorf("%d: %s", a.status, a.body)
		}
	}
	if got := codes(t, w.get(path)); got != "release_pending reservation_in_doubt" {
		t.Errorf("warnings %q", got)
	}
	w.Pass(time.Minute)
	w.Pass(time.Minute)
	w.delete(path).want(t, 200)
}

func TestOneReplacementAtATime(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	first := w.post(path+"/replacement", m{"reason": "lost"}).want(t, 201)
	again := w.post(path+"/replacement", m{"reason": "lost"}).want(t, 200)
	if again.at(t, "id") != first.at(t, "id") || w.get(path).at(t, "replacedBy") != first.at(t, "id") ||
		!strings.HasSuffix(path, fmt.Sprint(first.at(t, "replaces"))) {
		t.Error(again.body)
	}
	refused := w.post(path+"/replacement", m{"reason": "stolen"}).want(t, 409)
	if refused.at(t, "code") != "replacement_pending" || refused.at(t, "credentialId") != first.at(t, "id") {
		t.Error(refused.body)
	}
}
