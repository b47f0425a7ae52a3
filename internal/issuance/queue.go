package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// A credential that was assigned with "wait" does not fail when the provider's pool is empty. It waits in its profile's
// list of the warning waiting_for_licence, which is in the order of assignment, and the sweep calls the first of them
// as soon as the pool has something again. Meanwhile nothing overtakes them: what comes free is theirs first.

const (
	// queueLook is how soon a waiting credential asks by itself, should no sweep have called it.
	queueLook = time.Hour
	// queueCounted is how many waiting credentials are read at a time.
	queueCounted = 100
)

// queue lists the first credentials of a profile that wait for a mobile ID, the first comers first, and says whether
// there are more.
func (s *Service) queue(
	ctx context.Context, profileID string,
) (waiting []credential.Credential, more bool, err error) {
	rows, next, err := s.Store.ListCredentials(ctx, credential.Page{
		ProfileID: profileID, Warning: credential.WarnWaitingForLicence, Limit: queueCounted,
	})
	rows = slices.DeleteFunc(rows, func(c credential.Credential) bool { return !c.IsWaiting() })
	return rows, next != "", err
}

// leavesThePool says whether a row has to leave what the pool has to the credentials that came before it.
func (r *run) leavesThePool(ctx context.Context, c credential.Credential) (bool, error) {
	waiting, more, err := r.queue(ctx, c.ProfileID)
	if err != nil {
		return false, err
	}
	before := 0
	for _, other := range waiting {
		if other.CreatedAt.Before(c.CreatedAt) || other.CreatedAt.Equal(c.CreatedAt) && other.ID < c.ID {
			before++
		}
	}
	if before == 0 || before == len(waiting) && more {
		return before > 0, nil
	}
	p, err := r.connect(ctx)
	if err != nil {
		return false, err
	}
	stock, err := p.Stock(ctx, c.PartNumber)
	if r.noteAnswer(err) != nil && isTrouble(err) {
		return false, err
	}
	return err == nil && stock.Available <= before, nil
}

// noLicence is for a row for which the pool has nothing: it waits, or it fails.
func (r *run) noLicence(ctx context.Context, c credential.Credential) error {
	if !c.Wait {
		return r.fail(ctx, c, credential.ReasonNoLicenceLeft)
	}
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		if !c.IsLive() || c.Reservation != credential.ReservationNone {
			return false
		}
		c.Waiting = true
		c.Retry = credential.Retry{
			For: credential.StepIssue, At: r.Now().Add(queueLook), Error: credential.ReasonNoLicenceLeft,
		}
		return true
	})
}

// serveQueue calls the credentials that wait for a licence, as many as the pools have mobile IDs, and says whether
// there were any.
func (sw *sweep) serveQueue(ctx context.Context) (called bool, err error) {
	profiles, err := sw.Store.Profiles(ctx)
	if err != nil {
		return false, err
	}
	for _, profile := range profiles {
		if profile.Account != sw.account || isOutOfTime(ctx) {
			continue
		}
		waiting, _, err := sw.queue(ctx, profile.ID)
		if err != nil {
			return called, err
		}
		if len(waiting) == 0 {
			continue
		}
		available, err := sw.readStock(ctx, profile)
		if err != nil {
			return called, err
		}
		for _, c := range waiting[:min(len(waiting), available)] {
			if err := sw.call(ctx, c); err != nil { // the sweep goes on with what it can
				sw.Count(MetricPoison)
				sw.Log.ErrorContext(ctx, "waiting credential not called",
					"holderId", c.HolderID, "credentialId", c.ID, "error", err)
				continue
			}
			called = true
		}
	}
	return called, nil
}

// call has a waiting credential ask the provider now.
func (s *Service) call(ctx context.Context, c credential.Credential) error {
	return s.untilNoConflict(ctx, func() error {
		newest, err := s.Store.Credential(ctx, c.HolderID, c.ID)
		if err != nil || !newest.IsWaiting() {
			return err
		}
		newest.Retry = credential.Retry{}
		ch := s.begin()
		ch.touch(ch.row(newest))
		return ch.commit(ctx)
	})
}
