package e2e

import "time"

func (r *run) declined() {
	c := r.invited()
	code := r.codeOf(c.HolderID)
	r.decline("declining", code).want(200)
	c = r.becomesWithinASecond(c, "declined", "cancelled_at_provider")
	if c.Invitation.Status != "declined" || c.MobileID == "" {
		r.t.Errorf("%+v", c)
	}
	r.redeem("declining", code).want(410)
	r.expectNextGets(c)
}

func (r *run) cancelled() {
	c := r.invited()
	r.cancel(r.codeOf(c.HolderID))
	r.expectNextGets(r.becomesWithinASecond(c, "declined", "cancelled_at_provider"))
}

func (r *run) expired() {
	r.endAllCredentials()
	c := r.invited()
	code := r.codeOf(c.HolderID)
	r.advance(192 * time.Hour)
	if c = r.expectState(c, "expired", "invitation_expired"); c.Invitation.Status != "expired" ||
		c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	r.redeem("late", code).want(410)
	r.expectNextGets(c)
}

// The provider would wait for seven days; mobilecred cancels the invitation earlier, by the profile's deadline.
func (r *run) expiredByOurDeadline() {
	r.endAllCredentials()
	days := func(n int) {
		r.put("/v1/profiles/hq", m{"name": "HQ employees", "account": account, "partNumber": part1,
			"invitationDays": n}).want(200)
	}
	days(2)
	c := r.invited()
	days(7)
	r.advance(47 * time.Hour)
	r.expectState(c, "invited", "")
	r.advance(2 * time.Hour)
	r.expectState(c, "expired", "invitation_expired")
	for _, u := range r.provider().Users {
		if u.ExternalID == c.HolderID && (u.Invitations[0].Status != "CANCELLED" || u.Invitations[0].MobileID != nil) {
			r.t.Errorf("at the provider: %+v", u.Invitations)
		}
	}
	r.expectNextGets(c)
}

// redeemedAfterEnd: the holder redeems the code before our cancellation reaches the provider. The credential stays
// revoked, and the phone does not keep the badge.
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
	if c = r.expectState(c, "revoked", "deleted"); c.Provider.State != "synced" {
		r.t.Errorf("%+v", c)
	}
	if b := r.phone("too-late").Badges; len(b) != 0 {
		r.t.Errorf("on the phone: %+v", b)
	}
}

func (r *run) revokedAtProvider() {
	c := r.activated("revoked")
	r.revoke(c.MobileID)
	r.becomesWithinASecond(c, "revoked", "revoked_at_provider")

	c = r.activated("removed")
	r.post("/phones/removed/remove", m{}).want(200)
	r.becomesWithinASecond(c, "revoked", "device_removed")

	c = r.activated("on-its-way-out")
	r.settle()
	user, _ := r.userOf(c.HolderID)
	r.atProvider("DELETE", "users/"+user, nil)
	r.becomesWithinASecond(c, "revoked", "user_deleted")

	c = r.invited()
	r.revoke(c.MobileID)
	r.becomesWithinASecond(c, "revoked", "revoked_at_provider")

	c = r.activated("silent")
	r.settle()
	r.loseCallbacks()
	r.revoke(c.MobileID)
	r.advance(time.Minute)
	r.advance(time.Minute)
	r.fairWeather()
	r.expectState(c, "revoked", "revoked_at_provider")
	if next := r.invited(); next.MobileID == c.MobileID {
		r.t.Errorf("%s was given out again", c.MobileID)
	}
}
