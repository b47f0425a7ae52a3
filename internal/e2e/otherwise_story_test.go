package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Everything that goes otherwise than the main job, in one run: a part after the other, and after each of them the
// provider has reserved and issued what our live credentials have, and nothing else.
func TestEverythingThatGoesOtherwise(t *testing.T) {
	t.Parallel()
	r := private(t)
	r.put("/v1/profiles/branch", m{"name": "Branches", "account": account, "partNumber": part2}).want(201)
	r.activated("warm-up") // a second is what a function has that has run before

	r.part("declined on the phone", (*run).declined)
	r.part("cancelled by an administrator", (*run).cancelled)
	r.part("expired", (*run).expired)
	r.part("expired by the profile's shorter deadline", (*run).expiredByUs)
	r.part("given to a stranger, heard", (*run).reassignedHeard)
	r.part("given to a holder of ours, heard", (*run).reassignedToOurs)
	r.part("given to a stranger, callbacks lost", (*run).reassignedFound)
	r.part("given to another by our own assignment", (*run).reassignedMet)
	r.part("given to a stranger before we know the ID", (*run).reassignedBeforeKnown)
	r.part("activated, and contradicted", (*run).contradicted)
	r.part("revoked by an administrator", (*run).revokedAtProvider)
	r.part("redeemed after the end", (*run).redeemedAfterEnd)
	r.part("one profile, two phones", (*run).twoPhones)
	r.part("one profile, one phone", (*run).onePhone)
	r.part("two profiles, one phone", (*run).twoProfiles)
	r.part("20 assignments at once", (*run).twentyAtOnce)
	r.part("repeated calls", (*run).repeated)
	r.part("repeated at once", (*run).repeatedAtOnce)
	r.part("mailed again", (*run).mailedAgain)
	r.part("replaced while the provider is away", (*run).replacedMeanwhile)
	r.part("visitors", (*run).visitors)
	r.part("other revisions", (*run).otherRevisions)
	r.part("erased", (*run).erased)

	r.settle()
	r.noDeadLetters()
	t.Run("every change has left as the right event", func(t *testing.T) { (&run{r.process, t}).everyChangeIsTold() })
	t.Run("no log line and no event holds anything personal",
		func(t *testing.T) { (&run{r.process, t}).nothingPersonal() })
}

func (r *run) declined() {
	c := r.invited()
	code := r.codeOf(c.HolderID)
	r.decline("declining", code).want(200)
	c = r.within(c, "declined", "cancelled_at_provider")
	if c.Invitation.Status != "declined" || c.MobileID == "" {
		r.t.Errorf("%+v", c)
	}
	r.redeem("declining", code).want(410)
	r.inherits(c)
}

func (r *run) cancelled() {
	c := r.invited()
	r.cancel(r.codeOf(c.HolderID))
	r.inherits(r.within(c, "declined", "cancelled_at_provider"))
}

func (r *run) expired() {
	r.clear()
	c := r.invited()
	code := r.codeOf(c.HolderID)
	r.advance(192 * time.Hour)
	if c = r.is(c, "expired", "invitation_expired"); c.Invitation.Status != "expired" || c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	r.redeem("late", code).want(410)
	r.inherits(c)
}

// The provider would wait for seven days: it is we who cancel.
func (r *run) expiredByUs() {
	r.clear()
	days := func(n int) {
		r.put("/v1/profiles/hq", m{"name": "HQ employees", "account": account, "partNumber": part1,
			"invitationDays": n}).want(200)
	}
	days(2)
	c := r.invited()
	days(7)
	r.advance(47 * time.Hour)
	r.is(c, "invited", "")
	r.advance(2 * time.Hour)
	r.is(c, "expired", "invitation_expired")
	for _, u := range r.provider().Users {
		if u.ExternalID == c.HolderID && (u.Invitations[0].Status != "CANCELLED" || u.Invitations[0].MobileID != nil) {
			r.t.Errorf("at the provider: %+v", u.Invitations)
		}
	}
	r.inherits(c)
}

