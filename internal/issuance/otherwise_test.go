package issuance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	w.settle()
}

func (w *world) refusal(err error, want credential.Code) {
	w.Helper()
	if !errors.Is(err, credential.Refuse(want, "")) {
		w.Errorf("%v, want %s", err, want)
	}
}

func TestADeclinedMobileIDGoesToTheNext(t *testing.T) {
	w := newWorld(t)
	c := w.invited("E-1")
	w.must(w.sim.Decline(w.codeOf(c)))
	c = w.expect(c, "declined", credential.ReasonCancelledAtProvider)
	if c.Invitation.Status != credential.InvitationDeclined || c.Invitation.Code != "" {
		t.Errorf("%+v", c.Invitation)
	}
	if next := w.invited("E-2"); next.Mobile.ID != c.Mobile.ID {
		t.Errorf("the next got %s, not %s", next.Mobile.ID, c.Mobile.ID)
	}
	w.agree()
}

func TestTheDeadlineIsBelievedOnlyWithTheProvider(t *testing.T) {
	t.Run("nobody accepted", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.pass(192 * time.Hour)
		w.expect(c, "expired", credential.ReasonInvitationExpired)
		if next := w.invited("E-2"); next.Mobile.ID != c.Mobile.ID {
			t.Errorf("the next got %s", next.Mobile.ID)
		}
		w.agree()
	})
	t.Run("our deadline is the earlier one", func(t *testing.T) {
		w := newWorld(t)
		_, _, err := w.svc.PutProfile(w.ctx, credential.PutProfile{Profile: credential.Profile{ID: "hq", Name: "HQ", Account: account, PartNumber: part, InvitationDays: 2}})
		w.must(err)
		c := w.invited("E-1")
		w.pass(49 * time.Hour)
		w.expect(c, "expired", credential.ReasonInvitationExpired)
		w.agree()
	})
	t.Run("the holder was faster and the report was lost", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.deaf = true
		w.redeem(c, "phone-a")
		w.expect(c, "invited", "")
		w.break_("feed", "error", "before", 1)
		w.pass(192 * time.Hour)
		w.expect(c, "activated", "")
		w.mend()
		w.agree()
	})
	t.Run("the provider is away", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.break_("any", "error", "before", 1000)
		w.pass(192 * time.Hour)
		w.expect(c, "invited", "")
		w.mend()
		w.pass(time.Minute)
		w.pass(time.Minute)
		w.expect(c, "expired", credential.ReasonInvitationExpired)
		w.agree()
	})
}

func TestReassignmentIsHeardFoundOrMet(t *testing.T) {
	t.Run("heard", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.must(w.sim.Reassign(c.Mobile.ID, "stranger"))
		w.expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.agree()
	})
	t.Run("heard, to a holder of ours", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		other := w.invited("E-2")
		w.must(w.sim.Reassign(c.Mobile.ID, "E-2"))
		w.expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.expect(other, "invited", "")
		if w.metric(issuance.MetricUnexplained) == 0 {
			t.Error("not reported")
		}
	})
	t.Run("found in the feed", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.deaf = true
		w.must(w.sim.Reassign(c.Mobile.ID, "stranger"))
		w.expect(c, "invited", "")
		w.pass(time.Minute)
		w.expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.agree()
	})
	t.Run("met by our own next assignment", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.deaf = true
		w.must(w.sim.Cancel(w.codeOf(c)))
		winner := w.invited("E-2")
		if winner.Mobile.ID != c.Mobile.ID {
			t.Fatalf("the next got %s", winner.Mobile.ID)
		}
		w.expect(c, "reassigned", credential.ReasonTakenOver)
		history, err := w.store.History(w.ctx, "E-2", winner.ID)
		w.must(err)
		if e := history[1]; e.PreviousHolderID != "E-1" || e.PreviousCredentialID != c.ID {
			t.Errorf("the winner's history does not name the loser: %+v", e)
		}
		w.mend()
		w.pass(time.Minute)
		w.expect(winner, "invited", "")
		w.agree()
	})
	t.Run("met by the same holder's next", func(t *testing.T) {
		w := newWorld(t)
		c := w.invited("E-1")
		w.deaf = true
		w.must(w.sim.Cancel(w.codeOf(c)))
		winner := w.assign("E-1")
		w.expect(c, "reassigned", credential.ReasonTakenOver)
		w.expect(winner, "invited", "")
		w.pass(time.Minute)
		w.expect(winner, "invited", "")
		w.agree()
	})
	t.Run("before our own row knows its ID", func(t *testing.T) {
		w := newWorld(t)
		w.holder("E-1")
		w.break_("reserve", "timeout", "after", 1)
		c := w.assign("E-1")
		if c.Reservation != credential.ReservationInDoubt {
			t.Fatalf("reservation %s", c.Reservation)
		}
		w.must(w.sim.Reassign(part+":1", "stranger"))
		w.pass(time.Minute)
		w.pass(time.Minute)
		c = w.expect(c, "invited", "")
		if c.Mobile == nil || c.Mobile.ID == part+":1" || w.mails() != 1 {
			t.Errorf("%+v, %d mails", c.Mobile, w.mails())
		}
		w.agree()
	})
}

