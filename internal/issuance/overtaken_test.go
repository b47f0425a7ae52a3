package issuance_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// What happens here takes two things at once, or an answer lost at the wrong moment. The simulation found it.

// emailsAtProvider are the addresses of a holder's users there.
func (w *world) emailsAtProvider(holderID string) string {
	var emails []string
	for _, u := range w.sim.State().Users {
		if u.ExternalID == holderID {
			emails = append(emails, u.Email)
		}
	}
	return fmt.Sprint(emails)
}

func withEmail(email string) func(*credential.Holder) {
	return func(h *credential.Holder) { h.Email = email }
}

func TestAUserThatWasFoundIsKeptInStepAndErased(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1")
	before, err := w.origo.Reserve(w.ctx, "", provider.Person{ExternalID: "E-1", FirstName: "A", LastName: "B", Email: "e-1@example.com"}, part2)
	w.must(err)
	w.must(w.origo.Cancel(w.ctx, before.InvitationRef))
	w.assign("E-1")
	w.holder("E-1", withEmail("new@example.com"))
	w.pass(time.Minute)
	if got := w.emailsAtProvider("E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	w.must(w.svc.Erase(w.ctx, "E-1", w.portal))
	w.pass(time.Minute)
	if got := w.emailsAtProvider("E-1"); got != "[]" {
		t.Errorf("still at the provider: %s", got)
	}
}

func TestAnAnswerLostBeforeTheEmailChanged(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1")
	w.break_("reserve", "timeout", "after", 1)
	c := w.assign("E-1")
	w.holder("E-1", withEmail("new@example.com"))
	w.pass(61 * time.Second)
	w.pass(time.Minute)
	w.expect(c, "invited", "")
	if got := w.emailsAtProvider("E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	w.agree()
}

func TestAPhoneRemovedWhileAnotherOneAccepts(t *testing.T) {
	w := newWorld(t)
	a, b := w.invited("E-1"), w.assign("E-1")
	w.deaf = true
	w.must(w.sim.Accept("phone-a", w.codeOf(a)))
	w.must(w.sim.Accept("phone-b", w.codeOf(b)))
	w.must(w.sim.Remove("phone-a"))
	w.pass(time.Minute)
	w.expect(a, "revoked", credential.ReasonDeviceRemoved)
	w.expect(b, "activating", "")
}

func TestADoubtIsNotSettledWithTheAnswerToAnother(t *testing.T) {
	w := newWorld(t)
	loser := w.invited("E-1")
	w.holder("E-2")
	w.break_("reserve", "timeout", "before", 1)
	nothing := w.assign("E-2")
	w.deaf = true
	w.must(w.sim.Cancel(w.codeOf(loser)))
	_, err := w.store.Claim(w.ctx, "E-1", account, credential.Claim{ID: "other", Until: w.time().Add(time.Minute)}, w.time(), false)
	w.must(err)
	winner := w.assign("E-2") // has an answer, which waits for the claim
	nothing, err = w.end(nothing, credential.EndDeleted)
	w.must(err)
	w.pass(61 * time.Second)
	w.pass(time.Minute)
	w.mend()
	w.expect(nothing, "revoked", credential.ReasonDeleted)
	if winner = w.expect(winner, "invited", ""); winner.Mobile.ID != loser.Mobile.ID {
		t.Errorf("got %s", winner.Mobile.ID)
	}
	w.agree()
}

func TestWhatIsChangedBackWhileTheAnswerIsLost(t *testing.T) {
	t.Run("e-mail", func(t *testing.T) {
		w := newWorld(t)
		w.invited("E-1")
		w.holder("E-1", withEmail("new@example.com"))
		w.break_("update", "timeout", "after", 1)
		w.pass(time.Minute)
		w.holder("E-1")
		w.pass(61 * time.Second)
		w.pass(time.Minute)
		if got := w.emailsAtProvider("E-1"); got != "[e-1@example.com]" {
			t.Errorf("at the provider: %s", got)
		}
	})
	t.Run("picture", func(t *testing.T) {
		w := newWorld(t)
		w.activated("E-1", "phone-a")
		p := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: "p1"}
		w.must(w.svc.PutPicture(w.ctx, "E-1", p, w.portal))
		w.pass(time.Minute)
		w.must(w.svc.RemovePicture(w.ctx, "E-1", w.portal))
		w.break_("photo", "timeout", "after", 1)
		w.pass(time.Minute)
		w.must(w.svc.PutPicture(w.ctx, "E-1", p, w.portal))
		w.pass(61 * time.Second)
		w.pass(time.Minute)
		if badges := w.sim.Phone("phone-a").Badges; len(badges) != 1 || !badges[0].HasPicture {
			t.Errorf("badges %+v", badges)
		}
	})
}

func TestAHolderChangedDuringTheFirstAssignment(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1")
	w.store.Fail = func(op string) error {
		if op == "Commit" {
			w.store.Fail = nil
			w.assign("E-1")
		}
		return nil
	}
	w.holder("E-1", withEmail("new@example.com"))
	w.pass(time.Minute)
	if got := w.emailsAtProvider("E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
}

func TestAReportThatCannotBeAppliedIsToldAgainButHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	a, b := w.activated("E-1", "phone-a"), w.activated("E-2", "phone-b")
	w.pass(time.Minute)
	w.deaf = true
	unwell := errors.New("unwell")
	failures := 0
	failing := func(times int) {
		failures = 0
		w.store.Fail = func(op string) error {
			if op == "Ref" && failures < times {
				failures++
				return unwell
			}
			return nil
		}
	}
	w.must(w.sim.Revoke(a.Mobile.ID))
	failing(1)
	w.pass(time.Minute)
	w.expect(a, "activated", "")
	w.pass(time.Minute)
	w.expect(a, "revoked", credential.ReasonRevokedAtProvider)

	failing(1000)
	w.must(w.sim.Revoke(b.Mobile.ID))
	for range 4 {
		w.pass(time.Minute)
	}
	if failures != 3 {
		t.Errorf("told %d times", failures)
	}
}

func TestARemovedPictureIsOnNoFutureBadge(t *testing.T) {
	w := newWorld(t)
	a := w.activated("E-1", "phone-a")
	p := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: "p1"}
	w.must(w.svc.PutPicture(w.ctx, "E-1", p, w.portal))
	w.pass(time.Minute)
	_, err := w.end(a, credential.EndDeleted)
	w.must(err)
	w.must(w.svc.RemovePicture(w.ctx, "E-1", w.portal))
	w.pass(time.Minute)
	w.redeem(w.assign("E-1"), "phone-b")
	if badges := w.sim.Phone("phone-b").Badges; len(badges) != 1 || badges[0].HasPicture {
		t.Errorf("badges %+v", badges)
	}
}

func TestAnAnswerThatWaitsWhileTheProviderGivesTheIDAway(t *testing.T) {
	w := newWorld(t)
	loser := w.invited("E-1")
	w.holder("E-2")
	w.pass(time.Minute)
	w.deaf = true
	w.must(w.sim.Revoke(loser.Mobile.ID))
	_, err := w.store.Claim(w.ctx, "E-1", account, credential.Claim{ID: "other", Until: w.time().Add(time.Minute)}, w.time(), false)
	w.must(err)
	waits := w.assign("E-2")
	w.must(w.sim.Reassign(loser.Mobile.ID, "stranger"))
	w.pass(time.Second) // the feed tells of it while the answer waits
	w.pass(61 * time.Second)
	w.pass(time.Minute)
	w.mend()
	w.expect(loser, "revoked", credential.ReasonRevokedAtProvider)
	w.expect(waits, "reassigned", credential.ReasonGivenToAnother)
	w.agree()
}
