package issuance_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// What happens here takes two things at once, or an answer lost at the wrong moment. The simulation found it.

// emailsAtProvider are the addresses of a holder's users there.
func emailsAtProvider(w *worldtest.World, holderID string) string {
	var emails []string
	for _, u := range w.Sim.State().Users {
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
	w.PutHolder("E-1")
	before, err := w.Client.Reserve(w.Ctx, "", provider.Person{ExternalID: "E-1", FirstName: "A", LastName: "B",
		Email: "e-1@example.com"}, part2)
	w.Must(err)
	w.Must(w.Client.Cancel(w.Ctx, before.InvitationRef))
	w.Assign("E-1")
	w.PutHolder("E-1", withEmail("new@example.com"))
	w.Pass(time.Minute)
	if got := emailsAtProvider(w, "E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
	w.Pass(time.Minute)
	if got := emailsAtProvider(w, "E-1"); got != "[]" {
		t.Errorf("still at the provider: %s", got)
	}
}

func TestAnAnswerLostBeforeTheEmailChanged(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	w.Break("reserve", "timeout", "after", 1)
	c := w.Assign("E-1")
	w.PutHolder("E-1", withEmail("new@example.com"))
	w.Pass(61 * time.Second)
	w.Pass(time.Minute)
	w.Expect(c, "invited", "")
	if got := emailsAtProvider(w, "E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	w.CheckCalm()
}

func TestAPhoneRemovedWhileAnotherOneAccepts(t *testing.T) {
	w := newWorld(t)
	a, b := w.Invited("E-1"), w.Assign("E-1")
	w.LoseCallbacks()
	w.Must(w.Sim.Accept("phone-a", w.CodeOf(a)))
	w.Must(w.Sim.Accept("phone-b", w.CodeOf(b)))
	w.Must(w.Sim.Remove("phone-a"))
	w.Pass(time.Minute)
	w.Expect(a, "revoked", credential.ReasonDeviceRemoved)
	w.Expect(b, "activating", "")
}

func TestADoubtIsNotSettledWithTheAnswerToAnother(t *testing.T) {
	w := newWorld(t)
	loser := w.Invited("E-1")
	w.PutHolder("E-2")
	w.Break("reserve", "timeout", "before", 1)
	nothing := w.Assign("E-2")
	w.LoseCallbacks()
	w.Must(w.Cancel(account, w.CodeOf(loser)))
	_, err := w.Store.Claim(w.Ctx, "E-1", account, credential.Claim{ID: "other", Until: w.Now().Add(time.Minute)},
		w.Now(), false)
	w.Must(err)
	winner := w.Assign("E-2") // has an answer, which waits for the claim
	nothing, err = w.End(nothing, credential.EndDeleted)
	w.Must(err)
	w.Pass(61 * time.Second)
	w.Pass(time.Minute)
	w.Mend()
	w.Expect(nothing, "revoked", credential.ReasonDeleted)
	if winner = w.Expect(winner, "invited", ""); winner.Mobile.ID != loser.Mobile.ID {
		t.Errorf("got %s", winner.Mobile.ID)
	}
	w.CheckCalm()
}

func TestWhatIsChangedBackWhileTheAnswerIsLost(t *testing.T) {
	t.Run("e-mail", func(t *testing.T) {
		w := newWorld(t)
		w.Invited("E-1")
		w.PutHolder("E-1", withEmail("new@example.com"))
		w.Break("update", "timeout", "after", 1)
		w.Pass(time.Minute)
		w.PutHolder("E-1")
		w.Pass(61 * time.Second)
		w.Pass(time.Minute)
		if got := emailsAtProvider(w, "E-1"); got != "[e-1@example.com]" {
			t.Errorf("at the provider: %s", got)
		}
	})
	t.Run("picture", func(t *testing.T) {
		w := newWorld(t)
		w.Activated("E-1", "phone-a")
		p := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: "p1"}
		w.Must(w.Service.PutPicture(w.Ctx, "E-1", p, w.Portal))
		w.Pass(time.Minute)
		w.Must(w.Service.RemovePicture(w.Ctx, "E-1", w.Portal))
		w.Break("photo", "timeout", "after", 1)
		w.Pass(time.Minute)
		w.Must(w.Service.PutPicture(w.Ctx, "E-1", p, w.Portal))
		w.Pass(61 * time.Second)
		w.Pass(time.Minute)
		if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 1 || !badges[0].HasPicture {
			t.Errorf("badges %+v", badges)
		}
	})
}

func TestAHolderChangedDuringTheFirstAssignment(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	w.Store.Fail = func(op string) error {
		if op == "Commit" {
			w.Store.Fail = nil
			w.Assign("E-1")
		}
		return nil
	}
	w.PutHolder("E-1", withEmail("new@example.com"))
	w.Pass(time.Minute)
	if got := emailsAtProvider(w, "E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
}

func TestAReportThatCannotBeAppliedIsReadAgainAndStopsNoOther(t *testing.T) {
	w := newWorld(t)
	a, b := w.Activated("E-1", "phone-a"), w.Activated("E-2", "phone-b")
	w.Pass(time.Minute)
	w.LoseCallbacks()
	unwell := errors.New("unwell")
	failures := 0
	failing := func(times int) {
		failures = 0
		w.Store.Fail = func(op string) error {
			if op == "Ref" && failures < times {
				failures++
				return unwell
			}
			return nil
		}
	}
	w.Must(w.Sim.Revoke(a.Mobile.ID))
	failing(10)
	for range 10 {
		w.Pass(time.Minute)
	}
	w.Expect(a, "activated", "")
	w.Pass(time.Minute)
	w.Expect(a, "revoked", credential.ReasonRevokedAtProvider)
	failing(0)
	w.Pass(2 * time.Minute) // the second look at what was released

	failing(1000)
	w.Must(w.Sim.Revoke(b.Mobile.ID))
	for range 70 {
		w.Pass(time.Minute)
	}
	if failures != 60 {
		t.Errorf("told %d times", failures)
	}
}

func TestARemovedPictureIsOnNoFutureBadge(t *testing.T) {
	w := newWorld(t)
	a := w.Activated("E-1", "phone-a")
	p := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: "p1"}
	w.Must(w.Service.PutPicture(w.Ctx, "E-1", p, w.Portal))
	w.Pass(time.Minute)
	_, err := w.End(a, credential.EndDeleted)
	w.Must(err)
	w.Must(w.Service.RemovePicture(w.Ctx, "E-1", w.Portal))
	w.Pass(time.Minute)
	w.Redeem(w.Assign("E-1"), "phone-b")
	if badges := w.Sim.Phone("phone-b").Badges; len(badges) != 1 || badges[0].HasPicture {
		t.Errorf("badges %+v", badges)
	}
}

func TestAnAnswerThatWaitsWhileTheProviderGivesTheIDAway(t *testing.T) {
	w := newWorld(t)
	loser := w.Invited("E-1")
	w.PutHolder("E-2")
	w.Pass(time.Minute)
	w.LoseCallbacks()
	w.Must(w.Sim.Revoke(loser.Mobile.ID))
	_, err := w.Store.Claim(w.Ctx, "E-1", account, credential.Claim{ID: "other", Until: w.Now().Add(time.Minute)},
		w.Now(), false)
	w.Must(err)
	waits := w.Assign("E-2")
	w.Must(w.Reassign(account, loser.Mobile.ID, "stranger"))
	w.Pass(time.Second) // the feed tells of it while the answer waits
	w.Pass(61 * time.Second)
	w.Pass(time.Minute)
	w.Mend()
	w.Expect(loser, "revoked", credential.ReasonRevokedAtProvider)
	w.Expect(waits, "reassigned", credential.ReasonGivenToAnother)
	w.CheckCalm()
}

// The provider lists nothing that is only reserved, so that the report is all there is: it is newer than the reservation,
// though older than our record of it.
func TestAnAnswerIsRecordedAfterTheProviderGaveTheIDAwayAndSaidSo(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Switches.ReservedNeverListed = true })
	loser := w.Invited("E-1")
	w.PutHolder("E-2")
	w.Pass(time.Minute)
	w.LoseCallbacks()
	w.Must(w.Cancel(account, w.CodeOf(loser)))
	_, err := w.Store.Claim(w.Ctx, "E-1", account, credential.Claim{ID: "other", Until: w.Now().Add(10 * time.Second)},
		w.Now(), false)
	w.Must(err)
	waits := w.Assign("E-2")
	w.SetNow(w.Now().Add(5 * time.Second))
	w.Must(w.Reassign(account, loser.Mobile.ID, "stranger"))
	w.SetNow(w.Now().Add(10 * time.Second))
	another := w.Assign("E-2") // records the answer that waited, before the feed is read
	for range 6 {
		w.Pass(61 * time.Second)
	}
	w.Mend()
	w.Expect(waits, "reassigned", credential.ReasonGivenToAnother)
	w.Expect(another, "invited", "")
	w.CheckCalm()
}

