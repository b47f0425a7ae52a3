package credential_test

import (
	"slices"
	"testing"

	"github.com/mobilecred/mobilecred/internal/credential"
)

func TestANameIsMissingWhenNothingCanBeSeenOfIt(t *testing.T) {
	for name, blank := range map[string]bool{
		"": true, " ": true, "\u00a0": true, "\u2003": true, "\u3000": true, "\u200b": true, "\u200d\u2060": true,
		"\ufeff": true, "\u00ad": true, "\u034f": true, "\u115f\u1160": true, "\u3164": true, "\uffa0": true,
		"\ufe0f": true, "\u180b": true, "\U000e0100": true, "\u2800": true, "\t\n": true, "\u2028": true,
		"a": false, "-": false, "李": false, "🌻": false, "\u200bA": false, "क\u200d": false, "1": false,
	} {
		h := credential.Holder{FirstName: name, LastName: "Tremblay", Email: "a@example.com"}
		if got := slices.Equal(h.Missing(), []string{"firstName"}); got != blank {
			t.Errorf("%q: missing %v", name, h.Missing())
		}
	}
}
