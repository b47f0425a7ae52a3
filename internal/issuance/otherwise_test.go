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
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

func TestADeclinedMobileIDGoesToTheNext(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	w.Must(w.Cancel(account, w.CodeOf(c)))
	c = w.Expect(c, "declined", credential.ReasonCancelledAtProvider)
	if c.Invitation.Status != credential.InvitationDeclined || c.Invitation.Code != "" {
		t.Errorf("%+v", c.Invitation)
	}
	if next := w.Invited("E-2"); next.Mobile.ID != c.Mobile.ID {
		t.Errorf("the next got %s, not %s", next.Mobile.ID, c.Mobile.ID)
	}
	w.CheckCalm()
}

func TestTheDeadlineIsBelievedOnlyWithTheProvider(t *testing.T) {
	t.Run("not accepted", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.Pass(192 * time.Hour)
		w.Expect(c, "expired", credential.ReasonInvitationExpired)
		if next := w.Invited("E-2"); next.Mobile.ID != c.Mobile.ID {
			t.Errorf("the next got %s", next.Mobile.ID)
		}
		w.CheckCalm()
	})
	t.Run("our deadline is the earlier one", func(t *testing.T) {
		w := newWorld(t)
		_, _, err := w.Service.PutProfile(w.Ctx, credential.PutProfile{Profile: credential.Profile{ID: "hq", Name: "HQ",
			Account: account, PartNumber: part, InvitationDays: 2}})
		w.Must(err)
		c := w.Invited("E-1")
		w.Pass(49 * time.Hour)
		w.Expect(c, "expired", credential.ReasonInvitationExpired)
		w.CheckCalm()
	})
	t.Run("the holder was faster and the report was lost", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.LoseCallbacks()
		w.Redeem(c, "phone-a")
		w.Expect(c, "invited", "")
		w.Break("feed", "error", "before", 1)
		w.Pass(192 * time.Hour)
		w.Expect(c, "activated", "")
		w.Mend()
		w.Pass(time.Minute)
		w.CheckCalm()
	})
	t.Run("the provider is away", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.Break("any", "error", "before", 1000)
		w.Pass(192 * time.Hour)
		w.Expect(c, "invited", "")
		w.Mend()
		w.Pass(time.Minute)
		w.Pass(time.Minute)
		w.Expect(c, "expired", credential.ReasonInvitationExpired)
		w.CheckCalm()
	})
}

func TestReassignmentIsHeardFoundOrMet(t *testing.T) {
	t.Run("heard", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.Must(w.Reassign(account, c.Mobile.ID, "stranger"))
		w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.CheckCalm()
	})
	t.Run("heard, to a holder of ours", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		other := w.Invited("E-2")
		w.Must(w.Reassign(account, c.Mobile.ID, "E-2"))
		w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.Expect(other, "invited", "")
		if w.Metric(issuance.MetricUnexplained) == 0 {
			t.Error("not reported")
		}
	})
	t.Run("found in the feed", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.LoseCallbacks()
		w.Must(w.Reassign(account, c.Mobile.ID, "stranger"))
		w.Expect(c, "invited", "")
		w.Pass(time.Minute)
		w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
		w.CheckCalm()
	})
	t.Run("met by our own next assignment", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.LoseCallbacks()
		w.Must(w.Cancel(account, w.CodeOf(c)))
		winner := w.Invited("E-2")
		if winner.Mobile.ID != c.Mobile.ID {
			t.Fatalf("the next got %s", winner.Mobile.ID)
		}
		w.Expect(c, "reassigned", credential.ReasonTakenOver)
		history, err := w.Store.History(w.Ctx, "E-2", winner.ID)
		w.Must(err)
		if e := history[1]; e.PreviousHolderID != "E-1" || e.PreviousCredentialID != c.ID {
			t.Errorf("the winner's history does not name the loser: %+v", e)
		}
		w.Mend()
		w.Pass(time.Minute)
		w.Expect(winner, "invited", "")
		w.CheckCalm()
	})
	t.Run("met by the same holder's next", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.LoseCallbacks()
		w.Must(w.Cancel(account, w.CodeOf(c)))
		winner := w.Assign("E-1")
		w.Expect(c, "reassigned", credential.ReasonTakenOver)
		w.Expect(winner, "invited", "")
		w.Pass(time.Minute)
		w.Expect(winner, "invited", "")
		w.CheckCalm()
	})
	t.Run("before our own row knows its ID", func(t *testing.T) {
		w := newWorld(t)
		w.PutHolder("E-1")
		w.Break("reserve", "timeout", "after", 1)
		c := w.Assign("E-1")
		if c.Reservation != credential.ReservationInDoubt {
			t.Fatalf("reservation %s", c.Reservation)
		}
		w.Must(w.Reassign(account, part+":1", "stranger"))
		w.Pass(time.Minute)
		w.Pass(time.Minute)
		c = w.Expect(c, "invited", "")
		if c.Mobile == nil || c.Mobile.ID == part+":1" || w.Mailbox.Count() != 1 {
			t.Errorf("%+v, %d mails", c.Mobile, w.Mailbox.Count())
		}
		w.CheckCalm()
	})
}

