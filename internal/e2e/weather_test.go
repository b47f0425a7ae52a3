package e2e

import (
	"fmt"
	"testing"
	"time"
)

// expectOneInvitationOnly expects that the holder's one assignment has led to exactly one invitation, and that the
// provider has reserved nothing else for a holder of ours.
func (r *run) expectOneInvitationOnly(holder string) {
	r.t.Helper()
	r.settle()
	r.expectOneInvitation(holder)
	r.expectAgreement()
}

func (r *run) expectOneInvitation(holder string) {
	r.t.Helper()
	var h struct{ Credentials []credential }
	r.get("/v1/holders/" + holder).want(200).into(&h)
	if len(h.Credentials) != 1 {
		r.t.Fatalf("%d credentials: %+v", len(h.Credentials), h.Credentials)
	}
	c := h.Credentials[0]
	if c.Stage != "invited" || c.Invitation.Status != "sent" || c.Invitation.Mails != 1 ||
		c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	if n := len(r.mails(holder)); n != 1 {
		r.t.Errorf("%d mails", n)
	}
	if got := r.eventNames(c); got != "assigned reserved mailed" {
		r.t.Errorf("history: %s", got)
	}
}

func TestKilledBetweenReservingAndTheAnswer(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "origo", Op: "reserve", Kind: "timeout", When: "after", HoldMs: 60_000})
	cut := make(chan error, 1)
	go func() {
		_, err := r.try("POST", "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"})
		cut <- err
	}()
	r.eventually(func() string {
		if ids := r.provider().mobileIDs(); len(ids) != 1 {
			return fmt.Sprintf("reserved: %v", ids)
		}
		return ""
	})
	r.kill9()
	if err := <-cut; err == nil {
		t.Error("assign was answered, so nothing was held")
	}
	r.waitUntilGone()

	r.startAgain()
	if n := len(r.mails(holder)); n != 0 {
		t.Fatalf("%d mails before we knew the code", n)
	}
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.expectOneInvitationOnly(holder)
	if ids := r.provider().mobileIDs(); len(ids) != 1 {
		t.Errorf("the provider has reserved %v", ids)
	}
	r.redeem("phone", r.codeOf(holder)).want(200)
	r.settle()
	r.expectNoDeadLetters()
}

func TestMailThrottledForThreeCalls(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "ses", Op: "send", Kind: "throttle", Count: 3})
	c := r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(202).credential()
	if c.Stage != "invited" || c.Invitation.Status != "pending" || c.MobileID == "" || len(r.faults()) != 0 ||
		len(r.mails(holder)) != 0 {
		t.Errorf("%+v, still ordered: %v", c, r.faults())
	}
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.expectOneInvitationOnly(holder)
	r.expectNoDeadLetters()
}

func TestProviderDownForFiveMinutes(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "origo", Kind: "error", Count: 1 << 20})
	c := r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(202).credential()
	if c.Stage != "invited" || c.MobileID != "" || c.Provider.State != "pending" {
		t.Errorf("%+v", c)
	}
	for range 5 {
		r.advance(time.Minute)
	}
	if c = r.read(c); c.Stage != "invited" || c.Provider.State != "pending" || c.Provider.LastError == "" {
		t.Errorf("after five minutes: %+v", c)
	}
	r.fairWeather()
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.expectOneInvitationOnly(holder)
	r.expectNoDeadLetters()
}

func TestDatabaseThrottledForAMoment(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "dynamodb", Op: "transact", Kind: "throttle", Count: 2})
	r.assign(holder)
	r.expectOneInvitationOnly(holder)
}

func TestDatabaseThrottledForLong(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "dynamodb", Op: "transact", Kind: "throttle", Count: 1 << 20})
	path, body := "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}
	if a := r.post(path, body, "Idempotency-Key", "k").want(503); a.code() != "try_later" {
		t.Errorf("%s", a.body)
	}
	r.fairWeather()
	r.advance(time.Minute)
	r.advance(time.Minute)
	var list struct{ Items []credential }
	r.get(path).want(200).into(&list)
	if len(list.Items) != 0 || len(r.mails(holder)) != 0 {
		t.Errorf("half of a change was written: %+v", list.Items)
	}
	r.expectAgreement()
	r.post(path, body, "Idempotency-Key", "k").want(201)
	r.expectOneInvitationOnly(holder)
	r.expectNoDeadLetters()
}

// The database fails in each possible way, before or after it has acted. The portal does what a 503 asks of it: it
// tries again later, with the same key.
func TestDatabaseInAnyTrouble(t *testing.T) {
	t.Parallel()
	r := private(t)
	var all []string
	for _, op := range []string{"read", "put", "transact"} {
		for _, f := range []fault{
			{Kind: "error", Count: 4}, // more than the SDK tries by itself
			{Kind: "throttle", Count: 4},
			{Kind: "timeout", Count: 4, HoldMs: 1},
			{Kind: "timeout", Count: 4, HoldMs: 1, When: "after"},
			{Kind: "timeout", HoldMs: 1, When: "after"},
		} {
			holder := r.holder()
			all = append(all, holder)
			f.Service, f.Op = "dynamodb", op
			r.fault(f)
			path, body := "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}
			first := r.post(path, body, "Idempotency-Key", "k").want(201, 202, 503)
			r.fairWeather()
			if first.status == 503 {
				r.post(path, body, "Idempotency-Key", "k").want(200, 201, 202)
			}
		}
	}
	r.advance(time.Minute)
	r.advance(time.Minute)
	for _, holder := range all {
		r.expectOneInvitation(holder)
	}
	r.expectAgreement()
	r.expectNoDeadLetters()
}