// A process stands still between its doubt and its request, for longer than its claim lasts: another one settles the
// doubt, and only then the request creates a user, which the first can no longer note.
func TestAUserCreatedAfterTheClaimRanOutIsErased(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	other := w.NewProcess()
	overslept := false
	w.Store.Fail = func(op string) error {
		if op != "Commit after" || overslept {
			return nil
		}
		rows, err := w.Store.Credentials(w.Ctx, "E-1")
		w.Must(err)
		if len(rows) == 0 || rows[0].Reservation != credential.ReservationInDoubt {
			return nil
		}
		overslept = true
		w.SetNow(w.Now().Add(61 * time.Second))
		end := credential.End{
			Request: w.Portal, HolderID: "E-1", CredentialID: rows[0].ID, Reason: credential.EndDeleted,
		}
		_, err = other.End(w.Ctx, end)
		w.Must(err)
		return nil
	}
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "hq"})
	w.Must(err)
	if got := emailsAtProvider(w, "E-1"); !overslept || got != "[e-1@example.com]" {
		t.Fatalf("overslept %v, at the provider before the erasure: %s", overslept, got)
	}
	w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
	// Not before the late request can no longer be carried out once more.
	w.Pass(61 * time.Second)
	w.Pass(credential.LateFor)
	w.Pass(61 * time.Second)
	if got := emailsAtProvider(w, "E-1"); got != "[]" {
		t.Errorf("at the provider after the erasure: %s", got)
	}
}

func TestAVisitThatIsMadeLongerMeanwhileGoesOn(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	visitor := func(until time.Time) func(*credential.Holder) {
		return func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until }
	}
	w.PutHolder("V-1", visitor(w.Now().Add(time.Hour)))
	c := w.Assign("V-1")
	w.Store.Fail = func(op string) error {
		if op == "Credential" { // the visit was set to the past, and what it ends is being decided
			w.Store.Fail = nil
			w.PutHolder("V-1", visitor(w.Now().Add(8*time.Hour)))
		}
		return nil
	}
	w.PutHolder("V-1", visitor(w.Now().Add(-time.Minute)))
	if w.Store.Fail != nil {
		t.Fatal("no credential was looked at")
	}
	w.Expect(c, "invited", "")
	w.CheckCalm()
}
