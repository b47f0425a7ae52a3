package issuance

import (
	"context"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// A credential that was assigned with "wait" does not fail when the provider's pool is empty. It waits in its profile's
// list of the warning waiting_for_licence, which is in the order of assignment, and the sweep calls the first of them
// as soon as the pool has something again. Meanwhile nothing overtakes them: what comes free is theirs first.

const (
	// queueLook is how soon a waiting credential asks by itself, should no sweep have called it.
	queueLook = time.Hour
	// queueCounted is how many waiting credentials are counted; no pool gets more than that back in a minute.
	queueCounted = 100
)

// queue lists credentials of a profile that wait for a mobile ID, the first comers first.
func (s *Service) queue(ctx context.Context, profileID string) ([]credential.Credential, error) {
	rows, _, err := s.Store.ListCredentials(ctx, credential.Page{
		ProfileID: profileID, Warning: credential.WarnWaitingForLicence, Limit: queueCounted,
	})
	return rows, err
}

// leavesThePool says whether a row has to leave what the pool has to the credentials that came before it.
func (r *run) leavesThePool(ctx context.Context, c credential.Credential) (bool, error) {
	rows, err := r.queue(ctx, c.ProfileID)
	if err != nil {
		return false, err
	}
	before := 0
	for _, other := range rows {
		earlier := other.CreatedAt.Before(c.CreatedAt) || other.CreatedAt.Equal(c.CreatedAt) && other.ID < c.ID
		if other.IsWaiting() && earlier {
			before++
		}
	}
	if before == 0 {
		return false, nil
	}
	p, err := r.connect(ctx)
	if err != nil {
		return false, err
	}
	stock, err := p.Stock(ctx, c.PartNumber)
	return err == nil && stock.Available <= before, r.noteAnswer(err)
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
		rows, err := sw.queue(ctx, profile.ID)
		if err != nil {
			return called, err
		}
		if len(rows) == 0 {
			continue
		}
		available, err := sw.readStock(ctx, profile)
		if err != nil {
			return called, err
		}
		for _, c := range rows[:min(len(rows), available)] {
			if err := sw.call(ctx, c); err != nil {
				return called, err
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
		if err != nil || !newest.IsWaiting() || newest.Reservation != credential.ReservationNone {
			return err
		}
		newest.Retry = credential.Retry{}
		ch := s.begin()
		ch.touch(ch.row(newest))
		return ch.commit(ctx)
	})
}