// The worst moment: the provider has reserved, its answer is lost, and nothing can be written down.
func TestDatabaseGoneWhileTheProviderReserves(t *testing.T) {
	t.Parallel()
	r := private(t)
	holder := r.holder()
	r.fault(fault{Service: "origo", Op: "reserve", Kind: "timeout", When: "after", HoldMs: 2000})
	path, body := "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}
	done := make(chan answer, 1)
	go func() {
		a, _ := r.try("POST", path, body, "Idempotency-Key", "k")
		done <- a
	}()
	r.eventually(func() string {
		if ids := r.provider().mobileIDs(); len(ids) != 1 {
			return fmt.Sprintf("reserved: %v", ids)
		}
		return ""
	})
	r.fault(fault{Service: "dynamodb", Kind: "error", Count: 1 << 20})
	a := <-done
	a.t = t
	a.want(202, 503)
	r.fairWeather()
	r.post(path, body, "Idempotency-Key", "k").want(200)
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.expectOneInvitationOnly(holder)
	r.expectNoDeadLetters()
}

func TestBusDown(t *testing.T) {
	t.Parallel()
	r := private(t)
	c := r.assign(r.holder())
	code := r.codeOf(c.HolderID)
	r.settle()

	r.fault(fault{Service: "events", Op: "publish", Kind: "error", Count: 1 << 20})
	user := r.provider().Users[0].ID
	a := r.post("/v1/webhooks/"+account, []byte(`[{"specversion":"1.0","id":"1","type":"com.origo.mi.user",
		"source":"user/`+user+`",
		"time":"2026-01-01T00:00:00.000Z","data":{"organization_id":"1003233","userId":"`+user+`",
			"status":"USER_UPDATED"}}]`),
		"Authorization", "", "Content-Type", "application/cloudevents-batch+json", webhookHeader, webhookSecret)
	if a.want(503).code() != "try_later" {
		t.Errorf("%s", a.body)
	}
	r.redeem("phone", code).want(200)
	if got := r.read(c); got.Stage != "invited" {
		t.Errorf("without the bus: %+v", got)
	}
	r.fairWeather()
	r.becomes(c, "activated") // the provider has tried again
	r.settle()
	r.expectAgreement()
	if got := r.eventNames(c); got != "assigned reserved mailed activated" {
		t.Errorf("history: %s", got)
	}
	for _, want := range []string{"Credential Assigned", "Credential Activated"} {
		n := 0
		for _, e := range r.busEvents() {
			if e.DetailType == want {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q was told %d times", want, n)
		}
	}
	r.expectNoDeadLetters()
}

// Whatever hangs, the function answers before its time limit, in a problem document that says when to try again, and
// nothing is half done.
func TestWhateverHangsTheAnswerIsTryLater(t *testing.T) {
	t.Parallel()
	r := private(t)
	c := r.assign(r.holder())
	r.settle()
	other, of := r.holder(), "/v1/holders/"+c.HolderID
	event := []byte(`[{"specversion":"1.0","id":"1","type":"com.origo.mi.user","time":"2026-01-01T00:00:00.000Z",
		"data":{"organization_id":"1003233","userId":"1","status":"USER_UPDATED"}}]`)
	for _, op := range []string{"read", "transact"} {
		r.fault(fault{Service: "dynamodb", Op: op, Kind: "timeout", HoldMs: 60_000, Count: 1 << 20})
	}
	r.fault(fault{Service: "events", Op: "publish", Kind: "timeout", HoldMs: 60_000, Count: 1 << 20})
	calls := map[string]func() (answer, error){
		"lookup": func() (answer, error) { return r.try("GET", of, nil) },
		"directory": func() (answer, error) {
			return r.try("PUT", of, m{"firstName": "Ada", "lastName": "King", "email": "king@example.com"})
		},
		"assign": func() (answer, error) {
			return r.try("POST", "/v1/holders/"+other+"/credentials", m{"profileId": "hq"}, "Idempotency-Key", "k")
		},
		"revoke": func() (answer, error) { return r.try("DELETE", of+"/credentials/"+c.ID, nil) },
		"webhook": func() (answer, error) {
			return r.try("POST", "/v1/webhooks/"+account, event, "Authorization", "", webhookHeader, webhookSecret,
				"Content-Type", "application/cloudevents-batch+json")
		},
	}
	type answered struct {
		function string
		answer
		err error
	}
	answers := make(chan answered, len(calls))
	for function, call := range calls {
		go func() {
			a, err := call()
			answers <- answered{function, a, err}
		}()
	}
	for range calls {
		a := <-answers
		if a.err != nil {
			t.Fatalf("%s: %v", a.function, a.err)
		}
		if a.t = t; a.want(503).code() != "try_later" || a.header.Get("Retry-After") == "" ||
			a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s answers %v %s", a.function, a.header, a.body)
		}
	}
	r.fairWeather()
	r.fault(fault{Service: "dynamodb", Op: "read", Kind: "timeout", HoldMs: 60_000})
	if got := r.read(c); got.Stage != "invited" { // one read that hangs is made again in time
		t.Errorf("%+v", got)
	}
	r.post("/v1/holders/"+other+"/credentials", m{"profileId": "hq"}, "Idempotency-Key", "k").want(201)
	r.advance(time.Minute)
	r.expectOneInvitation(other)
	r.expectAgreement()
	r.expectNoDeadLetters()
}
