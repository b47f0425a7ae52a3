package issuance_test

import (
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// What happens here takes a process that stands still between two calls, while another one goes on in its place. The
// simulation found most of it; here each story is told once, in the open.

// interlude is the weather in which something happens at the first call of a kind, and to it.
type interlude struct {
	mu      sync.Mutex // callbacks come by themselves
	point   string     // see worldtest.Call.Point
	happens func() worldtest.Verdict
}

// Meet implements worldtest.Weather.
func (i *interlude) Meet(call worldtest.Call) worldtest.Verdict {
	i.mu.Lock()
	happens := i.happens
	if happens == nil || call.Point() != i.point {
		i.mu.Unlock()
		return worldtest.Pass
	}
	i.happens = nil
	i.mu.Unlock()
	return happens()
}

// at makes something happen at the next call of a kind.
func (i *interlude) at(point string, happens func()) {
	i.meet(point, func() worldtest.Verdict {
		happens()
		return worldtest.Pass
	})
}

func (i *interlude) meet(point string, happens func() worldtest.Verdict) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.point, i.happens = point, happens
}

// newInterludes is a world with a weather that a test tells what happens, and a second process. No callback arrives, so
// that nothing happens beside what the test tells.
func newInterludes(t *testing.T, adjust ...func(*worldtest.Options)) (*worldtest.World, *interlude, *issuance.Service) {
	t.Helper()
	weather := &interlude{}
	w := newWorld(t, append(adjust, func(o *worldtest.Options) { o.Weather, o.Deaf = weather, true })...)
	return w, weather, w.NewProcess()
}

// oversleep lets more time go by than a claim lasts; another process then sweeps.
func oversleep(w *worldtest.World, other *issuance.Service) {
	w.Advance(61 * time.Second)
	_, err := other.Sweep(w.Ctx, w.Accounts())
	w.Must(err)
}

