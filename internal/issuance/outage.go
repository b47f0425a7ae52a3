package issuance

import (
	"context"
	"errors"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// changeOutage stores what a process learned of an account's trouble, and says so once per change.
func (s *Service) changeOutage(ctx context.Context, account string, was, is credential.Outage) error {
	if is == was {
		return nil
	}
	switch {
	case is.IsOpen() && !was.IsOpen():
		s.Log.ErrorContext(ctx, "provider in trouble", "account", account, "reason", is.Reason)
	case was.IsOpen() && !is.IsOpen():
		s.Log.InfoContext(ctx, "provider answers again", "account", account, "since", was.Since)
	}
	return s.Store.SetOutage(ctx, account, is)
}

// afterTrouble is the outage after a call ended in trouble, or in none. holderID says whose user it was for; empty for
// the account itself.
func (s *Service) afterTrouble(o credential.Outage, holderID string, err error) credential.Outage {
	switch {
	case errors.Is(err, provider.ErrNotOurs):
		return o.Open(credential.TroubleAccessDenied, s.Now())
	case errors.Is(err, provider.ErrNoAccess):
		return o.Open(credential.TroubleUnavailable, s.Now())
	case errors.Is(err, provider.ErrUnavailable) && holderID != "":
		return o.Unanswered(holderID, s.Now())
	}
	return o // over the limit: nothing is wrong with the account
}
