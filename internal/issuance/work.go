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
	workDone    outcome = iota
	workBusy            // another process has the claim, or it is not due
	workStopped         // the provider does not answer, or the store is unwell; the rest waits
)

// run is one process at work under a claim.
type run struct {
	*Service
	item       credential.WorkItem
	holder     credential.Holder
	actor      credential.Actor
	until      time.Time
	provider   provider.Provider // nil until it is first needed
	answered   bool              // the provider answered at least once
	outage     credential.Outage // the account's trouble, as this run knows it
	unit       unit
	trouble    error           // the last call that ended in trouble, nil since one was answered
	unanswered int             // calls without an answer since the last one with
	waiting    map[string]bool // rows that met trouble in this run: they wait, the others need not (R6)
}

// unansweredLimit is how many calls in a row may go unanswered before a run asks no more.
const unansweredLimit = 2

// work takes the claim of a holder at an account, does what is due, and gives the claim back. An error means that
// the store is unwell: the claim then runs out by itself and the sweep goes on. onlyDue leaves alone what is not due
// any more.
func (s *Service) work(
	ctx context.Context, holderID, account string, actor credential.Actor, onlyDue bool,
) (outcome, error) {
	return s.workUnit(ctx, holderID, account, actor, onlyDue, unit{})
}

// Wake does what another function, which calls no provider, has made due for a holder at an account. An error means
// that the store is unwell; what is left is the sweep's.
func (s *Service) Wake(ctx context.Context, holderID, account string) error {
	_, err := s.work(ctx, holderID, account, credential.Actor{Type: credential.ActorSweep}, true)
	return err
}

// unit is what the sweep knows of the account before a unit of work.
type unit struct {
	// accountAnswers: a call for the account itself was just answered. What is not answered then is the row's own
	// trouble, and backs off alone.
	accountAnswers bool
	// probing: the provider may be called although the account is in trouble.
	probing bool
}

// workUnit does what work does, for the sweep.
func (s *Service) workUnit(
	ctx context.Context, holderID, account string, actor credential.Actor, onlyDue bool, u unit,
) (outcome, error) {
	now := s.Now()
	claim := credential.Claim{ID: s.NewID(), Until: now.Add(claimFor)}
	item, err := s.Store.Claim(ctx, holderID, account, claim, now, onlyDue)
	if errors.Is(err, store.ErrConflict) {
		return workBusy, nil
	}
	if err != nil {
		return workBusy, err
	}
	r := &run{
		Service: s, item: item, actor: actor, until: now.Add(workFor), waiting: map[string]bool{}, unit: u,
	}
	if r.outage, err = s.Store.Outage(ctx, account); err != nil {
		return workBusy, err
	}
	for {
		due, drop, err := r.round(ctx)
		if err != nil {
			return workStopped, err
		}
		if r.outOfTime() {
			at := s.Now()
			due, drop = &at, false
		}
		r.item.DueAt = due
		err = s.Store.Release(ctx, r.item, drop)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) {
			return workStopped, err
		}
		// Work was added meanwhile, so there may be more to do; or the claim ran out and another process has it now.
		newest, err := s.Store.WorkItem(ctx, holderID, account)
		if errors.Is(err, store.ErrNotFound) || err == nil && (newest.Claim == nil || newest.Claim.ID != claim.ID) {
			return workBusy, nil
		}
		if err != nil {
			return workStopped, err
		}
		r.item.Added = newest.Added
	}
	if err := r.noteOutage(ctx); err != nil {
		return workStopped, err
	}
	if r.unanswered > 0 && !r.answered {
		return workStopped, nil
	}
	return workDone, nil
}

// noteOutage stores what this run learned of the account's trouble. Only the probe closes an outage.
func (r *run) noteOutage(ctx context.Context) error {
	is := r.outage
	if r.answered {
		is = is.Answered()
	}
	if r.trouble != nil {
		is = r.afterTrouble(is, r.item.HolderID, r.trouble)
	}
	return r.changeOutage(ctx, r.item.Account, r.outage, is)
}

// mayCall says whether the provider may be called now: not while the account is in trouble, nor after too many calls
// without an answer.
func (r *run) mayCall() bool {
	return (r.unit.probing || !r.outage.IsOpen()) && r.unanswered < unansweredLimit
}

func (r *run) outOfTime() bool { return !r.Now().Before(r.until) }

// moment is the soonest of the moments it was given; its zero value is none.
type moment struct{ at *time.Time }

func (m *moment) add(at time.Time) {
	if m.at == nil || at.Before(*m.at) {
		m.at = &at
	}
}

