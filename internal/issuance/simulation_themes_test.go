package issuance_test

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/mobilecred/mobilecred/internal/worldtest"
)

// theme is what a life is mostly about: which actions are likely in it, and at which calls it meets trouble. Everything
// can happen in every life; a theme makes that happen which takes several rare things at once.
type theme struct {
	name   string
	kinds  []string // of calls; none means all
	likely []string // actions
	begins []string // what its holders have at the beginning; none means anything
	points []worldtest.Call
	budget bool // its account has one
	others bool // its holders have badges of another system
	slow   bool // there are two accounts, and one is slow
}

var themes = []theme{
	{name: "anything"},
	{
		name: "reservations",
		kinds: []string{"search", "read user", "create user", "invite", "Owner", "Ref", "Commit", "Claim", "mail",
			"list stock", "pause"},
		likely: []string{"assign", "cancel", "spent", "go on", "wait", "replace"},
	},
	{
		name:  "doubts and contests",
		kinds: []string{"invite", "Commit", "Claim"},
		likely: []string{"oversleep", "oversleep", "contest", "contest", "cancel", "go on", "wait", "sweep", "end",
			"redeem"},
	},
	{
		name:  "phones",
		kinds: []string{"Slot", "Seen", "Picture", "pause"},
		likely: []string{"assign", "redeem", "redeem", "fetch", "remove phone", "resend", "sweep", "sweep",
			"false report", "false report", "second on a phone", "second on a phone"},
		begins: []string{anInvitation, aBadge},
	},
	{
		name:   "descriptions",
		kinds:  []string{"update user", "SaveWork"},
		likely: []string{"describe", "describe", "describe", "sweep", "sweep", "sweep"},
		begins: []string{anInvitation, aBadge},
	},
	{
		name:   "ends",
		kinds:  []string{"cancel", "revoke", "Release", "WorkItem", "WorkItems", "Idempotency", "mail", "pause"},
		likely: []string{"end", "end", "replace", "redeem", "resend", "go on", "sweep"},
		begins: []string{anInvitation, aBadge},
	},
	{
		name:   "going",
		kinds:  []string{"delete user", "revoke"},
		likely: []string{"erase", "erase", "erase", "describe", "describe", "assign", "assign", "sweep", "sweep"},
		begins: []string{anInvitation, aBadge},
	},
	{
		name:   "the account",
		kinds:  []string{"token", "feed", "Bookmark", "SetBookmark", "Outage", "SetOutage", "Due", "Profiles", "list stock"},
		likely: []string{"sweep", "sweep", "sweep", "outage", "wait", "wait"},
	},
	{
		name: "bad weather",
		likely: []string{"user unwell", "user unwell", "forbid", "phone trouble", "others at work", "spell of mail", "assign",
			"end", "sweep", "sweep", "redeem"},
	},
	{
		name:   "a budget",
		kinds:  []string{"Spend"},
		likely: []string{"assign", "end", "sweep", "sweep", "sweep", "deliver", "replace", "redeem", "budget spent"},
		budget: true,
	},
	{
		name:   "a slow account",
		kinds:  []string{"invite", "Commit", "Claim", "Release"},
		likely: []string{"slow", "slow", "assign", "sweep", "sweep", "end", "replace"},
		slow:   true,
	},
	{
		name:  "other systems",
		kinds: []string{"invite", "create user", "Commit", "read user", "revoke", "cancel"},
		likely: []string{"by hand", "by hand", "by hand", "put on a phone", "assign", "assign", "end", "end", "replace", "sweep", "sweep",
			"wait", "deliver", "go on"},
		others: true,
	},
	{
		name:   "the stock",
		kinds:  []string{"read stock", "Stock", "PutStock"},
		likely: []string{"sweep", "sweep", "sweep", "sweep", "wait", "wait", "wait", "wait"},
		begins: []string{nothing},
	},
}

// rareThemes are of calls that are seldom made, so there are several of a kind.
var rareThemes = slices.Repeat([]theme{
	{
		name:   "pictures",
		kinds:  []string{"upload picture", "approve picture", "remove picture"},
		likely: []string{"picture", "picture", "picture", "redeem", "sweep", "sweep"},
		begins: []string{aBadge, aBadgeWithPicture},
	},
	{
		name:   "coming",
		kinds:  []string{"create user", "search"},
		likely: []string{"erase", "describe", "describe", "assign", "assign", "assign", "sweep"},
		begins: []string{nothing},
	},
}, 3)

