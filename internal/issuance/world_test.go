package issuance_test

import (
	"testing"

	"github.com/mobilecred/mobilecred/internal/worldtest"
)

const (
	account = worldtest.Account
	part    = worldtest.Part
	part2   = worldtest.Part2
)

var portrait = worldtest.Portrait()

// newWorld is a world with the profile hq.
func newWorld(t *testing.T, adjust ...func(*worldtest.Options)) *worldtest.World {
	t.Helper()
	w := worldtest.New(t, adjust...)
	w.PutProfile("hq", account, part)
	return w
}
