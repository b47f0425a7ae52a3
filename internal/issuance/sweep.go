package issuance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store"
)

const (
	duePage   = 25
	feedPages = 20
	// feedBehindPage is how many events are read at a time when the sweep before did not get to the end of the feed.
	feedBehindPage = 25
	feedTries      = 60                 // sweeps for which a report that cannot be applied holds up the bookmark
	feedReach      = 7 * 24 * time.Hour // how far back a first reading of the feed goes
	stockInterval  = 5 * time.Minute
	sweepReserve   = 12 * time.Second // one work unit, kept free at the end of the time there is
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
	s.gauge(ctx, accounts)
	return report, failed
}

// sweep is the sweep of one account.
type sweep struct {
	*Service
	account string
	report  *SweepReport
	// feedRead: the feed was read to its end.
	feedRead bool
}

// run sweeps one account: what its feed reports before what is due, because a stolen badge may be in it.
func (sw *sweep) run(ctx context.Context) error {
	outage, err := sw.Store.Outage(ctx, sw.account)
	if err != nil {
		return err
	}
	if outage.IsOpen() {
		if sw.Now().Before(outage.NextProbe) {
			return nil
		}
		return sw.probe(ctx, outage)
	}
	atMost := 0
	if !outage.FeedBehind.IsZero() { // a page that cannot be dealt with in one sweep must not be read again for ever
		atMost = feedBehindPage
	}
	trouble, err := sw.readFeed(ctx, atMost)
	if err != nil {
		return err
	}
	// A feed that fails by itself is no outage; but a user that fails with it may not be what is unwell.
	is := sw.afterTrouble(outage, "", trouble)
	switch {
	case sw.feedRead:
		is.FeedBehind = time.Time{}
	case is.FeedBehind.IsZero():
		is.FeedBehind = sw.Now()
	}
	if err := sw.changeOutage(ctx, sw.account, outage, is); err != nil || is.IsOpen() {
		return err
	}
	if _, err := sw.workDue(ctx, unit{accountAnswers: trouble == nil}); err != nil {
		return err
	}
	if called, err := sw.serveQueue(ctx); err != nil {
		return err
	} else if called {
		if _, err := sw.workDue(ctx, unit{accountAnswers: trouble == nil}); err != nil {
			return err
		}
	}
	return sw.lookAtStock(ctx)
}

// probe tries an account in trouble: one call for the account itself, and after it one unit of work at a time until the
// provider answers one. When all of that is well, the outage is over.
func (sw *sweep) probe(ctx context.Context, outage credential.Outage) error {
	if err := sw.callAccount(ctx); err != nil {
		if !isTrouble(err) {
			return err
		}
		return sw.changeOutage(ctx, sw.account, outage, outage.Open(outage.Reason, sw.Now()))
	}
	answered, err := sw.workDue(ctx, unit{accountAnswers: true, probing: true})
	if err != nil {
		return err
	}
	newest, err := sw.Store.Outage(ctx, sw.account)
	if err != nil {
		return err
	}
	if !answered {
		return sw.changeOutage(ctx, sw.account, newest, newest.Open(newest.Reason, sw.Now()))
	}
	if err := sw.changeOutage(ctx, sw.account, newest, newest.Closed()); err != nil {
		return err
	}
	return sw.run(ctx)
}

// callAccount makes one call that concerns no holder: the stock of a part number, or the feed where there is no
// profile.
func (sw *sweep) callAccount(ctx context.Context) error {
	p, err := sw.Providers.Provider(ctx, sw.account)
	if err != nil {
		return fmt.Errorf("%w: %w", provider.ErrNoAccess, err)
	}
	profiles, err := sw.Store.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, profile := range profiles {
		if profile.Account == sw.account {
			_, err := p.Stock(ctx, profile.PartNumber)
			if isTrouble(err) {
				return err
			}
			return nil
		}
	}
	bookmark, err := sw.Store.Bookmark(ctx, sw.account)
	if err != nil {
		return err
	}
	if _, err := p.Feed(ctx, bookmark, sw.Now().Add(-feedReach), 0); isTrouble(err) {
		return err
	}
	return nil
}

