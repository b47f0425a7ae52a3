package issuance

import (
	"context"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Metrics that the sweep emits once it has done its work, as long as it runs: how things stand, be it well or not.
// Durations are in seconds.
const (
	GaugeAccountTrouble = "AccountTrouble"   // accounts in an outage, or over their limit for long
	GaugeMailNotSent    = "MailNotSent"      // invitations that the mail service refuses, at most 100 counted a profile
	GaugeOldestDue      = "OldestDueSeconds" // how long what is due longest has been due
	GaugeStuckRows      = "StuckRows"        // credentials with a step refused RefusalLimit times, counted likewise
	GaugeFeedLag        = "FeedLag"          // how long a provider's feed has not been read to its end, in seconds
)

// Gauges are the metrics that say how things stand.
var Gauges = []string{GaugeAccountTrouble, GaugeMailNotSent, GaugeOldestDue, GaugeStuckRows, GaugeFeedLag}

// longBehind is how long the feed of an account that is well may not be read to its end.
const longBehind = 3 * time.Minute

// countedAtMost is how many credentials of a profile are counted for one gauge.
const countedAtMost = 100

// gauge emits how things stand after a sweep. Of what cannot be read nothing is said.
func (s *Service) gauge(ctx context.Context, accounts []string) {
	if s.Gauge == nil {
		return
	}
	if err := s.gaugeAccounts(ctx, accounts); err != nil {
		s.Log.ErrorContext(ctx, "metrics of accounts left out", "error", err)
	}
	if err := s.gaugeRows(ctx); err != nil {
		s.Log.ErrorContext(ctx, "metrics of credentials left out", "error", err)
	}
}

func (s *Service) gaugeAccounts(ctx context.Context, accounts []string) error {
	now := s.Now()
	troubled := 0
	var oldest, lag time.Duration
	for _, account := range accounts {
		outage, err := s.Store.Outage(ctx, account)
		if err != nil {
			return err
		}
		behind := time.Duration(0)
		if !outage.FeedBehind.IsZero() {
			behind = now.Sub(outage.FeedBehind)
		}
		// An account over its limit is in no outage, and yet nothing of it is done.
		if outage.IsOpen() || behind >= longBehind {
			troubled++
		}
		lag = max(lag, behind)
		due, err := s.Store.Due(ctx, account, now, 1)
		if err != nil {
			return err
		}
		for _, ref := range due {
			oldest = max(oldest, now.Sub(ref.DueAt))
		}
	}
	s.Gauge(GaugeAccountTrouble, float64(troubled))
	s.Gauge(GaugeOldestDue, oldest.Seconds())
	s.Gauge(GaugeFeedLag, lag.Seconds())
	return nil
}

func (s *Service) gaugeRows(ctx context.Context) error {
	profiles, err := s.Store.Profiles(ctx)
	if err != nil {
		return err
	}
	notSent, stuck := 0, 0
	isStuck := func(c credential.Credential) bool {
		return c.Retry.Attempts >= credential.RefusalLimit || c.HolderRetry.Attempts >= credential.RefusalLimit
	}
	for _, profile := range profiles {
		for _, code := range []credential.WarningCode{
			credential.WarnMailNotSent, credential.WarnProviderRefuses, credential.WarnHolderChangeRefused,
		} {
			page := credential.Page{ProfileID: profile.ID, Warning: code, Limit: countedAtMost}
			rows, _, err := s.Store.ListCredentials(ctx, page)
			if err != nil {
				return err
			}
			for _, c := range rows {
				if code == credential.WarnMailNotSent {
					notSent++
				} else if isStuck(c) {
					stuck++
				}
			}
		}
	}
	s.Gauge(GaugeMailNotSent, float64(notSent))
	s.Gauge(GaugeStuckRows, float64(stuck))
	return nil
}
