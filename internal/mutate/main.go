// Command mutate proves that the checks can fail: it breaks safety code on purpose, one breakage at a time, in a copy
// of the tree, and says which check caught each.
//
// What belongs here is the list of breakages (breakages/*.patch, each a small unified diff with a line that says what
// it breaks) and the program that applies them. What does not: the checks themselves, which are ordinary tests. A
// breakage that no check catches, that does not apply any more, or that does not compile, fails the run.
//
//	go run ./internal/mutate            all breakages
//	go run ./internal/mutate -only a,b  some, by name
//	go run ./internal/mutate -list      their names, and what each breaks
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A check is a command that fails when something is broken. They run in this order, and the first that fails has caught
// the breakage: the simulation before the examples, because it must not lean on them; the real database last, because
// it is slow.
type check struct {
	name string
	args []string // of the command go
}

// examplePackages are those whose tests are quick and stand near the code that breakages are in.
var examplePackages = []string{
	"./internal/credential", "./internal/observe", "./internal/provider/...", "./internal/issuance",
	"./internal/store/memory", "./internal/store/storetest",
	"./internal/webapi", "./internal/webhook", "./internal/notify", "./internal/bus", "./internal/mail/...",
	"./internal/app/...", "./internal/awsconf",
}

const simulation = "TestEveryLifeEndsWellInAnyWeather"

func checks(lives int) []check {
	simulate := []string{
		"test", "./internal/issuance", "-count=1", "-run", "^" + simulation, fmt.Sprintf("-rapid.checks=%d", lives),
		"-rapid.shrinktime=0s",
	}
	return []check{
		{"simulation", simulate},
		{"examples", append([]string{"test", "-count=1", "-skip", "^" + simulation}, examplePackages...)},
		{"engine", []string{"test", "-count=1", "./internal/store/dynamo"}},
	}
}

// breakage is one way to break safety code.
type breakage struct {
	name, breaks, file string
}

func main() {
	var (
		list  = flag.Bool("list", false, "print the breakages and what each breaks")
		only  = flag.String("only", "", "comma-separated names of the breakages to try; empty for all")
		lives = flag.Int("lives", 400, "how many lives the simulation may live to catch a breakage")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *list, *only, *lives); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, list bool, only string, lives int) error {
	all, err := breakages("internal/mutate/breakages")
	if err != nil {
		return err
	}
	chosen, err := choose(all, only)
	if err != nil {
		return err
	}
	if list {
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, b := range chosen {
			fmt.Fprintf(table, "%s\t%s\n", b.name, b.breaks)
		}
		return table.Flush()
	}
	tree, err := os.MkdirTemp("", "mobilecred-mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := copyTree(ctx, tree); err != nil {
		return err
	}
	for _, c := range checks(lives) {
		if _, err := runCheck(ctx, tree, c); err != nil {
			return fmt.Errorf("the unbroken tree does not pass (%s): nothing can be said of breakages", c.name)
		}
	}
	caught := 0
	for i, b := range chosen {
		started := time.Now()
		verdict, err := try(ctx, tree, b, lives)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if verdict == "" {
			verdict = "NOT CAUGHT"
		} else {
			caught++
		}
		fmt.Fprintf(out, "%2d  %-36s %s (%d s)\n", i+1, b.name, verdict, int(time.Since(started).Seconds()))
	}
	fmt.Fprintf(out, "%d of %d caught\n", caught, len(chosen))
	if caught < len(chosen) {
		return fmt.Errorf("%d breakages of safety code pass every check", len(chosen)-caught)
	}
	return nil
}

// breakages reads the list, sorted by name. The first line of each patch, after a #, says what it breaks.
func breakages(dir string) ([]breakage, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no breakages in %s: run from the top of the tree", dir)
	}
	slices.Sort(files)
	var all []breakage
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		breaks, commented := strings.CutPrefix(first, "# ")
		if !commented {
			return nil, fmt.Errorf("%s: the first line does not say, after a #, what it breaks", file)
		}
		absolute, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		all = append(all, breakage{strings.TrimSuffix(filepath.Base(file), ".patch"), breaks, absolute})
	}
	return all, nil
}

func choose(all []breakage, only string) ([]breakage, error) {
	if only == "" {
		return all, nil
	}
	var chosen []breakage
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(b breakage) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no breakage %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// copyTree copies what git tracks, and what it does not ignore, as it is in the working tree.
func copyTree(ctx context.Context, to string) error {
	listed, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "-co", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("list the tree: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed in the working tree
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// try breaks the tree, runs the checks until one fails, and mends the tree. It returns what caught the breakage, empty
// for nothing.
func try(ctx context.Context, tree string, b breakage, lives int) (verdict string, err error) {
	if err := patch(ctx, tree, b.file); err != nil {
		return "", fmt.Errorf("it does not apply any more: %w", err)
	}
	defer func() { err = errors.Join(err, patch(ctx, tree, b.file, "-R")) }()
	build := exec.CommandContext(ctx, "go", "vet", "./internal/...")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not compile: %s", lastLines(out, 5))
	}
	for _, c := range checks(lives) {
		out, err := runCheck(ctx, tree, c)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			return c.name + ": " + reason(out), nil
		}
	}
	return "", nil
}

func patch(ctx context.Context, tree, file string, more ...string) error {
	args := append([]string{"apply", "--recount", file}, more...)
	apply := exec.CommandContext(context.WithoutCancel(ctx), "git", args...)
	apply.Dir = tree
	// Inside another checkout, git would look for the patch's files there.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tree))
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(out, 5))
	}
	return nil
}

func runCheck(ctx context.Context, tree string, c check) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", c.args...)
	cmd.Dir = tree
	return cmd.CombinedOutput()
}

var (
	failedTest  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	failedAfter = regexp.MustCompile(`\[rapid\] (?:failed|panic) after (\d+) tests: (.*)`)
)

// reason names the test that failed, and for the simulation after how many lives and with what words.
func reason(out []byte) string {
	var tests []string
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		tests = append(tests, string(m[1]))
	}
	if m := failedAfter.FindSubmatch(out); m != nil {
		return fmt.Sprintf("life %s: %.90s", m[1], m[2])
	}
	if len(tests) == 0 {
		return lastLines(out, 2)
	}
	// The innermost of the first failure: subtests are printed after what they belong to.
	first := tests[0]
	for _, t := range tests[1:] {
		if strings.HasPrefix(t, first+"/") {
			first = t
		}
	}
	return first
}

func lastLines(out []byte, n int) string {
	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if text := strings.TrimSpace(s.Text()); text != "" {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
