package clock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestTheWorldsClockIsRefusedWhenDeployed(t *testing.T) {
	for name, getenv := range map[string]func(string) string{
		"no endpoint": env("MOBILECRED_CLOCK", "f"),
		"endpoint elsewhere": env("MOBILECRED_CLOCK", "f",
			"AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.eu-west-1.amazonaws.com"),
		"a name": env("MOBILECRED_CLOCK", "f", "AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1.example.com"),
		"in Lambda": env("MOBILECRED_CLOCK", "f",
			"AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1", "AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
	} {
		if _, err := New(getenv); !errors.Is(err, ErrDeployed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileThatHoldsNoDurationIsNamedByItsVariableOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(file, []byte("tomorrow"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(env("MOBILECRED_CLOCK", file, "AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8082"))
	if err == nil || !strings.Contains(err.Error(), "MOBILECRED_CLOCK") || strings.Contains(err.Error(), file) ||
		strings.Contains(err.Error(), "tomorrow") {
		t.Errorf("%v", err)
	}
}

func TestTheOffsetIsReadAtEveryCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	now, err := New(env("MOBILECRED_CLOCK", file, "AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8082"))
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Until(now()); d.Abs() > time.Minute {
		t.Errorf("without a file the clock is off by %v", d)
	}
	if err := os.WriteFile(file, []byte("192h0m0s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := time.Until(now()) - 192*time.Hour; d.Abs() > time.Minute {
		t.Errorf("with an offset of 192h the clock is off by %v", d)
	}
}

func TestTimesAreWholeMillisecondsInUTC(t *testing.T) {
	now, err := New(env())
	if err != nil {
		t.Fatal(err)
	}
	if at := now(); at.Location() != time.UTC || at.Nanosecond()%int(time.Millisecond) != 0 {
		t.Errorf("%v", at)
	}
}
