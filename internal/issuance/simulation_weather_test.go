package issuance_test

import (
	"reflect"
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
		s.Log("unbind ", c.Mobile.ID, " ", s.SimOf(c.Account).Unbind(c.Mobile.ID))
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
