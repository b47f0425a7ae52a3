package faults_test

import (
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/samlocal/faults"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
)

func open(t *testing.T, dir string) (*faults.Faults, *state.DB) {
	t.Helper()
	db, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return faults.New(db, faults.Service{Name: "shop", Ops: []string{"search", "read", "reserve"}, Callbacks: true}), db
}

func TestOrdersAreSpentCallByCallAndSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	fs, db := open(t, dir)
	for _, f := range []faults.Fault{
		{Service: "ses", Kind: "throttle", Count: 2},
		{Service: "shop", Op: "reserve", Kind: "timeout", When: "after", HoldMs: 5},
		{Service: "shop", Kind: "drop"},
	} {
		if _, err := fs.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	take := func(service, op, want string) {
		t.Helper()
		f, ok := fs.Take(service, op)
		if got := f.Kind + f.When; ok != (want != "") || got != want {
			t.Errorf("%s %s: got %q, want %q", service, op, got, want)
		}
	}
	take("shop", "search", "")
	take("ses", "send", "throttlebefore")
	db.Close()
	fs, _ = open(t, dir)
	take("ses", "send", "throttlebefore")
	take("ses", "send", "")
	take("shop", faults.Callback, "dropbefore")
	take("shop", faults.Callback, "")
	take("shop", "reserve", "timeoutafter")

	if _, err := fs.Add(faults.Fault{Service: "shop", Kind: "error"}); err != nil {
		t.Fatal(err)
	}
	take("shop", faults.Callback, "")
	if list, err := fs.List(); len(list) != 1 || err != nil {
		t.Errorf("got %v %v", list, err)
	}
	if err := fs.Clear(); err != nil {
		t.Fatal(err)
	}
	take("shop", "read", "")
}

func TestOrdersThatMeanNothingAreRefused(t *testing.T) {
	fs, _ := open(t, t.TempDir())
	tests := []struct {
		f    faults.Fault
		want string
	}{
		{faults.Fault{Service: "s3", Kind: "error"}, "service must be"},
		{faults.Fault{Service: "ses", Kind: "sulk"}, "kind must be"},
		{faults.Fault{Service: "ses", Kind: "drop"}, "webhooks"},
		{faults.Fault{Service: "ses", Op: "reserve", Kind: "error"}, "op of ses"},
		{faults.Fault{Service: "ses", Kind: "error", When: "soon"}, "when must be"},
		{faults.Fault{Service: "ses", Kind: "error", Count: -1}, "not negative"},
	}
	for _, tt := range tests {
		if _, err := fs.Add(tt.f); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt.f, err)
		}
	}
}
