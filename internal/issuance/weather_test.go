package issuance_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// What real providers and mail services are like beside the failures of single calls, one story each.

// calls counts the calls of a life by their kinds.
type calls struct {
	mu     sync.Mutex
	counts map[string]int
}

// Meet implements worldtest.Weather.
func (k *calls) Meet(call worldtest.Call) worldtest.Verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counts == nil {
		k.counts = map[string]int{}
	}
	if !call.After {
		k.counts[call.Kind]++
	}
	return worldtest.Pass
}

func (k *calls) take() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := k.counts
	k.counts = map[string]int{}
	return taken
}

func ofProvider(counts map[string]int) (n int) {
	for kind, count := range counts {
		if strings.ToLower(kind[:1]) == kind[:1] && kind != "mail" && kind != "pause" {
			n += count
		}
	}
	return n
}

// warnings are the codes of what the operator is shown of a credential.
func warnings(w *worldtest.World, c credential.Credential) (codes []credential.WarningCode) {
	w.Helper()
	c = w.Read(c)
	h, err := w.Store.Holder(w.Ctx, c.HolderID)
	if err != nil {
		w.Fatal(err)
	}
	outage, err := w.Store.Outage(w.Ctx, c.Account)
	if err != nil {
		w.Fatal(err)
	}
	for _, warning := range credential.Warnings(c, h, credential.Standing{Outage: outage}, w.Now()) {
		codes = append(codes, warning.Code)
	}
	return codes
}

func expectWarning(w *worldtest.World, c credential.Credential, code credential.WarningCode, want bool) {
	w.Helper()
	if got := warnings(w, c); slices.Contains(got, code) != want {
		w.Errorf("warnings %v; %s is wanted: %v", got, code, want)
	}
}

// listed says whether a credential is in the list of those with a warning.
func listed(w *worldtest.World, c credential.Credential, code credential.WarningCode) bool {
	w.Helper()
	rows, _, err := w.Store.ListCredentials(w.Ctx, credential.Page{ProfileID: "hq", Warning: code, Limit: 100})
	if err != nil {
		w.Fatal(err)
	}
	return slices.ContainsFunc(rows, func(row credential.Credential) bool { return row.ID == c.ID })
}

func syncOf(w *worldtest.World, c credential.Credential) credential.SyncState {
	w.Helper()
	c = w.Read(c)
	h, err := w.Store.Holder(w.Ctx, c.HolderID)
	if err != nil {
		w.Fatal(err)
	}
	state, _ := credential.Sync(c, h, w.Now())
	return state
}

func TestOneUserThatCannotBeReadStopsNoOther(t *testing.T) {
	for _, how := range []string{origosim.Error, origosim.Malformed, origosim.Missing} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
			unwell, other := w.Invited("E-1"), w.Invited("E-2")
			w.Pass(time.Minute)
			w.Must(w.Sim.MakeUnwell(unwell.UserID, how))
			w.Must(w.Sim.Redeem("phone-a", w.CodeOf(unwell)))
			w.Must(w.Sim.Redeem("phone-b", w.CodeOf(other)))
			for range 6 {
				w.Pass(time.Hour)
			}
			w.Expect(other, "activated", "")
			if n := w.Metric(issuance.MetricPoison); n != 0 { // its report waits on its row, and the feed goes on
				t.Errorf("%v reports could not be applied", n)
			}
			if outage, err := w.Store.Outage(w.Ctx, account); err != nil || outage.IsOpen() {
				t.Errorf("outage %+v, %v", outage, err)
			}
			w.Must(w.Sim.MakeUnwell(unwell.UserID, ""))
			w.Pass(6 * time.Hour)
			w.Expect(unwell, "activated", "")
			w.CheckCalm()
		})
	}
}

func TestStrangersCostNoCall(t *testing.T) {
	weather := &calls{}
	w := newWorld(t, func(o *worldtest.Options) { o.Weather = weather })
	w.Activated("E-1", "phone-a")
	w.Pass(time.Minute)
	w.AddStrangers(account, 200)
	weather.take()
	w.Must(w.Sim.StirStrangers(2000))
	for range 3 {
		w.Pass(time.Minute)
	}
	counts := weather.take()
	if others := ofProvider(counts) - counts["feed"] - counts["read stock"] - counts["list stock"]; others != 0 {
		t.Errorf("calls %v", counts)
	}
	if lag := w.Gauge(issuance.GaugeFeedLag); lag != 0 {
		t.Errorf("the feed lags by %v s", lag)
	}
	w.CheckCalm()
}

