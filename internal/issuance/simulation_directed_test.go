package issuance_test

import (
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// Some situations take several steps in one order that chance alone hardly ever finds. These actions bring them about;
// what becomes of each call on the way, and of everything afterwards, is still drawn.

// assignHQ assigns a credential of the profile hq to a holder.
func (s *simulation) assignHQ(holderID string) func(*issuance.Service) error {
	return func(p *issuance.Service) error {
		_, err := p.Assign(s.Ctx, credential.Assign{Request: s.Portal, HolderID: holderID, ProfileID: "hq"})
		return err
	}
}

// until lets an invocation go on until it has stopped at a call of a kind; false when it is over without.
func (s *simulation) until(in *invocation, is func(worldtest.Call) bool) bool {
	for !in.isOver() {
		if is(in.call) {
			return true
		}
		v := s.decide(in)
		if v == stay {
			v = worldtest.Pass
		}
		s.proceed(in, v)
	}
	return false
}

// loseNext plans that the answer to the next reservation is lost, and perhaps the request with it.
func (s *simulation) loseNext() {
	call := worldtest.Call{Kind: "invite", After: upTo(s.t, "the request arrives", 1) == 1}
	s.plans = append([]plan{{call, 1, worldtest.Unwell}}, s.plans...)
}

// oversleep: a process stands still while it reserves, for longer than its claim lasts; a sweep goes on in its place,
// and then it wakes up. Perhaps another credential of the same holder is in doubt meanwhile.
func (s *simulation) oversleep() {
	if len(s.stopped) >= mostAtOnce-1 {
		panic(notNow{})
	}
	id := s.holderID()
	if upTo(s.t, "another doubt", 1) == 1 {
		s.loseNext()
		s.do("assign "+id, s.assignHQ(id))
	}
	after := upTo(s.t, "the request arrives", 1) == 1
	s.Log("assign ", id, ", which will oversleep")
	in := s.start("assign "+id, s.assignHQ(id))
	asleep := s.until(in, func(c worldtest.Call) bool {
		return (c.Kind == "invite" || c.Kind == "create user") && c.After == after
	})
	s.settle()
	if !asleep {
		return
	}
	s.Logf("%s sleeps at %s", in.name, in.call.Point())
	s.Advance(61 * time.Second)
	s.settle()
	s.sweepOnce()
	if !in.isOver() {
		s.Logf("%s wakes up", in.name)
		s.goOn(in)
	}
}

// contest: the provider frees a mobile ID of ours without our hearing of it, and offers it to the next while another
// invocation acts for the one that loses it. Perhaps another credential of the winner is in doubt meanwhile.
func (s *simulation) contest() {
	if len(s.stopped) >= mostAtOnce-2 || len(s.people) < 2 {
		panic(notNow{})
	}
	loser := s.row(func(c credential.Credential) bool {
		return c.IsLive() && c.Stage == credential.StageInvited && c.Mobile != nil && c.ProfileID == "hq"
	})
	winner := pick(s.t, "winner", s.people)
	if winner == loser.HolderID {
		panic(notNow{})
	}
	if upTo(s.t, "another doubt", 1) == 1 {
		s.loseNext()
		s.do("assign "+winner, s.assignHQ(winner))
	}
	for _, letter := range s.Mailbox.Letters() {
		if letter.CredentialID == loser.ID {
			s.Log("provider cancels ", loser.InvitationRef, " ", s.Cancel(loser.Account, letter.Code.Reveal()))
			break
		}
	}
	s.settle()
	if upTo(s.t, "the loser is worked on", 2) > 0 && len(s.stopped) < mostAtOnce {
		s.Log("assign ", loser.HolderID)
		in := s.start("assign "+loser.HolderID, s.assignHQ(loser.HolderID))
		s.until(in, func(c worldtest.Call) bool { return c.Account != "" && c.Kind != "token" })
		s.settle()
	}
	if len(s.stopped) < mostAtOnce {
		s.do("assign "+winner, s.assignHQ(winner))
	}
	s.Advance(11 * time.Second)
	s.settle()
	if len(s.stopped) < mostAtOnce {
		s.sweepOnce()
	}
}

// secondOnAPhone: a holder redeems a second credential of one profile on one phone, and the provider reports what was
// not so: that the second invitation was cancelled.
func (s *simulation) secondOnAPhone() {
	first := s.row(func(c credential.Credential) bool { return c.IsLive() && c.Stage == credential.StageActivated })
	second := s.row(func(c credential.Credential) bool {
		return c.HolderID == first.HolderID && c.ProfileID == first.ProfileID && c.IsLive() &&
			c.Stage == credential.StageInvited && c.Invitation.SentAt != nil
	})
	if len(s.stopped) >= mostAtOnce {
		panic(notNow{})
	}
	phone, code := first.Device.ID, s.CodeOf(second)
	s.Log("redeem ", phone, " ", s.SimOf(second.Account).Redeem(phone, code))
	s.falselyReport(second, provider.Fact{
		What: provider.AboutInvitation, Ref: second.InvitationRef, Status: provider.FactCancelled, At: s.Now(),
	})
}
