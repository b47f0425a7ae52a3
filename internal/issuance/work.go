package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

const (
	claimFor  = 60 * time.Second // longer than any run of outside calls can last
	workFor   = 10 * time.Second // after that, what is left is left to the sweep
	probeWait = time.Minute      // an account in trouble is tried once in that time
	// stepsPerRow bounds the steps of one row in one round, should two ever undo each other.
	stepsPerRow = 12
)

// outcome says how a run of work ended.
type outcome int

const (
	workDone outcome = iota
	workBusy         // somebody else has the claim, or it is not due
	workOut          // the provider is in trouble; the rest waits
)

// run is one holder of a claim at work.
type run struct {
	*Service
	item     credential.WorkItem
	holder   credential.Holder
	actor    credential.Actor
	until    time.Time
	provider provider.Provider
	answered bool            // the provider answered at least once
	silence  int             // calls without an answer since the last one with
	waiting  map[string]bool // rows that met trouble in this run: they wait, others need not (R6)
}

// silenceLimit is how many calls in a row may go unanswered before a run asks no more.
const silenceLimit = 2

// work takes the claim of a holder at an account, does whatever is due, and gives the claim back. An error means that the store is
// unwell: the claim then runs out by itself and the sweep goes on. onlyDue leaves alone what is not due any more.
func (s *Service) work(ctx context.Context, holderID, account string, actor credential.Actor, onlyDue bool) (outcome, error) {
	now := s.Now()
	claim := credential.Claim{ID: s.NewID(), Until: now.Add(claimFor)}
	item, err := s.Store.Claim(ctx, holderID, account, claim, now, onlyDue)
	if errors.Is(err, store.ErrConflict) {
		return workBusy, nil
	}
	if err != nil {
		return workBusy, err
	}
	r := &run{Service: s, item: item, actor: actor, until: now.Add(workFor), waiting: map[string]bool{}}
	for {
		due, drop, err := r.round(ctx)
		if err != nil {
			return workOut, err
		}
		if r.late() {
			at := s.Now()
			due, drop = &at, false
		}
		r.item.DueAt = due
		err = s.Store.Release(ctx, r.item, drop)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) {
			return workOut, err
		}
		// Something was added meanwhile, so there may be more to do; or the claim ran out and is somebody else's now.
		fresh, err := s.Store.WorkItem(ctx, holderID, account)
		if errors.Is(err, store.ErrNotFound) || err == nil && (fresh.Claim == nil || fresh.Claim.ID != claim.ID) {
			return workBusy, nil
		}
		if err != nil {
			return workOut, err
		}
		r.item.Added = fresh.Added
	}
	if r.silence > 0 && !r.answered {
		return workOut, nil
	}
	return workDone, nil
}

func (r *run) late() bool { return !r.Now().Before(r.until) }

// round does what is due in every row, those to be gone first, and returns the next moment something will be. drop says that the
// work item itself has nothing left to stand for.
func (r *run) round(ctx context.Context) (due *time.Time, drop bool, err error) {
	holder, err := r.Store.Holder(ctx, r.item.HolderID)
	erased := errors.Is(err, store.ErrNotFound)
	if erased {
		// What was heard of a credential since may still have to be released.
		holder = credential.Holder{ID: r.item.HolderID}
	} else if err != nil {
		return nil, false, err
	}
	r.holder = holder
	rows, err := r.Store.Credentials(ctx, r.item.HolderID)
	if err != nil {
		return nil, false, err
	}
	rows = slices.DeleteFunc(rows, func(c credential.Credential) bool { return c.Account != r.item.Account })
	slices.SortStableFunc(rows, func(a, b credential.Credential) int { return goneFirst(a) - goneFirst(b) })

	soonest := func(at time.Time) {
		if due == nil || at.Before(*due) {
			due = &at
		}
	}
	for _, c := range rows {
		for steps := 0; ; steps++ {
			now := r.Now()
			step := credential.Next(c, holder, now)
			if step.Kind == credential.StepNone {
				break
			}
			if step.At.After(now) {
				soonest(step.At)
				break
			}
			if r.late() || steps >= stepsPerRow {
				soonest(now)
				break
			}
			outside := step.Kind != credential.StepMail && step.Kind != credential.StepEnd
			if outside && (r.waiting[c.ID] || r.silence >= silenceLimit) {
				soonest(now.Add(probeWait))
				break
			}
			if c, err = r.take(ctx, step, c); err != nil {
				return nil, false, err
			}
		}
	}
	if erased {
		return due, due == nil, nil
	}
	at, err := r.tendUser(ctx, rows, due == nil)
	if err != nil {
		return nil, false, err
	}
	if !at.IsZero() {
		soonest(at)
	} else if due == nil && holder.Erasing {
		at, drop, err := r.finishErasing(ctx, rows)
		if !drop {
			due = &at
		}
		return due, drop, err
	}
	return due, false, nil
}

