package issuance_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// The weather that lasts: what the provider of a life is like, and what its users, its administrators, its phones and
// other systems do beside the service.

// seldom draws whether a life has a kind of weather that only some have.
func seldom(t *rapid.T, label string) bool {
	return upTo(t, label, 5) == 5
}

// drawSwitches draws what the provider of a life is like.
func drawSwitches(t *rapid.T) origosim.Switches {
	s := origosim.Switches{
		CancelFreesID:             rapid.Bool().Draw(t, "cancelling frees the ID"),
		CancelAcceptedAnswers2xx:  rapid.Bool().Draw(t, "cancelling what was accepted answers 2xx"),
		SearchByExternalID:        rapid.Bool().Draw(t, "search by externalId"),
		OnePerPartNumberAndPhone:  upTo(t, "one of a part number on a phone", 3) == 3,
		SearchLags:                seldom(t, "a search lags"),
		ListLags:                  seldom(t, "a list lags"),
		PartialReadOnce:           seldom(t, "a reading is partial"),
		ReservedNeverListed:       seldom(t, "reserved IDs are never listed"),
		NewReferenceOnIssue:       seldom(t, "a new reference on issue"),
		SecondRevoke412:           seldom(t, "412 on a second revocation"),
		OfflinePhonesKeepRevoking: seldom(t, "phones are away"),
		TakenEmailMakesSecondUser: seldom(t, "a taken e-mail makes a second user"),
		GUIDs:                     seldom(t, "ids are GUIDs"),
		DetailErrors:              seldom(t, "errors with detail"),
	}
	if s.ReservedNeverListed {
		// Otherwise what a lost answer has reserved could never be found, nor given back.
		s.CancelFreesID = true
	}
	return s
}

