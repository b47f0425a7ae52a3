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
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

func TestAssignInviteActivateRevoke(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1042")
	var portrait bytes.Buffer
	if err := jpeg.Encode(&portrait, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	picture := credential.Picture{ContentType: "image/jpeg", Data: portrait.Bytes(), Hash: "p1"}
	if err := w.Service.PutPicture(w.Ctx, "E-1042", picture, w.Portal); err != nil {
		t.Fatal(err)
	}
	c := w.Assign("E-1042")
	if c.Stage != credential.StageInvited || c.Mobile == nil || c.Mobile.ID != part+":1" ||
		c.Mobile.Format != "H10301" || c.Mobile.FacilityCode != "42" {
		t.Fatalf("%+v", c)
	}
	if c.Name() != "HQ employees #1" || c.Invitation.SentTo != "e…@example.com" || w.Mailbox.Count() != 1 {
		t.Errorf("name %q, sent to %q, %d mails", c.Name(), c.Invitation.SentTo, w.Mailbox.Count())
	}
	c = w.Redeem(c, "phone-a")
	if c.Stage != credential.StageActivated || c.Device == nil || c.Device.ID != "phone-a" {
		t.Fatalf("%+v", c)
	}
	if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 1 || !badges[0].HasPicture {
		t.Errorf("badges: %+v", badges)
	}
	w.CheckCalm()
	if c, err := w.End(c, credential.EndDeleted); err != nil || c.Status != credential.StatusRevoked ||
		c.Reservation != credential.ReservationReleased {
		t.Fatalf("%+v, %v", c, err)
	}
	if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 0 {
		t.Errorf("badges: %+v", badges)
	}
	if got, want := w.Story(c), "assigned reserved mailed activated revoke"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
	w.CheckCalm()
}

func TestAnswersLostAnywhere(t *testing.T) {
	for _, op := range []string{"token", "search", "read", "reserve"} {
		for _, kind := range []string{"error", "timeout", "throttle"} {
			for _, when := range []string{"before", "after"} {
				t.Run(op+"/"+kind+"/"+when, func(t *testing.T) {
					w := newWorld(t)
					w.PutHolder("E-1")
					w.Break(op, kind, when, 1)
					c := w.Assign("E-1")
					w.Pass(61 * time.Second)
					w.Pass(time.Minute)
					c = w.Read(c)
					if c.Invitation.Status != credential.InvitationSent || w.Mailbox.Count() != 1 ||
						c.Mobile.Format == "" {
						t.Errorf("invitation %s, %d mails, card %+v", c.Invitation.Status, w.Mailbox.Count(), c.Mobile)
					}
					w.CheckCalm()
					w.Mend()
					w.Redeem(c, "phone-a")
					w.Expect(c, "activated", "")
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
					c := w.Invited("E-1")
					if phone != "" {
						c = w.Redeem(c, phone)
					}
					w.Break(op, "timeout", when, 1)
					c, err := w.End(c, credential.EndDeleted)
					if err != nil || c.Status != credential.StatusRevoked {
						t.Fatalf("%s, %v", c.Status, err)
					}
					w.Mend()
					w.Pass(61 * time.Second)
					w.Pass(time.Minute)
					if c = w.Read(c); c.Reservation != credential.ReservationReleased {
						t.Errorf("reservation %s", c.Reservation)
					}
					w.CheckCalm()
				})
			}
		}
	}
}

func TestEverySwitchOfTheProvider(t *testing.T) {
	for bits := range 16 {
		on := func(bit int) bool { return bits&bit != 0 }
		sw := origosim.Switches{CancelFreesID: on(1), CancelAcceptedAnswers2xx: on(2), SearchByExternalID: on(4),
			OnePerPartNumberAndPhone: on(8)}
		w := newWorld(t, func(o *worldtest.Options) { o.Switches = sw })
		c := w.Invited("E-1")
		if _, err := w.End(c, credential.EndDeleted); err != nil {
			t.Fatal(err)
		}
		w.CheckCalm()
		again := w.Activated("E-2", "phone-a")
		if _, err := w.End(again, credential.EndStolen); err != nil {
			t.Fatal(err)
		}
		w.CheckCalm()
		declined := w.Invited("E-3")
		if err := w.Cancel(account, w.CodeOf(declined)); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		w.Expect(declined, "declined", credential.ReasonCancelledAtProvider)
		w.CheckCalm()
		if t.Failed() {
			t.Fatalf("with %+v", sw)
		}
	}
}

func TestMailTroubleIsNotLostAndNotDoubled(t *testing.T) {
	t.Run("throttled", func(t *testing.T) {
		w := newWorld(t)
		w.PutHolder("E-1")
		w.Mailbox.Answer(func(mail.Letter) mail.Outcome {
			return mail.Outcome{Fate: mail.Throttled,
				Reason: "throttled"}
		})
		c := w.Assign("E-1")
		if c.Invitation.Status != credential.InvitationPending || c.Invitation.Code == "" {
			t.Fatalf("%+v", c.Invitation)
		}
		w.Mend()
		w.Pass(61 * time.Second)
		if c = w.Read(c); c.Invitation.Status != credential.InvitationSent || w.Mailbox.Count() != 1 {
			t.Errorf("%s, %d mails", c.Invitation.Status, w.Mailbox.Count())
		}
	})
	t.Run("in doubt", func(t *testing.T) {
		w := newWorld(t)
		w.PutHolder("E-1")
		w.Mailbox.Answer(func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.InDoubt, Reason: ""} })
		c := w.Assign("E-1")
		w.Mend()
		w.Pass(30 * time.Second)
		if w.Mailbox.Count() != 0 {
			t.Error("mailed again before the doubt had time to be answered")
		}
		w.Pass(31 * time.Second)
		if w.Mailbox.Count() != 1 || w.Read(c).Invitation.Status != credential.InvitationSent {
			t.Errorf("%d mails", w.Mailbox.Count())
		}
	})
}

