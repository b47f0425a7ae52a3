package origosim

import (
	"slices"
	"sync"
	"time"
)

// Address is where calls come from. It counts them for the provider's limits, which hold for an address, whatever
// account is called from it. The zero value has seen no calls; what was counted is forgotten when the process ends.
type Address struct {
	mu    sync.Mutex
	calls map[string][]time.Time // by what is counted apart; the oldest first
}

// take counts one call, unless it is over the limit.
func (a *Address) take(op string, sw Switches, now time.Time) bool {
	kind, limit := "management", sw.CallsPerWindow
	switch op {
	case "feed":
		kind, limit = op, sw.FeedCallsPerWindow
	case "token":
		kind, limit = op, sw.TokenCallsPerWindow
	}
	if limit == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls == nil {
		a.calls = map[string][]time.Time{}
	}
	recent := slices.DeleteFunc(a.calls[kind], func(at time.Time) bool { return !now.Before(at.Add(Window)) })
	fits := len(recent) < limit
	if fits {
		recent = append(recent, now)
	}
	a.calls[kind] = recent
	return fits
}
