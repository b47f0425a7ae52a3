package webapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// What the portal gets when it sends a call twice, or asks for what may be there already.

func TestAFailedAssignmentIsAnsweredSoAgain(t *testing.T) {
	w := settled(t)
	w.put("/v1/profiles/annex", m{"name": "Annex", "account": account, "partNumber": empty}).want(t, 201)
	first := w.post("/v1/holders/E-1/credentials", m{"profileId": "annex"}, "Idempotency-Key", "k")
	again := w.post("/v1/holders/E-1/credentials", m{"profileId": "annex"}, "Idempotency-Key", "k")
	if first.says(t) != "409 no_licence_left" || again.says(t) != "409 no_licence_left" ||
		again.at(t, "credentialId") != first.at(t, "credentialId") {
		t.Errorf("%s, then %s", first.body, again.body)
	}
	if first.header["Idempotent-Replayed"] != "" || again.header["Idempotent-Replayed"] != "true" {
		t.Errorf("Idempotent-Replayed %q, then %q", first.header["Idempotent-Replayed"],
			again.header["Idempotent-Replayed"])
	}
}

func TestAssignOnlyIfThereIsNone(t *testing.T) {
	w := settled(t)
	const credentials = "/v1/holders/E-1/credentials"
	first := w.post(credentials, m{"ifNone": true}).want(t, 201)
	second := w.post(credentials, m{"ifNone": true})
	if second.says(t) != "409 already_assigned" || second.at(t, "credentialId") != first.at(t, "id") {
		t.Error(second.body)
	}
	w.post(credentials, m{"ifNone": false}).want(t, 201)
}

func TestAssignAndWaitForAMobileID(t *testing.T) {
	w := settled(t)
	w.put("/v1/profiles/annex", m{"name": "Annex", "account": account, "partNumber": empty}).want(t, 201)
	waiting := w.post("/v1/holders/E-1/credentials", m{"profileId": "annex", "wait": true}).want(t, 202)
	if got := codes(t, waiting); got != "waiting_for_licence" || waiting.at(t, "provider.state") != "pending" ||
		waiting.at(t, "provider.lastError") != "no_licence_left" || waiting.at(t, "status") != "active" {
		t.Error(waiting.body)
	}
	list := w.get("/v1/credentials?profileId=annex&warning=waiting_for_licence").want(t, 200)
	if items := list.at(t, "items").([]any); len(items) != 1 {
		t.Error(list.body)
	}
}

func TestAHolderUnderAnErasedHoldersIDIsAnotherPerson(t *testing.T) {
	w := settled(t)
	path := w.assigned()
	w.happens(path, credential.Event{Kind: credential.EventActivated, Device: &credential.Device{ID: "phone-a"}})
	w.delete("/v1/holders/E-1").want(t, 202)
	for range 4 {
		w.Pass(61 * time.Second)
	}
	w.put("/v1/holders/E-1", ada).want(t, 201)
	for _, p := range []string{path, path + "/history"} {
		if got := w.get(p).says(t); got != "404 credential_not_found" {
			t.Errorf("%s: %s", p, got)
		}
	}
	same(t, w.get("/v1/holders/E-1/credentials").want(t, 200).body, `{"items":[],"nextCursor":null}`)
	if list := w.get("/v1/credentials?profileId=hq").want(t, 200); strings.Contains(list.body, "phone-a") ||
		len(list.at(t, "items").([]any)) != 1 {
		t.Error(list.body)
	}
}
