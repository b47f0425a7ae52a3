package issuance_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
)

var (
	chaosRuns = flag.Int("chaos", 100, "how many random lives TestWhateverHappensItEndsWell lives")
	chaosSeed = flag.Uint64("chaos-seed", 1, "the seed of the first; 0 for one nobody has seen")
)

var errKilled = errors.New("killed")

// chaos is a world in which anything happens to a few people.
type chaos struct {
	*world
	rnd     *rand.Rand
	strange int
	spent   map[string]string // mobile ID that was ever activated, and by which credential
	log     []string
	left    atomic.Int64 // calls of the store until whoever makes them is killed
}

// alive is more calls than anybody makes.
const alive = 1 << 40

func (c *chaos) fail(string) error {
	if c.left.Add(-1) < 0 {
		return errKilled
	}
	return nil
}

func (c *chaos) pick(n int) int { return c.rnd.IntN(n) }

func pickOf[T any](c *chaos, from ...T) T { return from[c.pick(len(from))] }

func (c *chaos) holderID() string { return fmt.Sprintf("E-%d", 1+c.pick(4)) }

// any returns a random credential of anybody; ok is false while there is none.
func (c *chaos) any() (row credential.Credential, ok bool) {
	rows := c.rows()
	if len(rows) == 0 {
		return row, false
	}
	return rows[c.pick(len(rows))], true
}

func (c *chaos) rows() []credential.Credential {
	c.Helper()
	rows, _, err := c.store.ListCredentials(c.ctx, credential.Page{ProfileID: "hq", Limit: 1000})
	if err != nil {
		c.Fatal(err)
	}
	return rows
}

func (c *chaos) describe(id string) {
	h := credential.Holder{ID: id, Kind: credential.Cardholder, FirstName: "A", LastName: fmt.Sprint("B", c.pick(3)), Email: id + "@example.com"}
	if c.pick(3) == 0 {
		until := c.time().Add(time.Duration(c.pick(240)-20) * time.Hour)
		h.Kind, h.ValidUntil = credential.Visitor, &until
	}
	_, _, err := c.svc.PutHolder(c.ctx, credential.PutHolder{Request: c.portal, Holder: h})
	c.tolerate("put holder", err)
}

// tolerate lets pass what a caller may be told; anything else is a bug.
func (c *chaos) tolerate(what string, err error) {
	c.Helper()
	var refused *credential.Error
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, errKilled) {
		c.Errorf("%s: %v", what, err)
	}
}