func TestATakeOverWaitsWhileAnotherProcessActsForTheLoser(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	w.LoseCallbacks()
	w.Must(w.Cancel(account, w.CodeOf(c)))
	_, err := w.Store.Claim(w.Ctx, "E-1", account, credential.Claim{ID: "other", Until: w.Now().Add(time.Minute)},
		w.Now(), false)
	w.Must(err)
	w.PutHolder("E-2")
	winner := w.Assign("E-2")
	if winner.Reservation != credential.ReservationInDoubt || w.Read(c).State() != "invited" {
		t.Fatalf("winner %s, loser %s", winner.Reservation, w.Read(c).State())
	}
	w.Break("feed", "error", "before", 1) // which would tell of the cancellation
	w.Pass(61 * time.Second)
	w.Pass(time.Minute)
	w.Expect(c, "reassigned", credential.ReasonTakenOver)
	if winner = w.Expect(winner, "invited", ""); winner.Mobile.ID != c.Mobile.ID || w.Mailbox.Count() != 2 {
		t.Errorf("%+v, %d mails", winner.Mobile, w.Mailbox.Count())
	}
	w.Mend()
	w.CheckCalm()
}

func TestASpentMobileIDIsNeverUsedAgain(t *testing.T) {
	// The provider offers an ID that was on a phone: our table says so, whatever the provider thinks.
	w := newWorld(t)
	spend := func(n int) {
		w.Must(w.Store.Commit(w.Ctx, credential.Change{At: w.Now(), Owners: []credential.Owner{{
			Account: account, MobileID: fmt.Sprintf("%s:%d", part, n), State: credential.OwnerSpent, Revision: 1,
		}}}))
	}
	spend(1)
	spend(2)
	c := w.Invited("E-1")
	if c.Mobile.ID != part+":3" {
		t.Fatalf("got %s", c.Mobile.ID)
	}
	w.Pass(time.Minute)
	w.CheckCalm()
	if w.Metric(issuance.MetricAnomaly) != 2 || !strings.Contains(w.Story(c),
		"spent_id_offered! spent_id_offered! reserved") {
		t.Errorf("%d anomalies, %s", w.Metric(issuance.MetricAnomaly), w.Story(c))
	}
	spend(4) // 1 and 2 are in the pool again
	w.PutHolder("E-2")
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-2"})
	w.Refusal(err, credential.CodeInvalidState)
	rows, err := w.Store.Credentials(w.Ctx, "E-2")
	w.Must(err)
	w.Expect(rows[0], "failed", credential.ReasonOnlySpentIDsOffered)
	w.Pass(time.Minute)
	w.CheckCalm()
}

