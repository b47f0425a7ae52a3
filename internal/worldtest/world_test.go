package worldtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

func ready(t *testing.T, adjust ...func(*Options)) *World {
	w := New(t, adjust...)
	w.PutProfile("hq", Account, Part)
	return w
}

// process is a client of the provider as a process of the service has it, which meets the weather.
func process(t *testing.T, w *World, account string) provider.Provider {
	t.Helper()
	p, err := w.NewProcess().Providers.Provider(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What hides things from the service hides nothing from the world, and the invariants hold.
func TestTheWorldSeesTheProviderAsItIs(t *testing.T) {
	w := ready(t)
	w.Switch(func(s *origosim.Switches) {
		s.ListLags, s.PartialReadOnce, s.ReservedNeverListed, s.CallsPerWindow = true, true, true, 12
	})
	c := w.Invited("E-1")
	if u, err := w.Client.User(t.Context(), c.UserID); err != nil || len(u.Credentials) != 1 {
		t.Errorf("the world sees %+v, %v", u, err)
	}
	if u, err := process(t, w, Account).User(t.Context(), c.UserID); err != nil || len(u.Credentials) != 0 {
		t.Errorf("the service sees %+v, %v", u, err)
	}
	for range 20 {
		if _, err := w.Client.User(t.Context(), c.UserID); err != nil {
			t.Fatal(err)
		}
	}
	w.CheckCalm()
}

func TestALateRequestArrivesAfterTheTimeThatWasSet(t *testing.T) {
	var meets []Verdict
	w := ready(t, func(o *Options) {
		o.Weather = verdicts(func(c Call) Verdict {
			if c.Kind != "create user" || c.After || len(meets) == 0 {
				return Pass
			}
			v := meets[0]
			meets = meets[1:]
			return v
		})
	})
	reserve := func(name string) error {
		p := process(t, w, Account)
		_, err := p.Reserve(t.Context(), "", provider.Person{ExternalID: name, FirstName: "A", LastName: "B",
			Email: name + "@example.com"}, Part)
		return err
	}
	users := func() int { return len(w.Sim.State().Users) }
	meets = []Verdict{Late, Late}
	w.SetLateAfter(VeryLate)
	if err := reserve("X-1"); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("very late: %v", err)
	}
	w.SetLateAfter(LateAtMost)
	if err := reserve("X-2"); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("late: %v", err)
	}
	w.Advance(LateAtMost)
	if got := users(); got != 1 {
		t.Errorf("%d users after %s", got, LateAtMost)
	}
	w.Advance(VeryLate)
	if got := users(); got != 2 {
		t.Errorf("%d users after %s", got, VeryLate)
	}
}

// verdicts is weather made of a function.
type verdicts func(Call) Verdict

func (v verdicts) Meet(c Call) Verdict { return v(c) }

func TestOneOfTwoAccountsIsSlow(t *testing.T) {
	w := ready(t, func(o *Options) { o.Accounts = []string{Account, "globex"} })
	w.SetSlow("globex", 2*time.Second)
	took := func(account string) time.Duration {
		begun := w.Now()
		if _, err := process(t, w, account).Stock(t.Context(), Part); err != nil {
			t.Fatal(err)
		}
		return w.Now().Sub(begun)
	}
	if quick, slow := took(Account), took("globex"); quick != 0 || slow != 6*time.Second { // a token and two readings
		t.Errorf("%s and %s", quick, slow)
	}
	w.SetSlow("globex", CallLimit)
	if _, err := process(t, w, "globex").Stock(t.Context(), Part); !errors.Is(err, provider.ErrNoAccess) {
		t.Errorf("slower than the service waits: %v", err)
	}
	w.Mend()
	if took("globex") != 0 {
		t.Error("slow after it was mended")
	}
}

func TestAFaultForOneHolder(t *testing.T) {
	w := ready(t)
	first, second := w.Invited("E-1"), w.Invited("E-2")
	w.BreakFor("E-1", "read", origosim.Missing, "", 2)
	p := process(t, w, Account)
	if _, err := p.User(t.Context(), second.UserID); err != nil {
		t.Errorf("another holder: %v", err)
	}
	for range 2 {
		if _, err := p.User(t.Context(), first.UserID); !errors.Is(err, provider.ErrUnavailable) {
			t.Errorf("a bare 404: %v", err)
		}
	}
	if _, err := p.User(t.Context(), first.UserID); err != nil {
		t.Errorf("when it is spent: %v", err)
	}
}