func goneFirst(c credential.Credential) int {
	if c.Want == credential.WantGone {
		return 0
	}
	return 1
}

// take takes one step of one row and returns the row as it then is. Trouble of the account is noted in r; a returned error means
// that the store is unwell.
func (r *run) take(ctx context.Context, step credential.Step, c credential.Credential) (credential.Credential, error) {
	steps := map[credential.StepKind]func(context.Context, credential.Credential) error{
		credential.StepEnd:     r.endRow,
		credential.StepSettle:  r.settle,
		credential.StepRelease: r.release,
		credential.StepIssue:   r.issue,
		credential.StepMail:    r.mail,
		credential.StepPicture: r.picture,
		credential.StepLook:    r.look,
		credential.StepExpire:  r.expire,
	}
	err := steps[step.Kind](ctx, c)
	switch {
	case err == nil, errors.Is(err, store.ErrConflict): // somebody changed the row: look at it again
	case isTrouble(err):
		r.silence++
		r.waiting[c.ID] = true
		err = r.note(ctx, c, step.Kind, troubleCode(err))
	case isRefusal(err):
		err = r.postpone(ctx, c, step.Kind, refusalCode(err))
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return c, err
	}
	return r.Store.Credential(ctx, c.HolderID, c.ID)
}

// isTrouble says whether a failure belongs to the account, not to the row.
func isTrouble(err error) bool {
	return errors.Is(err, provider.ErrUnavailable) || errors.Is(err, provider.ErrOverLimit) || errors.Is(err, provider.ErrNotOurs)
}

func troubleCode(err error) string {
	switch {
	case errors.Is(err, provider.ErrOverLimit):
		return "provider_call_limit"
	case errors.Is(err, provider.ErrNotOurs):
		return "provider_access_denied"
	}
	return "provider_unavailable"
}

func isRefusal(err error) bool {
	return errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrNotFound) ||
		errors.Is(err, provider.ErrEmpty) || errors.Is(err, provider.ErrEmailInUse) || errors.Is(err, errNotGoneYet)
}

func refusalCode(err error) string {
	switch {
	case errors.Is(err, errNotGoneYet):
		return "still_at_provider"
	case errors.Is(err, provider.ErrNotFound):
		return "not_found_at_provider"
	case errors.Is(err, provider.ErrEmailInUse):
		return credential.ReasonEmailInUse
	}
	return credential.ReasonRefusedByProvider
}

// errNotGoneYet: we asked the provider to end something and it is still there.
var errNotGoneYet = errors.New("still at the provider")

// note shows trouble of the account on a row, without making the row wait for it.
func (r *run) note(ctx context.Context, c credential.Credential, step credential.StepKind, code string) error {
	return r.change(ctx, c, func(c *credential.Credential) bool {
		if c.Retry.For == step && c.Retry.Error == code {
			return false
		}
		c.Retry = credential.Retry{For: step, Attempts: max(c.Retry.Attempts, 1), Error: code}
		return true
	})
}