func TestARefusalThatComesTooLateFailsNothing(t *testing.T) {
	w, weather, other := newInterludes(t, func(o *worldtest.Options) { o.Pools[part] = 1 })
	w.PutHolder("E-1")
	weather.at("create user", func() { oversleep(w, other) }) // and takes the only mobile ID
	c := w.Assign("E-1")
	w.Expect(c, "invited", "")
	expectWarning(w, c, credential.WarnProviderRefuses, false)
	w.CheckCalm()

	_, err := w.End(c, credential.EndDeleted)
	w.Must(err)
	w.Pass(time.Minute)
	weather.at("invite", func() { oversleep(w, other) })
	c = w.Assign("E-1")
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestWhatALateRequestReservedIsNoAnswerToALaterDoubt(t *testing.T) {
	w, weather, other := newInterludes(t)
	ended := w.Invited("E-1") // so that its user is known
	_, err := w.End(ended, credential.EndDeleted)
	w.Must(err)
	weather.at("invite", func() {
		w.Break("reserve", "timeout", "before", 1)
		oversleep(w, other) // settles the doubt, asks again, and is in doubt itself
	})
	c := w.Assign("E-1")
	if c = w.Read(c); c.Reservation != credential.ReservationInDoubt || len(c.Strays) != 1 {
		t.Fatalf("%s, strays %v", c.Reservation, c.Strays)
	}
	// What is being released, by a request that is slow to arrive, is not what was asked for.
	weather.meet("cancel", func() worldtest.Verdict { return worldtest.Late })
	w.Pass(6 * time.Second)
	w.Advance(time.Second)
	another := w.Assign("E-1") // works on every row of the holder
	w.Advance(worldtest.LateAtMost)
	w.Pass(61 * time.Second)
	w.Expect(c, "invited", "")
	w.Expect(another, "invited", "")
	w.CheckCalm()
}

func TestADoubtIsNotSettledWithWhatAnotherRowReleases(t *testing.T) {
	w, weather, _ := newInterludes(t)
	ended := w.Invited("E-1")
	_, err := w.End(ended, credential.EndDeleted)
	w.Must(err)
	w.Break("reserve", "timeout", "before", 1)
	c := w.Assign("E-1")

	// What was asked for the ended credential, very late.
	got, err := w.Client.Reserve(w.Ctx, ended.UserID, provider.Person{ExternalID: "E-1", FirstName: "A", LastName: "B",
		Email: "e-1@example.com"}, part)
	w.Must(err)
	ended = w.Read(ended)
	ended.Strays = []credential.Reserved{got}
	ended.Revision++
	w.Must(w.Store.Commit(w.Ctx, credential.Change{At: w.Now(), Credentials: []credential.Credential{ended},
		Touch: []credential.Touch{{HolderID: "E-1", Account: account}}}))

	weather.meet("cancel", func() worldtest.Verdict { return worldtest.Late })
	w.Pass(61 * time.Second)
	w.Advance(worldtest.LateAtMost)
	w.Pass(61 * time.Second)
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestAnAnswerThatComesTooLateIsReleased(t *testing.T) {
	w, weather, other := newInterludes(t)
	_, err := w.End(w.Invited("E-1"), credential.EndDeleted)
	w.Must(err)
	w.Break("reserve", "timeout", "after", 1)
	first := w.Assign("E-1")
	weather.at("invite after", func() {
		w.Advance(61 * time.Second)
		// The other process finds two reservations, cannot tell which is whose, gives both back, and is killed.
		given, killed := false, false
		w.Store.Fail = func(op string) error {
			if killed {
				return worldtest.ErrStore
			}
			if op != "Commit after" {
				return nil
			}
			row := w.Read(first)
			given = given || len(row.Strays) == 2
			killed = given && len(row.Strays) == 0
			return nil
		}
		_, err := other.Sweep(w.Ctx, w.Accounts())
		w.Store.Fail = nil
		if !killed {
			t.Fatalf("not killed: %v", err)
		}
	})
	second := w.Assign("E-1")
	for range 3 {
		w.Pass(61 * time.Second)
	}
	w.Expect(first, "invited", "")
	w.Expect(second, "invited", "")
	w.CheckCalm()
}

func TestAnErasureRemovesTheUserThatALateRequestMade(t *testing.T) {
	w, weather, other := newInterludes(t)
	w.PutHolder("E-1")
	weather.at("create user", func() {
		w.Advance(61 * time.Second)
		// No search finds the user any more by what is known of the holder.
		w.PutHolder("E-1", withEmail("second@example.com"))
		w.PutHolder("E-1", withEmail("third@example.com"))
		w.Must(other.Erase(w.Ctx, "E-1", w.Portal))
	})
	w.Assign("E-1")
	for range 20 {
		w.Pass(time.Minute)
	}
	if users := w.Sim.State().Users; len(users) != 0 {
		t.Errorf("users at the provider: %+v", users)
	}
	w.CheckCalm()
}

func TestAMobileIDThatAStrangerGetsWhileTheAnswerIsUnderWay(t *testing.T) {
	w, weather, other := newInterludes(t)
	w.PutHolder("E-1")
	w.Pass(time.Minute)
	weather.at("create user after", func() {
		u := w.Sim.State().Users[0]
		full, err := w.Client.User(w.Ctx, u.ID)
		w.Must(err)
		w.Must(w.Reassign(account, full.Credentials[0].MobileID.ID, "stranger"))
		w.Advance(time.Second)
		_, err = other.Sweep(w.Ctx, w.Accounts()) // the feed tells of it
		w.Must(err)
	})
	c := w.Assign("E-1")
	w.Pass(observe.AbsentFor + time.Second) // one reading could be an old one
	w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
	w.Pass(time.Minute)
	w.CheckCalm()
}

func TestAStrayThatAnotherCredentialHasIsNotReleased(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	first, second := w.Invited("E-1"), w.Assign("E-1")
	second = w.Read(second)
	second.Strays = []credential.Reserved{first.Reserved()} // as a process whose claim ran out may have noted it
	second.Revision++
	w.Must(w.Store.Commit(w.Ctx, credential.Change{
		At: w.Now(), Credentials: []credential.Credential{second},
		Touch: []credential.Touch{{HolderID: "E-1", Account: account}},
	}))
	for range 3 {
		w.Pass(time.Minute)
	}
	w.Expect(first, "invited", "")
	if second = w.Read(second); len(second.Strays) != 0 {
		t.Errorf("still to be released: %+v", second.Strays)
	}
	w.CheckCalm()
}

func TestAMobileIDThatAnotherHolderIsSeenWithIsLost(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	c, other := w.Invited("E-1"), w.Invited("E-2")
	w.Must(w.Reassign(account, c.Mobile.ID, "E-2")) // by the provider's administrator: no doubt of ours explains it
	// The report names no mobile ID: only reading the user shows which it has.
	w.Must(w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: other.UserID, Facts: []provider.Fact{
		{What: provider.AboutCredential, Status: provider.FactReserved, Ref: "new", At: w.Now()}}}))
	w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
	w.Expect(other, "invited", "")
}

