package issuance

import (
	"context"
	"errors"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

const (
	duePage       = 25
	outageAfter   = 3 // holders in a row that found no answer make it the account's trouble
	feedPages     = 20
	feedTries     = 3                  // sweeps for which a report that cannot be applied holds up the bookmark
	feedReach     = 7 * 24 * time.Hour // how far back a first reading of the feed goes
	stockInterval = 5 * time.Minute
	sweepReserve  = 12 * time.Second // one work unit, kept free at the end of the time there is
)

// SweepReport says what a sweep did. More is set when it stopped before everything due was done, and running again
// would help.
type SweepReport struct {
	Worked   int  `json:"worked"` // work items
	Reported int  `json:"told"`   // users that the feed reported something of
	More     bool `json:"more"`
}

// Sweep does for each account what is due, reads on in the provider's feed and looks at the stock. One account's
// trouble, or one item's, keeps no other waiting. The error is the store's only.
func (s *Service) Sweep(ctx context.Context, accounts []string) (SweepReport, error) {
	var report SweepReport
	var failed error
	for _, account := range accounts {
		sw := &sweep{Service: s, account: account, report: &report}
		if err := sw.run(ctx); err != nil {
			s.Log.ErrorContext(ctx, "account not swept", "account", account, "error", err)
			failed = errors.Join(failed, err)
		}
	}
	return report, failed
}

// sweep is the sweep of one account.
type sweep struct {
	*Service
	account string
	report  *SweepReport
	outage  credential.Outage
}

func (sw *sweep) run(ctx context.Context) (err error) {
	if sw.outage, err = sw.Store.Outage(ctx, sw.account); err != nil {
		return err
	}
	if sw.Now().Before(sw.outage.NextProbe) {
		return nil
	}
	trouble, err := sw.workDue(ctx)
	if err != nil || trouble {
		return err
	}
	if trouble, err = sw.readFeed(ctx); err != nil {
		return err
	}
	if trouble {
		return sw.openOutage(ctx)
	}
	if !sw.outage.Since.IsZero() {
		if err := sw.closeOutage(ctx); err != nil {
			return err
		}
	}
	return sw.lookAtStock(ctx)
}

// workDue works off what is due. trouble says that the provider does not answer.
func (sw *sweep) workDue(ctx context.Context) (trouble bool, err error) {
	started := sw.Now()
	tried := map[string]bool{}
	unanswered := 0
	for {
		refs, err := sw.Store.Due(ctx, sw.account, started, duePage)
		if err != nil {
			return false, err
		}
		progress := false
		for _, ref := range refs {
			if tried[ref.HolderID] {
				continue
			}
			if isOutOfTime(ctx) {
				sw.report.More = true
				return false, nil
			}
			tried[ref.HolderID], progress = true, true
			switch sw.workOn(ctx, ref.HolderID) {
			case workStopped:
				unanswered++
				if !sw.outage.Since.IsZero() || unanswered >= outageAfter {
					return true, sw.openOutage(ctx)
				}
			case workDone:
				sw.report.Worked++
				unanswered = 0
			}
		}
		if !progress {
			return false, nil
		}
	}
}

// workOn does what is due for one holder. A work item that the store cannot be read or written for is counted, and
// never stops the others.
func (sw *sweep) workOn(ctx context.Context, holderID string) outcome {
	actor := credential.Actor{Type: credential.ActorSweep}
	result, err := sw.work(ctx, holderID, sw.account, actor, true)
	if err != nil {
		sw.Count(MetricPoison)
		sw.Log.ErrorContext(ctx, "work item failed", "holderId", holderID, "account", sw.account, "error", err)
		return workBusy
	}
	return result
}

// isOutOfTime says whether too little is left of the invocation for another unit of work.
func isOutOfTime(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < sweepReserve
}

// openOutage notes that the account is in trouble, to be tried once a minute.
func (sw *sweep) openOutage(ctx context.Context) error {
	now := sw.Now()
	if sw.outage.Since.IsZero() {
		sw.outage.Since = now
		sw.Log.ErrorContext(ctx, "provider in trouble", "account", sw.account)
	}
	// A little less than the schedule's minute, so that the next sweep is not just too early.
	sw.outage.NextProbe = now.Add(probeWait - 5*time.Second)
	sw.outage.Reason = "provider_unavailable"
	return sw.Store.SetOutage(ctx, sw.account, sw.outage)
}

func (sw *sweep) closeOutage(ctx context.Context) error {
	sw.Log.InfoContext(ctx, "provider answers again", "account", sw.account, "since", sw.outage.Since)
	sw.outage = credential.Outage{}
	return sw.Store.SetOutage(ctx, sw.account, sw.outage)
}

// readFeed reads on in the provider's own record of events, so that a lost report costs a minute and not a badge. The
// bookmark moves when everything before it has been dealt with.
func (sw *sweep) readFeed(ctx context.Context) (trouble bool, err error) {
	p, err := sw.Providers.Provider(ctx, sw.account)
	if err != nil {
		sw.Log.ErrorContext(ctx, "account cannot be used", "account", sw.account, "error", err)
		return true, nil
	}
	bookmark, err := sw.Store.Bookmark(ctx, sw.account)
	if err != nil {
		return false, err
	}
	for range feedPages {
		feed, err := p.Feed(ctx, bookmark, sw.Now().Add(-feedReach))
		if isTrouble(err) {
			return true, nil
		}
		if err != nil {
			sw.Log.ErrorContext(ctx, "feed cannot be read", "account", sw.account, "error", err)
			return false, nil
		}
		passed, err := sw.applyPage(ctx, feed, bookmark)
		if isTrouble(err) {
			return true, nil
		}
		if err != nil || !passed {
			return false, err
		}
		if bookmark = feed.Next; !feed.More {
			return false, nil
		}
	}
	sw.report.More = true
	return false, nil
}

// applyPage applies what a page of the feed reports and moves the bookmark behind it; passed is false when it stays. An
// error is trouble of the account, or the store's when it cannot move the bookmark.
func (sw *sweep) applyPage(ctx context.Context, feed provider.Feed, bookmark string) (passed bool, err error) {
	unapplied := false
	for _, u := range feed.Users {
		if isOutOfTime(ctx) {
			sw.report.More = true
			return false, nil
		}
		if err := sw.Refresh(ctx, u); err != nil {
			if isTrouble(err) {
				return false, err
			}
			unapplied = true
			sw.Count(MetricPoison)
			sw.Log.ErrorContext(ctx, "report not applied", "account", sw.account, "userId", u.UserID, "error", err)
		}
		sw.report.Reported++
	}
	if unapplied && sw.holdsFeed(sw.account, bookmark) {
		return false, nil
	}
	if feed.Next == bookmark {
		return true, nil
	}
	err = sw.Store.SetBookmark(ctx, sw.account, bookmark, feed.Next)
	if errors.Is(err, store.ErrConflict) {
		return false, nil // another sweep is at it
	}
	return err == nil, err
}

// holdsFeed counts the sweeps that could not apply everything from a bookmark on, and says whether the bookmark stays
// for another try: the store may have been unwell, but a report that can never be applied must not hold up those behind
// it. That the count is forgotten with the process costs no more than a few sweeps.
func (s *Service) holdsFeed(account, bookmark string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heldFeeds == nil {
		s.heldFeeds = map[string]heldFeed{}
	}
	held := s.heldFeeds[account]
	if held.bookmark != bookmark {
		held = heldFeed{bookmark: bookmark}
	}
	held.sweeps++
	s.heldFeeds[account] = held
	return held.sweeps < feedTries
}

// heldFeed is a place in an account's feed, and how many sweeps could not get past it.
type heldFeed struct {
	bookmark string
	sweeps   int
}

// lookAtStock looks at the stock of every profile's part number now and then.
func (sw *sweep) lookAtStock(ctx context.Context) error {
	profiles, err := sw.Store.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, profile := range profiles {
		if profile.Account != sw.account || profile.Retired || isOutOfTime(ctx) {
			continue
		}
		if err := sw.refreshStock(ctx, profile); err != nil {
			return err
		}
	}
	return nil
}

// refreshStock looks at the stock of one profile's part number unless that was done lately.
func (sw *sweep) refreshStock(ctx context.Context, profile credential.Profile) error {
	now := sw.Now()
	known, err := sw.Store.Stock(ctx, sw.account, profile.PartNumber)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && now.Before(known.AsOf.Add(stockInterval)) {
		return nil
	}
	p, err := sw.Providers.Provider(ctx, sw.account)
	if err != nil {
		return nil // said when the feed was to be read
	}
	stock, err := p.Stock(ctx, profile.PartNumber)
	if err != nil {
		sw.Log.WarnContext(ctx, "stock unknown", "account", sw.account, "profileId", profile.ID, "error", err)
		return nil
	}
	if stock.Available < profile.LowStock {
		sw.Count(MetricLowStock)
	}
	return sw.Store.PutStock(ctx, credential.Stock{
		Account: sw.account, PartNumber: profile.PartNumber, Available: stock.Available, AsOf: now,
	})
}
