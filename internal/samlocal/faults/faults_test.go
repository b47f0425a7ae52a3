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
	return faults.New(db, faults.Service{Name: "shop", Ops: []string{"search", "read", "reserve"}, Callbacks: true,
		Kinds: []string{"late"}, Aims: []string{"account", "holder"}}), db
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
		f, ok := fs.Take(service, op, faults.About{})
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

func TestAnOrderForSomeMeetsNoOthers(t *testing.T) {
	fs, _ := open(t, t.TempDir())
	for _, f := range []faults.Fault{
		{Service: "shop", Kind: "late", Holder: "E-1"},
		{Service: "shop", Kind: "drop", Holder: "E-1"},
		{Service: "shop", Kind: "error", Account: "globex"},
		{Service: "ses", Kind: "reject", Address: "Ada@example.com"},
	} {
		if _, err := fs.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		service, op string
		about       faults.About
		want        string
	}{
		{"shop", "read", faults.About{}, ""},
		{"shop", "read", faults.About{Account: "acme", Holder: "E-2"}, ""},
		{"shop", "read", faults.About{Account: "acme", Holder: "E-1"}, "late"},
		{"shop", "read", faults.About{Account: "acme", Holder: "E-1"}, ""},
		{"shop", faults.Callback, faults.About{Holder: "E-2"}, ""},
		{"shop", faults.Callback, faults.About{Holder: "E-1"}, "drop"},
		{"shop", "read", faults.About{Account: "globex", Holder: "E-2"}, "error"},
		{"ses", "send", faults.About{Addresses: []string{"tom@example.com"}}, ""},
		{"ses", "send", faults.About{Addresses: []string{"tom@example.com", "ada@EXAMPLE.com"}}, "reject"},
	} {
		if f, _ := fs.Take(tt.service, tt.op, tt.about); f.Kind != tt.want {
			t.Errorf("%s %s about %+v: got %q, want %q", tt.service, tt.op, tt.about, f.Kind, tt.want)
		}
	}
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
		{faults.Fault{Service: "ses", Kind: "error", Holder: "E-1"}, "cannot name the holder"},
		{faults.Fault{Service: "shop", Kind: "error", Address: "a@example.com"}, "cannot name the address"},
		{faults.Fault{Service: "shop", Kind: "reject"}, "kind must be error, timeout, throttle, late or drop"},
		{faults.Fault{Service: "ses", Kind: "late"}, "kind must be error, timeout, throttle, reject or drop"},
	}
	for _, tt := range tests {
		if _, err := fs.Add(tt.f); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt.f, err)
		}
	}
}
