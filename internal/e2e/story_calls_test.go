package e2e

import (
	"bytes"
	"slices"
	"time"
)

func (r *run) twentyAtOnce() {
	const n = 20
	holder := r.holder()
	answers := make(chan answer, n)
	for range n {
		go func() {
			a, err := r.try("POST", "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"})
			if err != nil {
				a = answer{t: r.t, body: []byte(err.Error())}
			}
			answers <- a
		}()
	}
	statuses := map[int]int{}
	for range n {
		a := <-answers
		statuses[a.status]++
		if a.status != 201 && a.status != 202 {
			r.t.Errorf("%d %s", a.status, a.body)
		}
	}
	r.t.Logf("answers: %v", statuses)
	r.settle()
	for range 2 {
		r.advance(time.Minute)
	}
	ids, codes := map[string]bool{}, map[string]bool{}
	for _, c := range r.credentials(holder) {
		if c.Stage != "invited" || c.Invitation.Status != "sent" || c.Invitation.Mails != 1 {
			r.t.Errorf("%+v", c)
		}
		ids[c.MobileID] = true
	}
	for _, x := range r.mails(holder) {
		codes[x.Code] = true
	}
	if len(r.mails(holder)) != n || len(codes) != n || len(ids) != n {
		r.t.Errorf("%d mails, %d codes, %d mobile IDs", len(r.mails(holder)), len(codes), len(ids))
	}
	r.expectAgreement(holder)
	for _, c := range r.credentials(holder) {
		r.delete(c.path()).want(200)
	}
	r.advance(5 * time.Minute) // a new budget of calls
}

// Each POST is made twice with the same key: the first call acts, the second only answers. With another payload it is
// refused.
func (r *run) repeated() {
	twice := func(name, path string, body, other any, first int) credential {
		r.t.Helper()
		key := []string{"Idempotency-Key", "key of " + name}
		c := r.post(path, body, key...).want(first).credential()
		r.settle()
		mails, ids, history := r.allMails(), r.provider().mobileIDs(), len(r.history(c))
		a := r.post(path, body, key...).want(200)
		if again := a.credential(); again.ID != c.ID || a.header.Get("Idempotent-Replayed") != "true" {
			r.t.Errorf("%s: replayed as %s (%v), not %s", name, again.ID, a.header, c.ID)
		}
		if other != nil {
			if a := r.post(path, other, key...).want(422); a.code() != "idempotency_key_reused" {
				r.t.Errorf("%s: %s", name, a.body)
			}
		}
		r.settle()
		if n := r.allMails(); n != mails || !slices.Equal(r.provider().mobileIDs(), ids) ||
			len(r.history(c)) != history {
			r.t.Errorf("%s: repeating it did something: %d mails, then %d; %v, then %v; %s", name, mails, n, ids,
				r.provider().mobileIDs(), r.eventNames(c))
		}
		return c
	}
	holder := r.holder()
	path := "/v1/holders/" + holder + "/credentials"
	c := twice("assign", path, m{"profileId": "hq"}, m{"profileId": "branch"}, 201)
	// the same value, spaced otherwise
	r.post(path, []byte(` { "profileId" : "hq" } `), "Idempotency-Key", "key of assign").want(200)
	r.advance(time.Minute)
	twice("invitation", c.path()+"/invitation", nil, nil, 202)
	c = twice("replacement", c.path()+"/replacement", m{"reason": "lost"}, m{"reason": "stolen"}, 201)
	twice("lost", c.path()+"/lost", nil, nil, 200)
	c = r.assign(holder)
	twice("stolen", c.path()+"/stolen", nil, nil, 200)
	r.post(c.path()+"/stolen", m{}, "Idempotency-Key", "key of stolen").want(200) // {} says nothing either
	// What is refused leaves no trace of its key.
	r.post(path, m{"profileId": "none"}, "Idempotency-Key", "key of a refusal").want(404)
	r.delete(r.post(path, m{"profileId": "hq"}, "Idempotency-Key",
		"key of a refusal").want(201).credential().path()).want(200)
	// A key is forgotten after seven days.
	r.advance(8 * 24 * time.Hour)
	if again := r.post(path, m{"profileId": "hq"}, "Idempotency-Key",
		"key of assign").want(201).credential(); again.ID == c.ID {
		r.t.Errorf("still %s", again.ID)
	}
}