func TestNothingThatIsSaidOfAnActivatedIDMovesIt(t *testing.T) {
	for name, say := range map[string]func(*worldtest.World, credential.Credential) error{
		"reassigned": func(w *worldtest.World, c credential.Credential) error {
			return w.Reassign(account, c.Mobile.ID, "stranger")
		},
		"expired": func(w *worldtest.World, c credential.Credential) error {
			return w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: c.UserID,
				Facts: []provider.Fact{{What: provider.AboutInvitation, Ref: c.InvitationRef,
					Status: provider.FactExpired}}})
		},
		"cancelled": func(w *worldtest.World, c credential.Credential) error {
			return w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: c.UserID,
				Facts: []provider.Fact{{What: provider.AboutInvitation, Ref: c.InvitationRef,
					Status: provider.FactCancelled}}})
		},
		"activated elsewhere": func(w *worldtest.World, c credential.Credential) error {
			if err := w.Reassign(account, c.Mobile.ID, "stranger"); err != nil {
				return err
			}
			w.Settle()
			return w.Sim.Redeem("phone-b", w.CodeAtProvider(account, "stranger"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.Activated("E-1", "phone-a")
			w.Must(say(w, c))
			// The feed tells it all again, and names the mobile ID where a callback does not.
			w.Pass(time.Minute)
			once := w.Metric(issuance.MetricAnomaly)
			w.Pass(time.Minute)
			if after := w.Read(c); after.Stage != credential.StageActivated || after.Device.ID != "phone-a" {
				t.Errorf("%+v", after)
			}
			if !strings.Contains(w.Story(c), "!") || once == 0 || w.Metric(issuance.MetricAnomaly) != once {
				t.Errorf("%d anomalies, then %d: %s", once, w.Metric(issuance.MetricAnomaly), w.Story(c))
			}
			if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 1 {
				t.Errorf("badges %+v", badges)
			}
		})
	}
}

func TestRevokedAtTheProvider(t *testing.T) {
	w := newWorld(t)
	c := w.Activated("E-1", "phone-a")
	w.Must(w.Sim.Revoke(c.Mobile.ID))
	w.Expect(c, "revoked", credential.ReasonRevokedAtProvider)
	w.CheckCalm()

	deaf := w.Activated("E-2", "phone-b")
	w.LoseCallbacks()
	w.Must(w.Sim.Revoke(deaf.Mobile.ID))
	w.Pass(time.Minute)
	w.Expect(deaf, "revoked", credential.ReasonRevokedAtProvider)

	deleted := w.Activated("E-3", "phone-c")
	w.Must(w.Client.DeleteUser(w.Ctx, deleted.UserID))
	w.Pass(time.Minute)
	w.Expect(deleted, "revoked", credential.ReasonUserDeleted)
}

func TestDevicesHaveOneSlotAProfile(t *testing.T) {
	t.Run("two phones", func(t *testing.T) {
		w := newWorld(t)
		a := w.Invited("E-1")
		b := w.Assign("E-1")
		w.Redeem(a, "phone-a")
		w.Redeem(b, "phone-b")
		w.Expect(a, "activated", "")
		w.Expect(b, "activated", "")
		w.CheckCalm()
	})
	for name, order := range map[string][]int{"first first": {0, 1}, "second first": {1, 0}} {
		t.Run("one phone, "+name, func(t *testing.T) {
			w := newWorld(t, func(o *worldtest.Options) { o.Switches.OnePerPartNumberAndPhone = false })
			rows := []credential.Credential{w.Invited("E-1"), w.Assign("E-1")}
			for _, i := range order {
				w.Redeem(rows[i], "phone-a")
			}
			w.Expect(rows[0], "activated", "")
			w.Expect(rows[1], "revoked", credential.ReasonDeviceHasProfile)
			if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 1 || badges[0].MobileID != rows[0].Mobile.ID {
				t.Errorf("badges %+v", badges)
			}
			w.CheckCalm()
		})
	}
	t.Run("two profiles, one phone", func(t *testing.T) {
		w := newWorld(t)
		w.PutProfile("annex", account, part2)
		a := w.Redeem(w.Invited("E-1"), "phone-a")
		r, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "annex"})
		w.Must(err)
		w.Redeem(r.Credential, "phone-a")
		w.Expect(a, "activated", "")
		w.Expect(r.Credential, "activated", "")
		w.CheckCalm()
	})
	t.Run("a slot is freed with its credential", func(t *testing.T) {
		w := newWorld(t)
		a := w.Activated("E-1", "phone-a")
		_, err := w.End(a, credential.EndDeleted)
		w.Must(err)
		b := w.Redeem(w.Assign("E-1"), "phone-a")
		w.Expect(b, "activated", "")
	})
}