// postpone makes one step of a row wait after a refusal.
func (r *run) postpone(ctx context.Context, c credential.Credential, step credential.StepKind, code string) error {
	return r.change(ctx, c, func(c *credential.Credential) bool {
		c.Retry = credential.Postpone(c.Retry, step, code, r.Now())
		if c.Retry.Attempts == credential.RefusalLimit {
			r.Count(MetricStuck)
			r.Log.ErrorContext(ctx, "refused repeatedly", "holderId", c.HolderID, "credentialId", c.ID, "step", step, "code", code)
		}
		return true
	})
}

// change edits the newest version of a row, without a history entry; edit returns false to leave it.
func (s *Service) change(ctx context.Context, c credential.Credential, edit func(c *credential.Credential) bool) error {
	return s.again(ctx, func() error {
		fresh, err := s.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil || !edit(&fresh) {
			return err
		}
		return s.Store.Commit(ctx, s.rowChange(&fresh))
	})
}

// rowChange is the change that stores a row, its revision raised, and nothing else.
func (s *Service) rowChange(c *credential.Credential) credential.Change {
	now := s.Now()
	c.UpdatedAt = now
	c.Revision++
	return credential.Change{At: now, Credentials: []credential.Credential{*c}}
}

// at returns the provider of the account.
func (r *run) at(ctx context.Context) (provider.Provider, error) {
	if r.provider == nil {
		p, err := r.Providers.Provider(ctx, r.item.Account)
		if err != nil {
			r.Log.ErrorContext(ctx, "account cannot be used", "account", r.item.Account, "error", err)
			return nil, provider.ErrUnavailable
		}
		r.provider = p
	}
	return r.provider, nil
}

// heard notes that the provider answered, if err is an answer of it, and passes err on.
func (r *run) heard(err error) error {
	if err == nil || !isTrouble(err) {
		r.answered, r.silence = true, 0
	}
	return err
}

func person(h credential.Holder) provider.Person {
	return provider.Person{ExternalID: h.ID, FirstName: h.FirstName, LastName: h.LastName, Email: h.Email}
}

// user reads the provider's user of the holder: by its id when that is known, by e-mail otherwise, and then it is known: whatever
// brought it about, it is to be kept in step and to be removed with the holder. ErrNotFound when there is none.
func (r *run) user(ctx context.Context) (provider.User, error) {
	p, err := r.at(ctx)
	if err != nil {
		return provider.User{}, err
	}
	if r.item.UserID != "" {
		u, err := p.User(ctx, r.item.UserID)
		if err == nil && u.ExternalID != "" && u.ExternalID != r.holder.ID {
			err = provider.ErrNotFound
		}
		if r.heard(err) == nil || !errors.Is(err, provider.ErrNotFound) {
			return u, err
		}
	}
	if r.holder.Email == "" {
		return provider.User{}, provider.ErrNotFound // erased
	}
	u, err := p.FindUser(ctx, person(r.holder))
	if r.heard(err) != nil && !isTrouble(err) && r.holder.FormerEmail != "" {
		former := person(r.holder)
		former.Email = r.holder.FormerEmail
		if was, e := p.FindUser(ctx, former); r.heard(e) == nil || isTrouble(e) {
			u, err = was, e
		}
	}
	if err == nil {
		err = r.knowUser(ctx, u.ID, "") // as it is described there we have never seen
	}
	return u, err
}

// knowUser remembers the provider's user of the holder, which was last told hash.
func (r *run) knowUser(ctx context.Context, userID, hash string) error {
	if r.item.UserID == userID && r.item.PersonHash == hash {
		return nil
	}
	if r.item.UserID != userID {
		r.item.PictureRef = ""
	}
	r.item.UserID, r.item.PersonHash, r.item.Retry = userID, hash, credential.Retry{}
	return r.Store.SaveWork(ctx, r.item)
}