// workDue works off what is due, until the account turns out to be in trouble. When probing, it stops at the first unit
// that the provider answers; answered is false when it answered none of those that asked it.
func (sw *sweep) workDue(ctx context.Context, u unit) (answered bool, err error) {
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
				return unanswered == 0, nil
			}
			tried[ref.HolderID], progress = true, true
			switch sw.workOn(ctx, ref.HolderID, u) {
			case workStopped:
				unanswered++
			case workDone:
				sw.report.Worked++
				if u.probing {
					return true, nil
				}
			}
			if !u.probing && unanswered > 0 {
				outage, err := sw.Store.Outage(ctx, sw.account)
				if err != nil || outage.IsOpen() {
					return false, err
				}
			}
		}
		if !progress {
			return unanswered == 0, nil
		}
	}
}

// workOn does what is due for one holder. A work item that the store cannot be read or written for is counted, and
// never stops the others.
func (sw *sweep) workOn(ctx context.Context, holderID string, u unit) outcome {
	actor := credential.Actor{Type: credential.ActorSweep}
	result, err := sw.workUnit(ctx, holderID, sw.account, actor, true, u)
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

// readFeed reads on in the provider's own record of events, so that a lost report costs a minute and not a badge. The
// bookmark moves when everything before it has been dealt with.
//
// trouble is the account's: the feed itself got no answer. A user that cannot be read waits as due work, and never
// stops the others.
func (sw *sweep) readFeed(ctx context.Context, atMost int) (trouble, err error) {
	p, err := sw.Providers.Provider(ctx, sw.account)
	if err != nil {
		sw.Log.ErrorContext(ctx, "account cannot be used", "account", sw.account, "error", err)
		return fmt.Errorf("%w: %w", provider.ErrNoAccess, err), nil
	}
	bookmark, err := sw.Store.Bookmark(ctx, sw.account)
	if err != nil {
		return nil, err
	}
	for range feedPages {
		feed, err := p.Feed(ctx, bookmark, sw.Now().Add(-feedReach), atMost)
		if isTrouble(err) {
			return err, nil
		}
		if err != nil {
			sw.Log.ErrorContext(ctx, "feed cannot be read", "account", sw.account, "error", err)
			return nil, nil
		}
		passed, err := sw.applyPage(ctx, feed, bookmark)
		if err != nil || !passed {
			return nil, err
		}
		if bookmark = feed.Next; !feed.More {
			sw.feedRead = true
			return nil, nil
		}
	}
	sw.report.More = true
	return nil, nil
}

// applyPage applies what a page of the feed reports and moves the bookmark behind it; passed is false when it stays. An
// error is the store's when it cannot move the bookmark.
func (sw *sweep) applyPage(ctx context.Context, feed provider.Feed, bookmark string) (passed bool, err error) {
	unapplied := false
	for _, u := range feed.Users {
		if isOutOfTime(ctx) {
			sw.report.More = true
			return false, nil
		}
		if err := sw.Refresh(ctx, u); err != nil {
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
// for another try, for about an hour: the store may be unwell, but a report that can never be applied must not hold up
// those behind it for ever. That the count is forgotten with the process costs no more than as many sweeps again.
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
	known, err := sw.Store.Stock(ctx, sw.account, profile.PartNumber)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && sw.Now().Before(known.AsOf.Add(stockInterval)) {
		return nil
	}
	_, err = sw.readStock(ctx, profile)
	return err
}

// readStock asks the provider for the stock of a profile's part number and keeps it. available is 0 when the provider
// does not say; an error is the store's.
func (sw *sweep) readStock(ctx context.Context, profile credential.Profile) (available int, err error) {
	p, err := sw.Providers.Provider(ctx, sw.account)
	if err != nil {
		return 0, nil // said when the feed was to be read
	}
	stock, err := p.Stock(ctx, profile.PartNumber)
	if err != nil {
		sw.Log.WarnContext(ctx, "stock unknown", "account", sw.account, "profileId", profile.ID, "error", err)
		return 0, nil
	}
	return stock.Available, sw.noteStock(ctx, profile, stock.Available)
}

// noteStock keeps what the provider has left of a profile's part number, and reports when it is little.
func (s *Service) noteStock(ctx context.Context, profile credential.Profile, available int) error {
	if available < profile.LowStock && !profile.Retired {
		s.Count(MetricLowStock)
	}
	return s.Store.PutStock(ctx, credential.Stock{
		Account: profile.Account, PartNumber: profile.PartNumber, Available: available, AsOf: s.Now(),
	})
}