func TestATakeOverWaitsWhileSomebodyActsForTheLoser(t *testing.T) {
	w := newWorld(t)
	c := w.invited("E-1")
	w.deaf = true
	w.must(w.sim.Cancel(w.codeOf(c)))
	_, err := w.store.Claim(w.ctx, "E-1", account, credential.Claim{ID: "other", Until: w.time().Add(time.Minute)}, w.time(), false)
	w.must(err)
	w.holder("E-2")
	winner := w.assign("E-2")
	if winner.Reservation != credential.ReservationInDoubt || w.read(c).State() != "invited" {
		t.Fatalf("winner %s, loser %s", winner.Reservation, w.read(c).State())
	}
	w.pass(61 * time.Second)
	w.pass(time.Minute)
	w.expect(c, "reassigned", credential.ReasonTakenOver)
	if winner = w.expect(winner, "invited", ""); winner.Mobile.ID != c.Mobile.ID || w.mails() != 2 {
		t.Errorf("%+v, %d mails", winner.Mobile, w.mails())
	}
	w.mend()
	w.agree()
}

func TestASpentMobileIDIsNeverUsedAgain(t *testing.T) {
	// The provider offers an ID that was on a phone: our table says so, whatever the provider thinks.
	w := newWorld(t)
	spend := func(n int) {
		w.must(w.store.Commit(w.ctx, credential.Change{At: w.time(), Owners: []credential.Owner{{
			Account: account, MobileID: fmt.Sprintf("%s:%d", part, n), State: credential.OwnerSpent, Revision: 1,
		}}}))
	}
	spend(1)
	spend(2)
	c := w.invited("E-1")
	if c.Mobile.ID != part+":3" {
		t.Fatalf("got %s", c.Mobile.ID)
	}
	w.pass(time.Minute)
	w.agree()
	if w.metric(issuance.MetricAnomaly) != 2 || !strings.Contains(w.story(c), "spent_id_offered! spent_id_offered! reserved") {
		t.Errorf("%d anomalies, %s", w.metric(issuance.MetricAnomaly), w.story(c))
	}
	spend(4) // 1 and 2 are in the pool again
	w.holder("E-2")
	_, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "E-2"})
	w.refusal(err, credential.CodeInvalidState)
	rows, err := w.store.Credentials(w.ctx, "E-2")
	w.must(err)
	w.expect(rows[0], "failed", credential.ReasonOnlySpentIDsOffered)
	w.pass(time.Minute)
	w.agree()
}

