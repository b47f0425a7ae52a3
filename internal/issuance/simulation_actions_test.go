package issuance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

func (s *simulation) holderID() string { return pick(s.t, "holder", s.people) }

func (s *simulation) phone() string {
	return pick(s.t, "phone", []string{"phone-a", "phone-b", "phone-c"})
}

func (s *simulation) account() string { return pick(s.t, "account", s.Accounts()) }

// row draws a credential of those that keep wants.
func (s *simulation) row(keep func(credential.Credential) bool) credential.Credential {
	rows := slices.DeleteFunc(s.Rows(), func(c credential.Credential) bool { return !keep(c) })
	if len(rows) == 0 {
		panic(notNow{})
	}
	return pick(s.t, "credential", rows)
}

func hasMobile(c credential.Credential) bool { return c.Mobile != nil }

// code draws one of the codes mailed last, mostly one that can still be redeemed, and finds the account it is of.
func (s *simulation) code() (code, account string) {
	letters := s.Mailbox.Letters()
	if len(letters) == 0 {
		panic(notNow{})
	}
	var good []mail.Letter
	for _, letter := range letters {
		i, known := s.SimOf(s.accountOf(letter)).Invitation(letter.Code.Reveal())
		if known && i.Status == "PENDING" && i.MobileID != nil {
			good = append(good, letter)
		}
	}
	if len(good) > 0 && upTo(s.t, "any code", 5) < 5 {
		letters = good
	}
	letter := pick(s.t, "letter", letters[max(0, len(letters)-4):])
	return letter.Code.Reveal(), s.accountOf(letter)
}

func (s *simulation) accountOf(letter mail.Letter) string {
	c, err := s.Store.Credential(s.Ctx, letter.HolderID, letter.CredentialID)
	if err != nil {
		s.Fatal(err)
	}
	return c.Account
}

func (s *simulation) assign() {
	r := s.Portal
	r.Route, r.Key = "assign", pick(s.t, "key", []string{"", "", "k1", "k2"})
	id, profile := s.holderID(), pick(s.t, "profile", []string{"hq", "hq", "annex"})
	cmd := credential.Assign{HolderID: id, ProfileID: profile, IfNone: upTo(s.t, "if none", 5) == 5,
		Wait: upTo(s.t, "wait for a mobile ID", 2) == 2}
	r.PayloadHash = fmt.Sprint(id, profile, cmd.IfNone, cmd.Wait)
	cmd.Request = r
	s.do("assign "+id, func(p *issuance.Service) error {
		result, err := p.Assign(s.Ctx, cmd)
		if errors.Is(err, credential.Refuse(credential.CodeAlreadyAssigned, "")) {
			s.tally.asked(requestRefused)
		}
		if err == nil && cmd.IfNone && !result.Replayed {
			s.alone = append(s.alone, result.Credential)
		}
		if err != nil || r.Key == "" {
			return err
		}
		made := s.keys[id+" "+r.Key]
		s.keys[id+" "+r.Key] = result.Credential.ID
		if made == "" || made == result.Credential.ID {
			return nil
		}
		c, err := s.Store.Credential(s.Ctx, id, made)
		if err == nil && c.Erased { // a key of the person who had this id before
			return nil
		}
		if err != nil || c.CreatedAt.Add(6*24*time.Hour).After(s.Now()) {
			return fmt.Errorf("key %s made %s, then %s", r.Key, made, result.Credential.ID)
		}
		return nil
	})
}

// expectOnlyOne: what was assigned to a holder without a live credential of the profile found none.
func (s *simulation) expectOnlyOne(c credential.Credential) {
	for _, other := range s.Rows() {
		isOfBoth := other.HolderID == c.HolderID && other.ProfileID == c.ProfileID
		if isOfBoth && other.IsLive() && other.CreatedAt.Before(c.CreatedAt) {
			s.Errorf("%s was assigned to a holder without any, and %s was there before", c.ID, other.ID)
		}
	}
}

// wakeOne is the function cleanup, which the bus tells of work.
func (s *simulation) wakeOne() {
	id, account := s.holderID(), s.account()
	s.do("wake "+id, func(p *issuance.Service) error { return p.Wake(worldtest.InBackground(s.Ctx), id, account) })
}

func (s *simulation) continueOne() {
	if len(s.stopped) == 0 {
		panic(notNow{})
	}
	in := pick(s.t, "which", s.stopped)
	s.Logf("%s goes on from %s", in.name, in.call.Point())
	s.goOn(in)
}

func (s *simulation) deliver() {
	if len(s.inbox) == 0 {
		panic(notNow{})
	}
	i := upTo(s.t, "callback", len(s.inbox)-1)
	c := s.inbox[i]
	told := pick(s.t, "told", []string{"once", "once", "twice", "lost"})
	if told != "twice" {
		s.inbox = slices.Delete(s.inbox, i, i+1)
	}
	if told != "lost" {
		s.do("callback", func(p *issuance.Service) error {
			return worldtest.ReportTo(worldtest.InBackground(s.Ctx), p, c.account, c.body)
		})
	}
}

