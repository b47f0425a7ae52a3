package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func (r *run) reassignedAndReported() {
	c := r.invited()
	r.watch(func() {
		r.reassign(c.MobileID, "stranger-heard")
		r.becomesWithinASecond(c, "reassigned", "given_to_another")
	})
	if next := r.invited(); next.MobileID == c.MobileID {
		r.t.Errorf("%s was given out though a stranger has it", c.MobileID)
	}
}

func (r *run) reassignedToAHolderOfOurs() {
	c, other := r.invited(), r.invited()
	unexplained := r.metricCount("UnexplainedReservations")
	r.watch(func() {
		r.reassign(c.MobileID, other.HolderID)
		r.becomesWithinASecond(c, "reassigned", "given_to_another")
	})
	r.settle()
	r.expectState(other, "invited", "")
	if r.metricCount("UnexplainedReservations") == unexplained {
		r.t.Error("that a user of ours has what we did not reserve is not reported")
	}
	r.advance(time.Minute)
	if ids := r.provider().mobileIDs(); !slices.Contains(ids, c.MobileID) {
		r.t.Errorf("%s is not ours, and was touched", c.MobileID)
	}
	r.revoke(c.MobileID) // the administrator puts it right
}

func (r *run) reassignedAndFoundBySweep() {
	c := r.invited()
	r.settle()
	r.loseCallbacks()
	r.watch(func() {
		r.reassign(c.MobileID, "stranger-found")
		r.settle()
		if r.lostCallbacks() == 0 {
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
	r.expectState(c, "reassigned", "given_to_another")
}

func (r *run) reassignedByOurAssignment() {
	c := r.invited()
	r.settle()
	r.loseCallbacks()
	r.fault(fault{Service: "origo", Op: "feed", Kind: "error", Count: 1 << 20})
	r.cancel(r.codeOf(c.HolderID))
	r.settle()
	r.expectState(c, "invited", "")
	var winner credential
	r.watch(func() { winner = r.expectNextGets(c) })
	r.expectState(c, "reassigned", "taken_over")
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
	r.expectState(winner, "invited", "")
	r.expectState(c, "reassigned", "taken_over")
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
	if c = r.expectState(c, "invited", ""); c.MobileID == "" || c.MobileID == reserved || len(r.mails(holder)) != 1 {
		r.t.Errorf("%+v, %d mails", c, len(r.mails(holder)))
	}
	r.redeem("early", r.codeOf(holder)).want(200)
	r.becomes(c, "activated")
}

func (r *run) activatedAndContradicted() {
	said := func(status string) func(*run, credential) {
		return func(r *run, c credential) {
			user, invitation := r.userOf(c.HolderID)
			r.sendCallback(user, invitation, status)
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
			c, counted := r.read(c), r.metricCount("Anomalies")
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
			if n := r.metricCount("Anomalies") - counted; n != len(flagged) || len(told) != len(flagged) {
				r.t.Errorf("%d anomalies in the history, %d in the metric, %d events", len(flagged), n, len(told))
			}
			if x.stage == "activating" {
				r.post("/phones/"+device+"/sync", m{}).want(200)
				r.becomesWithinASecond(c, "activated", "")
			}
			if b := r.phone(device).Badges; len(b) != 1 || b[0].MobileID != c.MobileID {
				r.t.Errorf("on the phone: %+v", b)
			}
		})
	}
}