// What a holder can have at the beginning of a life.
const (
	nothing           = "nothing"
	anInvitation      = "an invitation"
	aBadge            = "a badge"
	aBadgeWithPicture = "a badge with a picture"
)

func drawTheme(t *rapid.T) theme {
	chosen := pick(t, "theme", slices.Concat(themes, rareThemes))
	for _, call := range slices.Concat(worldtest.Calls(), worldtest.BudgetCalls()) {
		if call.Kind == "Spend" && !chosen.budget {
			continue
		}
		if len(chosen.kinds) == 0 || slices.Contains(chosen.kinds, call.Kind) {
			chosen.points = append(chosen.points, call)
		}
	}
	// Where a request fails, no answer can be lost: so some lives lose answers only, and some requests only.
	lost := pick(t, "what fails", []string{"both", "requests", "answers"})
	some := slices.DeleteFunc(slices.Clone(chosen.points), func(c worldtest.Call) bool {
		return lost != "both" && c.After != (lost == "answers")
	})
	if len(some) > 0 {
		chosen.points = some
	}
	if len(chosen.begins) == 0 {
		chosen.begins = []string{nothing, anInvitation, aBadge, aBadgeWithPicture}
	}
	// Some lives meet trouble at a few points only, and so often enough for it to coincide.
	if rapid.Bool().Draw(t, "trouble at a few points only") {
		points := chosen.points
		chosen.points = nil
		for range 3 {
			chosen.points = append(chosen.points, pick(t, "point", points))
		}
	}
	return chosen
}

// next lets one of the things happen that can happen next. What the theme makes likely is listed several times.
func (s *simulation) next() {
	actions := []action{
		{"assign", s.assign}, {"wake", s.wakeOne}, {"go on", s.continueOne}, {"deliver", s.deliver}, {"wait", s.wait}, {"redeem", s.redeem},
		{"sweep", s.sweepOnce}, {"cancel", s.providerCancels}, {"fetch", s.fetch}, {"remove phone", s.removePhone},
		{"resend", s.resend},
		{"replace", s.replace}, {"end", s.endOne}, {"describe", s.describe}, {"picture", s.picture}, {"erase", s.erase},
		{"provider revokes", s.providerRevokes}, {"provider reassigns", s.providerReassigns}, {"outage",
			s.beginOrEndOutage},
		{"spent", s.spendElsewhere}, {"false report", s.falseReport}, {"oversleep", s.oversleep}, {"contest",
			s.contest}, {"second on a phone", s.secondOnAPhone}, {"user unwell", s.userUnwell}, {"forbid", s.forbid},
		{"phone trouble", s.phoneTrouble}, {"others at work", s.othersAtWork}, {"spell of mail", s.spellOfMail},
		{"slow", s.slowDown}, {"budget spent", s.spendBudget}, {"by hand", s.reserveByHand}, {"put on a phone", s.putOnPhone},
	}
	times := map[string]int{"assign": 3, "go on": 3, "deliver": 3, "wait": 2, "redeem": 2, "sweep": 2}
	for _, name := range s.theme.likely {
		times[name] += 2
	}
	for _, a := range slices.Clone(actions) {
		for range times[a.name] {
			actions = append(actions, a)
		}
	}
	for range 20 {
		if s.try(pick(s.t, "action", actions)) {
			return
		}
	}
}

// notNow is what an action panics with that cannot happen in the world as it is.
type notNow struct{}

// try lets an action happen; false when it cannot happen now.
func (s *simulation) try(a action) (happened bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(notNow); !ok {
				panic(r)
			}
			happened = false
		}
	}()
	a.do()
	return true
}

type action struct {
	name string
	do   func()
}

// String implements fmt.Stringer, for the story of a failure.
func (a action) String() string { return a.name }

// upTo draws a number from 0 to most, each as likely as the others: rapid's own numbers, and its choices from lists,
// are mostly small, so that what is late in a list would hardly ever be drawn.
func upTo(t *rapid.T, label string, most int) int {
	const digits = 10
	return rapid.Custom(func(t *rapid.T) int {
		n := 0
		for range digits {
			n *= 2
			if rapid.Bool().Draw(t, "") {
				n++
			}
		}
		return n * (most + 1) >> digits
	}).Draw(t, label)
}

// pick draws one of a list, each as likely as the others.
func pick[T any](t *rapid.T, label string, from []T) T {
	return from[upTo(t, label, len(from)-1)]
}