// switchedOn names the switches that a life's provider has on.
func switchedOn(s origosim.Switches) (names []string) {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Bool && v.Field(i).Bool() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

// clearSky ends the weather that lasts, as it ends some day: phones come back, users are well, and what was late has
// arrived.
func (s *simulation) clearSky() {
	s.Switch(func(sw *origosim.Switches) { sw.OfflinePhonesKeepRevoking = false })
	for _, account := range s.Accounts() {
		sim := s.SimOf(account)
		for _, u := range sim.State().Users {
			s.Must(sim.MakeUnwell(u.ID, ""))
		}
		for id := range s.forbidden[account] {
			_ = sim.Forbid(id, false) // it may be gone
		}
	}
	s.Mend()
	clear(s.slow)
	if s.veryLate {
		s.Advance(worldtest.VeryLate)
	}
	s.settle()
}

// userUnwell: everything about one user of the provider fails in one way, or is well again.
func (s *simulation) userUnwell() {
	account := s.account()
	users := s.SimOf(account).State().Users
	if len(users) == 0 {
		panic(notNow{})
	}
	u := pick(s.t, "user", users)
	how := pick(s.t, "how", []string{origosim.Error, origosim.Malformed, origosim.Missing, ""})
	s.Logf("user %s is unwell: %q, %v", u.ID, how, s.SimOf(account).MakeUnwell(u.ID, how))
}

// forbid: revoking one credential, or cancelling its invitation, answers 403, or does no longer.
func (s *simulation) forbid() {
	c := s.row(hasMobile)
	on := upTo(s.t, "forbidden", 2) > 0
	s.Log("forbidden ", c.Mobile.ID, " ", on, " ", s.SimOf(c.Account).Forbid(c.Mobile.ID, on))
	if s.forbidden[c.Account] == nil {
		s.forbidden[c.Account] = map[string]bool{}
	}
	s.forbidden[c.Account][c.Mobile.ID] = true
}

// phoneTrouble: a phone drops a badge, fails to store one, or has its app installed anew.
func (s *simulation) phoneTrouble() {
	switch pick(s.t, "trouble", []string{"unbind", "fail", "reinstall"}) {
	case "unbind":
		c := s.row(func(c credential.Credential) bool { return c.Device != nil && c.Mobile != nil })
		s.Log("unbind ", c.Mobile.ID, " ", s.AtProvider(func() error {
			return s.SimOf(c.Account).Unbind(c.Mobile.ID)
		}))
	case "fail":
		account, phone := s.account(), s.phone()
		s.Log("fail ", phone, " ", s.SimOf(account).FailIssue(phone))
	case "reinstall":
		account, phone := s.account(), s.phone()
		id, err := s.SimOf(account).Reinstall(phone)
		s.Log("reinstall ", phone, " ", id, " ", err)
	}
}

// othersAtWork: other systems of the organisation do things with users of their own.
func (s *simulation) othersAtWork() {
	account := s.account()
	if !s.strangers[account] {
		s.AddStrangers(account, 3)
		s.strangers[account] = true
	}
	s.Log("strangers ", s.SimOf(account).StirStrangers(6))
}

// spellOfMail: the mail service refuses mails for an hour, or its answers get lost.
func (s *simulation) spellOfMail() {
	until := s.Now().Add(time.Hour)
	if rapid.Bool().Draw(s.t, "answers lost") {
		s.Log("answers of the mail service get lost for an hour")
		s.Mailbox.LoseAnswers("", until)
		return
	}
	s.Log("the mail service refuses mails for an hour")
	s.Mailbox.Refuse("", until)
}

// slowDown: an account begins to take its time for each call, for some longer than the service waits, or is quick
// again. The other account goes on.
func (s *simulation) slowDown() {
	if !s.mayBeSlow {
		panic(notNow{})
	}
	account := s.account()
	s.slow[account] = !s.slow[account]
	s.SetSlow(account, 0)
	s.Log(account, " is slow: ", s.slow[account])
}

// spendBudget: other holders' affairs take what is left of a budget in this window.
func (s *simulation) spendBudget() {
	if s.budget == 0 {
		panic(notNow{})
	}
	s.Log("the budget is spent by others")
	for _, account := range s.Accounts() {
		s.Must(s.SpendBudget(account))
	}
}

// byHandAtMost is how many mobile IDs the administrators reserve in a life: some are to be left.
const byHandAtMost = 3

// reserveByHand: an administrator of the provider reserves a mobile ID for one of our users, in the provider's own
// portal.
func (s *simulation) reserveByHand() {
	account, id, partNumber := s.account(), s.holderID(), pick(s.t, "part number", []string{part, part2})
	if !s.administrators || s.byHand == byHandAtMost {
		panic(notNow{})
	}
	mobileID, err := s.ReserveByHand(account, id, partNumber)
	if errors.Is(err, origosim.ErrUnknownUser) {
		panic(notNow{})
	}
	s.Log("by hand: ", mobileID, " for ", id, " ", err)
	if err == nil {
		s.byHand++
		s.tally.met(weatherByHand)
		if others := s.Others(); others[len(others)-1].MaybeOurs() {
			s.tally.met(weatherByHandDoubt)
		}
	}
}

// putOnPhone: a holder redeems on a phone what an administrator has reserved by hand.
func (s *simulation) putOnPhone() {
	others := slices.DeleteFunc(s.OthersThere(), func(o *worldtest.Other) bool { return o.OnPhone })
	if len(others) == 0 {
		panic(notNow{})
	}
	o, phone := pick(s.t, "by hand", others), s.phone()
	err := s.AtProvider(func() error { return s.RedeemOther(o, phone) })
	s.Log("by hand: ", o.MobileID, " on ", phone, " ", err)
	if err == nil {
		s.tally.met(weatherByHandOnPhone)
	}
}

// existing is a holder as another system left them at the provider of an account.
type existing struct {
	account, holderID string
	origosim.Existing
}

// drawExisting draws which holders exist at the provider already, with a badge on a phone: under the holder's own id,
// so that the service takes the user for the holder's, or under another, so that it must not.
func (s *simulation) drawExisting(accounts []string) (all []existing) {
	for _, id := range s.people {
		if !(s.theme.others && rapid.Bool().Draw(s.t, "exists") || seldom(s.t, "exists at the provider")) {
			continue
		}
		all = append(all, existing{pick(s.t, "account", accounts), id, origosim.Existing{
			ExternalID: pick(s.t, "known there as", []string{id, id, "OTHER-" + id}), Email: firstEmail(id),
			Phone: s.phone(), PartNumber: pick(s.t, "part number", []string{part, part2}),
		}})
	}
	return all
}

func (s *simulation) addExisting(e existing) {
	mobileID, err := s.AddExisting(e.account, e.Existing)
	s.Log("existing: ", e.ExternalID, " in ", e.account, " on ", e.Phone, " with ", mobileID, " ", err)
	s.Must(err)
	if e.ExternalID == e.holderID {
		s.tally.met(weatherExisting)
		return
	}
	s.tally.met(weatherExistingOther)
	s.emailTaken[e.holderID] = true
}

// isEmailTaken says whether the e-mail that the provider should know of a credential's holder is another user's there,
// so that it refuses the change.
func (s *simulation) isEmailTaken(c credential.Credential) bool {
	h, err := s.Store.Holder(s.Ctx, c.HolderID)
	return err == nil && slices.ContainsFunc(s.SimOf(c.Account).State().Users, func(u origosim.UserState) bool {
		return strings.EqualFold(u.Email, h.Email) && u.ExternalID != h.ID
	})
}

// isHeldBack says whether an account with a budget has something left to do, be it due or not read.
func (s *simulation) isHeldBack() bool {
	if s.budget == 0 {
		return false
	}
	for _, account := range s.Accounts() {
		refs, err := s.Store.Due(s.Ctx, account, s.Now().Add(time.Minute), 1) // what is held back waits a minute
		s.Must(err)
		outage, err := s.Store.Outage(s.Ctx, account)
		s.Must(err)
		if len(refs) > 0 || outage.IsOpen() || !outage.FeedBehind.IsZero() {
			return true
		}
	}
	return false
}