func TestAMobileIDThatAStrangerIsSeenWithIsLost(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	c := w.Invited("E-1")
	w.Must(w.Sim.Revoke(c.Mobile.ID))
	w.Must(w.Reassign(account, c.Mobile.ID, "stranger"))
	stranger := ""
	for _, u := range w.Sim.State().Users {
		if u.ExternalID == "stranger" {
			stranger = u.ID
		}
	}
	w.Must(w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: stranger, Facts: []provider.Fact{
		{What: provider.AboutCredential, Status: provider.FactReserved, MobileID: c.Mobile.ID, At: w.Now()}}}))
	w.Expect(c, "reassigned", credential.ReasonGivenToAnother)
}

func TestAMailGoesOutOnlyOnceItsIntentIsWritten(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	w.PutHolder("E-1")
	w.Store.Fail = func(op string) error {
		if op != "Commit" {
			return nil
		}
		rows, err := w.Store.Credentials(w.Ctx, "E-1")
		if err == nil && len(rows) == 1 && rows[0].Reservation == credential.ReservationHeld {
			w.Store.Fail = nil
			return worldtest.ErrStore
		}
		return nil
	}
	_, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: "E-1", ProfileID: "hq"})
	if w.Store.Fail != nil || w.Mailbox.Count() != 0 {
		t.Fatalf("%v; %d mails before the intent was written", err, w.Mailbox.Count())
	}
	w.Pass(61 * time.Second)
	w.CheckCalm()
}

func TestAReadingIsAppliedOnlyToTheRowItWasReadFor(t *testing.T) {
	w, weather, other := newInterludes(t)
	_, _, err := w.Service.PutProfile(w.Ctx, credential.PutProfile{Profile: credential.Profile{ID: "hq", Name: "HQ",
		Account: account, PartNumber: part, InvitationDays: 2}}) // earlier than the provider's own deadline
	w.Must(err)
	c := w.Invited("E-1")
	w.SetNow(c.Invitation.ExpiresAt.Add(time.Second))
	weather.at("read user", func() {
		// Another process cancels the invitation, and does not get its answer.
		w.Break("cancel", "timeout", "after", 1)
		w.Break("feed", "error", "before", 1)
		_, err := other.Sweep(w.Ctx, w.Accounts())
		w.Must(err)
		w.Expect(c, "invited", "")
	})
	w.Must(w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: c.UserID, Facts: []provider.Fact{
		{What: provider.AboutInvitation, Ref: c.InvitationRef, Status: provider.FactCancelled, At: w.Now()},
	}}))
	w.Pass(61 * time.Second)
	w.Expect(c, "expired", credential.ReasonInvitationExpired)
	w.CheckCalm()
}