func TestARefusedMailIsSeen(t *testing.T) {
	log := newLines()
	w := newWorld(t, func(o *worldtest.Options) { o.Log = log })
	w.PutHolder("E-1")
	w.Mailbox.Answer(func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.Rejected, Reason: "refused"} })
	c := w.Assign("E-1")
	for range 5 {
		w.Pass(time.Hour)
	}
	expectWarning(w, c, credential.WarnMailNotSent, true)
	if n := w.Gauge(issuance.GaugeMailNotSent); n != 1 || !listed(w, c, credential.WarnMailNotSent) {
		t.Errorf("MailNotSent is %v", n)
	}
	if n := log.count("mail refused"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if wait := w.Read(c).Retry.At.Sub(w.Now()); wait > time.Hour {
		t.Errorf("tried again after %v", wait)
	}
	w.Mend()
	w.Pass(time.Hour)
	w.Pass(time.Minute)
	expectWarning(w, c, credential.WarnMailNotSent, false)
	if n := w.Gauge(issuance.GaugeMailNotSent); n != 0 || listed(w, c, credential.WarnMailNotSent) {
		t.Errorf("MailNotSent is %v", n)
	}
	w.CheckCalm()
}

// lines counts what is logged, by its message.
type lines struct {
	slog.Handler
	mu   sync.Mutex
	seen map[string]int
}

func newLines() *lines { return &lines{Handler: slog.DiscardHandler, seen: map[string]int{}} }

// Enabled implements slog.Handler.
func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[r.Message]++
	return nil
}

func (l *lines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[message]
}

func TestTroubleOfAnAccountIsSeenWhileItLasts(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	w.Pass(time.Minute)
	w.Break("token", "error", "before", 1000)
	w.Service = w.NewProcess() // which has no token yet
	w.Pass(time.Minute)
	for range 3 {
		w.Pass(time.Minute)
	}
	if n := w.Gauge(issuance.GaugeAccountTrouble); n != 1 {
		t.Errorf("AccountTrouble is %v", n)
	}
	if lag := w.Gauge(issuance.GaugeFeedLag); lag < 60 {
		t.Errorf("FeedLag is %v", lag)
	}
	ended, err := w.End(c, credential.EndStolen)
	w.Must(err)
	if syncOf(w, ended) != credential.SyncPending {
		t.Errorf("%s", syncOf(w, ended))
	}
	expectWarning(w, c, credential.WarnProviderUnreachable, true)
	expectWarning(w, c, credential.WarnReleasePending, true)
	w.Mend()
	for range 3 {
		w.Pass(time.Minute)
	}
	if n, lag := w.Gauge(issuance.GaugeAccountTrouble), w.Gauge(issuance.GaugeFeedLag); n != 0 || lag != 0 {
		t.Errorf("AccountTrouble %v, FeedLag %v", n, lag)
	}
	expectWarning(w, c, credential.WarnProviderUnreachable, false)
	w.CheckCalm()
}

func TestAnAccountOverItsLimitIsSeenAndIsInNoOutage(t *testing.T) {
	w := newWorld(t)
	w.Invited("E-1")
	w.Pass(time.Minute)
	w.Break("any", "throttle", "before", 1000)
	for range 5 {
		w.Pass(time.Minute)
	}
	if n, lag := w.Gauge(issuance.GaugeAccountTrouble), w.Gauge(issuance.GaugeFeedLag); n != 1 || lag < 180 {
		t.Errorf("AccountTrouble %v, FeedLag %v", n, lag)
	}
	if outage, err := w.Store.Outage(w.Ctx, account); err != nil || outage.IsOpen() {
		t.Errorf("outage %+v, %v", outage, err)
	}
	w.Mend()
	w.Pass(time.Minute)
	if n := w.Gauge(issuance.GaugeAccountTrouble); n != 0 {
		t.Errorf("AccountTrouble %v", n)
	}
	w.CheckCalm()
}

