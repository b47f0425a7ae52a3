package e2e

import (
	"fmt"
	"time"
)

// twoCredentials are two credentials of hq for one holder, the older first, with their codes.
func (r *run) twoCredentials() (c [2]credential, codes [2]string) {
	holder := r.holder()
	for i := range c {
		c[i] = r.assign(holder)
		codes[i] = r.codeOf(holder)
	}
	return c, codes
}

func (r *run) twoPhones() {
	c, codes := r.twoCredentials()
	for i := range c {
		r.redeem(fmt.Sprintf("phone-%d-of-two", i), codes[i]).want(200)
		r.becomesWithinASecond(c[i], "activated", "")
	}
	r.expectState(c[0], "activated", "")
}

// onePhone is about a provider that lets two credentials of one profile onto one phone.
func (r *run) onePhone() {
	r.post("/provider/settings", m{"onePerPartNumberAndPhone": false}).want(200)
	defer r.post("/provider/settings", m{"onePerPartNumberAndPhone": true})
	for name, order := range map[string][]int{"older first": {0, 1}, "newer first": {1, 0}} {
		r.part(name, func(r *run) {
			c, codes := r.twoCredentials()
			device := "phone-of-" + c[0].HolderID
			for _, i := range order {
				r.redeem(device, codes[i]).want(200)
				r.settle()
			}
			r.expectState(c[0], "activated", "")
			if other := r.expectState(c[1], "revoked", "device_has_profile"); other.Invitation.Status != "accepted" {
				r.t.Errorf("the invitation was redeemed, and is said to be %s", other.Invitation.Status)
			}
			if b := r.phone(device).Badges; len(b) != 1 || b[0].MobileID != c[0].MobileID {
				r.t.Errorf("on the phone: %+v", b)
			}
			// The slot is freed with its credential.
			r.delete(c[0].path()).want(200)
			next := r.assign(c[0].HolderID)
			r.redeem(device, r.codeOf(c[0].HolderID)).want(200)
			r.becomesWithinASecond(next, "activated", "")
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
		r.becomesWithinASecond(c, "activated", "")
	}
	if b := r.phone("shared-phone").Badges; len(b) != 2 {
		r.t.Errorf("on the phone: %+v", b)
	}
}

// Rule R6: the new credential works before the provider has confirmed that the old one is revoked.
func (r *run) replacedMeanwhile() {
	for _, reason := range []string{"lost", "stolen"} {
		r.part(reason, func(r *run) {
			old := r.activated(reason + "-phone")
			r.fault(fault{Service: "origo", Op: "revoke", Kind: "error", Count: 1 << 20})
			next := r.post(old.path()+"/replacement", m{"reason": reason}).want(201, 202).credential()
			if old = r.expectState(old, reason, reason); old.Provider.State == "synced" {
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
		r.expectState(old, "activated", "")
		r.fairWeather()
		r.advance(2 * time.Minute)
		r.advance(2 * time.Minute)
		r.expectState(old, "revoked", "replaced")
		r.expectState(next, "invited", "")
	})
}
