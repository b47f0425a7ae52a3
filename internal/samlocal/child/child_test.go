package child_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/mobilecred/mobilecred/internal/samlocal/child"
)

// TestMain lets the test binary play the parent that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("CHILD_TEST_PARENT") == "" {
		os.Exit(m.Run())
	}
	for range 3 {
		cmd := exec.Command("/bin/sh", "-c", "echo up; exec sleep 600")
		cmd.Stdout = os.Stdout
		if err := child.Start(cmd); err != nil {
			panic(err)
		}
	}
	select {}
}

func TestNoChildSurvivesKill9OfItsParent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CHILD_TEST_PARENT=1")
	parent.Stdout = w
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := bufio.NewReader(r)
	for range 3 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatalf("a child did not come up: %v", err)
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	// The pipe ends when the last process holding it has died; a survivor
	// would hold it for ten minutes and fail the test by its deadline.
	if _, err := io.ReadAll(lines); err != nil {
		t.Fatal(err)
	}
}

func TestAStartErrorIsTheCommandsOwn(t *testing.T) {
	if err := child.Start(exec.Command("/nonexistent/program")); !os.IsNotExist(err) {
		t.Fatalf("got %v, want a not-exist error", err)
	}
}