func (r *run) reassignedHeard() {
	c := r.invited()
	r.watch(func() {
		r.reassign(c.MobileID, "stranger-heard")
		r.within(c, "reassigned", "given_to_another")
	})
	if next := r.invited(); next.MobileID == c.MobileID {
		r.t.Errorf("%s was given out though a stranger has it", c.MobileID)
	}
}

func (r *run) reassignedToOurs() {
	c, other := r.invited(), r.invited()
	unexplained := r.counted("UnexplainedReservations")
	r.watch(func() {
		r.reassign(c.MobileID, other.HolderID)
		r.within(c, "reassigned", "given_to_another")
	})
	r.settle()
	r.is(other, "invited", "")
	if r.counted("UnexplainedReservations") == unexplained {
		r.t.Error("that a user of ours has what we did not reserve is not reported")
	}
	r.advance(time.Minute)
	if ids := r.provider().mobileIDs(); !slices.Contains(ids, c.MobileID) {
		r.t.Errorf("%s is not ours, and was touched", c.MobileID)
	}
	r.revoke(c.MobileID) // the administrator puts it right
}

func (r *run) reassignedFound() {
	c := r.invited()
	r.settle()
	r.deaf()
	r.watch(func() {
		r.reassign(c.MobileID, "stranger-found")
		r.settle()
		if r.dropped() == 0 {
			r.t.Error("the callback was not lost")
		}
		sweeps := 0
		for sweeps < 2 && r.read(c).state() != "reassigned" {
			sweeps++
			r.advance(time.Minute)
		}
		r.t.Logf("found by sweep %d", sweeps)
	})
	r.fairWeather()
	r.is(c, "reassigned", "given_to_another")
}

func (r *run) reassignedMet() {
	c := r.invited()
	r.settle()
	r.deaf()
	r.fault(fault{Service: "origo", Op: "feed", Kind: "error", Count: 1 << 20})
	r.cancel(r.codeOf(c.HolderID))
	r.settle()
	r.is(c, "invited", "")
	var winner credential
	r.watch(func() { winner = r.inherits(c) })
	r.is(c, "reassigned", "taken_over")
	r.fairWeather()
	lost, won := r.history(c), r.history(winner)
	if at, taken := lost[len(lost)-1].At, won[1].At; won[1].Event != "reserved" || !at.Equal(taken) {
		r.t.Errorf("lost at %v, taken at %v (%s): not one transaction", at, taken, won[1].Event)
	}
	r.settle()
	previous := m{"holderId": c.HolderID, "credentialId": c.ID}
	if told := r.eventsOf(winner)["Credential Assigned"]; len(told) != 1 ||
		fmt.Sprint(told[0]["previous"]) != fmt.Sprint(map[string]any(previous)) {
		r.t.Errorf("the take-over was told as %v, and should name %v", told, previous)
	}
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.is(winner, "invited", "")
	r.is(c, "reassigned", "taken_over")
}

func (r *run) reassignedBeforeKnown() {
	holder := r.holder()
	before := r.provider().mobileIDs()
	r.fault(fault{Service: "origo", Op: "reserve", Kind: "timeout", When: "after", HoldMs: 1})
	c := r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(202).credential()
	if c.MobileID != "" {
		r.t.Fatalf("the row knows its ID: %+v", c)
	}
	var reserved string
	for _, id := range r.provider().mobileIDs() {
		if !slices.Contains(before, id) {
			reserved = id
		}
	}
	r.watch(func() {
		r.reassign(reserved, "stranger-early")
		r.advance(time.Minute)
		r.advance(time.Minute)
	})
	if c = r.is(c, "invited", ""); c.MobileID == "" || c.MobileID == reserved || len(r.mails(holder)) != 1 {
		r.t.Errorf("%+v, %d mails", c, len(r.mails(holder)))
	}
	r.redeem("early", r.codeOf(holder)).want(200)
	r.becomes(c, "activated")
}

