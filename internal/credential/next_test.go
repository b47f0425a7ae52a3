package credential

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	later, earlier := noon.Add(time.Hour), noon.Add(-time.Hour)
	employee := Holder{ID: "h1", Kind: Cardholder}
	edit := func(state string, edits ...func(*Credential)) Credential {
		c := inState(state)
		for _, e := range edits {
			e(&c)
		}
		return c
	}
	reservation := func(r Reservation) func(*Credential) { return func(c *Credential) { c.Reservation = r } }
	pending := func(c *Credential) { c.Invitation.Status = InvitationPending }
	deadline := func(at time.Time) func(*Credential) { return func(c *Credential) { c.Invitation.ExpiresAt = &at } }
	doubt := func(at time.Time) func(*Credential) {
		return func(c *Credential) { c.Reservation, c.Doubt = ReservationInDoubt, &Doubt{At: at} }
	}
	retry := func(kind StepKind, at time.Time) func(*Credential) {
		return func(c *Credential) { c.Retry = Retry{For: kind, At: at, Attempts: 1} }
	}

	for _, tc := range []struct {
		name   string
		c      Credential
		holder Holder
		want   Step
	}{
		{"new", edit("invited", reservation(ReservationNone), pending), employee, Step{Kind: StepIssue}},
		{"refused once", edit("invited", reservation(ReservationNone), pending, retry(StepIssue, later)), employee,
			Step{StepIssue, later}},
		{"in doubt, fresh", edit("invited", doubt(noon)), employee, Step{StepSettle, noon.Add(settleAfter)}},
		{"in doubt, old", edit("invited", doubt(earlier)), employee, Step{StepSettle, earlier.Add(settleAfter)}},
		{"in doubt and final", edit("revoked", doubt(earlier)), employee, Step{StepSettle, earlier.Add(settleAfter)}},
		{"reserved", edit("invited", pending), employee, Step{Kind: StepMail}},
		{"a mail may be out", edit("invited", pending, func(c *Credential) { c.Invitation.MailingAt = &noon }),
			employee, Step{StepMail, noon.Add(mailDoubt)}},
		{"a mail in doubt does not keep the deadline waiting", edit("invited", pending, deadline(earlier),
			func(c *Credential) { c.Invitation.MailingAt = &noon }), employee, Step{StepExpire, earlier}},
		{"sent, its deadline near", edit("invited", deadline(later)), employee, Step{StepNote, later.Add(-soonExpired)}},
		{"sent, and said to expire soon", edit("invited", deadline(later), func(c *Credential) {
			c.Warned = []Warning{{Code: WarnExpiresSoon}}
		}), employee, Step{StepExpire, later}},
		{"bounced", edit("invited", func(c *Credential) { c.Invitation.Status = InvitationBounced }), employee, Step{}},
		{"deadline passed", edit("invited", deadline(earlier)), employee, Step{StepExpire, earlier}},
		{"accepted", edit("activating", func(c *Credential) { c.LookAt = &later }), employee, Step{StepLook, later}},
		{"activated", edit("activated"), employee, Step{}},
		{"activated, picture to show", edit("activated"), Holder{ID: "h1", Kind: Cardholder, PictureHash: "p"},
			Step{Kind: StepPicture}},
		{"activated, picture to remove", edit("activated", func(c *Credential) { c.PictureHash = "p" }), employee,
			Step{Kind: StepPicture}},
		{"visit over", edit("activated"), Holder{ID: "h1", Kind: Visitor, ValidUntil: &earlier}, Step{StepEnd,
			earlier}},
		{"visit to be over", edit("activated"), Holder{ID: "h1", Kind: Visitor, ValidUntil: &later}, Step{StepEnd,
			later}},
		{"visit over before anything was reserved", edit("invited", reservation(ReservationNone)), Holder{ID: "h1",
			Kind: Visitor, ValidUntil: &earlier}, Step{StepEnd, earlier}},
		{"erasing", edit("invited"), Holder{ID: "h1", Kind: Cardholder, Erasing: true}, Step{Kind: StepEnd}},
		{"revoked, held", edit("revoked", reservation(ReservationHeld)), employee, Step{Kind: StepRelease}},
		{"revoked, released", edit("revoked"), employee, Step{}},
		{"revoked, nothing reserved", edit("revoked", reservation(ReservationNone)), employee, Step{}},
		{"failed, spent ones aside", edit("failed", reservation(ReservationNone),
			func(c *Credential) { c.Aside = []Reserved{{}} }), employee, Step{Kind: StepRelease}},
		{"live, a stray", edit("invited", func(c *Credential) { c.Strays = []Reserved{{}} }), employee,
			Step{Kind: StepRelease}},
		{"live, spent ones aside", edit("invited", reservation(ReservationNone),
			func(c *Credential) { c.Aside = []Reserved{{}} }), employee, Step{Kind: StepIssue}},
	} {
		if got := Next(tc.c, tc.holder, noon); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestRefusalsWaitLongerAndLonger(t *testing.T) {
	var r Retry
	var waits []time.Duration
	for range 12 {
		r = Postpone(r, StepIssue, Holder{}, "refused", noon)
		waits = append(waits, r.At.Sub(noon))
	}
	if waits[0] != time.Minute || waits[1] != 2*time.Minute || waits[11] != 6*time.Hour {
		t.Errorf("waits: %v", waits)
	}
	if r = Postpone(r, StepRelease, Holder{}, "refused", noon); r.Attempts != 1 {
		t.Errorf("another step starts anew, but has %d attempts", r.Attempts)
	}
}

func TestSync(t *testing.T) {
	employee := Holder{ID: "h1", Kind: Cardholder}
	for _, tc := range []struct {
		name  string
		c     Credential
		want  SyncState
		error string
	}{
		{"all is well", inState("invited"), SyncSynced, ""},
		{"to be released", func() Credential { c := inState("revoked"); c.Reservation = ReservationHeld; return c }(),
			SyncPending, ""},
		{"refused", func() Credential {
			c := inState("revoked")
			c.Reservation, c.Retry = ReservationHeld, Retry{For: StepRelease, Attempts: 1, At: noon.Add(time.Hour),
				Error: "no"}
			return c
		}(), SyncPending, "no"},
		{"refused often", func() Credential {
			c := inState("revoked")
			c.Reservation, c.Retry = ReservationHeld, Retry{For: StepRelease, Attempts: RefusalLimit, At: noon,
				Error: "no"}
			return c
		}(), SyncFailed, "no"},
		{"only the mail is missing",
			func() Credential { c := inState("invited"); c.Invitation.Status = InvitationPending; return c }(),
			SyncSynced, ""},
	} {
		if state, code := Sync(tc.c, employee, noon); state != tc.want || code != tc.error {
			t.Errorf("%s: %s %q, want %s %q", tc.name, state, code, tc.want, tc.error)
		}
	}
}
