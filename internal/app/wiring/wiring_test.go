package wiring

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func environment(variables ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(variables); i += 2 {
			if variables[i] == name {
				return variables[i+1]
			}
		}
		return ""
	}
}

func TestAccountsAreNamesSeparatedByCommas(t *testing.T) {
	for text, want := range map[string][]string{
		"acme-origo":              {"acme-origo"},
		"acme-origo,acme.two,A_3": {"acme-origo", "acme.two", "A_3"},
		"":                        nil,
		",":                       nil,
		"acme-origo,":             nil,
		"acme-origo, acme-two":    nil,
		"acme/origo":              nil,
		"zürich":                  nil,
		strings.Repeat("a", 65):   nil,
	} {
		base := New(environment("ACCOUNTS", text), io.Discard)
		got := base.Accounts()
		if ready := base.Ready(); ready != (want != nil) || ready && !slices.Equal(got, want) {
			t.Errorf("ACCOUNTS=%q: ready %v, accounts %q", text, ready, got)
		}
	}
}

func TestEveryProblemIsToldOnceInOneLine(t *testing.T) {
	var out bytes.Buffer
	base := New(environment("GIVEN", "value"), &out)
	base.Required("GIVEN")
	base.Optional("ABSENT")
	base.Required("MISSING")
	base.Required("MISSING")
	base.Note(nil)
	base.Note(errors.Join(errors.New("one"), errors.Join(errors.New("two"), errors.New("one"))))
	if base.Ready() {
		t.Error("it is ready in spite of problems")
	}
	if line := `"problems":["MISSING is not set","one","two"]}` + "\n"; !strings.HasSuffix(out.String(), line) {
		t.Errorf("the log holds %s, want at its end %s", out.String(), line)
	}
}

func TestNothingIsLoggedWhenNothingIsWrong(t *testing.T) {
	var out bytes.Buffer
	if base := New(environment(), &out); !base.Ready() || out.Len() > 0 {
		t.Errorf("the log holds %s", out.String())
	}
}

func TestIDsAreRandomAndInTheAlphabetOfIDs(t *testing.T) {
	base := New(environment(), io.Discard)
	form := regexp.MustCompile(`^[a-z2-7]{26}$`)
	one, other := base.NewID(), base.NewID()
	if one == other || !form.MatchString(one) || !form.MatchString(other) {
		t.Errorf("%s, %s", one, other)
	}
}
