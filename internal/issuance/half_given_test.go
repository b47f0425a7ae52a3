package issuance_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/store"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// duringTheNextCommit lets another process do something when a change is decided and not written yet.
func duringTheNextCommit(w *worldtest.World, another func()) {
	w.Store.Fail = func(op string) error {
		if op == "Commit" {
			w.Store.Fail = nil
			another()
		}
		return nil
	}
}

// emptied puts a holder that has no name and no e-mail.
func emptied(w *worldtest.World) error {
	_, _, err := w.Service.PutHolder(w.Ctx, credential.PutHolder{
		Request: w.Portal, Holder: credential.Holder{ID: "E-1", Kind: credential.Cardholder},
	})
	return err
}

// patched is a PATCH that sets or removes one field.
func patched(w *worldtest.World, patch func(*credential.Holder)) error {
	_, err := w.Service.PatchHolder(w.Ctx, credential.PatchHolder{
		Request: w.Portal, HolderID: "E-1",
		Patch: func(h credential.Holder) (credential.Holder, error) {
			patch(&h)
			return h, nil
		},
	})
	return err
}

// noNamelessLife fails the test when a live credential belongs to a holder that lacks what it needs (R1).
func noNamelessLife(w *worldtest.World) {
	h, err := w.Store.Holder(w.Ctx, "E-1")
	w.Must(err)
	for _, c := range w.Rows() {
		if c.IsLive() && h.Missing() != nil {
			w.Errorf("a live credential of a holder without %v", h.Missing())
		}
	}
}

// Whichever of the two is written first, the other one sees it.
func TestAnAssignmentAndAHolderThatIsEmptiedAtOnce(t *testing.T) {
	for name, empty := range map[string]func(*worldtest.World) error{
		"put":   emptied,
		"patch": func(w *worldtest.World) error { return patched(w, func(h *credential.Holder) { h.LastName = "" }) },
	} {
		t.Run(name+", assigned meanwhile", func(t *testing.T) {
			w := newWorld(t)
			w.PutHolder("E-1")
			duringTheNextCommit(w, func() { w.Assign("E-1") })
			w.Refusal(empty(w), credential.CodeValidationFailed)
			noNamelessLife(w)
			w.CheckCalm()
		})
		t.Run(name+", assigned again meanwhile", func(t *testing.T) {
			w := newWorld(t)
			c := w.Invited("E-1")
			_, err := w.End(c, credential.EndDeleted)
			w.Must(err)
			duringTheNextCommit(w, func() { w.Assign("E-1") })
			w.Refusal(empty(w), credential.CodeValidationFailed)
			noNamelessLife(w)
		})
		t.Run("assigned, "+name+" meanwhile", func(t *testing.T) {
			w := newWorld(t)
			w.PutHolder("E-1")
			duringTheNextCommit(w, func() { w.Must(empty(w)) })
			_, err := w.Service.Assign(w.Ctx,
				credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "hq"})
			w.Refusal(err, credential.CodeValidationFailed)
			noNamelessLife(w)
			w.CheckCalm()
		})
		t.Run("replaced, "+name+" meanwhile", func(t *testing.T) {
			w := newWorld(t)
			c := w.Invited("E-1")
			duringTheNextCommit(w, func() {
				_, err := w.End(c, credential.EndLost)
				w.Must(err)
				w.Must(empty(w))
			})
			_, err := w.Service.Replace(w.Ctx, credential.Replace{
				Request: w.Portal, HolderID: "E-1", CredentialID: c.ID, Reason: credential.EndLost,
			})
			if err == nil {
				t.Error("replaced")
			}
			noNamelessLife(w)
		})
	}
}

func TestTwoPatchesAtOnceBothHold(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	duringTheNextCommit(w, func() { w.Must(patched(w, func(h *credential.Holder) { h.LastName = "Roy" })) })
	w.Must(patched(w, func(h *credential.Holder) { h.Email = "roy@example.com" }))
	h, err := w.Store.Holder(w.Ctx, "E-1")
	w.Must(err)
	if h.LastName != "Roy" || h.Email != "roy@example.com" || h.FirstName != "Aimée" || h.Revision != 3 {
		t.Errorf("%+v", h)
	}
}