func TestLostStolenReplaced(t *testing.T) {
	replace := func(w *worldtest.World, c credential.Credential, reason credential.EndReason) (credential.Credential,
		error) {
		r, err := w.Service.Replace(w.Ctx, credential.Replace{Request: w.Portal, HolderID: c.HolderID,
			CredentialID: c.ID, Reason: reason})
		w.Settle()
		return r.Credential, err
	}
	for reason, want := range map[credential.EndReason]string{credential.EndLost: "lost",
		credential.EndStolen: "stolen"} {
		w := newWorld(t)
		c := w.Activated("E-1", "phone-a")
		n, err := replace(w, c, reason)
		w.Must(err)
		w.Expect(c, want, want)
		w.Redeem(n, "phone-b")
		if len(w.Sim.Phone("phone-a").Badges) != 0 || len(w.Sim.Phone("phone-b").Badges) != 1 {
			t.Errorf("%s: the badge is on the wrong phone", reason)
		}
		w.CheckCalm()
	}
	t.Run("the provider may take its time (R6)", func(t *testing.T) {
		w := newWorld(t)
		c := w.Activated("E-1", "phone-a")
		w.Break("revoke", "error", "before", 100)
		n, err := replace(w, c, credential.EndLost)
		w.Must(err)
		w.Expect(c, "lost", "lost")
		w.Pass(61 * time.Second)
		w.Redeem(n, "phone-b")
		w.Mend()
		w.Pass(61 * time.Second)
		w.Pass(time.Minute)
		w.CheckCalm()
	})
	t.Run("upgrade", func(t *testing.T) {
		w := newWorld(t)
		c := w.Activated("E-1", "phone-a")
		n, err := replace(w, c, credential.EndUpgrade)
		w.Must(err)
		w.Expect(c, "revoked", credential.ReasonReplaced)
		w.Expect(n, "invited", "")
		w.CheckCalm()
	})
	t.Run("an upgrade without a licence left leaves the old one", func(t *testing.T) {
		w := newWorld(t)
		c := w.Activated("E-1", "phone-a")
		for i := range 29 {
			w.Invited(fmt.Sprintf("X-%d", i))
		}
		_, err := replace(w, c, credential.EndUpgrade)
		w.Refusal(err, credential.CodeNoLicenceLeft)
		w.Expect(c, "activated", "")
		w.CheckCalm()
	})
}

func TestResend(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	resend := func() (credential.Credential, error) {
		r, err := w.Service.Resend(w.Ctx, credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID})
		w.Settle()
		return r.Credential, err
	}
	_, err := resend()
	w.Refusal(err, credential.CodeTooSoon)
	w.Pass(time.Minute)
	code := w.CodeOf(c)
	again, err := resend()
	w.Must(err)
	if w.Mailbox.Count() != 2 || w.CodeOf(c) != code || again.Invitation.Mails != 2 {
		t.Errorf("%d mails, same code %v, count %d", w.Mailbox.Count(), w.CodeOf(c) == code, again.Invitation.Mails)
	}
	w.Redeem(c, "phone-a")
	w.Pass(time.Minute)
	_, err = resend()
	w.Refusal(err, credential.CodeInvalidState)
}

func TestAVisitEnds(t *testing.T) {
	visitor := func(until time.Time) func(*credential.Holder) {
		return func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until }
	}
	w := newWorld(t)
	w.PutHolder("V-1", visitor(w.Now().Add(8*time.Hour)))
	c := w.Redeem(w.Assign("V-1"), "phone-a")
	w.PutHolder("V-1", visitor(w.Now().Add(24*time.Hour))) // moved
	w.Pass(9 * time.Hour)
	w.Expect(c, "activated", "")
	w.Pass(16 * time.Hour)
	w.Expect(c, "expired", credential.ReasonVisitEnded)
	if len(w.Sim.Phone("phone-a").Badges) != 0 {
		t.Error("the phone still has it")
	}
	w.CheckCalm()

	w.PutHolder("V-2", visitor(w.Now().Add(8*time.Hour)))
	now := w.Redeem(w.Assign("V-2"), "phone-b")
	w.PutHolder("V-2", visitor(w.Now().Add(-time.Minute))) // set to the past
	w.Expect(now, "expired", credential.ReasonVisitEnded)
	w.Pass(time.Minute)
	w.CheckCalm()
}