func (r *run) contradicted() {
	said := func(status string) func(*run, credential) {
		return func(r *run, c credential) {
			user, invitation := r.userOf(c.HolderID)
			r.say(user, invitation, status)
		}
	}
	reassigned := func(r *run, c credential) { r.reassign(c.MobileID, "stranger-of-"+c.ID) }
	for _, x := range []struct {
		name, stage string
		say         func(*run, credential)
		anomalies   string
	}{
		{"reassigned", "activated", reassigned, "given_to_another"},
		{"expired", "activated", said("INVITATION_EXPIRED"), "expired"},
		{"cancelled", "activated", said("INVITATION_CANCELLED"), "declined"},
		{"activated elsewhere", "activated", func(r *run, c credential) {
			reassigned(r, c)
			r.settle()
			r.redeem("elsewhere", r.codeAtProvider("stranger-of-"+c.ID)).want(200)
		}, "given_to_another activated"},
		{"reassigned on its way", "activating", reassigned, "given_to_another"},
		{"expired on its way", "activating", said("INVITATION_EXPIRED"), "expired"},
		{"cancelled on its way", "activating", said("INVITATION_CANCELLED"), "declined"},
	} {
		r.part(x.name, func(r *run) {
			device := "of-" + strings.ReplaceAll(x.name, " ", "-")
			c := r.invited()
			r.post("/phones/"+device+"/accept", m{"code": r.codeOf(c.HolderID)}).want(200)
			r.becomes(c, "activating")
			if x.stage == "activated" {
				r.post("/phones/"+device+"/sync", m{}).want(200)
				r.becomes(c, "activated")
			}
			r.settle()
			c, counted := r.read(c), r.counted("Anomalies")
			x.say(r, c)
			r.settle()
			r.advance(time.Minute) // and the feed tells it all again
			after := r.read(c)
			if after.Revision = c.Revision; after != c {
				r.t.Errorf("it was %+v and is %+v", c, after)
			}
			var flagged []string
			ids := map[string]bool{}
			for _, e := range r.history(c) {
				if e.Anomaly {
					flagged, ids[e.ID] = append(flagged, e.Event), true
				}
			}
			if got := strings.Join(flagged, " "); got != x.anomalies {
				r.t.Errorf("anomalies in the history: %q, want %q", got, x.anomalies)
			}
			told := r.eventsOf(c)["Credential Anomaly"]
			for _, e := range told {
				if !ids[fmt.Sprint(e["id"])] {
					r.t.Errorf("an anomaly that is not in the history: %v", e)
				}
			}
			if n := r.counted("Anomalies") - counted; n != len(flagged) || len(told) != len(flagged) {
				r.t.Errorf("%d anomalies in the history, %d in the metric, %d events", len(flagged), n, len(told))
			}
			if x.stage == "activating" {
				r.post("/phones/"+device+"/sync", m{}).want(200)
				r.within(c, "activated", "")
			}
			if b := r.phone(device).Badges; len(b) != 1 || b[0].MobileID != c.MobileID {
				r.t.Errorf("on the phone: %+v", b)
			}
		})
	}
}

// redeemedAfterEnd is a holder who is faster than our cancellation: what is over stays over, and the phone does not
// keep it.
func (r *run) redeemedAfterEnd() {
	c := r.invited()
	code := r.codeOf(c.HolderID)
	r.fault(fault{Service: "origo", Op: "cancel", Kind: "error", Count: 1 << 20})
	if a := r.delete(c.path()).want(202).credential(); a.Status != "revoked" || a.Provider.State != "pending" {
		r.t.Errorf("%+v", a)
	}
	r.redeem("too-late", code).want(200)
	r.fairWeather()
	r.advance(time.Minute)
	r.advance(time.Minute)
	if c = r.is(c, "revoked", "deleted"); c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	if b := r.phone("too-late").Badges; len(b) != 0 {
		r.t.Errorf("on the phone: %+v", b)
	}
}

func (r *run) revokedAtProvider() {
	c := r.activated("revoked")
	r.revoke(c.MobileID)
	r.within(c, "revoked", "revoked_at_provider")

	c = r.activated("removed")
	r.post("/phones/removed/remove", m{}).want(200)
	r.within(c, "revoked", "device_removed")

	c = r.activated("on-its-way-out")
	r.settle()
	user, _ := r.userOf(c.HolderID)
	r.atProvider("DELETE", "users/"+user, nil)
	r.within(c, "revoked", "user_deleted")

	c = r.invited()
	r.revoke(c.MobileID)
	r.within(c, "revoked", "revoked_at_provider")

	c = r.activated("silent")
	r.settle()
	r.deaf()
	r.revoke(c.MobileID)
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.fairWeather()
	r.is(c, "revoked", "revoked_at_provider")
	if next := r.invited(); next.MobileID == c.MobileID {
		r.t.Errorf("%s was given out again", c.MobileID)
	}
}