func TestAPatchOfAHolderWhoIsErasedMeanwhileFindsNone(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	duringTheNextCommit(w, func() { w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal)) })
	err := patched(w, func(h *credential.Holder) { h.LastName = "Roy" })
	w.Refusal(err, credential.CodeHolderNotFound)
	if _, err := w.Store.Holder(w.Ctx, "E-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("there is a holder again: %v", err)
	}
}

func TestAPatchReachesTheProviderAndEndsAVisit(t *testing.T) {
	w := newWorld(t)
	end := w.Now().Add(48 * time.Hour)
	w.PutHolder("E-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &end })
	c := w.Assign("E-1")
	w.Must(patched(w, func(h *credential.Holder) { h.Email = "roy@example.com" }))
	w.Pass(time.Minute)
	if got := emailsAtProvider(w, "E-1"); got != "[roy@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	over := w.Now()
	w.Must(patched(w, func(h *credential.Holder) { h.ValidUntil = &over }))
	w.Expect(c, "expired", credential.ReasonVisitEnded)
}

func TestARefusalForWantOfMobileIDsShowsInTheStock(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Pools = map[string]int{part: 1} })
	stock := func() credential.Stock {
		s, err := w.Store.Stock(w.Ctx, account, part)
		w.Must(err)
		return s
	}
	w.Pass(time.Minute)
	if got := stock(); got.Available != 1 {
		t.Fatalf("before: %+v", got)
	}
	w.PutHolder("E-2")
	taken := w.Invited("E-1")
	w.Advance(time.Minute)
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-2", ProfileID: "hq"})
	w.Refusal(err, credential.CodeNoLicenceLeft)
	if got := stock(); got.Available != 0 || !got.AsOf.Equal(w.Now()) {
		t.Errorf("after the refusal: %+v, it is %s", got, w.Now())
	}
	_, err = w.End(taken, credential.EndDeleted)
	w.Must(err)
	w.Pass(6 * time.Minute)
	if got := stock(); got.Available != 1 {
		t.Errorf("after the next reading: %+v", got)
	}
}

func TestEveryMailThatMayBeOutIsCounted(t *testing.T) {
	inDoubt, refused := mail.Outcome{Fate: mail.InDoubt}, mail.Outcome{Fate: mail.Rejected, Reason: "Refused"}
	sent, throttled := mail.Outcome{Fate: mail.Sent}, mail.Outcome{Fate: mail.Throttled, Reason: "Slowly"}
	for name, test := range map[string]struct {
		outcomes []mail.Outcome // of one mail after the other
		want     int
	}{
		"sent":                          {[]mail.Outcome{sent}, 1},
		"in doubt":                      {[]mail.Outcome{inDoubt}, 1},
		"in doubt, then sent":           {[]mail.Outcome{inDoubt, sent}, 2},
		"in doubt twice":                {[]mail.Outcome{inDoubt, inDoubt}, 2},
		"refused":                       {[]mail.Outcome{refused}, 0},
		"refused, then sent":            {[]mail.Outcome{refused, throttled, sent}, 1},
		"in doubt, refused, then sent":  {[]mail.Outcome{inDoubt, refused, sent}, 2},
		"sent, and asked for once more": {[]mail.Outcome{sent, sent}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.PutHolder("E-1")
			handedOver := 0
			w.Mailbox.Answer(func(mail.Letter) mail.Outcome {
				handedOver++
				if handedOver > len(test.outcomes) {
					return throttled
				}
				return test.outcomes[handedOver-1]
			})
			c := w.Assign("E-1")
			for range 60 {
				if handedOver >= len(test.outcomes) {
					break
				}
				if c = w.Read(c); c.Invitation.Status == credential.InvitationSent {
					w.Advance(time.Minute)
					_, err := w.Service.Resend(w.Ctx,
						credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID})
					w.Must(err)
					continue
				}
				w.Pass(time.Minute)
			}
			if got := w.Read(c).Invitation.Mails; got != test.want || handedOver != len(test.outcomes) {
				t.Errorf("%d mails after %d were handed over, want %d of %d", got, handedOver, test.want,
					len(test.outcomes))
			}
		})
	}
}

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
