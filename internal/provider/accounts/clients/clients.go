// Package clients makes the provider of an account: the adapter that fits its type, configured by its secret and held
// to its budget.
//
// What belongs here is the choice of the adapter, the HTTP client it uses, and the counting of its calls. It implements
// provider.Providers.
package clients

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

// Window is the period over which HID counts calls (doc.origo.hidglobal.com, API usage limits). HID counts by source
// address, so all functions share the budget of an account.
const Window = 5 * time.Minute

// Share is how much of an account's budget may be spent, in per cent.
type Share int

// Interactive is for calls that the portal waits for. Background is for all others: it leaves 30 % of the budget to the
// interactive ones.
const (
	Interactive Share = 100
	Background  Share = 70
)

// Accounts finds an account; *accounts.Secrets does.
type Accounts interface {
	Account(ctx context.Context, name string) (accounts.Account, error)
}

// Budget counts one call of an account in the window that starts at the given moment, and reports whether the call is
// within limit; the stores implement it.
type Budget interface {
	Spend(ctx context.Context, account string, window time.Time, limit int) (bool, error)
}

// Providers makes clients and keeps each, with its token, until its account changes. It may be used concurrently.
type Providers struct {
	accounts Accounts
	budget   Budget
	share    Share
	now      func() time.Time
	http     *http.Client

	mu    sync.Mutex
	built map[string]built
}

type built struct {
	config origo.Config
	limit  int
	client *origo.Client
}

// New returns the providers of accounts, which spend at most share of each one's budget.
func New(accounts Accounts, budget Budget, share Share, now func() time.Time) *Providers {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	transport.TLSHandshakeTimeout = 2 * time.Second
	transport.MaxIdleConnsPerHost = 10
	// a function that was frozen must not write into a connection its peer has left
	transport.IdleConnTimeout = 30 * time.Second
	return &Providers{accounts: accounts, budget: budget, share: share, now: now, built: map[string]built{},
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request,
			[]*http.Request) error {
			return http.ErrUseLastResponse
		}}}
}

// Provider returns the provider of an account. The error wraps accounts.ErrUnknown for one that is not configured. When
// the account's secret cannot be read, it wraps provider.ErrNoAccess; the provider was not called.
func (p *Providers) Provider(ctx context.Context, account string) (provider.Provider, error) {
	a, err := p.accounts.Account(ctx, account)
	if errors.Is(err, accounts.ErrUnknown) {
		return nil, fmt.Errorf("account %q: %w", account, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrNoAccess, err)
	}
	config := origo.Config{
		Account:            a.Name,
		OrganizationID:     a.OrganizationID,
		ClientID:           a.ClientID,
		ClientSecret:       a.ClientSecret,
		ApplicationID:      a.ApplicationID,
		ApplicationVersion: a.ApplicationVersion,
		Endpoints:          origo.Production,
	}
	for _, e := range []struct {
		to   *string
		from string
	}{{&config.Endpoints.Token, a.Endpoints.Token}, {&config.Endpoints.Management, a.Endpoints.Management},
		{&config.Endpoints.Events, a.Endpoints.Events}} {
		if e.from != "" {
			*e.to = e.from
		}
	}
	limit := max(1, a.CallsPerWindow*int(p.share)/100)
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.built[account]
	if !ok || b.config != config || b.limit != limit {
		b = built{config, limit, origo.New(config, p.http, p.now, limiter{p, account, limit})}
		p.built[account] = b
	}
	return b.client, nil
}

type limiter struct {
	*Providers
	account string
	limit   int
}

// Take implements origo.Limiter. When the call cannot be counted, it must not be made.
func (l limiter) Take(ctx context.Context) error {
	ok, err := l.budget.Spend(ctx, l.account, l.now().UTC().Truncate(Window), l.limit)
	if err == nil && !ok {
		err = errors.New("the budget of this window is spent")
	}
	return err
}