func TestARevocationThatIsForbiddenIsStuckAndSeen(t *testing.T) {
	w := newWorld(t)
	c := w.Activated("E-1", "phone-a")
	w.Must(w.Sim.Forbid(c.Mobile.ID, true))
	_, err := w.End(c, credential.EndStolen)
	w.Must(err)
	for range 12 {
		w.Pass(time.Hour)
	}
	if n := w.Gauge(issuance.GaugeStuckRows); n != 1 || w.Metric(issuance.MetricStuck) == 0 {
		t.Errorf("StuckRows %v, StuckSteps %d", n, w.Metric(issuance.MetricStuck))
	}
	expectWarning(w, c, credential.WarnProviderRefuses, true)
	if outage, err := w.Store.Outage(w.Ctx, account); err != nil || outage.IsOpen() {
		t.Errorf("outage %+v, %v", outage, err)
	}
	w.Must(w.Sim.Forbid(c.Mobile.ID, false))
	w.Pass(6 * time.Hour)
	w.Pass(time.Minute)
	w.CheckCalm()
}

func TestOneReadingProvesNoAbsence(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	c := w.Invited("E-1")
	w.Pass(time.Minute)
	report := func() {
		t.Helper()
		w.Must(w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: c.UserID, Facts: []provider.Fact{
			{What: provider.AboutCredential, Ref: c.CredentialRef, Status: provider.FactChanged, At: w.Now()}}}))
	}
	report()
	w.Must(w.Sim.MakePartial(c.UserID))
	report()
	w.Expect(c, "invited", "")
	w.Pass(time.Minute)
	w.Pass(time.Minute)
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestABadgeWhoseReferenceChangedIsRevoked(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf, o.Switches.NewReferenceOnIssue = true, true })
	c := w.Invited("E-1")
	w.Must(w.Sim.Redeem("phone-a", w.CodeOf(c)))
	w.Break("feed", "error", "before", 1000)
	_, err := w.End(c, credential.EndDeleted)
	w.Must(err)
	w.Pass(time.Minute)
	if badges := w.Sim.Phone("phone-a").Badges; len(badges) != 0 {
		t.Errorf("the phone has %+v", badges)
	}
	w.Mend()
	w.Pass(time.Minute)
	w.CheckCalm()
}

func TestARevocationUnderWayIsNotGone(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) {
		o.Switches.OfflinePhonesKeepRevoking, o.Switches.SecondRevoke412 = true, true
	})
	c := w.Activated("E-1", "phone-a")
	_, err := w.End(c, credential.EndLost)
	w.Must(err)
	for range 20 {
		w.Pass(time.Hour)
	}
	if c = w.Read(c); c.Reservation != credential.ReservationHeld || syncOf(w, c) != credential.SyncPending {
		t.Errorf("%s, %s", c.Reservation, syncOf(w, c))
	}
	expectWarning(w, c, credential.WarnReleasePending, true)
	expectWarning(w, c, credential.WarnProviderRefuses, false)
	if !listed(w, c, credential.WarnReleasePending) {
		t.Error("not listed")
	}
	w.Switch(func(s *origosim.Switches) { s.OfflinePhonesKeepRevoking = false }) // the phone comes back, and that is reported
	w.Settle()
	if c = w.Read(c); c.Reservation != credential.ReservationReleased {
		t.Errorf("%s after the phone was back", c.Reservation)
	}
	w.CheckCalm()
}

func TestARequestThatIsCarriedOutLateLeavesNothing(t *testing.T) {
	w, weather, _ := newInterludes(t)
	w.SetLateAfter(worldtest.VeryLate)
	_, err := w.End(w.Invited("E-1"), credential.EndDeleted)
	w.Must(err)
	weather.meet("invite", func() worldtest.Verdict { return worldtest.Late })
	c := w.Assign("E-1")
	for range 20 { // settled, and asked for again; then the first request arrives
		w.Advance(time.Minute)
		w.Pass(time.Second)
	}
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestASecondUserThatALateRequestMadeIsRemoved(t *testing.T) {
	w, weather, _ := newInterludes(t)
	w.SetLateAfter(worldtest.VeryLate)
	w.PutHolder("E-1")
	weather.meet("create user", func() worldtest.Verdict { return worldtest.Late })
	w.Assign("E-1")
	w.PutHolder("E-1", withEmail("new@example.com")) // so that the provider takes the first one, too
	for range 20 {
		w.Advance(time.Minute)
		w.Pass(time.Second)
	}
	if got := emailsAtProvider(w, "E-1"); got != "[new@example.com]" {
		t.Errorf("at the provider: %s", got)
	}
	w.CheckCalm()
}

func TestASearchThatLagsCostsNoCredential(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Switches.SearchLags = true })
	w.PutHolder("E-1")
	w.Break("reserve", "timeout", "after", 1)
	first := w.Assign("E-1")
	w.Advance(11 * time.Second)
	// The doubt is settled before a search finds the user that was made: the e-mail is taken, and no user is found with it.
	second := w.Assign("E-1")
	w.Expect(first, "invited", "")
	if first = w.Read(first); first.Retry.Error != credential.ReasonEmailInUse {
		t.Fatalf("retry %+v", first.Retry)
	}
	for range 20 {
		w.Pass(time.Minute)
	}
	w.Expect(first, "invited", "")
	w.Expect(second, "invited", "")
	if users := w.Sim.State().Users; len(users) != 1 {
		t.Errorf("%d users", len(users))
	}
	w.CheckCalm()
}

