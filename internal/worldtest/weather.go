package worldtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Call is one call that a process makes to what is outside of it, at one of two moments: before it has had any effect,
// or After it, when only the answer can still be lost.
type Call struct {
	// Kind is a method of the store ("Commit"), an operation of the provider (see Operation), "mail" or "pause".
	Kind  string
	After bool
	// Account is set for calls of the provider, CredentialID for mails.
	Account      string
	CredentialID string
}

// Point is the call and its moment in words: "Commit", "Commit after".
func (c Call) Point() string {
	if c.After {
		return c.Kind + " after"
	}
	return c.Kind
}

// ChangesTheOutside says whether a call has an effect at the provider, or sends a mail. Only the holder of a claim may
// make one.
func (c Call) ChangesTheOutside() bool {
	return c.Kind == "mail" || slices.Contains(operations, c.Kind) && !slices.Contains(providerReads, c.Kind)
}

// Verdict is what becomes of a call.
type Verdict string

// The verdicts. Which of them a call can meet, Verdicts says.
const (
	Pass Verdict = ""
	// StoreFails: the store answers with an error. After its effect, too.
	StoreFails Verdict = "store fails"

	// Timeout: nothing is heard of the provider, for five seconds. Before: the request is lost.
	Timeout Verdict = "timeout"
	// Late: nothing is heard of the provider, and the request arrives when its sender has given up.
	Late Verdict = "late"
	// Unwell: the provider, or what stands before it, answers 500.
	Unwell Verdict = "unwell"
	// Throttled: the provider answers 403, its word for "over the limit".
	Throttled Verdict = "throttled"

	// MailThrottled and MailRejected: certainly not sent.
	MailThrottled Verdict = "mail throttled"
	MailRejected  Verdict = "mail rejected"
	// MailLost and MailUnheard: nothing is heard of the mail service; the mail was not sent, or was.
	MailLost    Verdict = "mail lost"
	MailUnheard Verdict = "mail unheard"
)

// Weather decides what becomes of calls. Its one method may block, or end the goroutine, which is what the end of a
// process is.
//
// A new kind of weather is a Verdict with its meaning in the line (provider), the Mailbox or meetStore. What a provider
// does by its own nature, such as freeing an ID when its invitation is cancelled, is a switch of package origosim
// instead.
type Weather interface {
	Meet(Call) Verdict
}

// Fine is the weather in which every call passes.
type Fine struct{}

// Meet implements Weather.
func (Fine) Meet(Call) Verdict { return Pass }

// The kinds of calls of the store that issuance makes.
var (
	storeReads = []string{
		"Profile", "Profiles", "Holder", "Picture", "Credential", "Credentials", "Owner", "Ref", "Slot", "Seen",
		"Idempotency", "WorkItem", "ListCredentials",
		"WorkItems", "Due", "Stock", "Bookmark", "Outage",
	}
	storeWrites = []string{"Commit", "Claim", "SaveWork", "Release", "PutStock", "SetBookmark", "SetOutage"}
)

// Calls lists every call that weather can meet, at both of its moments.
func Calls() []Call {
	var calls []Call
	for _, kind := range storeReads {
		calls = append(calls, Call{Kind: kind})
	}
	for _, kind := range slices.Concat(storeWrites, operations, []string{"mail"}) {
		calls = append(calls, Call{Kind: kind}, Call{Kind: kind, After: true})
	}
	return append(calls, Call{Kind: "pause"})
}

// BudgetCalls lists the calls that weather can meet besides, where an account has a budget.
func BudgetCalls() []Call { return []Call{{Kind: budgetWrite}, {Kind: budgetWrite, After: true}} }

// Verdicts lists what a call can meet, Pass aside. A process can end at every call.
func Verdicts(c Call) []Verdict {
	switch {
	case c.Kind == "pause", c.Kind == "mail" && c.After:
		return nil
	case c.Kind == "mail":
		return []Verdict{MailThrottled, MailRejected, MailLost, MailUnheard}
	case slices.Contains(storeReads, c.Kind), slices.Contains(storeWrites, c.Kind), c.Kind == budgetWrite:
		return []Verdict{StoreFails}
	case !c.After && (c.Kind == "create user" || c.Kind == "invite"):
		return []Verdict{Timeout, Unwell, Throttled, Late}
	}
	return []Verdict{Timeout, Unwell, Throttled}
}

// ErrStore is what a store in bad weather answers.
var ErrStore = errors.New("the store is unwell")

// meetStore lets a method of the store, as memory.Store names it, meet the weather.
func meetStore(weather Weather, op string) error {
	kind, after := strings.CutSuffix(op, " after")
	if weather.Meet(Call{Kind: kind, After: after}) == StoreFails {
		return fmt.Errorf("%w: %s", ErrStore, op)
	}
	return nil
}