// two are two credentials of hq for one holder, the older first, with their codes.
func (r *run) two() (c [2]credential, codes [2]string) {
	holder := r.holder()
	for i := range c {
		c[i] = r.assign(holder)
		codes[i] = r.codeOf(holder)
	}
	return c, codes
}

func (r *run) twoPhones() {
	c, codes := r.two()
	for i := range c {
		r.redeem(fmt.Sprintf("phone-%d-of-two", i), codes[i]).want(200)
		r.within(c[i], "activated", "")
	}
	r.is(c[0], "activated", "")
}

func (r *run) onePhone() {
	for name, order := range map[string][]int{"older first": {0, 1}, "newer first": {1, 0}} {
		r.part(name, func(r *run) {
			c, codes := r.two()
			device := "phone-of-" + c[0].HolderID
			for _, i := range order {
				r.redeem(device, codes[i]).want(200)
				r.settle()
			}
			r.is(c[0], "activated", "")
			if other := r.is(c[1], "revoked", "device_has_profile"); other.Invitation.Status != "accepted" {
				r.t.Errorf("the invitation was redeemed, and is said to be %s", other.Invitation.Status)
			}
			if b := r.phone(device).Badges; len(b) != 1 || b[0].MobileID != c[0].MobileID {
				r.t.Errorf("on the phone: %+v", b)
			}
			// The slot is freed with its credential.
			r.delete(c[0].path()).want(200)
			next := r.assign(c[0].HolderID)
			r.redeem(device, r.codeOf(c[0].HolderID)).want(200)
			r.within(next, "activated", "")
			r.advance(time.Minute)
			for _, e := range r.history(c[1]) {
				if e.Anomaly {
					r.t.Errorf("an anomaly where nothing is wrong: %+v", e)
				}
			}
		})
	}
}

func (r *run) twoProfiles() {
	holder := r.holder()
	for _, profile := range []string{"hq", "branch"} {
		c := r.post("/v1/holders/"+holder+"/credentials", m{"profileId": profile}).want(201).credential()
		r.redeem("shared-phone", r.codeOf(holder)).want(200)
		r.within(c, "activated", "")
	}
	if b := r.phone("shared-phone").Badges; len(b) != 2 {
		r.t.Errorf("on the phone: %+v", b)
	}
}

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
	r.agree(holder)
	for _, c := range r.credentials(holder) {
		r.delete(c.path()).want(200)
	}
	r.advance(5 * time.Minute) // a new budget of calls
}

func (r *run) credentials(holder string) []credential {
	r.t.Helper()
	var list struct{ Items []credential }
	r.get("/v1/holders/" + holder + "/credentials").want(200).into(&list)
	return list.Items
}

func (r *run) allMails() int {
	r.t.Helper()
	var all []mail
	r.get("/mail").want(200).into(&all)
	return len(all)
}

// Each POST, with a key: the first time it acts, the second it only tells; with another payload it is refused.
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
				r.provider().mobileIDs(), r.told(c))
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