func TestNothingThatIsSaidOfAnActivatedIDMovesIt(t *testing.T) {
	for name, say := range map[string]func(*world, credential.Credential) error{
		"reassigned": func(w *world, c credential.Credential) error { return w.sim.Reassign(c.Mobile.ID, "stranger") },
		"expired": func(w *world, c credential.Credential) error {
			return w.svc.Refresh(w.ctx, provider.UserFacts{Account: account, UserID: c.UserID, Facts: []provider.Fact{{What: provider.AboutInvitation, Ref: c.InvitationRef, Status: provider.FactExpired}}})
		},
		"cancelled": func(w *world, c credential.Credential) error {
			return w.svc.Refresh(w.ctx, provider.UserFacts{Account: account, UserID: c.UserID, Facts: []provider.Fact{{What: provider.AboutInvitation, Ref: c.InvitationRef, Status: provider.FactCancelled}}})
		},
		"activated elsewhere": func(w *world, c credential.Credential) error {
			if err := w.sim.Reassign(c.Mobile.ID, "stranger"); err != nil {
				return err
			}
			w.settle()
			return w.sim.Redeem("phone-b", w.codeAtProvider("stranger"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.activated("E-1", "phone-a")
			w.must(say(w, c))
			once := w.metric(issuance.MetricAnomaly)
			w.pass(time.Minute) // the feed tells it all again
			if after := w.read(c); after.Stage != credential.StageActivated || after.Device.ID != "phone-a" {
				t.Errorf("%+v", after)
			}
			if !strings.Contains(w.story(c), "!") || once == 0 || w.metric(issuance.MetricAnomaly) != once {
				t.Errorf("%d anomalies, then %d: %s", once, w.metric(issuance.MetricAnomaly), w.story(c))
			}
			if badges := w.sim.Phone("phone-a").Badges; len(badges) != 1 {
				t.Errorf("badges %+v", badges)
			}
		})
	}
}

// codeAtProvider is the code of the only invitation of a user we know nothing of.
func (w *world) codeAtProvider(externalID string) string {
	w.Helper()
	for _, u := range w.sim.State().Users {
		if u.ExternalID == externalID {
			user, err := w.origo.User(w.ctx, u.ID)
			if err != nil {
				w.Fatal(err)
			}
			return user.Invitations[0].Code.Reveal()
		}
	}
	w.Fatalf("no user %s", externalID)
	return ""
}

func TestRevokedAtTheProvider(t *testing.T) {
	w := newWorld(t)
	c := w.activated("E-1", "phone-a")
	w.must(w.sim.Revoke(c.Mobile.ID))
	w.expect(c, "revoked", credential.ReasonRevokedAtProvider)
	w.agree()

	deaf := w.activated("E-2", "phone-b")
	w.deaf = true
	w.must(w.sim.Revoke(deaf.Mobile.ID))
	w.pass(time.Minute)
	w.expect(deaf, "revoked", credential.ReasonRevokedAtProvider)

	deleted := w.activated("E-3", "phone-c")
	w.must(w.origo.DeleteUser(w.ctx, deleted.UserID))
	w.pass(time.Minute)
	w.expect(deleted, "revoked", credential.ReasonUserDeleted)
}

func TestDevicesHaveOneSlotAProfile(t *testing.T) {
	t.Run("two phones", func(t *testing.T) {
		w := newWorld(t)
		a := w.invited("E-1")
		b := w.assign("E-1")
		w.redeem(a, "phone-a")
		w.redeem(b, "phone-b")
		w.expect(a, "activated", "")
		w.expect(b, "activated", "")
		w.agree()
	})
	for name, order := range map[string][]int{"first first": {0, 1}, "second first": {1, 0}} {
		t.Run("one phone, "+name, func(t *testing.T) {
			w := newWorld(t)
			rows := []credential.Credential{w.invited("E-1"), w.assign("E-1")}
			for _, i := range order {
				w.redeem(rows[i], "phone-a")
			}
			w.expect(rows[0], "activated", "")
			w.expect(rows[1], "revoked", credential.ReasonDeviceHasProfile)
			if badges := w.sim.Phone("phone-a").Badges; len(badges) != 1 || badges[0].MobileID != rows[0].Mobile.ID {
				t.Errorf("badges %+v", badges)
			}
			w.agree()
		})
	}
	t.Run("two profiles, one phone", func(t *testing.T) {
		w := newWorld(t)
		w.profile("annex", part2)
		a := w.redeem(w.invited("E-1"), "phone-a")
		r, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "E-1", ProfileID: "annex"})
		w.must(err)
		w.redeem(r.Credential, "phone-a")
		w.expect(a, "activated", "")
		w.expect(r.Credential, "activated", "")
		w.agree()
	})
	t.Run("a slot is freed with its credential", func(t *testing.T) {
		w := newWorld(t)
		a := w.activated("E-1", "phone-a")
		_, err := w.end(a, credential.EndDeleted)
		w.must(err)
		b := w.redeem(w.assign("E-1"), "phone-a")
		w.expect(b, "activated", "")
	})
}