// step lets one thing happen.
func (c *chaos) step() {
	c.Helper()
	what := pickOf(c, "assign", "assign", "assign", "assign", "redeem", "redeem", "redeem", "decline", "end", "replace", "resend", "cancel", "revoke",
		"reassign", "remove", "fault", "fault", "mail", "pass", "pass", "pass", "describe", "erase", "deaf", "sweep")
	c.log = append(c.log, what)
	row, some := c.any()
	code := ""
	if some {
		code = c.codeOr(row)
	}
	if c.pick(6) == 0 {
		c.log = append(c.log, "killed")
		c.left.Store(int64(c.pick(25)))
		defer func() {
			c.settle()
			c.left.Store(alive)
		}()
	}
	switch what {
	case "assign":
		_, err := c.svc.Assign(c.ctx, credential.Assign{Request: c.portal, HolderID: c.holderID(), ProfileID: "hq"})
		c.tolerate(what, err)
	case "redeem":
		if code != "" && c.pick(4) == 0 {
			_ = c.sim.Accept(pickOf(c, "phone-a", "phone-b"), code)
		} else if code != "" {
			_ = c.sim.Redeem(pickOf(c, "phone-a", "phone-b", "phone-c", "phone-d"), code)
		}
		_ = c.sim.Sync(pickOf(c, "phone-a", "phone-b"))
	case "decline":
		if code != "" {
			_ = c.sim.Decline(code)
		}
	case "cancel":
		if code != "" && c.pick(2) == 0 {
			_ = c.sim.Cancel(code)
		}
	case "end":
		if some {
			_, err := c.svc.End(c.ctx, credential.End{Request: c.portal, HolderID: row.HolderID, CredentialID: row.ID, Reason: pickOf(c, credential.EndDeleted, credential.EndLost, credential.EndStolen)})
			c.tolerate(what, err)
		}
	case "replace":
		if some {
			_, err := c.svc.Replace(c.ctx, credential.Replace{Request: c.portal, HolderID: row.HolderID, CredentialID: row.ID, Reason: pickOf(c, credential.EndUpgrade, credential.EndLost)})
			c.tolerate(what, err)
		}
	case "resend":
		if some {
			_, err := c.svc.Resend(c.ctx, credential.Resend{Request: c.portal, HolderID: row.HolderID, CredentialID: row.ID})
			c.tolerate(what, err)
		}
	case "revoke":
		if some && row.Mobile != nil && c.pick(3) == 0 {
			_ = c.sim.Revoke(row.Mobile.ID)
		}
	case "reassign":
		if some && row.Mobile != nil && c.pick(2) == 0 {
			c.strange++
			_ = c.sim.Reassign(row.Mobile.ID, fmt.Sprint("stranger-", c.strange))
		}
	case "remove":
		if c.pick(4) == 0 {
			_ = c.sim.Remove(pickOf(c, "phone-a", "phone-b", "phone-c"))
		}
	case "fault":
		c.break_(pickOf(c, "any", "search", "read", "reserve", "cancel", "revoke", "token", "feed"), pickOf(c, "error", "timeout", "throttle"), pickOf(c, "before", "after"), 1+c.pick(3))
	case "mail":
		outcome := mail.Outcome{Fate: pickOf(c, mail.Sent, mail.Throttled, mail.InDoubt), Reason: "weather"}
		c.mu.Lock()
		c.post = func(mail.Letter) mail.Outcome {
			return outcome
		}
		c.mu.Unlock()
	case "pass":
		c.passOrNot(pickOf(c, time.Second, time.Minute, time.Minute, 61*time.Second, time.Hour, 30*time.Hour))
	case "sweep":
		c.passOrNot(0)
	case "describe":
		c.describe(c.holderID())
	case "erase":
		if c.pick(3) == 0 {
			c.tolerate(what, c.svc.Erase(c.ctx, c.holderID(), c.portal))
		}
	case "deaf":
		c.mu.Lock()
		c.deaf = !c.deaf
		c.mu.Unlock()
	}
}

func (c *chaos) passOrNot(d time.Duration) {
	c.settle()
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	_ = c.sim.Tick()
	_, err := c.svc.Sweep(c.ctx, []string{account})
	c.tolerate("sweep", err)
}

// codeOr is the code mailed for a credential, empty while there was none.
func (c *chaos) codeOr(row credential.Credential) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range slices.Backward(c.mail) {
		if l.CredentialID == row.ID {
			return l.Code.Reveal()
		}
	}
	return ""
}

// always checks what must hold at every moment.
func (c *chaos) always() {
	c.Helper()
	live := map[string]string{}
	for _, row := range c.rows() {
		if row.Mobile == nil {
			continue
		}
		if row.ActivatedAt != nil {
			if by, ok := c.spent[row.Mobile.ID]; ok && by != row.ID {
				c.Errorf("R5: %s was activated by %s and by %s", row.Mobile.ID, by, row.ID)
			}
			c.spent[row.Mobile.ID] = row.ID
		}
		if !row.IsLive() {
			continue
		}
		if other := live[row.Mobile.ID]; other != "" {
			c.Errorf("%s belongs to %s and %s", row.Mobile.ID, other, row.ID)
		}
		live[row.Mobile.ID] = row.ID
		if by, ok := c.spent[row.Mobile.ID]; ok && by != row.ID {
			c.Errorf("R5: %s, spent by %s, is %s's", row.Mobile.ID, by, row.ID)
		}
		if row.Reservation == credential.ReservationHeld {
			owner, err := c.store.Owner(c.ctx, account, row.Mobile.ID)
			unchanged := c.read(row).Revision == row.Revision // a report may have come in meanwhile
			if unchanged && (err != nil || owner.CredentialID != row.ID) {
				c.Errorf("%s is not the owner of its %s: %+v, %v", row.ID, row.Mobile.ID, owner, err)
			}
		}
	}
}