// tendUser keeps the provider's user in step with the holder: its description while it has credentials, its end when the holder is
// erased and nothing else is left (idle). It returns when to try again, zero for never.
func (r *run) tendUser(ctx context.Context, rows []credential.Credential, idle bool) (time.Time, error) {
	wanted := slices.ContainsFunc(rows, func(c credential.Credential) bool { return c.IsLive() })
	outdated := wanted && !r.holder.Erasing && r.item.PersonHash != personHash(r.holder)
	unwanted := r.holder.Erasing && idle
	pictured := r.item.PictureRef != "" && r.holder.PictureHash == "" && !r.holder.Erasing // by a credential of the past
	if r.item.UserID == "" || !outdated && !unwanted && !pictured {
		return time.Time{}, nil
	}
	now := r.Now()
	if r.silence >= silenceLimit {
		return now.Add(probeWait), nil
	}
	if now.Before(r.item.Retry.At) {
		return r.item.Retry.At, nil
	}
	p, err := r.at(ctx)
	if err == nil && unwanted {
		if err = r.heard(p.DeleteUser(ctx, r.item.UserID)); err == nil || errors.Is(err, provider.ErrNotFound) {
			return time.Time{}, r.knowUser(ctx, "", "")
		}
	} else if err == nil && pictured {
		if err = r.removePicture(ctx, p); err == nil {
			return r.tendUser(ctx, rows, idle)
		}
	} else if err == nil {
		if r.item.PersonHash != "" { // until we hear of it, the provider may know the holder by either description
			r.item.PersonHash = ""
			if err := r.Store.SaveWork(ctx, r.item); err != nil {
				return time.Time{}, err
			}
		}
		if err = r.heard(p.UpdateUser(ctx, r.item.UserID, person(r.holder))); err == nil {
			return time.Time{}, r.knowUser(ctx, r.item.UserID, personHash(r.holder))
		}
	}
	if isTrouble(err) {
		r.silence++
		return now.Add(probeWait), nil
	}
	if !isRefusal(err) {
		return time.Time{}, err
	}
	r.item.Retry = credential.Postpone(r.item.Retry, "user", refusalCode(err), now)
	if r.item.Retry.Attempts == credential.RefusalLimit {
		r.Count(MetricStuck)
		r.Log.ErrorContext(ctx, "refused repeatedly", "holderId", r.holder.ID, "step", "user", "code", refusalCode(err))
	}
	return r.item.Retry.At, r.Store.SaveWork(ctx, r.item)
}

// finishErasing forgets the holder when this was the last account with anything left of it; otherwise it returns when to look again.
func (r *run) finishErasing(ctx context.Context, rows []credential.Credential) (again time.Time, forgotten bool, err error) {
	for _, c := range rows {
		if err := r.change(ctx, c, func(c *credential.Credential) bool {
			told := c.Invitation.SentTo != ""
			c.Invitation.SentTo = ""
			return told
		}); err != nil {
			return time.Time{}, false, err
		}
	}
	items, err := r.Store.WorkItems(ctx, r.holder.ID)
	if err != nil {
		return time.Time{}, false, err
	}
	for _, item := range items {
		if item.Account != r.item.Account && (item.UserID != "" || item.DueAt != nil) {
			return r.Now().Add(probeWait), false, nil
		}
	}
	return time.Time{}, true, r.forget(ctx, r.holder.ID)
}

// endRow ends a live row because the holder's time is over.
func (r *run) endRow(ctx context.Context, c credential.Credential) error {
	e := credential.Event{Kind: credential.EventVisitEnded, Reason: credential.ReasonVisitEnded, Actor: r.actor}
	if r.holder.Erasing {
		e = credential.Event{Kind: credential.EventRevoke, Reason: credential.ReasonHolderErased, Actor: r.actor}
	}
	_, err := r.commitEvent(ctx, c, e, nil)
	return err
}