func TestAMailInDoubtIsRepeatedFiveTimesAtMost(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	w.Mailbox.LoseAnswers("", w.Now().Add(1000*time.Hour))
	c := w.Assign("E-1")
	for range 200 {
		w.Pass(time.Minute)
	}
	if n := w.Mailbox.Count(); n != credential.MailDoubtLimit {
		t.Errorf("%d mails", n)
	}
	expectWarning(w, c, credential.WarnMailInDoubt, true)
	if !listed(w, c, credential.WarnMailInDoubt) {
		t.Error("not listed")
	}
	w.Mend()
	_, err := w.Service.Resend(w.Ctx, credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID})
	w.Must(err)
	expectWarning(w, c, credential.WarnMailInDoubt, false)
	w.CheckCalm()
}

func TestNoMailGoesOutAfterTheDeadline(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	w.Mailbox.Answer(func(mail.Letter) mail.Outcome { return mail.Outcome{Fate: mail.Rejected, Reason: "refused"} })
	c := w.Assign("E-1")
	w.Break("any", "error", "before", 1000) // so that the row cannot end either
	w.SetNow(c.Invitation.ExpiresAt.Add(time.Minute))
	w.Mailbox.Answer(nil)
	w.Pass(time.Minute)
	_, err := w.Service.Resend(w.Ctx, credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID})
	w.Refusal(err, credential.CodeInvalidState)
	if n := w.Mailbox.Count(); n != 0 {
		t.Errorf("%d mails about a dead code", n)
	}
}

func TestWhileAReservationIsInDoubtTheProviderIsNotInStep(t *testing.T) {
	w := newWorld(t)
	w.PutHolder("E-1")
	w.Break("reserve", "timeout", "after", 1)
	c := w.Assign("E-1")
	if syncOf(w, c) != credential.SyncPending {
		t.Errorf("%s", syncOf(w, c))
	}
	expectWarning(w, c, credential.WarnReservationInDoubt, true)
	ended, err := w.End(c, credential.EndDeleted)
	w.Must(err)
	if ended.State() != "revoked" || syncOf(w, ended) != credential.SyncPending {
		t.Errorf("%s, %s", ended.State(), syncOf(w, ended))
	}
	w.Pass(time.Minute)
	w.Pass(time.Minute)
	if syncOf(w, ended) != credential.SyncSynced {
		t.Errorf("%s after it was settled", syncOf(w, ended))
	}
}

func TestAHolderChangeThatTheProviderRefusesIsSeen(t *testing.T) {
	w := newWorld(t)
	c, other := w.Invited("E-1"), w.Invited("E-2")
	w.PutHolder("E-1", withEmail("e-2@example.com"))
	w.Pass(time.Minute)
	expectWarning(w, c, credential.WarnHolderChangeRefused, true)
	if syncOf(w, c) == credential.SyncSynced || !listed(w, c, credential.WarnHolderChangeRefused) {
		t.Errorf("%s", syncOf(w, c))
	}
	w.PutHolder("E-2", withEmail("e-3@example.com"))
	w.Pass(time.Minute)
	w.Pass(6 * time.Hour)
	expectWarning(w, c, credential.WarnHolderChangeRefused, false)
	expectWarning(w, other, credential.WarnHolderChangeRefused, false)
	if syncOf(w, c) != credential.SyncSynced {
		t.Errorf("%s", syncOf(w, c))
	}
}

