package issuance_test

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

func TestAssignInviteActivateRevoke(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1042")
	var portrait bytes.Buffer
	if err := jpeg.Encode(&portrait, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	picture := credential.Picture{ContentType: "image/jpeg", Data: portrait.Bytes(), Hash: "p1"}
	if err := w.svc.PutPicture(w.ctx, "E-1042", picture, w.portal); err != nil {
		t.Fatal(err)
	}
	c := w.assign("E-1042")
	if c.Stage != credential.StageInvited || c.Mobile == nil || c.Mobile.ID != part+":1" || c.Mobile.Format != "H10301" || c.Mobile.FacilityCode != "42" {
		t.Fatalf("%+v", c)
	}
	if c.Name() != "HQ employees #1" || c.Invitation.SentTo != "e…@example.com" || w.mails() != 1 {
		t.Errorf("name %q, sent to %q, %d mails", c.Name(), c.Invitation.SentTo, w.mails())
	}
	c = w.redeem(c, "phone-a")
	if c.Stage != credential.StageActivated || c.Device == nil || c.Device.ID != "phone-a" {
		t.Fatalf("%+v", c)
	}
	if badges := w.sim.Phone("phone-a").Badges; len(badges) != 1 || !badges[0].HasPicture {
		t.Errorf("badges: %+v", badges)
	}
	w.agree()
	if c, err := w.end(c, credential.EndDeleted); err != nil || c.Status != credential.StatusRevoked || c.Reservation != credential.ReservationReleased {
		t.Fatalf("%+v, %v", c, err)
	}
	if badges := w.sim.Phone("phone-a").Badges; len(badges) != 0 {
		t.Errorf("badges: %+v", badges)
	}
	if got, want := w.story(c), "assigned reserved mailed activated revoke"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
	w.agree()
}

func TestAnswersLostAnywhere(t *testing.T) {
	for _, op := range []string{"token", "search", "read", "reserve"} {
		for _, kind := range []string{"error", "timeout", "throttle"} {
			for _, when := range []string{"before", "after"} {
				t.Run(op+"/"+kind+"/"+when, func(t *testing.T) {
					w := newWorld(t)
					w.holder("E-1")
					w.break_(op, kind, when, 1)
					c := w.assign("E-1")
					w.pass(61 * time.Second)
					w.pass(time.Minute)
					c = w.read(c)
					if c.Invitation.Status != credential.InvitationSent || w.mails() != 1 || c.Mobile.Format == "" {
						t.Errorf("invitation %s, %d mails, card %+v", c.Invitation.Status, w.mails(), c.Mobile)
					}
					w.agree()
					w.mend()
					w.redeem(c, "phone-a")
					w.expect(c, "activated", "")
				})
			}
		}
	}
}

func TestTheReleaseIsConfirmedWhateverIsLost(t *testing.T) {
	for _, phone := range []string{"", "phone-a"} {
		for _, op := range []string{"cancel", "read", "revoke"} {
			for _, when := range []string{"before", "after"} {
				t.Run(phone+"/"+op+"/"+when, func(t *testing.T) {
					w := newWorld(t)
					c := w.invited("E-1")
					if phone != "" {
						c = w.redeem(c, phone)
					}
					w.break_(op, "timeout", when, 1)
					c, err := w.end(c, credential.EndDeleted)
					if err != nil || c.Status != credential.StatusRevoked {
						t.Fatalf("%s, %v", c.Status, err)
					}
					w.mend()
					w.pass(61 * time.Second)
					w.pass(time.Minute)
					if c = w.read(c); c.Reservation != credential.ReservationReleased {
						t.Errorf("reservation %s", c.Reservation)
					}
					w.agree()
				})
			}
		}
	}
}

func TestEverySwitchOfTheProvider(t *testing.T) {
	for bits := range 16 {
		on := func(bit int) bool { return bits&bit != 0 }
		sw := origosim.Switches{CancelFreesID: on(1), CancelAcceptedAnswers2xx: on(2), SearchByExternalID: on(4), OnePerPartNumberAndPhone: on(8)}
		w := newWorld(t, func(o *origosim.Options) { o.Switches = sw })
		c := w.invited("E-1")
		if _, err := w.end(c, credential.EndDeleted); err != nil {
			t.Fatal(err)
		}
		w.agree()
		again := w.activated("E-2", "phone-a")
		if _, err := w.end(again, credential.EndStolen); err != nil {
			t.Fatal(err)
		}
		w.agree()
		declined := w.invited("E-3")
		if err := w.sim.Decline(w.codeOf(declined)); err != nil {
			t.Fatal(err)
		}
		w.settle()
		w.expect(declined, "declined", credential.ReasonCancelledAtProvider)
		w.agree()
		if t.Failed() {
			t.Fatalf("with %+v", sw)
		}
	}
}

func TestMailTroubleIsNotLostAndNotDoubled(t *testing.T) {
	t.Run("throttled", func(t *testing.T) {
		w := newWorld(t)
		w.holder("E-1")
		w.post = func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.Throttled, Reason: "throttled"} }
		c := w.assign("E-1")
		if c.Invitation.Status != credential.InvitationPending || c.Invitation.Code == "" {
			t.Fatalf("%+v", c.Invitation)
		}
		w.mend()
		w.pass(61 * time.Second)
		if c = w.read(c); c.Invitation.Status != credential.InvitationSent || w.mails() != 1 {
			t.Errorf("%s, %d mails", c.Invitation.Status, w.mails())
		}
	})
	t.Run("in doubt", func(t *testing.T) {
		w := newWorld(t)
		w.holder("E-1")
		w.post = func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.InDoubt, Reason: ""} }
		c := w.assign("E-1")
		w.mend()
		w.pass(30 * time.Second)
		if w.mails() != 0 {
			t.Error("mailed again before the doubt had time to be answered")
		}
		w.pass(31 * time.Second)
		if w.mails() != 1 || w.read(c).Invitation.Status != credential.InvitationSent {
			t.Errorf("%d mails", w.mails())
		}
	})
}