// What others do at the provider is foreign to the world, so that it is nothing the service has left behind.
func TestTheWorldKnowsWhatIsForeign(t *testing.T) {
	w := ready(t)
	w.Switch(func(s *origosim.Switches) { s.NewReferenceOnIssue = true })
	c := w.Invited("E-1")
	_, err := w.AddExisting(Account, origosim.Existing{ExternalID: "OTHER-1", Email: "other@example.com", PartNumber: Part})
	w.Must(err)
	w.AddStrangers(Account, 30)
	w.Must(w.Sim.StirStrangers(60))
	byHand, err := w.ReserveByHand(Account, "E-1", Part)
	w.Must(err)
	w.CheckCalm()

	w.Must(w.Sim.Redeem("phone-b", w.CodeAtProvider(Account, "E-1")))
	w.CheckCalm()
	if !slices.ContainsFunc(w.Sim.Phone("phone-b").Badges, func(b origosim.Badge) bool { return b.MobileID == byHand }) {
		t.Errorf("phone-b has %+v", w.Sim.Phone("phone-b"))
	}
	w.Expect(c, "invited", "")
}

func TestTheMailServiceInBadWeather(t *testing.T) {
	w := ready(t)
	send := func(address string) mail.Fate {
		return w.Mailbox.Send(context.Background(), mail.Letter{To: address, CredentialID: "c"}).Fate
	}
	expect := func(what, address string, fate mail.Fate, delivered int) {
		t.Helper()
		before := w.Mailbox.Count()
		if got := send(address); got != fate || w.Mailbox.Count()-before != delivered {
			t.Errorf("%s: %v, %d delivered", what, got, w.Mailbox.Count()-before)
		}
	}
	w.Mailbox.Refuse("ada@example.com", time.Time{})
	expect("refused for good", "Ada@example.com", mail.Rejected, 0)
	expect("another address", "tom@example.com", mail.Sent, 1)
	w.Advance(1000 * time.Hour)
	expect("still refused", "ada@example.com", mail.Rejected, 0)
	w.Mend()
	expect("mended", "ada@example.com", mail.Sent, 1)

	w.Mailbox.Refuse("", w.Now().Add(time.Hour))
	expect("refused for an hour", "tom@example.com", mail.Rejected, 0)
	w.Advance(time.Hour)
	expect("an hour later", "tom@example.com", mail.Sent, 1)

	w.Mailbox.LoseAnswers("", w.Now().Add(time.Hour))
	expect("answers get lost for an hour", "tom@example.com", mail.InDoubt, 1)
	w.Advance(time.Hour)
	expect("an hour later", "tom@example.com", mail.Sent, 1)
}

// lenient is a test that goes on after an error, and remembers what was wrong.
type lenient struct {
	*testing.T
	wrong []string
}

func (l *lenient) Errorf(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func TestARevokedBadgeThatStaysOnAPhoneIsNoCalm(t *testing.T) {
	l := &lenient{T: t}
	w := New(l)
	w.PutProfile("hq", Account, Part)
	w.Switch(func(s *origosim.Switches) { s.OfflinePhonesKeepRevoking = true })
	c := w.Activated("E-1", "phone-a")
	_, err := w.End(c, credential.EndDeleted)
	w.Must(err)
	w.Pass(time.Hour)
	w.CheckCalm()
	if !strings.Contains(strings.Join(l.wrong, "; "), "is on phone-a, and no live credential has it there") {
		t.Errorf("what was found: %v", l.wrong)
	}
	l.wrong = nil
	w.Switch(func(s *origosim.Switches) { s.OfflinePhonesKeepRevoking = false })
	for range 3 {
		w.Pass(time.Hour)
	}
	w.CheckCalm()
	if len(l.wrong) > 0 {
		t.Errorf("after the phone came back: %v", l.wrong)
	}
}