func TestACredentialIsReplacedByOneAtATime(t *testing.T) {
	w := newWorld(t)
	old := w.Activated("E-1", "phone-a")
	replace := func(reason credential.EndReason) (credential.Result, error) {
		return w.Service.Replace(w.Ctx, credential.Replace{Request: w.Portal, HolderID: "E-1", CredentialID: old.ID,
			Reason: reason})
	}
	w.Break("reserve", "error", "before", 1000)
	first, err := replace(credential.EndUpgrade)
	w.Must(err)
	for range 5 {
		again, err := replace(credential.EndUpgrade)
		w.Must(err)
		if again.Credential.ID != first.Credential.ID || !again.Unchanged {
			t.Errorf("%s, unchanged %v", again.Credential.ID, again.Unchanged)
		}
	}
	_, err = replace(credential.EndLost)
	w.Refusal(err, credential.CodeReplacementPending)
	w.Mend()
	for range 3 {
		w.Pass(time.Minute)
	}
	w.Expect(old, "revoked", credential.ReasonReplaced)
	rows, err := w.Store.Credentials(w.Ctx, "E-1")
	w.Must(err)
	if len(rows) != 2 || w.Read(old).ReplacedBy != first.Credential.ID || w.Read(first.Credential).Replaces != old.ID {
		t.Errorf("%d credentials", len(rows))
	}
	w.CheckCalm()
}

func TestReportsDuringAnOutageAreKeptAndCostNothing(t *testing.T) {
	weather := &calls{}
	w := newWorld(t, func(o *worldtest.Options) { o.Weather, o.Deaf = weather, true })
	c := w.Invited("E-1")
	w.Pass(time.Minute)
	open := credential.Outage{}.Open(credential.TroubleUnavailable, w.Now())
	w.Must(w.Store.SetOutage(w.Ctx, account, open))
	w.Must(w.Sim.Redeem("phone-a", w.CodeOf(c)))
	weather.take()
	for range 30 {
		w.Must(w.Service.Refresh(w.Ctx, provider.UserFacts{Account: account, UserID: c.UserID, Facts: []provider.Fact{
			{What: provider.AboutInvitation, Ref: c.InvitationRef, Status: provider.FactAccepted, At: w.Now()}}}))
	}
	if counts := weather.take(); ofProvider(counts) != 0 {
		t.Errorf("calls %v", counts)
	}
	if n := len(w.Read(c).Reports); n != 1 {
		t.Errorf("%d reports kept", n)
	}
	w.Break("feed", "error", "before", 1000) // which would tell of it, too
	w.Pass(time.Minute)
	w.Pass(time.Minute)
	w.Expect(c, "activated", "")
}