func TestAnOutageIsTheAccountsAndEndsInTwoSweeps(t *testing.T) {
	w := newWorld(t)
	w.break_("any", "error", "before", 1000)
	var rows []credential.Credential
	for _, id := range []string{"E-1", "E-2", "E-3", "E-4", "E-5", "E-6", "E-7"} {
		w.holder(id)
		rows = append(rows, w.assign(id))
	}
	for range 5 {
		w.pass(time.Minute)
	}
	outage, err := w.store.Outage(w.ctx, account)
	if err != nil || outage.Since.IsZero() {
		t.Fatalf("outage %+v, %v", outage, err)
	}
	w.mend()
	w.pass(time.Minute)
	w.pass(time.Minute)
	for _, c := range rows {
		if c = w.read(c); c.Invitation.Status != credential.InvitationSent || c.Retry.Attempts != 0 {
			t.Errorf("%s: %s, retry %+v", c.HolderID, c.Invitation.Status, c.Retry)
		}
	}
	if w.mails() != len(rows) {
		t.Errorf("%d mails", w.mails())
	}
	w.agree()
}

func TestTwentyAssignsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.holder("E-1")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "E-1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.pass(61 * time.Second)
	rows, err := w.store.Credentials(w.ctx, "E-1")
	if err != nil || len(rows) != 20 || w.mails() != 20 {
		t.Fatalf("%d rows, %d mails, %v", len(rows), w.mails(), err)
	}
	w.agree()
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.holder("no-mail", func(h *credential.Holder) { h.Email, h.LastName = "", "" })
	past := w.time().Add(-time.Hour)
	w.holder("gone", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &past })
	w.holder("E-1")
	w.profile("annex", part2)
	for _, tc := range []struct {
		name string
		cmd  credential.Assign
		want credential.Code
	}{
		{"no such holder", credential.Assign{HolderID: "nobody", ProfileID: "hq"}, credential.CodeHolderNotFound},
		{"R1", credential.Assign{HolderID: "no-mail", ProfileID: "hq"}, credential.CodeValidationFailed},
		{"R2 none of that name", credential.Assign{HolderID: "E-1", ProfileID: "none"}, credential.CodeProfileNotFound},
		{"R2 one of two", credential.Assign{HolderID: "E-1"}, credential.CodeProfileRequired},
		{"visit over", credential.Assign{HolderID: "gone", ProfileID: "hq"}, credential.CodeInvalidState},
	} {
		_, err := w.svc.Assign(w.ctx, tc.cmd)
		if !errors.Is(err, credential.Refuse(tc.want, "")) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	var e *credential.Error
	_, err := w.svc.Assign(w.ctx, credential.Assign{HolderID: "no-mail", ProfileID: "hq"})
	if !errors.As(err, &e) || len(e.Fields) != 2 || e.Fields[0].Pointer != "/lastName" || e.Fields[1].Pointer != "/email" {
		t.Errorf("R1 names the fields: %+v", e)
	}
	if len(w.sim.State().Users) != 0 || w.mails() != 0 {
		t.Error("a refusal left something behind")
	}
}

func TestAnEmptyPoolIsFinal(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.invited("E-" + string(rune('A'+i)))
	}
	w.holder("late")
	_, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "late"})
	var e *credential.Error
	if !errors.As(err, &e) || e.Code != credential.CodeNoLicenceLeft || e.CredentialID == "" {
		t.Fatalf("%v", err)
	}
	w.expect(credential.Credential{HolderID: "late", ID: e.CredentialID}, "failed", credential.ReasonNoLicenceLeft)
	w.agree()
}

func TestAnEmailOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	w.invited("E-1")
	w.holder("E-2", func(h *credential.Holder) { h.Email = "e-1@example.com" })
	_, err := w.svc.Assign(w.ctx, credential.Assign{Request: w.portal, HolderID: "E-2"})
	if !errors.Is(err, credential.Refuse(credential.CodeEmailInUse, "")) {
		t.Fatalf("%v", err)
	}
	w.agree()
}