func (s *simulation) wait() {
	d := pick(s.t, "wait", []time.Duration{
		time.Second, 5 * time.Second, 11 * time.Second, 30 * time.Second, 61 * time.Second, 61 * time.Second,
		5 * time.Minute, time.Hour,
		25 * time.Hour, 8 * 24 * time.Hour,
	})
	s.Log("wait ", d)
	s.Advance(d)
}

func (s *simulation) sweepOnce() { s.do("sweep", s.sweep) }

func (s *simulation) redeem() {
	code, account := s.code()
	phone, act := s.phone(), s.SimOf(account).Redeem
	if rapid.Bool().Draw(s.t, "fetched later") {
		act = s.SimOf(account).Accept
	}
	s.Log("redeem ", phone, " ", s.AtProvider(func() error { return act(phone, code) }))
}

func (s *simulation) fetch() {
	account, phone := s.account(), s.phone()
	s.Log("fetch ", phone, " ", s.AtProvider(func() error { return s.SimOf(account).Sync(phone) }))
}

func (s *simulation) removePhone() {
	account, phone := s.account(), s.phone()
	s.Log("remove ", phone, " ", s.AtProvider(func() error { return s.SimOf(account).Remove(phone) }))
}

func (s *simulation) resend() {
	c := s.row(credential.Credential.IsLive)
	s.do("resend "+c.ID, func(p *issuance.Service) error {
		_, err := p.Resend(s.Ctx, credential.Resend{Request: s.Portal, HolderID: c.HolderID, CredentialID: c.ID})
		return err
	})
}

func (s *simulation) replace() {
	c := s.row(credential.Credential.IsLive)
	reason := pick(s.t, "reason", []credential.EndReason{
		credential.EndUpgrade, credential.EndUpgrade, credential.EndLost, credential.EndStolen,
	})
	s.do("replace "+c.ID+" "+string(reason), func(p *issuance.Service) error {
		_, err := p.Replace(s.Ctx, credential.Replace{Request: s.Portal, HolderID: c.HolderID, CredentialID: c.ID,
			Reason: reason})
		return err
	})
}

func (s *simulation) endOne() {
	c := s.row(func(credential.Credential) bool { return true })
	reasons := []credential.EndReason{credential.EndDeleted, credential.EndLost, credential.EndStolen}
	reason := pick(s.t, "reason", reasons)
	s.do("end "+c.ID+" "+string(reason), func(p *issuance.Service) error {
		_, err := p.End(s.Ctx, credential.End{Request: s.Portal, HolderID: c.HolderID, CredentialID: c.ID,
			Reason: reason})
		return err
	})
}

func email(id, name string) string { return strings.ToLower(id+name) + "@example.com" }

// firstEmail is the e-mail that a holder has at the beginning of a life.
func firstEmail(id string) string { return email(id, "T") }

// describeHolder stores a holder; one whose id begins with V is a visitor, until so long from now.
func (s *simulation) describeHolder(p *issuance.Service, id string, until time.Duration, name string) error {
	h := credential.Holder{
		ID: id, Kind: credential.Cardholder, FirstName: "A", LastName: name,
		Email: email(id, name),
	}
	if id[0] == 'V' {
		at := s.Now().Add(until)
		h.Kind, h.ValidUntil = credential.Visitor, &at
	}
	_, _, err := p.PutHolder(s.Ctx, credential.PutHolder{Request: s.Portal, Holder: h})
	return err
}

func (s *simulation) describe() {
	id, name := s.holderID(), pick(s.t, "name", []string{"", "x", "y"})
	if s.isUserLost(id) {
		panic(notNow{})
	}
	until := pick(s.t, "until", []time.Duration{-time.Minute, time.Minute, 8 * time.Hour, 30 * 24 * time.Hour})
	s.doNoting("describe "+id, &holderChange{holderID: id}, func(p *issuance.Service) error {
		return s.describeHolder(p, id, until, "T"+name)
	})
}

// isUserLost says whether a holder's user at a provider can only be found by an e-mail that one more change would make
// the service forget: it remembers one former e-mail.
func (s *simulation) isUserLost(holderID string) bool {
	h, err := s.Store.Holder(s.Ctx, holderID)
	if err != nil || h.FormerEmail == "" {
		return false
	}
	items, err := s.Store.WorkItems(s.Ctx, holderID)
	if err != nil {
		s.Fatal(err)
	}
	return slices.ContainsFunc(items, func(item credential.WorkItem) bool { return item.UserID == "" })
}

