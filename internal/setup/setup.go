// Package setup is the wiring every function shares: what it reads from its environment, its clock and its log. What only some
// functions need belongs beneath (table, outside), so that no function links what it does not use.
//
// Nothing is decided here. A function's main takes what it needs and starts.
package setup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/clock"
	"github.com/mobilecred/mobilecred/internal/telemetry"
)

// Base is what every function has. Its methods note what is missing or wrong instead of returning errors, so that one failed start
// names everything; Must or Err tells.
type Base struct {
	Now   func() time.Time
	Log   *slog.Logger
	Count func(metric string)

	getenv   func(string) string
	problems []error
}

// New begins to wire a function that logs to w.
func New(getenv func(string) string, w io.Writer) *Base {
	b := &Base{Log: telemetry.Logger(w), getenv: getenv}
	slog.SetDefault(b.Log)
	now, err := clock.New(getenv)
	b.note(err)
	b.Now, b.Count = now, telemetry.Counter(w, time.Now)
	return b
}

func (b *Base) note(err error) {
	if err != nil {
		b.problems = append(b.problems, err)
	}
}

// Env reads a variable that has to be set.
func (b *Base) Env(name string) string {
	value := b.getenv(name)
	if value == "" {
		b.note(fmt.Errorf("%s is not set", name))
	}
	return value
}

// Accounts reads the names of the provider accounts.
func (b *Base) Accounts() []string { return strings.Split(b.Env("ACCOUNTS"), ",") }

// AWS builds the configuration of one service, named by a constant of package awsconf.
func (b *Base) AWS(service string) aws.Config {
	c, err := awsconf.New(b.getenv, service)
	b.note(err)
	return c
}

// NewID makes an identifier of at least 128 random bits, in the alphabet of ids.
func (b *Base) NewID() string { return strings.ToLower(rand.Text()) }

// Err is every problem met so far, joined; nil for none.
func (b *Base) Err() error { return errors.Join(b.problems...) }

// Must ends the process if there was any problem, having logged all of them.
func (b *Base) Must() {
	if err := b.Err(); err != nil {
		b.Log.Error("cannot start", "error", err)
		os.Exit(1)
	}
}
