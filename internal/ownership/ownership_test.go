package ownership_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/ownership"
)

// saw makes a reading from words: the credential, its mobile ID ("-" for none), "live", "over" or "spent" (activated
// and over), and the seconds at which it was asked for and answered.
func saw(t *testing.T, w *ownership.Witness, words string) {
	t.Helper()
	r := ownership.Reading{}
	var state string
	var asked, answered int
	if _, err := fmt.Sscan(words, &r.Credential, &r.MobileID, &state, &asked, &answered); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	if r.MobileID == "-" {
		r.MobileID = ""
	}
	r.Live, r.Activated = state == "live", state == "spent"
	r.Asked, r.Answered = time.Duration(asked)*time.Second, time.Duration(answered)*time.Second
	w.Saw(r)
}

func TestOneOwnerAtATime(t *testing.T) {
	for _, tt := range []struct {
		name     string
		readings string
		broken   string // a part of what is said; empty: all is well
	}{
		{"nothing was seen", "", ""},
		{"one after the other", "a 56 live 1 2, a 56 over 3 4, b 56 live 5 6", ""},
		{"the second while the first may have ended", "a 56 live 1 2, b 56 live 3 6, a 56 over 4 5", ""},
		{"a planted second owner", "a 56 live 1 2, b 56 live 3 4, a 56 live 5 6", "56: "},
		{"a planted second owner that ends in time", "a 56 live 1 2, b - live 3 3, b 56 over 3 4, a 56 live 5 6, a 56 over 7 8",
			"56: "},
		{"two owners for good", "a 56 live 1 2, b 56 live 3 4", "56: "},
		{"two owners of two mobile IDs", "a 56 live 1 2, b 57 live 1 2", ""},
		{"three in an order that only a search finds",
			"a 56 over 0 9, b 56 over 0 8, c 56 live 7 9, b - live 4 5", ""},
		{"the one in the middle cannot have been there",
			"a 56 live 1 2, a 56 live 6 7, a 56 over 8 9, b - live 3 3, b 56 over 4 5", "56: "},
		{"an activated one moves", "a 56 live 1 2, a 56 spent 3 4, b 56 live 5 6", "activated"},
		{"a credential changes its mobile ID", "a 56 live 1 2, a 57 live 3 4", "credential a was seen with 56 and 57"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &ownership.Witness{}
			for _, words := range strings.Split(tt.readings, ",") {
				if words != "" {
					saw(t, w, words)
				}
			}
			verdict, err := w.Judge(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(verdict.Broken, "\n")
			if (said == "") != (tt.broken == "") || !strings.Contains(said, tt.broken) {
				t.Errorf("said %q, want %q in it", said, tt.broken)
			}
		})
	}
}

// One planted second owner among many mobile IDs that change hands properly is found, and only it.
func TestAPlantedSecondOwnerIsFoundAmongMany(t *testing.T) {
	w := &ownership.Witness{}
	for id := range 50 {
		for life := range 40 {
			at := time.Duration(life) * 10 * time.Second
			c := fmt.Sprintf("c-%d-%d", id, life)
			for _, r := range []ownership.Reading{
				{Live: true, Asked: at, Answered: at + 2*time.Second},
				{Live: true, Asked: at + 3*time.Second, Answered: at + 4*time.Second},
				{Asked: at + 5*time.Second, Answered: at + 12*time.Second},
			} {
				r.Credential, r.MobileID = c, fmt.Sprint("id-", id)
				w.Saw(r)
			}
		}
	}
	verdict, err := w.Judge(time.Minute)
	if err != nil || len(verdict.Broken) > 0 || verdict.MobileIDs != 50 || verdict.Owners != 2000 ||
		verdict.Ends != 2000 {
		t.Fatalf("%+v, %v", verdict, err)
	}
	at := 13 * 10 * time.Second
	w.Saw(ownership.Reading{Credential: "planted", MobileID: "id-7", Live: true, Asked: at + 2500*time.Millisecond,
		Answered: at + 2600*time.Millisecond})
	if verdict, err = w.Judge(time.Minute); err != nil || len(verdict.Broken) != 1 ||
		!strings.HasPrefix(verdict.Broken[0], "id-7: ") || !strings.Contains(verdict.Broken[0], "planted") {
		t.Errorf("%+v, %v", verdict, err)
	}
}