// calm checks what must hold when nothing has gone wrong for a while.
func (c *chaos) calm() {
	c.Helper()
	foreign := c.foreignIDs()
	var ours, theirs []string
	for _, row := range c.rows() {
		h, err := c.store.Holder(c.ctx, row.HolderID)
		if err != nil && row.IsLive() {
			c.Errorf("%s is live, and its holder %v", row.ID, err)
		}
		if step := credential.Next(row, h, c.time()); step.Kind != credential.StepNone && !step.At.After(c.time()) && err == nil {
			c.Errorf("%s (%s): still to %s, retry %+v", row.ID, row.State(), step.Kind, row.Retry)
		}
		if len(row.Strays)+len(row.Aside) > 0 || row.Reservation == credential.ReservationInDoubt {
			c.Errorf("%s (%s): %s, %d strays, %d aside", row.ID, row.State(), row.Reservation, len(row.Strays), len(row.Aside))
		}
		if !row.IsLive() {
			if row.Invitation.Code != "" {
				c.Errorf("%s (%s) still has its code", row.ID, row.State())
			}
			continue
		}
		if row.Mobile == nil {
			c.Errorf("%s is live and has no mobile ID: %+v", row.ID, row)
			continue
		}
		if row.Stage == credential.StageInvited && row.Invitation.Mails == 0 {
			c.Errorf("%s was never mailed", row.ID)
		}
		// Missing at the provider without a word why is an anomaly and changes nothing. It takes a report lost twice to get there.
		unexplained := row.Stage != credential.StageInvited && strings.Contains(c.story(row), "missing_at_provider!")
		if !foreign[row.Mobile.ID] && !unexplained {
			ours = append(ours, row.Mobile.ID)
		}
		history, err := c.store.History(c.ctx, row.HolderID, row.ID)
		if err != nil || !slices.IsSortedFunc(history, func(a, b credential.HistoryEntry) int { return int(a.Revision - b.Revision) }) || history[len(history)-1].To != row.State() && !history[len(history)-1].Anomaly {
			c.Errorf("%s: history %+v, %v", row.ID, history, err)
		}
		if row.Device != nil {
			if slot, err := c.store.Slot(c.ctx, account, row.Device.ID, row.ProfileID); err != nil || slot.CredentialID != row.ID {
				c.Errorf("%s is on %s, whose slot is %+v, %v", row.ID, row.Device.ID, slot, err)
			}
		}
	}
	for _, p := range c.sim.State().PartNumbers {
		for _, id := range append(slices.Clone(p.Reserved), p.Issued...) {
			if !foreign[id] {
				theirs = append(theirs, id)
			}
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) {
		c.Errorf("ours %v, theirs %v", ours, theirs)
	}
	for _, id := range []string{"E-1", "E-2", "E-3", "E-4"} {
		if h, err := c.store.Holder(c.ctx, id); err == nil && h.Erasing {
			c.Errorf("%s is still being erased", id)
		}
	}
}

func TestWhateverHappensItEndsWell(t *testing.T) {
	first := *chaosSeed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range *chaosRuns {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &chaos{world: newWorld(t), rnd: rand.New(rand.NewPCG(seed, 1)), spent: map[string]string{}}
			c.left.Store(alive)
			c.store.Fail = c.fail
			for _, id := range []string{"E-1", "E-2", "E-3", "E-4"} {
				c.describe(id)
			}
			for range 40 {
				c.step()
				c.always()
				if t.Failed() {
					break
				}
			}
			c.mend()
			for range 5 {
				c.passOrNot(61 * time.Second)
			}
			c.passOrNot(7 * time.Hour) // past the longest wait after refusals
			c.passOrNot(time.Minute)
			c.settle()
			c.always()
			c.calm()
			if t.Failed() {
				for _, row := range c.rows() {
					t.Logf("%s of %s: %s %s, %+v, user %s: %s", row.ID, row.HolderID, row.State(), row.Reason, row.Mobile, row.UserID, c.story(row))
				}
				for _, id := range []string{"E-1", "E-2", "E-3", "E-4"} {
					items, err := c.store.WorkItems(c.ctx, id)
					t.Logf("%s: %+v, %v", id, items, err)
				}
				outage, _ := c.store.Outage(c.ctx, account)
				t.Logf("seed %d, %v, outage %+v: %v", seed, c.time(), outage, c.log)
			}
		})
	}
}