// Rule R6: the new credential works before the provider has confirmed that the old one is revoked.
func (r *run) replacedMeanwhile() {
	for _, reason := range []string{"lost", "stolen"} {
		r.part(reason, func(r *run) {
			old := r.activated(reason + "-phone")
			r.fault(fault{Service: "origo", Op: "revoke", Kind: "error", Count: 1 << 20})
			next := r.post(old.path()+"/replacement", m{"reason": reason}).want(201, 202).credential()
			if old = r.is(old, reason, reason); old.Provider.State == "synced" {
				r.t.Errorf("the provider has revoked nothing: %+v", old)
			}
			r.advance(time.Minute)
			r.redeem("new-phone-"+reason, r.codeOf(next.HolderID)).want(200)
			r.becomes(next, "activated")
			r.fairWeather()
			r.advance(2 * time.Minute)
			r.advance(2 * time.Minute)
			if b := r.phone(reason + "-phone").Badges; len(b) != 0 {
				r.t.Errorf("still on the phone: %+v", b)
			}
			if old = r.read(old); old.Provider.State != "synced" {
				r.t.Errorf("%+v", old)
			}
		})
	}
	r.part("upgrade", func(r *run) {
		old := r.activated("old-phone")
		r.fault(fault{Service: "origo", Op: "reserve", Kind: "error", Count: 1 << 20})
		next := r.post(old.path()+"/replacement", m{"reason": "upgrade"}).want(202).credential()
		r.is(old, "activated", "")
		r.fairWeather()
		r.advance(2 * time.Minute)
		r.advance(2 * time.Minute)
		r.is(old, "revoked", "replaced")
		r.is(next, "invited", "")
	})
}

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
	r.is(onPhone, "activated", "")
	if c := r.is(invited, "expired", "visit_ended"); c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	r.agree()
	r.advance(16 * time.Hour)
	r.is(onPhone, "expired", "visit_ended")
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
	r.is(past, "expired", "visit_ended")
	r.advance(time.Minute)
	if b := r.phone("leaving").Badges; len(b) != 0 {
		r.t.Errorf("on the phone after the visit: %+v", b)
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
	r.delete(path).want(202)
	r.is(onPhone, "revoked", "holder_erased")
	r.is(waiting, "revoked", "holder_erased")
	r.fairWeather()
	for range 3 {
		r.advance(2 * time.Minute)
	}

	for _, gone := range []string{"", "/credentials", strings.TrimPrefix(onPhone.path(), path),
		strings.TrimPrefix(onPhone.path(), path) + "/history"} {
		if a := r.get(path + gone).want(404); a.code() != "holder_not_found" {
			r.t.Errorf("%s", a.body)
		}
	}
	if a := r.delete(path).want(404); a.code() != "holder_not_found" {
		r.t.Errorf("%s", a.body)
	}
	for _, u := range r.provider().Users {
		if u.ExternalID == holder {
			r.t.Errorf("the provider still has %+v", u)
		}
	}
	if b := r.phone("erased").Badges; len(b) != 0 {
		r.t.Errorf("on the phone: %+v", b)
	}
	r.settle()
	r.nowhere(first, last, email, strings.SplitN(email, "@", 2)[0])
	for key := range r.items() {
		if strings.HasPrefix(key, "HOLDER#"+holder+" ") && (strings.HasSuffix(key, " HOLDER") ||
			strings.HasSuffix(key, " PICTURE") || strings.Contains(key, " WORK#")) {
			r.t.Errorf("left behind: %s", key)
		}
	}
	// A holder created later under the same id is a new person.
	r.put(path, m{"kind": "cardholder", "firstName": "Aimée", "lastName": "Tremblay",
		"email": address(holder)}).want(201)
	if c := r.assign(holder); c.ID == onPhone.ID || c.ID == waiting.ID {
		r.t.Errorf("%+v", c)
	}
}

