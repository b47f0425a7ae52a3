package worldtest

import (
	"context"
	"errors"

	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

// BudgetWindow is the period over which the service counts its calls of an account.
const BudgetWindow = clients.Window

// budgetWrite is the call by which the store counts a call of the provider.
const budgetWrite = "Spend"

// SetBudget makes the service hold back calls of an account beyond so many in a window, counted in the store as the
// functions do it; 0 for no limit, which is what a world begins with.
func (w *World) SetBudget(account string, calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.budgets[account] = calls
}

// SpendBudget spends what is left of an account's budget in this window, as the affairs of others do.
func (w *World) SpendBudget(account string) error {
	w.mu.Lock()
	limit := w.budgets[account]
	w.mu.Unlock()
	for {
		ok, err := w.Store.Spend(w.Ctx, account, w.Now().Truncate(BudgetWindow), limit)
		if !ok || err != nil {
			return err
		}
	}
}

// HeldBack is how many calls the service has held back, and how many of those that no portal waits for.
func (w *World) HeldBack() (all, background int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heldBack[false] + w.heldBack[true], w.heldBack[true]
}

type background struct{}

// InBackground is a context for what no portal waits for, such as a sweep: it leaves some of the budget to what one
// does.
func InBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// budget is the limiter of a process's client.
type budget struct {
	world   *World
	account string
}

var errHeldBack = errors.New("the budget of this window is spent")

// Take implements origo.Limiter.
func (b budget) Take(ctx context.Context) error {
	w := b.world
	isBackground := ctx.Value(background{}) != nil
	w.mu.Lock()
	limit := w.budgets[b.account]
	w.mu.Unlock()
	if limit == 0 {
		return nil
	}
	if isBackground {
		limit = limit * int(clients.Background) / 100
	}
	ok, err := w.Store.Spend(ctx, b.account, w.Now().Truncate(BudgetWindow), limit)
	if err != nil {
		return err
	}
	if !ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heldBack[isBackground]++
		return errHeldBack
	}
	return nil
}
