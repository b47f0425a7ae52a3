package e2e

import "testing"

// part runs one part of a story that goes on in one run. After each, provider and table have to agree.
func (r *run) part(name string, f func(r *run)) {
	r.t.Run(name, func(t *testing.T) {
		here := &run{r.process, t}
		f(here)
		if !t.Failed() {
			here.expectAgreement()
			here.expectPoolFits()
			here.expectOwnersFit()
		}
	})
}

// TestEveryDepartureFromTheMainJob is a story in one run, one part after the other. After each part, the provider has
// reserved and issued exactly the mobile IDs of our live credentials.
func TestEveryDepartureFromTheMainJob(t *testing.T) {
	t.Parallel()
	r := private(t)
	r.put("/v1/profiles/branch", m{"name": "Branches", "account": account, "partNumber": part2}).want(201)
	r.activated("warm-up") // a second is what a function has that has run before

	r.part("declined on the phone", (*run).declined)
	r.part("cancelled by an administrator", (*run).cancelled)
	r.part("expired", (*run).expired)
	r.part("expired by the profile's shorter deadline", (*run).expiredByOurDeadline)
	r.part("given to a stranger, heard", (*run).reassignedAndReported)
	r.part("given to a holder of ours, heard", (*run).reassignedToAHolderOfOurs)
	r.part("given to a stranger, callbacks lost", (*run).reassignedAndFoundBySweep)
	r.part("given to another by our own assignment", (*run).reassignedByOurAssignment)
	r.part("given to a stranger before we know the ID", (*run).reassignedBeforeKnown)
	r.part("activated, and contradicted", (*run).activatedAndContradicted)
	r.part("revoked by an administrator", (*run).revokedAtProvider)
	r.part("redeemed after the end", (*run).redeemedAfterEnd)
	r.part("one profile, two phones", (*run).twoPhones)
	r.part("one profile, one phone", (*run).onePhone)
	r.part("two profiles, one phone", (*run).twoProfiles)
	r.part("20 assignments at once", (*run).twentyAtOnce)
	r.part("repeated calls", (*run).repeated)
	r.part("repeated at once", (*run).repeatedAtOnce)
	r.part("mailed again", (*run).mailedAgain)
	r.part("replaced while the provider is away", (*run).replacedMeanwhile)
	r.part("visitors", (*run).visitors)
	r.part("other revisions", (*run).otherRevisions)
	r.part("erased", (*run).erased)

	r.settle()
	r.expectNoDeadLetters()
	t.Run("every change has left as the right event",
		func(t *testing.T) { (&run{r.process, t}).everyChangeBecomesItsEvent() })
	t.Run("no log line and no event holds anything personal",
		func(t *testing.T) { (&run{r.process, t}).expectNothingPersonal() })
}