func TestLostStolenReplaced(t *testing.T) {
	replace := func(w *world, c credential.Credential, reason credential.EndReason) (credential.Credential, error) {
		r, err := w.svc.Replace(w.ctx, credential.Replace{Request: w.portal, HolderID: c.HolderID, CredentialID: c.ID, Reason: reason})
		w.settle()
		return r.Credential, err
	}
	for reason, want := range map[credential.EndReason]string{credential.EndLost: "lost", credential.EndStolen: "stolen"} {
		w := newWorld(t)
		c := w.activated("E-1", "phone-a")
		n, err := replace(w, c, reason)
		w.must(err)
		w.expect(c, want, want)
		w.redeem(n, "phone-b")
		if len(w.sim.Phone("phone-a").Badges) != 0 || len(w.sim.Phone("phone-b").Badges) != 1 {
			t.Errorf("%s: the badge is on the wrong phone", reason)
		}
		w.agree()
	}
	t.Run("the provider may take its time (R6)", func(t *testing.T) {
		w := newWorld(t)
		c := w.activated("E-1", "phone-a")
		w.break_("revoke", "error", "before", 100)
		n, err := replace(w, c, credential.EndLost)
		w.must(err)
		w.expect(c, "lost", "lost")
		w.pass(61 * time.Second)
		w.redeem(n, "phone-b")
		w.mend()
		w.pass(61 * time.Second)
		w.pass(time.Minute)
		w.agree()
	})
	t.Run("upgrade", func(t *testing.T) {
		w := newWorld(t)
		c := w.activated("E-1", "phone-a")
		n, err := replace(w, c, credential.EndUpgrade)
		w.must(err)
		w.expect(c, "revoked", credential.ReasonReplaced)
		w.expect(n, "invited", "")
		w.agree()
	})
	t.Run("an upgrade without a licence left leaves the old one", func(t *testing.T) {
		w := newWorld(t)
		c := w.activated("E-1", "phone-a")
		for i := range 29 {
			w.invited(fmt.Sprintf("X-%d", i))
		}
		_, err := replace(w, c, credential.EndUpgrade)
		w.refusal(err, credential.CodeNoLicenceLeft)
		w.expect(c, "activated", "")
		w.agree()
	})
}

func TestResend(t *testing.T) {
	w := newWorld(t)
	c := w.invited("E-1")
	resend := func() (credential.Credential, error) {
		r, err := w.svc.Resend(w.ctx, credential.Resend{Request: w.portal, HolderID: "E-1", CredentialID: c.ID})
		w.settle()
		return r.Credential, err
	}
	_, err := resend()
	w.refusal(err, credential.CodeTooSoon)
	w.pass(time.Minute)
	code := w.codeOf(c)
	again, err := resend()
	w.must(err)
	if w.mails() != 2 || w.codeOf(c) != code || again.Invitation.Mails != 2 {
		t.Errorf("%d mails, same code %v, count %d", w.mails(), w.codeOf(c) == code, again.Invitation.Mails)
	}
	w.redeem(c, "phone-a")
	w.pass(time.Minute)
	_, err = resend()
	w.refusal(err, credential.CodeInvalidState)
}

func TestAVisitEnds(t *testing.T) {
	visitor := func(until time.Time) func(*credential.Holder) {
		return func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until }
	}
	w := newWorld(t)
	w.holder("V-1", visitor(w.time().Add(8*time.Hour)))
	c := w.redeem(w.assign("V-1"), "phone-a")
	w.holder("V-1", visitor(w.time().Add(24*time.Hour))) // moved
	w.pass(9 * time.Hour)
	w.expect(c, "activated", "")
	w.pass(16 * time.Hour)
	w.expect(c, "expired", credential.ReasonVisitEnded)
	if len(w.sim.Phone("phone-a").Badges) != 0 {
		t.Error("the phone still has it")
	}
	w.agree()

	w.holder("V-2", visitor(w.time().Add(8*time.Hour)))
	now := w.redeem(w.assign("V-2"), "phone-b")
	w.holder("V-2", visitor(w.time().Add(-time.Minute))) // set to the past
	w.expect(now, "expired", credential.ReasonVisitEnded)
	w.pass(time.Minute)
	w.agree()
}

