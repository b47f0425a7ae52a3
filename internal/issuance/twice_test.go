package issuance_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// What the portal gets when it sends a request twice, or again for an id that had another holder.

// keyed is a request with an Idempotency-Key.
func keyed(w *worldtest.World, route, key string) credential.Request {
	return credential.Request{Actor: w.Portal.Actor, Route: route, Key: key, PayloadHash: "p"}
}

// ask carries out a request on a credential, or of its holder.
type ask func(s *issuance.Service, r credential.Request) (credential.Result, error)

func requests(w *worldtest.World, c credential.Credential) map[string]ask {
	end := func(reason credential.EndReason) ask {
		return func(s *issuance.Service, r credential.Request) (credential.Result, error) {
			return s.End(w.Ctx, credential.End{Request: r, HolderID: "E-1", CredentialID: c.ID, Reason: reason})
		}
	}
	replace := func(reason credential.EndReason) ask {
		return func(s *issuance.Service, r credential.Request) (credential.Result, error) {
			return s.Replace(w.Ctx, credential.Replace{Request: r, HolderID: "E-1", CredentialID: c.ID, Reason: reason})
		}
	}
	return map[string]ask{
		"assign": func(s *issuance.Service, r credential.Request) (credential.Result, error) {
			return s.Assign(w.Ctx, credential.Assign{Request: r, HolderID: "E-1", ProfileID: "hq"})
		},
		"resend": func(s *issuance.Service, r credential.Request) (credential.Result, error) {
			return s.Resend(w.Ctx, credential.Resend{Request: r, HolderID: "E-1", CredentialID: c.ID})
		},
		"lost": end(credential.EndLost), "stolen": end(credential.EndStolen), "delete": end(credential.EndDeleted),
		"replace lost": replace(credential.EndLost), "replace upgrade": replace(credential.EndUpgrade),
	}
}

func TestTheSameRequestTwiceAtOnceIsCarriedOutOnce(t *testing.T) {
	// The second process reads the key before the first has written it, and what the request is about after that.
	for _, readAfter := range []string{"Holder", "Credential", "Commit"} {
		for name := range requests(newWorld(t), credential.Credential{}) {
			t.Run(name+" before "+readAfter, func(t *testing.T) {
				w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true }) // so that nothing else meets Fail
				c := w.Invited("E-1")
				w.Pass(time.Minute)
				request, other := requests(w, c)[name], w.NewProcess()
				var first credential.Result
				holderReads := 0
				w.Store.Fail = func(op string) error {
					if op == "Holder" {
						holderReads++
					}
					// The first reading of the holder is for the key.
					if op != readAfter || op == "Holder" && holderReads < 2 {
						return nil
					}
					w.Store.Fail = nil
					var err error
					first, err = request(other, keyed(w, "POST x", "k"))
					w.Must(err)
					return nil
				}
				second, err := request(w.Service, keyed(w, "POST x", "k"))
				w.Must(err)
				if w.Store.Fail != nil {
					t.Fatalf("%s makes no call %s", name, readAfter)
				}
				if second.Replayed == first.Replayed || second.Credential.ID != first.Credential.ID {
					t.Errorf("replayed %v and %v, credentials %s and %s",
						first.Replayed, second.Replayed, first.Credential.ID, second.Credential.ID)
				}
			})
		}
	}
}

func TestAFailedAssignmentFailsAgainWhenItIsRepeated(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Pools = map[string]int{part: 0} })
	w.PutHolder("E-1")
	assign := credential.Assign{Request: keyed(w, "POST x", "k"), HolderID: "E-1", ProfileID: "hq"}
	for _, replayed := range []bool{false, true} {
		_, err := w.Service.Assign(w.Ctx, assign)
		refusal, isRefused := errors.AsType[*credential.Error](err)
		if !isRefused || refusal.Code != credential.CodeNoLicenceLeft || refusal.Replayed != replayed ||
			refusal.CredentialID == "" {
			t.Errorf("%+v, %v; replayed is to be %v", refusal, err, replayed)
		}
	}
	w.CheckCalm()
}

func TestAHolderUnderAnErasedHoldersIDStartsClean(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	assign := credential.Assign{Request: keyed(w, "POST x", "k"), HolderID: "E-1", ProfileID: "hq"}
	first, err := w.Service.Assign(w.Ctx, assign)
	w.Must(err)
	w.Redeem(first.Credential, "phone-a")
	w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
	for range 4 {
		w.Pass(61 * time.Second)
	}
	if old := w.Read(first.Credential); !old.Erased || old.Device != nil || old.AcceptedOn != "" {
		t.Errorf("left of the erased holder: %+v", old)
	}
	w.PutHolder("E-1", withEmail("other@example.com"))
	for name, request := range requests(w, first.Credential) {
		if name == "assign" {
			continue
		}
		_, err := request(w.Service, w.Portal)
		if !errors.Is(err, credential.Refuse(credential.CodeCredentialNotFound, "")) {
			t.Errorf("%s of the predecessor's credential: %v", name, err)
		}
	}
	second, err := w.Service.Assign(w.Ctx, assign)
	w.Must(err)
	if second.Replayed || second.Credential.ID == first.Credential.ID {
		t.Errorf("replayed %v, %s", second.Replayed, second.Credential.ID)
	}
	w.CheckCalm()
	w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
	for range 4 {
		w.Pass(61 * time.Second)
	}
	if users := w.Sim.State().Users; len(users) != 0 {
		t.Errorf("users at the provider: %+v", users)
	}
	w.CheckCalm()
}

func TestWhatIsStoredIsAnsweredAsDone(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	w.PutHolder("E-1")
	stored := false
	w.Store.Fail = func(op string) error {
		if stored {
			return worldtest.ErrStore
		}
		stored = op == "Commit after"
		return nil
	}
	result, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "hq"})
	w.Store.Fail = nil
	if err != nil || result.Credential.ID == "" || result.Credential.Invitation.Status != credential.InvitationPending {
		t.Fatalf("%+v, %v", result.Credential, err)
	}
	w.Pass(time.Minute)
	w.Expect(result.Credential, "invited", "")
	w.CheckCalm()
}

func TestAHolderOfTwoAccountsIsErased(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Accounts = append(o.Accounts, "beta") })
	profile := credential.Profile{ID: "annex", Name: "Annex", Account: "beta", PartNumber: part2, InvitationDays: 7}
	_, _, err := w.Service.PutProfile(w.Ctx, credential.PutProfile{Request: w.Portal, Profile: profile})
	w.Must(err)
	w.Invited("E-1")
	_, err = w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "annex"})
	w.Must(err)
	w.Break("any", "error", "before", 1) // so that the sweeps have to finish it
	w.Must(w.Service.Erase(w.Ctx, "E-1", w.Portal))
	for range 10 {
		w.Pass(time.Minute)
	}
	if h, err := w.Store.Holder(w.Ctx, "E-1"); err == nil {
		t.Errorf("still there: %+v", h)
	}
	w.CheckCalm()
}
