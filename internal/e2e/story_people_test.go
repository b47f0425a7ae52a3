package e2e

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

func (r *run) visitors() {
	var clock struct{ Now time.Time }
	r.get("/clock").want(200).into(&clock)
	until := func(d time.Duration) m {
		return m{"kind": "visitor", "validUntil": clock.Now.Add(d).Format(time.RFC3339)}
	}
	move := func(holder string, d time.Duration) {
		body := until(d)
		body["firstName"], body["lastName"], body["email"] = "Aimée", "Tremblay", address(holder)
		r.put("/v1/holders/"+holder, body).want(200)
	}
	onPhone := r.assign(r.holder(until(8 * time.Hour)))
	r.redeem("visiting", r.codeOf(onPhone.HolderID)).want(200)
	r.becomes(onPhone, "activated")
	invited := r.assign(r.holder(until(8 * time.Hour)))
	move(onPhone.HolderID, 24*time.Hour)
	r.advance(9 * time.Hour)
	r.expectState(onPhone, "activated", "")
	if c := r.expectState(invited, "expired", "visit_ended"); c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	r.expectAgreement()
	r.advance(16 * time.Hour)
	r.expectState(onPhone, "expired", "visit_ended")
	if b := r.phone("visiting").Badges; len(b) != 0 {
		r.t.Errorf("on the phone after the visit: %+v", b)
	}
	if a := r.post("/v1/holders/"+onPhone.HolderID+"/credentials",
		m{"profileId": "hq"}).want(409); a.code() != "invalid_state" {
		r.t.Errorf("after the visit: %s", a.body)
	}

	r.get("/clock").want(200).into(&clock)
	past := r.assign(r.holder(until(8 * time.Hour)))
	r.redeem("leaving", r.codeOf(past.HolderID)).want(200)
	r.becomes(past, "activated")
	move(past.HolderID, -time.Minute)
	r.expectState(past, "expired", "visit_ended")
	r.settle() // no sweep: directory wakes cleanup
	if b := r.phone("leaving").Badges; len(b) != 0 {
		r.t.Errorf("on the phone after the visit: %+v", b)
	}
}

func (r *run) erased() {
	const first, last, email = "Zäzilie", "Quastenflosser", "zazilie.quastenflosser@example.org"
	person := m{"kind": "cardholder", "firstName": first, "lastName": last, "email": email}
	path := "/v1/holders/" + r.holder(person)
	holder := strings.TrimPrefix(path, "/v1/holders/")
	code := func() string {
		var all []mail
		r.get("/mail").want(200).into(&all)
		return all[0].Code
	}
	r.put(path+"/picture", picture(r.t), "Content-Type", "image/png").want(204)
	onPhone := r.assign(holder)
	r.redeem("erased", code()).want(200)
	r.becomes(onPhone, "activated")
	r.settle() // the picture is being uploaded, and the process that uploads it holds the claim
	waiting := r.post(path+"/credentials", m{"profileId": "branch"}, "Idempotency-Key", "k").want(201).credential()
	r.settle()

	r.fault(fault{Service: "origo", Op: "revoke", Kind: "error", Count: 1 << 20})
	r.delete(path).want(202)
	r.expectErasing(path, person, waiting)
	r.delete(path).want(202)
	r.expectState(onPhone, "revoked", "holder_erased")
	r.expectState(waiting, "revoked", "holder_erased")
	r.fairWeather()
	for range 3 {
		r.advance(2 * time.Minute)
	}

	r.expectErased(path, onPhone)
	if b := r.phone("erased").Badges; len(b) != 0 {
		r.t.Errorf("on the phone: %+v", b)
	}
	r.settle()
	r.expectNowhere(first, last, email, strings.SplitN(email, "@", 2)[0])
	for key := range r.items() {
		if strings.HasPrefix(key, "HOLDER#"+holder+" ") && (strings.HasSuffix(key, " HOLDER") ||
			strings.HasSuffix(key, " PICTURE") || strings.Contains(key, " WORK#")) {
			r.t.Errorf("left behind: %s", key)
		}
	}
	// A holder created later under the same id is a new person.
	r.put(path, m{"kind": "cardholder", "firstName": "Aimée", "lastName": "Tremblay",
		"email": address(holder)}).want(201)
	if a := r.get(path + "/credentials").want(200); !strings.Contains(string(a.body), `"items":[]`) {
		r.t.Errorf("of the predecessor: %s", a.body)
	}
	r.get(onPhone.path()).want(404)
	r.get(onPhone.path() + "/history").want(404)
	if a := r.get("/v1/credentials?profileId=hq").want(200); strings.Contains(string(a.body), `"id":"erased"`) {
		r.t.Errorf("the phone of the predecessor: %s", a.body)
	}
	again := r.post(path+"/credentials", m{"profileId": "branch"}, "Idempotency-Key", "k").want(201).credential()
	if c := r.assign(holder); c.ID == onPhone.ID || c.ID == waiting.ID || again.ID == waiting.ID {
		r.t.Errorf("%+v, %+v", c, again)
	}
}

// expectErasing expects the API to show that a holder is being erased, and to refuse changes of it meanwhile.
func (r *run) expectErasing(path string, person m, waiting credential) {
	r.t.Helper()
	var now struct {
		Erasing     bool
		Credentials []credential
	}
	if r.get(path).want(200).into(&now); !now.Erasing || len(now.Credentials) != 2 {
		r.t.Errorf("meanwhile: %+v", now)
	}
	for call, a := range map[string]answer{
		"assign":  r.post(path+"/credentials", m{"profileId": "hq"}),
		"replace": r.post(waiting.path()+"/replacement", m{"reason": "lost"}),
		"put":     r.put(path, person),
		"picture": r.put(path+"/picture", picture(r.t), "Content-Type", "image/png"),
	} {
		if a.status != 409 || a.code() != "holder_being_erased" && call != "replace" {
			r.t.Errorf("%s meanwhile: %d %s", call, a.status, a.body)
		}
	}
}

// expectErased expects that neither the API nor the provider knows the holder any more.
func (r *run) expectErased(path string, former credential) {
	r.t.Helper()
	for _, gone := range []string{"", "/credentials", strings.TrimPrefix(former.path(), path),
		strings.TrimPrefix(former.path(), path) + "/history"} {
		if a := r.get(path + gone).want(404); a.code() != "holder_not_found" {
			r.t.Errorf("%s", a.body)
		}
	}
	if a := r.delete(path).want(404); a.code() != "holder_not_found" {
		r.t.Errorf("%s", a.body)
	}
	for _, u := range r.provider().Users {
		if u.ExternalID == strings.TrimPrefix(path, "/v1/holders/") {
			r.t.Errorf("the provider still has %+v", u)
		}
	}
}

// expectNowhere expects that no item, no event and no line of a log has one of the texts in it.
func (r *run) expectNowhere(texts ...string) {
	r.t.Helper()
	searched := 0
	search := func(where string, text []byte) {
		searched++
		text = bytes.ToLower(text)
		for _, s := range texts {
			if bytes.Contains(text, []byte(strings.ToLower(s))) {
				r.t.Errorf("%q is in %s: %.400s", s, where, text)
			}
		}
	}
	for key, it := range r.items() {
		text, err := json.Marshal(it)
		if err != nil {
			r.t.Fatal(err)
		}
		search("item "+key, append(text, key...))
	}
	r.eventsAndLogs(search)
	r.t.Logf("%q: in none of %d items, events and lines", texts, searched)
}
