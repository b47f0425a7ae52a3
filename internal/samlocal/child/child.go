// Package child starts processes that cannot outlive the one that started
// them, however that one ends: return, panic, signal or kill -9.
//
// It belongs to the local run only. What is started, with which environment,
// and when it is stopped in order is the caller's business.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// guard waits for the end of its standard input, whose writing end only this
// process holds, and then kills its own process group. Every child is put
// into that group before it executes anything, so there is no moment at which
// one is unguarded, and nothing to keep a list of. Linux's parent-death signal
// would do less: it follows the thread that forked and exists on one system.
const guard = `trap '' HUP INT TERM; cat >/dev/null; kill -9 0`

var (
	mu    sync.Mutex
	group int
)

// Start is cmd.Start for a process that is killed when this one ends. It sets
// the process group of cmd.SysProcAttr and leaves its other fields alone. An
// interrupt typed at the terminal does not reach the child: the caller decides
// the order in which things stop.
func Start(cmd *exec.Cmd) error {
	pgid, err := guarded()
	if err != nil {
		return err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pgid = pgid
	return cmd.Start()
}

// guarded returns the process group of the guard, starting it if need be.
func guarded() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	if group != 0 {
		return group, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("guard of child processes: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", guard)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return 0, fmt.Errorf("guard of child processes: %w", err)
	}
	// w stays open until the guard has ended or this process does, when the
	// kernel closes it. Should the guard itself be killed, the next child gets a
	// new one.
	go func() {
		_ = cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		group = 0
		w.Close()
	}()
	group = cmd.Process.Pid
	return group, nil
}
