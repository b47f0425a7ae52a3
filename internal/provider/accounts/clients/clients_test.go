package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

var _ provider.Providers = (*clients.Providers)(nil)

type known map[string]accounts.Account

func (k known) Account(_ context.Context, name string) (accounts.Account, error) {
	a, ok := k[name]
	if !ok {
		return a, accounts.ErrUnknown
	}
	if a.Type == "" {
		return a, errors.New("Secrets Manager is down")
	}
	return a, nil
}

// budget counts per account and window.
type budget struct {
	mu    sync.Mutex
	spent map[string]int
	err   error
}

func (b *budget) Spend(_ context.Context, account string, window time.Time, limit int) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := account + window.Format(" 15:04")
	if b.err != nil || b.spent[key] >= limit {
		return false, b.err
	}
	b.spent[key]++
	return true, nil
}

func hid(t *testing.T) (*httptest.Server, *int) {
	tokens := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			tokens++
			fmt.Fprint(w, `{"access_token": "T", "expires_in": 3600}`)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	t.Cleanup(s.Close)
	return s, &tokens
}

func account(url, name string) accounts.Account {
	return accounts.Account{Name: name, Type: accounts.Origo, OrganizationID: "1", ClientID: "c", ClientSecret: "s",
		CallsPerWindow: 10,
		Endpoints:      accounts.Endpoints{Token: url, Management: url, Events: url}}
}

func calls(t *testing.T, p provider.Provider) (n int) {
	t.Helper()
	for {
		err := p.Revoke(t.Context(), "5")
		if errors.Is(err, provider.ErrOverLimit) {
			return n
		}
		if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
		n++
	}
}

func TestBudget(t *testing.T) {
	server, _ := hid(t)
	all := known{"a": account(server.URL, "a"), "b": account(server.URL, "b")}
	spent := &budget{spent: map[string]int{}}
	now := time.Date(2026, 11, 20, 9, 4, 59, 0, time.UTC)
	clock := func() time.Time { return now }
	interactive, background := clients.New(all, spent, clients.Interactive, clock),
		clients.New(all, spent, clients.Background, clock)
	get := func(p *clients.Providers, account string) provider.Provider {
		t.Helper()
		c, err := p.Provider(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// A token, and six calls: seven of ten. Then a token and two calls of the three that are kept for people.
	for _, step := range []struct {
		who  *clients.Providers
		want int
	}{{background, 6}, {interactive, 2}, {background, 0}, {interactive, 0}} {
		if got := calls(t, get(step.who, "a")); got != step.want {
			t.Errorf("%d calls, want %d", got, step.want)
		}
	}
	if got := calls(t, get(background, "b")); got != 6 {
		t.Errorf("another account: %d calls", got)
	}
	now = now.Add(time.Second)
	if got := calls(t, get(background, "a")); got != 7 {
		t.Errorf("the next window: %d calls", got)
	}
	now = now.Add(5 * time.Minute)
	spent.err = errors.New("the store is down")
	if got := calls(t, get(interactive, "a")); got != 0 {
		t.Errorf("uncounted: %d calls", got)
	}
}

func TestClientIsKeptUntilItsAccountChanges(t *testing.T) {
	server, tokens := hid(t)
	all := known{"a": account(server.URL, "a")}
	p := clients.New(all, &budget{spent: map[string]int{}}, clients.Interactive, time.Now)
	use := func(want int) {
		t.Helper()
		c, err := p.Provider(t.Context(), "a")
		if err == nil {
			err = c.Revoke(t.Context(), "5")
		}
		if err != nil || *tokens != want {
			t.Errorf("%d tokens, want %d; %v", *tokens, want, err)
		}
	}
	use(1)
	use(1)
	changed := all["a"]
	changed.ClientSecret = "rotated"
	all["a"] = changed
	use(2)
	use(2)
}

func TestAccountsThatCannotBeUsed(t *testing.T) {
	p := clients.New(known{"down": {}}, &budget{}, clients.Interactive, time.Now)
	if _, err := p.Provider(t.Context(), "unknown"); !errors.Is(err, accounts.ErrUnknown) ||
		errors.Is(err, provider.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := p.Provider(t.Context(), "down"); !errors.Is(err, provider.ErrNoAccess) {
		t.Error(err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server, _ := hid(t)
	p := clients.New(known{"a": account(server.URL, "a")}, &budget{spent: map[string]int{}},
		clients.Interactive, time.Now)
	c, err := p.Provider(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.User(t.Context(), "5"); !errors.Is(err, provider.ErrUnavailable) {
		t.Error(err)
	}
}