func TestEraseAHolder(t *testing.T) {
	for _, breakage := range []string{"", "revoke", "read", "cancel", "any"} {
		t.Run(breakage, func(t *testing.T) {
			w := newWorld(t)
			a := w.Activated("E-1", "phone-a")
			w.Assign("E-1")
			if breakage != "" {
				w.Break(breakage, "timeout", "before", 2)
			}
			w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
			if breakage != "" {
				h, err := w.Store.Holder(w.Ctx, "E-1")
				if err != nil || !h.Erasing {
					t.Fatalf("%+v, %v", h, err)
				}
				_, err = w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1"})
				w.Refusal(err, credential.CodeHolderBeingErased)
			}
			for range 4 {
				w.Pass(61 * time.Second)
			}
			if _, err := w.Store.Holder(w.Ctx, "E-1"); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("holder: %v", err)
			}
			if a = w.Read(a); a.Status != credential.StatusRevoked || a.Reason != credential.ReasonHolderErased ||
				a.Invitation.SentTo != "" {
				t.Errorf("%+v", a)
			}
			if len(w.Sim.State().Users) != 0 {
				t.Errorf("users at the provider: %+v", w.Sim.State().Users)
			}
			w.CheckCalm()
		})
	}
	w := newWorld(t)
	w.PutHolder("E-2")
	w.Must(w.Service.Erase(w.Ctx, "E-2", w.Portal))
	if _, err := w.Store.Holder(w.Ctx, "E-2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a holder without credentials: %v", err)
	}
	w.Refusal(w.Service.Erase(w.Ctx, "E-2", w.Portal), credential.CodeHolderNotFound)
}

func TestReplaysChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	keyed := func(key, payload string) credential.Request {
		return credential.Request{Actor: w.Portal.Actor, Route: "POST x", Key: key, PayloadHash: payload}
	}
	first, err := w.Service.Assign(w.Ctx, credential.Assign{Request: keyed("k", "p"), HolderID: "E-1"})
	w.Must(err)
	again, err := w.Service.Assign(w.Ctx, credential.Assign{Request: keyed("k", "p"), HolderID: "E-1"})
	w.Must(err)
	if !again.Replayed || again.Credential.ID != first.Credential.ID || w.Mailbox.Count() != 1 {
		t.Errorf("%+v, %d mails", again, w.Mailbox.Count())
	}
	_, err = w.Service.Assign(w.Ctx, credential.Assign{Request: keyed("k", "other"), HolderID: "E-1"})
	w.Refusal(err, credential.CodeIdempotencyKeyReused)
	w.CheckCalm()
}

// What happens at the provider in any order, told once, twice, late or not at all, leads to the same end.
func TestOrderRepetitionAndLossOfReportsDoNotMatter(t *testing.T) {
	w := newWorld(t)
	w.LoseCallbacks()
	c := w.Invited("E-1")
	d := w.Invited("E-2")
	w.Redeem(c, "phone-a")
	w.Must(w.Cancel(account, w.CodeOf(d)))
	feed, err := w.Client.Feed(w.Ctx, "", w.Now().Add(-time.Hour), 0)
	w.Must(err)
	facts := slices.Clone(feed.Users)
	slices.Reverse(facts)
	for range 2 {
		for _, u := range facts {
			slices.Reverse(u.Facts)
			w.Must(w.Service.Refresh(w.Ctx, u))
		}
	}
	w.Pass(time.Minute)
	w.Expect(c, "activated", "")
	w.Expect(d, "declined", credential.ReasonCancelledAtProvider)
	if strings.ContainsAny(w.Story(c)+w.Story(d), "!~") {
		t.Errorf("%s; %s", w.Story(c), w.Story(d))
	}
	w.CheckCalm()
}