func TestEraseAHolder(t *testing.T) {
	for _, breakage := range []string{"", "revoke", "read", "cancel", "any"} {
		t.Run(breakage, func(t *testing.T) {
			w := newWorld(t)
			a := w.activated("E-1", "phone-a")
			w.assign("E-1")
			if breakage != "" {
				w.break_(breakage, "timeout", "before", 2)
			}
			w.must(w.svc.Erase(w.ctx, "E-1", w.portal))
			if breakage != "" {
				h, err := w.store.Holder(w.ctx, "E-1")
				if err != nil || !h.Erasing {
					t.Fatalf("%+v, %v", h, err)
				}
				_, err = w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "E-1"})
				w.refusal(err, credential.CodeHolderBeingErased)
			}
			for range 4 {
				w.pass(61 * time.Second)
			}
			if _, err := w.store.Holder(w.ctx, "E-1"); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("holder: %v", err)
			}
			if a = w.read(a); a.Status != credential.StatusRevoked || a.Reason != credential.ReasonHolderErased || a.Invitation.SentTo != "" {
				t.Errorf("%+v", a)
			}
			if len(w.sim.State().Users) != 0 {
				t.Errorf("users at the provider: %+v", w.sim.State().Users)
			}
			w.agree()
		})
	}
	w := newWorld(t)
	w.holder("E-2")
	w.must(w.svc.Erase(w.ctx, "E-2", w.portal))
	if _, err := w.store.Holder(w.ctx, "E-2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a holder without credentials: %v", err)
	}
	w.refusal(w.svc.Erase(w.ctx, "E-2", w.portal), credential.CodeHolderNotFound)
}

func TestReplaysChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1")
	keyed := func(key, payload string) credential.Request {
		return credential.Request{Actor: w.portal.Actor, Route: "POST x", Key: key, PayloadHash: payload}
	}
	first, err := w.svc.Assign(w.ctx, credential.Assign{Request: keyed("k", "p"), HolderID: "E-1"})
	w.must(err)
	again, err := w.svc.Assign(w.ctx, credential.Assign{Request: keyed("k", "p"), HolderID: "E-1"})
	w.must(err)
	if !again.Replayed || again.Credential.ID != first.Credential.ID || w.mails() != 1 {
		t.Errorf("%+v, %d mails", again, w.mails())
	}
	_, err = w.svc.Assign(w.ctx, credential.Assign{Request: keyed("k", "other"), HolderID: "E-1"})
	w.refusal(err, credential.CodeIdempotencyKeyReused)
	w.agree()
}

// What happens at the provider in any order, told once, twice, late or not at all, leads to the same end.
func TestOrderRepetitionAndLossOfReportsDoNotMatter(t *testing.T) {
	w := newWorld(t)
	w.deaf = true
	c := w.invited("E-1")
	d := w.invited("E-2")
	w.redeem(c, "phone-a")
	w.must(w.sim.Decline(w.codeOf(d)))
	feed, err := w.origo.Feed(w.ctx, "", w.time().Add(-time.Hour))
	w.must(err)
	facts := slices.Clone(feed.Users)
	slices.Reverse(facts)
	for range 2 {
		for _, u := range facts {
			slices.Reverse(u.Facts)
			w.must(w.svc.Refresh(w.ctx, u))
		}
	}
	w.pass(time.Minute)
	w.expect(c, "activated", "")
	w.expect(d, "declined", credential.ReasonCancelledAtProvider)
	if strings.ContainsAny(w.story(c)+w.story(d), "!~") {
		t.Errorf("%s; %s", w.story(c), w.story(d))
	}
	w.agree()
}