// round does what is due in every row, those to be gone first, then for the provider's user, and returns the next
// moment at which anything will be. drop says that the work item itself has nothing left to stand for.
func (r *run) round(ctx context.Context) (due *time.Time, drop bool, err error) {
	holder, err := r.Store.Holder(ctx, r.item.HolderID)
	erased := errors.Is(err, store.ErrNotFound)
	if erased {
		// What was learned of a credential since may still have to be released.
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

	var next moment
	for _, c := range rows {
		if err := r.takeSteps(ctx, c, &next); err != nil {
			return nil, false, err
		}
	}
	if erased {
		return next.at, next.at == nil, nil
	}
	if err := r.keepUser(ctx, rows, &next); err != nil {
		return nil, false, err
	}
	if next.at == nil && holder.Erasing {
		drop, err = r.finishErasing(ctx, rows, &next)
	}
	return next.at, drop, err
}

func goneFirst(c credential.Credential) int {
	if c.Want == credential.WantGone {
		return 0
	}
	return 1
}

// takeSteps takes the steps of one row that can be taken now, and adds the moment of the next.
func (r *run) takeSteps(ctx context.Context, c credential.Credential, next *moment) (err error) {
	for steps := 0; ; steps++ {
		now := r.Now()
		step := credential.Next(c, r.holder, now)
		if step.Kind == credential.StepNone {
			return nil
		}
		if step.At.After(now) {
			next.add(step.At)
			return nil
		}
		if r.outOfTime() || steps >= stepsPerRow {
			next.add(now)
			return nil
		}
		isHere := step.Kind == credential.StepMail || step.Kind == credential.StepEnd ||
			step.Kind == credential.StepNote
		if !isHere && (r.waiting[c.ID] || !r.mayCall()) {
			next.add(now.Add(probeWait))
			return nil
		}
		if c, err = r.take(ctx, step.Kind, c); err != nil {
			return err
		}
	}
}

// take takes one step of one row and returns the row as it then is. Trouble of the account is noted in r; a returned
// error means that the store is unwell.
func (r *run) take(
	ctx context.Context,
	step credential.StepKind,
	c credential.Credential,
) (credential.Credential, error) {
	steps := map[credential.StepKind]func(context.Context, credential.Credential) error{
		credential.StepEnd:     r.endRow,
		credential.StepSettle:  r.settle,
		credential.StepRelease: r.release,
		credential.StepIssue:   r.issue,
		credential.StepMail:    r.mail,
		credential.StepPicture: r.picture,
		credential.StepRecheck: r.recheck,
		credential.StepLook:    r.look,
		credential.StepExpire:  r.expire,
		credential.StepNote:    r.note,
	}
	err := steps[step](ctx, c)
	switch {
	case isTrouble(err):
		r.unanswered++
		r.waiting[c.ID] = true
		r.trouble = err
		if r.isOfRow(err) {
			err = r.postpone(ctx, c, step, rowTroubleCode(err))
		} else {
			err = r.noteTrouble(ctx, c, step, troubleCode(err))
		}
	case isRefusal(err):
		err = r.postpone(ctx, c, step, refusalCode(err))
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return c, err
	}
	return r.Store.Credential(ctx, c.HolderID, c.ID)
}

// note stores a row again, which lists the warnings that have begun with time.
func (r *run) note(ctx context.Context, c credential.Credential) error { return r.save(ctx, &c) }

// endRow ends a live row because the holder's time is over.
func (r *run) endRow(ctx context.Context, c credential.Credential) error {
	e := credential.Event{Kind: credential.EventVisitEnded, Reason: credential.ReasonVisitEnded, Actor: r.actor}
	if r.holder.Erasing {
		e = credential.Event{Kind: credential.EventRevoke, Reason: credential.ReasonHolderErased, Actor: r.actor}
	}
	return r.recordEvent(ctx, c, e, nil)
}

// recordEvent applies an event that is true whatever else happens to the row meanwhile; edit, if given, adds to what
// the event changes.
func (r *run) recordEvent(
	ctx context.Context, c credential.Credential, e credential.Event, edit func(*credential.Credential),
) error {
	return r.untilNoConflict(ctx, func() error {
		newest, err := r.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil {
			return err
		}
		if edit != nil {
			edit(&newest)
		}
		ch := r.begin()
		after, entry, err := ch.record(newest, e)
		if err != nil || entry == nil {
			return err
		}
		if err := ch.freeSlot(ctx, newest, after); err != nil {
			return err
		}
		return ch.commit(ctx)
	})
}

// finishErasing forgets the holder when this is the last account with a work item. Otherwise an account that is done
// gives up its work item, all but the first, which waits for the others: so two that end at once cannot each take the
// other for the last.
func (r *run) finishErasing(
	ctx context.Context, rows []credential.Credential, next *moment,
) (drop bool, err error) {
	for _, c := range rows {
		if err := r.edit(ctx, c, func(c *credential.Credential) bool {
			isLeft := !c.Erased || c.Invitation.SentTo != "" || c.LookAt != nil
			c.Erased, c.Invitation.SentTo, c.LookAt = true, "", nil
			c.Device, c.AcceptedOn, c.Reports = nil, "", nil
			return isLeft
		}); err != nil {
			return false, err
		}
	}
	items, err := r.Store.WorkItems(ctx, r.holder.ID)
	if err != nil {
		return false, err
	}
	isFirst := true
	for _, item := range items {
		isFirst = isFirst && r.item.Account <= item.Account
	}
	switch {
	case len(items) <= 1:
		return true, r.forget(ctx, r.holder.ID)
	case !isFirst:
		return true, nil // nothing is left here, and the first account forgets the holder once it is alone
	}
	next.add(r.Now().Add(probeWait))
	return false, nil
}
