package issuance

import (
	"context"
	"errors"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

const (
	duePage       = 25
	outageAfter   = 3 // holders in a row that found no answer make it the account's trouble
	feedPages     = 20
	feedTries     = 3                  // sweeps that a report which cannot be applied holds the bookmark up for
	feedReach     = 7 * 24 * time.Hour // how far back a first reading of the feed goes
	stockInterval = 5 * time.Minute
	sweepReserve  = 12 * time.Second // one work unit, kept free at the end of the time there is
)

// SweepReport says what a sweep did. More is set when it stopped before everything due was done, and running again would help.
type SweepReport struct {
	Worked int  `json:"worked"`
	Told   int  `json:"told"` // users the feed had something to say of
	More   bool `json:"more"`
}

// Sweep does for each account whatever is due, reads on in the provider's feed and looks at the stock. One account's trouble, or one
// item's, keeps nobody else waiting. The error is the store's only.
func (s *Service) Sweep(ctx context.Context, accounts []string) (SweepReport, error) {
	var report SweepReport
	var failed error
	for _, account := range accounts {
		if err := s.sweepAccount(ctx, account, &report); err != nil {
			s.Log.ErrorContext(ctx, "account not swept", "account", account, "error", err)
			failed = errors.Join(failed, err)
		}
	}
	return report, failed
}

func (s *Service) sweepAccount(ctx context.Context, account string, report *SweepReport) error {
	outage, err := s.Store.Outage(ctx, account)
	if err != nil {
		return err
	}
	if s.Now().Before(outage.NextProbe) {
		return nil
	}
	trouble, err := s.sweepDue(ctx, account, &outage, report)
	if err != nil || trouble {
		return err
	}
	if trouble, err = s.sweepFeed(ctx, account, report); err != nil {
		return err
	}
	if trouble {
		return s.suffer(ctx, account, &outage)
	}
	if !outage.Since.IsZero() {
		if err := s.recover(ctx, account, &outage); err != nil {
			return err
		}
	}
	return s.sweepStock(ctx, account)
}

// sweepDue works off what is due. trouble says that the provider does not answer.
func (s *Service) sweepDue(ctx context.Context, account string, outage *credential.Outage, report *SweepReport) (trouble bool, err error) {
	started := s.Now()
	actor := credential.Actor{Type: credential.ActorSweep}
	tried := map[string]bool{}
	unanswered := 0
	for {
		refs, err := s.Store.Due(ctx, account, started, duePage)
		if err != nil {
			return false, err
		}
		progress := false
		for _, ref := range refs {
			if tried[ref.HolderID] {
				continue
			}
			if outOfTime(ctx) {
				report.More = true
				return false, nil
			}
			tried[ref.HolderID], progress = true, true
			result, err := s.work(ctx, ref.HolderID, account, actor, true)
			switch {
			case err != nil:
				s.Count(MetricPoison)
				s.Log.ErrorContext(ctx, "work item failed", "holderId", ref.HolderID, "account", account, "error", err)
			case result == workOut:
				unanswered++
				if !outage.Since.IsZero() || unanswered >= outageAfter {
					return true, s.suffer(ctx, account, outage)
				}
			case result == workDone:
				report.Worked++
				unanswered = 0
			}
		}
		if !progress {
			return false, nil
		}
	}
}

// outOfTime says whether too little is left of the invocation for another unit of work.
func outOfTime(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < sweepReserve
}

// suffer notes that an account is in trouble, to be tried once a minute.
func (s *Service) suffer(ctx context.Context, account string, outage *credential.Outage) error {
	now := s.Now()
	if outage.Since.IsZero() {
		outage.Since = now
		s.Log.ErrorContext(ctx, "provider in trouble", "account", account)
	}
	// A little less than the schedule's minute, so that the next sweep is not just too early.
	outage.NextProbe = now.Add(probeWait - 5*time.Second)
	outage.Reason = "provider_unavailable"
	return s.Store.SetOutage(ctx, account, *outage)
}

func (s *Service) recover(ctx context.Context, account string, outage *credential.Outage) error {
	s.Log.InfoContext(ctx, "provider answers again", "account", account, "since", outage.Since)
	*outage = credential.Outage{}
	return s.Store.SetOutage(ctx, account, *outage)
}

// sweepFeed reads on in the provider's own record of events, so that a lost report costs a minute and not a badge. The bookmark moves
// when everything before it has been dealt with.
func (s *Service) sweepFeed(ctx context.Context, account string, report *SweepReport) (trouble bool, err error) {
	p, err := s.Providers.Provider(ctx, account)
	if err != nil {
		s.Log.ErrorContext(ctx, "account cannot be used", "account", account, "error", err)
		return true, nil
	}
	bookmark, err := s.Store.Bookmark(ctx, account)
	if err != nil {
		return false, err
	}
	for range feedPages {
		feed, err := p.Feed(ctx, bookmark, s.Now().Add(-feedReach))
		if err != nil {
			if !isTrouble(err) {
				s.Log.ErrorContext(ctx, "feed cannot be read", "account", account, "error", err)
				return false, nil
			}
			return true, nil
		}
		unapplied := false
		for _, u := range feed.Users {
			if outOfTime(ctx) {
				report.More = true
				return false, nil
			}
			if err := s.Refresh(ctx, u); err != nil {
				if isTrouble(err) {
					return true, nil
				}
				unapplied = true
				s.Count(MetricPoison)
				s.Log.ErrorContext(ctx, "report not applied", "account", account, "userId", u.UserID, "error", err)
			}
			report.Told++
		}
		if unapplied && s.mayTell(account, bookmark) {
			return false, nil
		}
		if feed.Next != bookmark {
			err := s.Store.SetBookmark(ctx, account, bookmark, feed.Next)
			if errors.Is(err, store.ErrConflict) {
				return false, nil // another sweep is at it
			}
			if err != nil {
				return false, err
			}
		}
		if bookmark = feed.Next; !feed.More {
			return false, nil
		}
	}
	report.More = true
	return false, nil
}

// mayTell counts the sweeps that could not apply everything from a bookmark on, and says whether to tell it all again: the store may
// have been unwell, but a report that never can be applied must not hold up those behind it. That it is forgotten with the process
// costs no more than a few sweeps.
func (s *Service) mayTell(account, bookmark string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unapplied == nil {
		s.unapplied = map[string]feedStop{}
	}
	stop := s.unapplied[account]
	if stop.bookmark != bookmark {
		stop = feedStop{bookmark: bookmark}
	}
	stop.sweeps++
	s.unapplied[account] = stop
	return stop.sweeps < feedTries
}

// feedStop is a place in an account's feed, and how many sweeps could not get past it.
type feedStop struct {
	bookmark string
	sweeps   int
}

// sweepStock looks at the stock of every profile's part number now and then.
func (s *Service) sweepStock(ctx context.Context, account string) error {
	profiles, err := s.Store.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, profile := range profiles {
		if profile.Account != account || profile.Retired || outOfTime(ctx) {
			continue
		}
		now := s.Now()
		known, err := s.Store.Stock(ctx, account, profile.PartNumber)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && now.Before(known.AsOf.Add(stockInterval)) {
			continue
		}
		p, err := s.Providers.Provider(ctx, account)
		if err != nil {
			return nil
		}
		stock, err := p.Stock(ctx, profile.PartNumber)
		if err != nil {
			s.Log.WarnContext(ctx, "stock unknown", "account", account, "profileId", profile.ID, "error", err)
			continue
		}
		if stock.Available < profile.LowStock {
			s.Count(MetricLowStock)
		}
		if err := s.Store.PutStock(ctx, credential.Stock{Account: account, PartNumber: profile.PartNumber, Available: stock.Available, AsOf: now}); err != nil {
			return err
		}
	}
	return nil
}