func TestAnOutageIsTheAccountsAndEndsInTwoSweeps(t *testing.T) {
	w := newWorld(t)
	w.Break("any", "error", "before", 1000)
	var rows []credential.Credential
	for _, id := range []string{"E-1", "E-2", "E-3", "E-4", "E-5", "E-6", "E-7"} {
		w.PutHolder(id)
		rows = append(rows, w.Assign(id))
	}
	for range 5 {
		w.Pass(time.Minute)
	}
	outage, err := w.Store.Outage(w.Ctx, account)
	if err != nil || outage.Since.IsZero() {
		t.Fatalf("outage %+v, %v", outage, err)
	}
	w.Mend()
	w.Pass(time.Minute)
	w.Pass(time.Minute)
	for _, c := range rows {
		if c = w.Read(c); c.Invitation.Status != credential.InvitationSent || c.Retry.Attempts != 0 {
			t.Errorf("%s: %s, retry %+v", c.HolderID, c.Invitation.Status, c.Retry)
		}
	}
	if w.Mailbox.Count() != len(rows) {
		t.Errorf("%d mails", w.Mailbox.Count())
	}
	w.CheckCalm()
}

func TestTwentyAssignsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.Pass(61 * time.Second)
	rows, err := w.Store.Credentials(w.Ctx, "E-1")
	if err != nil || len(rows) != 20 || w.Mailbox.Count() != 20 {
		t.Fatalf("%d rows, %d mails, %v", len(rows), w.Mailbox.Count(), err)
	}
	w.CheckCalm()
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("no-mail", func(h *credential.Holder) { h.Email, h.LastName = "", "" })
	past := w.Now().Add(-time.Hour)
	w.PutHolder("gone", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &past })
	w.PutHolder("E-1")
	w.PutProfile("annex", account, part2)
	for _, tc := range []struct {
		name string
		cmd  credential.Assign
		want credential.Code
	}{
		{"no such holder", credential.Assign{HolderID: "unknown", ProfileID: "hq"}, credential.CodeHolderNotFound},
		{"R1", credential.Assign{HolderID: "no-mail", ProfileID: "hq"}, credential.CodeValidationFailed},
		{"R2 none of that name", credential.Assign{HolderID: "E-1", ProfileID: "none"}, credential.CodeProfileNotFound},
		{"R2 one of two", credential.Assign{HolderID: "E-1"}, credential.CodeProfileRequired},
		{"visit over", credential.Assign{HolderID: "gone", ProfileID: "hq"}, credential.CodeInvalidState},
	} {
		_, err := w.Service.Assign(w.Ctx, tc.cmd)
		if !errors.Is(err, credential.Refuse(tc.want, "")) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	var e *credential.Error
	_, err := w.Service.Assign(w.Ctx, credential.Assign{HolderID: "no-mail", ProfileID: "hq"})
	if !errors.As(err, &e) || len(e.Fields) != 2 || e.Fields[0].Pointer != "/lastName" ||
		e.Fields[1].Pointer != "/email" {
		t.Errorf("R1 names the fields: %+v", e)
	}
	if len(w.Sim.State().Users) != 0 || w.Mailbox.Count() != 0 {
		t.Error("a refusal left something behind")
	}
}

func TestAnEmptyPoolIsFinal(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.Invited("E-" + string(rune('A'+i)))
	}
	w.PutHolder("late")
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "late"})
	var e *credential.Error
	if !errors.As(err, &e) || e.Code != credential.CodeNoLicenceLeft || e.CredentialID == "" {
		t.Fatalf("%v", err)
	}
	w.Expect(credential.Credential{HolderID: "late", ID: e.CredentialID}, "failed", credential.ReasonNoLicenceLeft)
	w.CheckCalm()
}

func TestAnEmailOfAnotherPerson(t *testing.T) {
	w := newWorld(t)
	w.Invited("E-1")
	w.PutHolder("E-2", func(h *credential.Holder) { h.Email = "e-1@example.com" })
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-2"})
	if !errors.Is(err, credential.Refuse(credential.CodeEmailInUse, "")) {
		t.Fatalf("%v", err)
	}
	w.CheckCalm()
}
