package issuance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

func assignWaiting(w *worldtest.World, holderID string) credential.Credential {
	w.Helper()
	result, err := w.Service.Assign(w.Ctx, credential.Assign{
		Request: w.Portal, HolderID: holderID, ProfileID: "hq", Wait: true,
	})
	w.Must(err)
	return result.Credential
}

// onlyOne is a pool with one mobile ID, which E-0 has.
func onlyOne(t *testing.T) (*worldtest.World, credential.Credential) {
	w := newWorld(t, func(o *worldtest.Options) { o.Pools = map[string]int{part: 1} })
	return w, w.Invited("E-0")
}

func TestTheNextMobileIDGoesToTheHolderWhoWaitsLongest(t *testing.T) {
	w, taken := onlyOne(t)
	var waiting []credential.Credential
	for _, id := range []string{"E-3", "E-1", "E-2"} { // the order of assignment counts, no other
		w.PutHolder(id)
		w.Advance(time.Second)
		c := assignWaiting(w, id)
		w.Expect(c, "invited", "")
		expectWarning(w, c, credential.WarnWaitingForLicence, true)
		expectWarning(w, c, credential.WarnProviderRefuses, false)
		if syncOf(w, c) != credential.SyncPending || !listed(w, c, credential.WarnWaitingForLicence) {
			t.Errorf("%s: %s, listed %v", id, syncOf(w, c), listed(w, c, credential.WarnWaitingForLicence))
		}
		waiting = append(waiting, c)
	}
	for range 3 {
		w.Pass(time.Hour)
	}
	for i, c := range waiting {
		_, err := w.End(taken, credential.EndDeleted)
		w.Must(err)
		w.Pass(time.Minute)
		w.Pass(time.Minute)
		taken = w.Expect(c, "invited", "")
		if taken.Mobile == nil || taken.Invitation.Status != credential.InvitationSent {
			t.Fatalf("number %d still waits: %+v", i+1, taken.Retry)
		}
		expectWarning(w, taken, credential.WarnWaitingForLicence, false)
		for _, later := range waiting[i+1:] {
			if later = w.Read(later); later.Mobile != nil {
				t.Errorf("%s was served before its turn", later.HolderID)
			}
		}
	}
	w.CheckCalm()
}

func TestNoAssignmentOvertakesTheHoldersWhoWait(t *testing.T) {
	w, taken := onlyOne(t)
	w.PutHolder("E-1")
	first := assignWaiting(w, "E-1")
	_, err := w.End(taken, credential.EndDeleted) // free now, and no sweep has seen it
	w.Must(err)
	w.Advance(time.Second)
	w.PutHolder("E-2")
	second := assignWaiting(w, "E-2")
	if second = w.Read(second); second.Mobile != nil || !second.Waiting {
		t.Errorf("overtook the first: %+v", second.Mobile)
	}
	w.PutHolder("E-3")
	_, err = w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-3", ProfileID: "hq"})
	w.Refusal(err, credential.CodeNoLicenceLeft)
	w.Pass(time.Minute)
	if first = w.Read(first); first.Mobile == nil {
		t.Error("the first still waits")
	}
	w.CheckCalm()
}

func TestWhatEndsOneThatWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		end            func(w *worldtest.World, c credential.Credential)
		status, reason string
	}{
		"the portal": {func(w *worldtest.World, c credential.Credential) {
			_, err := w.End(c, credential.EndDeleted)
			w.Must(err)
		}, "revoked", credential.ReasonDeleted},
		"the end of the visit": {func(w *worldtest.World, _ credential.Credential) {
			until := w.Now().Add(time.Minute)
			w.PutHolder("E-1", func(h *credential.Holder) { h.Kind, h.ValidUntil = credential.Visitor, &until })
			w.Pass(2 * time.Minute)
		}, "expired", credential.ReasonVisitEnded},
	} {
		t.Run(name, func(t *testing.T) {
			w, taken := onlyOne(t)
			w.PutHolder("E-1")
			c := assignWaiting(w, "E-1")
			tt.end(w, c)
			w.Expect(c, tt.status, tt.reason)
			if listed(w, c, credential.WarnWaitingForLicence) {
				t.Error("still listed")
			}
			_, err := w.End(taken, credential.EndDeleted)
			w.Must(err)
			w.Pass(time.Minute)
			w.PutHolder("E-2")
			if next := w.Assign("E-2"); next.Mobile == nil {
				t.Error("the mobile ID is kept for the one that does not wait any more")
			}
			w.CheckCalm()
		})
	}
}