func (r *run) repeatedAtOnce() {
	const n = 8
	holder := r.holder()
	answers := make(chan answer, n)
	for range n {
		go func() {
			a, err := r.try("POST", "/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}, "Idempotency-Key",
				"all at once")
			if err != nil {
				a = answer{t: r.t, body: []byte(err.Error())}
			}
			answers <- a
		}()
	}
	ids, first := map[string]bool{}, 0
	for range n {
		a := <-answers
		if a.header.Get("Idempotent-Replayed") == "" {
			first++
		}
		ids[a.want(200, 201, 202).credential().ID] = true
	}
	r.settle()
	r.advance(time.Minute)
	if len(ids) != 1 || first != 1 || len(r.credentials(holder)) != 1 || len(r.mails(holder)) != 1 {
		r.t.Errorf("%d credentials answered, %d of them as new, %d there, %d mails", len(ids), first,
			len(r.credentials(holder)), len(r.mails(holder)))
	}
}

func (r *run) mailedAgain() {
	c := r.invited()
	code := r.codeOf(c.HolderID)
	a := r.post(c.path()+"/invitation", nil).want(429)
	if wait := a.header.Get("Retry-After"); a.code() != "too_soon" || wait == "" || wait == "0" {
		r.t.Errorf("%s, again after %q s", a.body, wait)
	}
	r.advance(time.Minute)
	if c = r.post(c.path()+"/invitation", nil).want(202).credential(); c.Invitation.Mails != 2 ||
		r.codeOf(c.HolderID) != code || len(r.mails(c.HolderID)) != 2 {
		r.t.Errorf("%+v; %d mails, the same code: %v", c.Invitation, len(r.mails(c.HolderID)),
			r.codeOf(c.HolderID) == code)
	}
}

func (r *run) otherRevisions() {
	holder := r.holder()
	for path, body := range map[string]m{
		"/v1/holders/" + holder: {"kind": "cardholder", "firstName": "Zoë", "lastName": "Tremblay",
			"email": address(holder)},
		"/v1/profiles/branch": {"name": "The branches", "account": account, "partNumber": part2},
	} {
		etag := r.get(path).want(200).header.Get("ETag")
		if a := r.put(path, body, "If-Match", `"99"`).want(409); a.code() != "revision_mismatch" {
			r.t.Errorf("%s: %s", path, a.body)
		}
		if now := r.get(path).header.Get("ETag"); now != etag {
			r.t.Errorf("%s has changed from %s to %s", path, etag, now)
		}
		next := r.put(path, body, "If-Match", etag).want(200).header.Get("ETag")
		if a := r.put(path, body, "If-Match", etag).want(409); a.code() != "revision_mismatch" || next == etag {
			r.t.Errorf("%s, now %s: %s", path, next, a.body)
		}
	}
	if a := r.put("/v1/holders/not-yet-there", m{}, "If-Match", `"1"`).want(409); a.code() != "revision_mismatch" {
		r.t.Errorf("%s", a.body)
	}
	r.get("/v1/holders/not-yet-there").want(404)

	path := "/v1/holders/" + holder
	if a := r.put(path, m{}, "If-None-Match", "*").want(409); a.code() != "revision_mismatch" {
		r.t.Errorf("%s", a.body)
	}
	etag := r.get(path).want(200).header.Get("ETag")
	mergePatch := []string{"Content-Type", "application/merge-patch+json", "If-Match", etag}
	a := r.call("PATCH", path, m{"locale": "de-CH"}, mergePatch...).want(200)
	if !bytes.Contains(a.body, []byte(`"lastName":"Tremblay"`)) || !bytes.Contains(a.body, []byte(`"locale":"de-CH"`)) ||
		a.header.Get("ETag") == etag {
		r.t.Errorf("patched at %s: %s %s", etag, a.header.Get("ETag"), a.body)
	}
	if a := r.call("PATCH", path, m{}, mergePatch...).want(409); a.code() != "revision_mismatch" {
		r.t.Errorf("%s", a.body)
	}
}