func (s *simulation) picture() {
	id := s.holderID()
	change := func(p *issuance.Service) error { return p.RemovePicture(s.Ctx, id, s.Portal) }
	name := "no picture "
	if upTo(s.t, "none", 2) < 2 {
		s.pictures++
		picture := credential.Picture{ContentType: "image/jpeg", Data: portrait, Hash: fmt.Sprint("p", s.pictures)}
		change = func(p *issuance.Service) error { return p.PutPicture(s.Ctx, id, picture, s.Portal) }
		name = "picture "
	}
	s.doNoting(name+id, &holderChange{holderID: id}, change)
	if upTo(s.t, "a sweep follows", 1) == 1 && len(s.stopped) < mostAtOnce {
		s.sweepOnce()
	}
}

func (s *simulation) erase() {
	if len(s.Accounts()) > 1 { // each account waits for the other to be done
		panic(notNow{})
	}
	id := s.holderID()
	s.MayErase(id)
	s.do("erase "+id, func(p *issuance.Service) error { return p.Erase(s.Ctx, id, s.Portal) })
}

// providerCancels is the holder declining, or an administrator of the provider cancelling, which looks the same.
func (s *simulation) providerCancels() {
	code, account := s.code()
	if i, ok := s.SimOf(account).Invitation(code); ok && !s.IsForeignInvitation(account, i.ID) {
		s.Log("provider cancels ", i.ID, " ", s.Cancel(account, code))
	}
}

func (s *simulation) providerRevokes() {
	c := s.row(hasMobile)
	s.Log("provider revokes ", c.Mobile.ID, " ", s.AtProvider(func() error {
		return s.SimOf(c.Account).Revoke(c.Mobile.ID)
	}))
}

func (s *simulation) providerReassigns() {
	c := s.row(hasMobile)
	to := pick(s.t, "to", []string{"stranger", "E-1", "V-3"})
	if slices.ContainsFunc(s.Rows(), func(o credential.Credential) bool {
		has := o.Mobile != nil && o.Mobile.ID == c.Mobile.ID && o.IsLive()
		return o.HolderID == to && o.Account == c.Account && (has || o.Reservation == credential.ReservationInDoubt)
	}) { // the very same once more, under another reference
		panic(notNow{})
	}
	err := s.AtProvider(func() error { return s.Reassign(c.Account, c.Mobile.ID, to) })
	s.Log("provider reassigns ", c.Mobile.ID, " to ", to, " ", err)
	if err == nil && to == "stranger" && upTo(s.t, "the stranger redeems it", 1) == 1 {
		s.Log("the stranger redeems it ", s.SimOf(c.Account).Redeem("phone-s", s.CodeAtProvider(c.Account, to)))
	}
}

func (s *simulation) beginOrEndOutage() {
	account := s.account()
	s.outage[account] = !s.outage[account]
	s.Log("outage of ", account, " ", s.outage[account])
}

// spendElsewhere: an ID that the provider will offer next was on a phone once, says our table.
func (s *simulation) spendElsewhere() {
	account := s.account()
	for _, p := range s.SimOf(account).State().PartNumbers {
		if len(p.Available) == 0 || p.PartNumber == part2 && account == s.profiles["hq"] && len(s.Accounts()) > 1 {
			continue
		}
		owner, err := s.Store.Owner(s.Ctx, account, p.Available[0])
		if err == nil && owner.State != credential.OwnerReleased {
			continue
		}
		s.Log("spent long ago: ", p.Available[0])
		spent := credential.Owner{
			Account: account, MobileID: p.Available[0], State: credential.OwnerSpent, UpdatedAt: s.Now(),
			Revision: owner.Revision + 1,
		}
		s.Must(s.Store.Commit(s.Ctx, credential.Change{At: s.Now(), Owners: []credential.Owner{spent}}))
		return
	}
	panic(notNow{})
}

// falseReport: the provider, or another that knows how to call the webhook, reports what is not so.
func (s *simulation) falseReport() {
	accepted := upTo(s.t, "of one on its way to a phone", 1) == 1
	c := s.row(func(c credential.Credential) bool {
		return c.InvitationRef != "" && (!accepted || c.Stage == credential.StageActivating)
	})
	status := pick(s.t, "status", []provider.FactStatus{
		provider.FactCancelled, provider.FactExpired, provider.FactAccepted, provider.FactPending,
	})
	fact := provider.Fact{What: provider.AboutInvitation, Ref: c.InvitationRef, Status: status, At: s.Now()}
	if rapid.Bool().Draw(s.t, "of the credential") {
		status = pick(s.t, "status", []provider.FactStatus{provider.FactIssued, provider.FactUpdated})
		fact = provider.Fact{What: provider.AboutCredential, Ref: c.CredentialRef, Status: status, At: s.Now()}
	}
	s.falselyReport(c, fact)
}

func (s *simulation) falselyReport(c credential.Credential, fact provider.Fact) {
	facts := provider.UserFacts{Account: c.Account, UserID: c.UserID, Facts: []provider.Fact{fact}}
	s.do("false report "+string(fact.Status)+" of "+c.ID, func(p *issuance.Service) error {
		return p.Refresh(s.Ctx, facts)
	})
}
