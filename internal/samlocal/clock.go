package samlocal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// clock is the world's: real time plus an offset that only grows. The offset
// lives in the file that the functions read, and nowhere else.
type clock struct {
	file string

	mu     sync.Mutex
	offset time.Duration
}

func openClock(file string) (*clock, error) {
	c := &clock{file: file}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return c, c.write(0)
	}
	if err == nil {
		c.offset, err = time.ParseDuration(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	return c, nil
}

func (c *clock) Now() time.Time { return time.Now().Add(c.Offset()) }

func (c *clock) Offset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// Advance moves the clock for good.
func (c *clock) Advance(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write(c.offset + d); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	c.offset += d
	return nil
}

// write replaces the file as a whole: a function may read it at any moment.
func (c *clock) write(offset time.Duration) error {
	f, err := os.CreateTemp(filepath.Dir(c.file), "clock-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(offset.String() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.file)
}