func TestRequestsDoNotCallTheProviderDuringAnOutage(t *testing.T) {
	weather := &calls{}
	w := newWorld(t, func(o *worldtest.Options) { o.Weather = weather })
	for _, id := range []string{"E-1", "E-2", "E-3", "E-4"} {
		w.PutHolder(id)
	}
	w.Break("any", "timeout", "before", 1000)
	w.Assign("E-1")
	w.Assign("E-2") // two users without an answer: it is the account
	weather.take()
	c, _ := w.Assign("E-3"), w.Assign("E-4")
	if counts := weather.take(); ofProvider(counts) != 0 {
		t.Errorf("calls %v", counts)
	}
	expectWarning(w, c, credential.WarnProviderUnreachable, true)
	w.Mend()
	for range 3 {
		w.Pass(time.Minute)
	}
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestOurOwnCallbackCostsNoTransaction(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
	w.PutHolder("E-1")
	w.Pass(time.Minute)
	other, told := w.NewProcess(), false
	w.Store.Fail = func(op string) error {
		if op != "Commit" || told {
			return nil
		}
		told = true // so that what is read here does not come here again
		rows, err := w.Store.Credentials(w.Ctx, "E-1")
		w.Must(err)
		if told = len(rows) == 1 && rows[0].Reservation == credential.ReservationInDoubt; told {
			w.Advance(time.Second)
			_, err := other.Sweep(w.Ctx, w.Accounts()) // the feed tells of our own reservation, as it is being recorded
			w.Must(err)
		}
		return nil
	}
	pauses := 0
	w.Service.Pause = func(context.Context, int) error {
		pauses++
		return nil
	}
	c := w.Assign("E-1")
	w.Store.Fail = nil
	if !told || pauses != 0 {
		t.Errorf("told %v, %d writes met a conflict", told, pauses)
	}
	w.Expect(c, "invited", "")
	owner, err := w.Store.Owner(w.Ctx, account, c.Mobile.ID)
	if err != nil || owner.State != credential.OwnerHeld || owner.CredentialID != c.ID {
		t.Errorf("%+v, %v", owner, err)
	}
	w.CheckCalm()
}

func TestWarningsThatComeWithTimeAreListed(t *testing.T) {
	w := newWorld(t)
	invited := w.Invited("E-1")
	accepted := w.Invited("E-2")
	w.Must(w.Sim.Accept("phone-b", w.CodeOf(accepted)))
	badge := w.Activated("E-3", "phone-c")
	w.Pass(time.Hour)
	w.Pass(time.Minute)
	for c, code := range map[*credential.Credential]credential.WarningCode{
		&accepted: credential.WarnNotOnDeviceYet, &badge: credential.WarnPictureMissing,
	} {
		expectWarning(w, *c, code, true)
		if !listed(w, *c, code) {
			t.Errorf("%s is not listed", code)
		}
	}
	expectWarning(w, invited, credential.WarnExpiresSoon, false)
	w.Pass(6 * 24 * time.Hour)
	expectWarning(w, invited, credential.WarnExpiresSoon, true)
	if !listed(w, invited, credential.WarnExpiresSoon) {
		t.Error("expires_soon is not listed")
	}
	w.Redeem(invited, "phone-a")
	if listed(w, invited, credential.WarnExpiresSoon) {
		t.Error("expires_soon is still listed")
	}
}

func TestAnAccountThatIsNoLongerConfiguredIsSaidAtOnce(t *testing.T) {
	w := newWorld(t)
	c := w.Invited("E-1")
	w.Advance(time.Minute)
	w.Service.Accounts = []string{"other"}
	result, err := w.Service.Resend(w.Ctx, credential.Resend{Request: w.Portal, HolderID: "E-1", CredentialID: c.ID})
	w.Must(err)
	if !result.Standing.AccountUnknown {
		t.Errorf("standing %+v", result.Standing)
	}
}

// CheckCalm says that what other systems have made is still there, and that no credential of ours has it.

func TestWhatAnAdministratorReservesDaysAfterADoubtIsNoAnswerToIt(t *testing.T) {
	w := newWorld(t)
	w.Invited("E-1")
	w.Break("reserve", "timeout", "before", 1)
	c := w.Assign("E-1")
	w.Pass(11 * time.Second) // settled, and asked for once more
	w.Advance(25 * time.Hour)
	_, err := w.ReserveByHand(account, "E-1", part)
	w.Must(err)
	for range 3 { // what was settled without its answer is looked for only now
		w.Pass(time.Minute)
	}
	w.Expect(c, "invited", "")
	w.CheckCalm()
}

func TestAMobileIDThatIsReservedAnewForItsHolderIsNotOurs(t *testing.T) {
	t.Run("for a live credential", func(t *testing.T) {
		w := newWorld(t, func(o *worldtest.Options) { o.Deaf = true })
		c := w.Invited("E-1")
		w.Must(w.Sim.Revoke(c.Mobile.ID))
		if again, err := w.ReserveByHand(account, "E-1", part); err != nil || again != c.Mobile.ID {
			t.Fatalf("%s, %v", again, err)
		}
		for range 3 {
			w.Pass(time.Minute)
		}
		w.Expect(c, "revoked", credential.ReasonRevokedAtProvider)
		w.CheckCalm()
	})
	t.Run("while the answer to its release is lost", func(t *testing.T) {
		w := newWorld(t)
		c := w.Invited("E-1")
		w.Break("cancel", "timeout", "after", 1)
		_, err := w.End(c, credential.EndDeleted)
		w.Must(err)
		if again, err := w.ReserveByHand(account, "E-1", part); err != nil || again != c.Mobile.ID {
			t.Fatalf("%s, %v", again, err)
		}
		for range 3 {
			w.Pass(time.Minute)
		}
		w.CheckCalm()
	})
}

func TestABadgeOnAPhoneIsNoAnswerToADoubt(t *testing.T) {
	w := newWorld(t, func(o *worldtest.Options) { o.Switches.PartialReadOnce = true })
	_, err := w.AddExisting(account, origosim.Existing{ExternalID: "E-1", Email: "e-1@example.com", Phone: "phone-x",
		PartNumber: part})
	w.Must(err)
	w.PutHolder("E-1")
	w.Break("reserve", "timeout", "before", 1)
	c := w.Assign("E-1") // reads the user without the badge
	w.Pass(11 * time.Second)
	w.Pass(time.Minute)
	w.Expect(c, "invited", "")
	w.CheckCalm()
}