func TestAssignIfTheHolderHasNone(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	w.PutHolder("E-1")
	ask := func(s *issuance.Service, key string) (credential.Result, error) {
		return s.Assign(w.Ctx, credential.Assign{
			Request: keyed(w, "POST x", key), HolderID: "E-1", ProfileID: "hq", IfNone: true,
		})
	}
	refusedFor := func(err error, c credential.Credential) {
		t.Helper()
		refusal, _ := errors.AsType[*credential.Error](err)
		if refusal == nil || refusal.Code != credential.CodeAlreadyAssigned || refusal.CredentialID != c.ID {
			t.Errorf("%+v, %v", refusal, err)
		}
	}
	first, err := ask(w.Service, "k1")
	w.Must(err)
	_, err = ask(w.Service, "k2")
	refusedFor(err, first.Credential)
	if again, err := ask(w.Service, "k1"); err != nil || !again.Replayed {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	_, err = w.End(first.Credential, credential.EndDeleted)
	w.Must(err)
	w.Pass(time.Minute)

	// Two at once: the other process assigns when this one has read that there is none.
	other := w.NewProcess()
	var faster credential.Result
	w.Store.Fail = func(op string) (failed error) {
		if op == "Commit" {
			w.Store.Fail = nil
			faster, failed = other.Assign(context.WithoutCancel(w.Ctx), credential.Assign{
				Request: w.Portal, HolderID: "E-1", ProfileID: "hq",
			})
		}
		return failed
	}
	_, err = ask(w.Service, "k3")
	refusedFor(err, faster.Credential)
	w.CheckCalm()
}

func TestTroubleOfTheFirstHoldsUpNoOther(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Pools = map[string]int{part: 1} })
	before := w.Invited("E-1") // so that the provider has a user for the first
	_, err := w.End(before, credential.EndDeleted)
	w.Must(err)
	w.Pass(time.Minute)
	taken := w.Invited("E-0")
	first := assignWaiting(w, "E-1")
	w.Advance(time.Second)
	w.PutHolder("E-2")
	second := assignWaiting(w, "E-2")
	_, err = w.End(taken, credential.EndDeleted)
	w.Must(err)
	w.Break("reserve", "timeout", "before", 1)
	w.Pass(time.Minute) // the first is called, and in doubt
	w.Must(w.Sim.MakeUnwell(before.UserID, origosim.Error))
	for range 10 {
		w.Pass(time.Minute)
	}
	if second = w.Read(second); second.Mobile == nil {
		t.Errorf("waits for the first, which is in doubt: %+v", second.Retry)
	}
	w.Must(w.Sim.MakeUnwell(before.UserID, ""))
	for range 3 {
		w.Pass(6 * time.Hour)
	}
	expectWarning(w, first, credential.WarnWaitingForLicence, true)
	w.CheckCalm()
}

func TestOneFailureCostsNoTurn(t *testing.T) {
	w, taken := onlyOne(t)
	w.PutHolder("E-1")
	first := assignWaiting(w, "E-1")
	_, err := w.End(taken, credential.EndDeleted)
	w.Must(err)
	w.Break("search", "timeout", "before", 1)
	w.Pass(time.Minute)
	expectWarning(w, first, credential.WarnWaitingForLicence, true)
	w.PutHolder("E-3")
	_, err = w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-3", ProfileID: "hq"})
	w.Refusal(err, credential.CodeNoLicenceLeft)
	for range 3 {
		w.Pass(time.Minute)
	}
	if first = w.Read(first); first.Mobile == nil {
		t.Errorf("the first still waits: %+v", first.Retry)
	}
	w.CheckCalm()
}
