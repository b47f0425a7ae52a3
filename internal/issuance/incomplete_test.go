package issuance_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// What becomes of a credential whose holder lacks what it needs, or gets it later.

func TestResendNeedsAnAddress(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	w.Pass(time.Minute)
	h, err := w.Store.Holder(w.Ctx, "E-1")
	w.Must(err)
	h.Email = "" // stored so before holders with live credentials had to be complete
	h.Revision++
	w.Must(w.Store.Commit(w.Ctx, credential.Change{At: w.Now(), Holder: &h}))
	resend := credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID}
	_, err = w.Service.Resend(w.Ctx, resend)
	refusal, _ := errors.AsType[*credential.Error](err)
	if refusal == nil || refusal.Code != credential.CodeValidationFailed || len(refusal.Fields) != 1 ||
		refusal.Fields[0].Pointer != "/email" {
		t.Errorf("%+v, %v", refusal, err)
	}
	w.PutHolder("E-1")
	_, err = w.Service.Resend(w.Ctx, resend)
	w.Must(err)
	if w.Mailbox.Count() != 2 {
		t.Errorf("%d mails", w.Mailbox.Count())
	}
}

func TestAChangeOfTheHolderEndsTheWaitAfterARefusal(t *testing.T) {
	t.Run("of the mail service", func(t *testing.T) {
		w := newWorld(t)
		w.PutHolder("E-1")
		w.Mailbox.Refuse("e-1@example.com", w.Now().Add(1000*time.Hour))
		c := w.Assign("E-1")
		for range 8 { // the wait is an hour by now
			w.Pass(time.Hour)
		}
		expectWarning(w, c, credential.WarnMailNotSent, true)
		w.PutHolder("E-1", withEmail("new@example.com"))
		w.Pass(time.Second)
		expectWarning(w, c, credential.WarnMailNotSent, false)
		if w.Mailbox.Count() != 1 {
			t.Errorf("%d mails", w.Mailbox.Count())
		}
	})
	t.Run("of the provider", func(t *testing.T) {
		w := newWorld(t)
		w.Invited("E-1")
		c := w.Invited("E-2")
		w.PutHolder("E-2", withEmail("e-1@example.com"))
		for range 8 {
			w.Pass(6 * time.Hour)
		}
		expectWarning(w, c, credential.WarnHolderChangeRefused, true)
		w.PutHolder("E-2", withEmail("new@example.com"))
		w.Pass(time.Second)
		expectWarning(w, c, credential.WarnHolderChangeRefused, false)
		if got := emailsAtProvider(w, "E-2"); got != "[new@example.com]" {
			t.Errorf("at the provider: %s", got)
		}
	})
}

func TestNoInvitationOutlivesTheVisit(t *testing.T) {
	w := newWorld(t)
	until := w.Now().Add(8 * time.Hour)
	w.PutHolder("V-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until })
	c := w.Assign("V-1")
	h, err := w.Store.Holder(w.Ctx, "V-1")
	w.Must(err)
	if at := c.Deadline(h); at == nil || !at.Equal(until) {
		t.Errorf("deadline %v, the visit ends %v", at, until)
	}
	longer := until.Add(240 * time.Hour)
	w.PutHolder("V-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &longer })
	h, err = w.Store.Holder(w.Ctx, "V-1")
	w.Must(err)
	if at := c.Deadline(h); at == nil || !at.Equal(*c.Invitation.ExpiresAt) {
		t.Errorf("deadline %v, the invitation's own is %v", at, c.Invitation.ExpiresAt)
	}
}

func TestWhatDirectoryMakesDueIsDoneWithoutASweep(t *testing.T) {
	w := newWorld(t)
	c := w.Activated("V-1", "phone-a")
	w.Pass(time.Minute)
	ended := w.Now().Add(-time.Minute)
	w.PutHolder("V-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &ended })
	item, err := w.Store.WorkItem(w.Ctx, "V-1", account)
	w.Must(err)
	if item.Wake == nil {
		t.Fatal("the function cleanup is not asked to come")
	}
	w.Must(w.Service.Wake(w.Ctx, "V-1", account))
	w.Expect(c, "expired", credential.ReasonVisitEnded)
	if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 0 {
		t.Errorf("on the phone: %+v", badges)
	}
	if item, err = w.Store.WorkItem(w.Ctx, "V-1", account); err != nil || item.Wake != nil {
		t.Errorf("%+v, %v", item, err)
	}
}
