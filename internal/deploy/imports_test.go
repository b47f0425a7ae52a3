package deploy_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// layers are the packages of the service from the bottom up. A package imports packages of layers below its own, and
// none of its own layer: so nothing runs upwards, no adapter knows a use case and no use case an adapter, and no
// function another.
//
// A pattern that ends in /... stands for everything beneath a directory, and not for the directory; the longest that
// fits a package counts.
var layers = []struct {
	what     string
	patterns []string
}{
	{"the domain, and tools that know nothing of it", []string{
		"internal/credential", "internal/address", "internal/backoff", "internal/clock", "internal/telemetry"}},
	{"ports, what is neutral, and how clients of AWS are configured", []string{
		"internal/store", "internal/mail", "internal/provider", "internal/problem", "internal/picture",
		"internal/awsconf"}},
	{"what is heard of a provider", []string{"internal/observe", "internal/bus/envelope"}},
	{"use cases, and beside them the adapters", []string{
		"internal/issuance",
		"internal/store/dynamo", "internal/mail/ses", "internal/provider/origo", "internal/provider/accounts",
		"internal/bus"}},
	{"the adapter that chooses among those for providers", []string{"internal/provider/accounts/clients"}},
	{"what a function does with an event", []string{"internal/webapi", "internal/webhook", "internal/notify"}},
	{"what every function is put together from", []string{"internal/app/wiring"}},
	{"what some functions are put together from", []string{"internal/app/wiring/..."}},
	{"the use cases with all their adapters", []string{"internal/app/wiring/issuing"}},
	{"functions, put together", []string{"internal/app/..."}},
	{"functions, started", []string{"functions/..."}},
}

// workshop are the packages that test the service, play its surroundings or describe it. They may import what they need
// of the service; no package of the layers imports them, so no function links them.
var workshop = []string{
	"internal/app/apptest",
	"internal/deploy", "internal/deploy/...",
	"internal/e2e",
	"internal/local", "internal/local/...",
	"internal/mutate", "internal/mutate/...",
	"internal/ownership",
	"internal/provider/origosim", "internal/provider/origosim/...",
	"internal/samlocal", "internal/samlocal/...",
	"internal/store/memory", "internal/store/storetest",
	"internal/webapi/fuzz", "internal/webapi/openapi",
	"internal/worldtest", "internal/worldtest/...",
}

// runner is what runs a SAM template on a developer's machine. It knows no particular template.
var runner = []string{"internal/samlocal", "internal/samlocal/..."}

// apart are imports which the layers would allow and which would still be wrong.
var apart = []struct {
	from, to []string
	why      string
}{
	{[]string{"internal/webapi", "internal/notify"},
		[]string{"internal/store/...", "internal/mail/...", "internal/provider/...", "internal/issuance"},
		"it is handed what it acts through"},
	{[]string{"internal/webhook"},
		[]string{"internal/store", "internal/store/...", "internal/mail", "internal/mail/...", "internal/issuance",
			"internal/provider/accounts/clients"},
		"it stores nothing and calls no provider"},
	{[]string{"internal/problem", "internal/picture", "internal/store", "internal/mail", "internal/provider"},
		[]string{"internal/backoff", "internal/clock", "internal/telemetry"},
		"it waits for nothing, tells no time and logs nothing"},
}

// pack is what go list says of a package.
type pack struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// directory is where a package of this module lies in the source tree; ours is false for any other package.
func directory(importPath string) (dir string, ours bool) {
	return strings.CutPrefix(importPath, module+"/")
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := directory(p.ImportPath)
		level, known := layer(from)
		if fits(from, workshop) > 0 {
			continue
		}
		if !known {
			t.Errorf("%s is in no layer of this test's table: say where it belongs", from)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := directory(imported)
			if !ours {
				continue
			}
			below, known := layer(to)
			switch {
			case fits(to, workshop) > 0:
				t.Errorf("%s imports %s, which is for tests and local runs", from, to)
			case known && below >= level:
				t.Errorf("%s (%s) imports %s (%s)", from, layers[level].what, to, layers[below].what)
			}
			for _, rule := range apart {
				if fits(from, rule.from) > 0 && fits(to, rule.to) > 0 {
					t.Errorf("%s imports %s; %s", from, to, rule.why)
				}
			}
		}
	}
}

func TestTheDomainImportsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range packages(t) {
		if from, _ := directory(p.ImportPath); from != "internal/credential" {
			continue
		}
		for _, imported := range p.Imports {
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				t.Errorf("internal/credential imports %s", imported)
			}
		}
	}
}

func TestTheRunnerOfTemplatesKnowsNothingOfMobilecred(t *testing.T) {
	found := false
	for _, p := range packages(t) {
		from, _ := directory(p.ImportPath)
		if fits(from, runner) == 0 {
			continue
		}
		found = true
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if to, ours := directory(imported); ours && fits(to, runner) == 0 {
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
	if !found {
		t.Error("internal/samlocal holds no package")
	}
}

func TestAFunctionOnlyStartsItsOwnPackage(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := directory(p.ImportPath)
		if path.Dir(from) != "functions" {
			continue
		}
		want := []string{"github.com/aws/aws-lambda-go/lambda", module + "/internal/app/" + path.Base(from), "os"}
		if !slices.Equal(p.Imports, want) {
			t.Errorf("%s imports %v, want %v", from, p.Imports, want)
		}
	}
}

// layer finds a package's layer by its directory.
func layer(dir string) (level int, known bool) {
	longest := 0
	for i, l := range layers {
		if n := fits(dir, l.patterns); n > longest {
			level, longest = i, n
		}
	}
	return level, longest > 0
}

// fits returns the length of the longest pattern that a directory fits, or 0.
func fits(dir string, patterns []string) (longest int) {
	for _, p := range patterns {
		above, tree := strings.CutSuffix(p, "/...")
		if !tree && dir == above || tree && strings.HasPrefix(dir, above+"/") {
			longest = max(longest, len(p))
		}
	}
	return longest
}

// packages lists this module's packages.
func packages(t *testing.T) []pack {
	t.Helper()
	noticeChanges(t)
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v\n%s", err, said(err))
	}
	var all []pack
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pack
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// said is what a command that ended in an error wrote on its standard error.
func said(err error) []byte {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.Stderr
	}
	return nil
}