// nowhere expects that no item, no event and no line of a log has one of the texts in it.
func (r *run) nowhere(texts ...string) {
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

// eventsAndLogs calls f for every event of both buses, every dead letter and every line of a log.
func (r *run) eventsAndLogs(f func(where string, text []byte)) {
	r.t.Helper()
	for _, path := range []string{"/events", "/events?bus=default", "/deadletters"} {
		var list []json.RawMessage
		r.get(path).want(200).into(&list)
		for _, e := range list {
			f(path, e)
		}
	}
	for _, line := range r.logs() {
		f("a log", line)
	}
}

// everyChangeIsTold holds the history of every credential there ever was against the events on the bus.
func (r *run) everyChangeIsTold() {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	files, err := filepath.Glob("../notify/schemas/*.json")
	if err != nil || len(files) == 0 {
		r.t.Fatal("no schemas")
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, file := range files {
		schema, err := compiler.Compile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		schemas[strings.TrimSuffix(filepath.Base(file), ".json")] = schema
	}
	events := map[string]event{}
	for _, e := range r.onBus() {
		if e.Source != "mobilecred" {
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Detail))
		if err != nil {
			r.t.Fatal(err)
		}
		schema := schemas[strings.ToLower(strings.ReplaceAll(e.DetailType, " ", "-"))]
		if schema == nil {
			r.t.Errorf("%s has no schema", e.DetailType)
		} else if err := schema.Validate(doc); err != nil {
			r.t.Errorf("%s: %v", e.DetailType, err)
		}
		id := as[struct{ ID string }](doc.(map[string]any)).ID
		if known, twice := events[id]; twice && (known.DetailType != e.DetailType ||
			!bytes.Equal(known.Detail, e.Detail)) {
			r.t.Errorf("%s was told in two ways: %s, %s", id, known.Detail, e.Detail)
		}
		events[id] = e
	}
	reached := map[string]string{
		"activating": "Accepted", "activated": "Activated", "declined": "Declined", "expired": "Expired",
		"reassigned": "Reassigned",
		"revoked":    "Revoked", "lost": "Lost", "stolen": "Stolen", "failed": "Failed",
	}
	kinds := map[string]int{}
	for _, h := range all[told](r.items(), func(_, sk string) bool { return strings.HasPrefix(sk, "HIST#") }) {
		want := ""
		switch {
		case h.Anomaly:
			want = "Anomaly"
		case h.Late:
		case h.Event == "reserved" && h.To == "invited":
			want = "Assigned"
		case h.Event == "mailed":
			want = "Invited"
		case h.From != h.To:
			want = reached[h.To]
		}
		e, sent := events[h.ID]
		delete(events, h.ID)
		if want == "" {
			if sent {
				r.t.Errorf("%+v left as %s", h, e.DetailType)
			}
			continue
		}
		kinds[want]++
		if e.DetailType != "Credential "+want {
			r.t.Errorf("%s %s→%s left as %q, not as Credential %s", h.Event, h.From, h.To, e.DetailType, want)
			continue
		}
		if h.ID != fmt.Sprintf("%s-%d", h.CredentialID, h.Revision) {
			r.t.Errorf("id %s", h.ID)
		}
		var d struct {
			entry
			HolderID, CredentialID, MobileID string
			Card                             *struct{ Number string }
			Previous                         *struct{ HolderID, CredentialID string }
		}
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			r.t.Fatal(err)
		}
		if d.HolderID != h.HolderID || d.CredentialID != h.CredentialID || d.Revision != h.Revision ||
			d.Event != h.Event || d.From != h.From || d.To != h.To ||
			d.Reason != h.Reason || !d.At.Equal(h.At) || d.Actor.Type != h.Actor.Type {
			r.t.Errorf("the event says %s, the history %+v", e.Detail, h)
		}
		if h.Mobile != nil && (d.MobileID != h.Mobile.ID || d.Card == nil || d.Card.Number == "") {
			r.t.Errorf("the event's card: %s", e.Detail)
		}
		if named := d.Previous != nil; named != (h.PreviousCredentialID != "") || named &&
			(d.Previous.CredentialID != h.PreviousCredentialID || d.Previous.HolderID != h.PreviousHolderID) {
			r.t.Errorf("the event names %+v as previous, the history %s", d.Previous, h.PreviousCredentialID)
		}
	}
	for id, e := range events {
		r.t.Errorf("%s, %s, is in no history", e.DetailType, id)
	}
	r.t.Logf("events by kind: %v", kinds)
}

// nothingPersonal expects that neither an event nor a log line holds a name, an address or a code of any mail there
// was.
func (r *run) nothingPersonal() {
	var all []mail
	r.get("/mail").want(200).into(&all)
	secrets := []string{"Aimée", "Tremblay", "@example.", "local-client-secret", webhookSecret, r.token()}
	for _, x := range all {
		secrets = append(secrets, x.Code)
	}
	lines := 0
	r.eventsAndLogs(func(where string, text []byte) {
		lines++
		for _, s := range secrets {
			if s != "" && bytes.Contains(text, []byte(s)) {
				r.t.Errorf("%s: %s", where, strings.ReplaceAll(string(text), s, "<"+s[:3]+"…>"))
			}
		}
	})
	r.t.Logf("%d texts searched for in %d events and lines", len(secrets), lines)
}
