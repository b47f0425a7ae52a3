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
