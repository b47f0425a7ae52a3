// Command startup prints a table of every function beside an empty one: the size of its binary, and the time from
// starting the process to its first request for work at the Lambda Runtime API. That is the part of a cold start that
// this code decides; AWS adds its own for fetching the binary and starting a machine.
//
// It runs in the root of the source tree, on Linux.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/deploy"
)

const runs = 30

// function is one row of the table.
type function struct {
	name         string
	path         string // of the binary for this machine
	arm64, amd64 int64  // bytes
	took         []time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "startup:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "startup")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	functions, err := build(dir)
	if err != nil {
		return err
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	polled := make(chan time.Time)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/runtime/invocation/next") {
			http.Error(w, "only the first request for work is answered here", http.StatusServiceUnavailable)
			return
		}
		select {
		case polled <- time.Now():
		case <-r.Context().Done():
		}
		<-r.Context().Done() // there is no work
	})}
	go func() { _ = server.Serve(listener) }() // it ends with Close
	defer server.Close()

	// In turns, so that other work of the machine slows all of them alike. The first turn warms the page cache.
	for turn := range runs + 1 {
		for i := range functions {
			took, err := measure(functions[i].path, listener.Addr().String(), polled)
			if err != nil {
				return fmt.Errorf("%s: %w", functions[i].name, err)
			}
			if turn > 0 {
				functions[i].took = append(functions[i].took, took)
			}
		}
	}

	fmt.Printf("%-10s %9s %9s %9s %9s   (%d starts each, on %s)\n",
		"function", "arm64", "amd64", "median", "p95", runs, runtime.GOARCH)
	for _, f := range functions {
		slices.Sort(f.took)
		fmt.Printf("%-10s %6.2f MB %6.2f MB %6.1f ms %6.1f ms\n", f.name, float64(f.arm64)/1e6, float64(f.amd64)/1e6,
			milliseconds(f.took[len(f.took)/2]), milliseconds(f.took[len(f.took)*95/100]))
	}
	return nil
}

func build(dir string) ([]function, error) {
	names, err := deploy.Functions(".")
	if err != nil {
		return nil, err
	}
	var functions []function
	for _, name := range append([]string{"empty"}, names...) {
		f := function{name: name}
		for arch, size := range map[string]*int64{"arm64": &f.arm64, "amd64": &f.amd64} {
			target := filepath.Join(dir, name, arch)
			var path string
			if name == "empty" {
				path, *size, err = buildEmpty(target, arch)
			} else {
				path, *size, err = deploy.Build(".", name, arch, target)
			}
			if err != nil {
				return nil, err
			}
			if arch == runtime.GOARCH {
				f.path = path
			}
		}
		functions = append(functions, f)
	}
	return functions, nil
}

// buildEmpty builds the empty function as the Makefile builds the others.
func buildEmpty(dir, arch string) (string, int64, error) {
	path := filepath.Join(dir, "bootstrap")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", "lambda.norpc",
		"-o", path, "./internal/deploy/startup/empty")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", 0, fmt.Errorf("building the empty function: %w\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	return path, info.Size(), nil
}

// measure starts the binary with the environment template.yaml gives it and returns how long it took to ask for work.
// It is an error if the binary has something to say before that, such as that its configuration is wrong.
func measure(path, runtimeAPI string, polled <-chan time.Time) (time.Duration, error) {
	cmd := exec.Command(path)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + runtimeAPI,
		"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=startup", "AWS_SECRET_ACCESS_KEY=startup",
		"AWS_SESSION_TOKEN=startup",
		"TABLE_NAME=mobilecred", "ACCOUNTS=acme-origo", "BUS_NAME=mobilecred", "MAIL_FROM=badges@example.com",
		"MAIL_CONFIGURATION_SET=", "SECRETS_PREFIX=mobilecred/accounts/",
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	select {
	case at := <-polled:
		stop()
		if output.Len() > 0 {
			return 0, fmt.Errorf("started with trouble: %s", output.String())
		}
		return at.Sub(start), nil
	case <-exited:
		return 0, fmt.Errorf("ended before it asked for work: %s", output.String())
	case <-time.After(10 * time.Second):
		stop()
		return 0, errors.New("did not ask for work within 10 seconds")
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d) / float64(time.Millisecond)
}
