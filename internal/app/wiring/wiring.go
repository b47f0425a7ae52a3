// Package wiring is what every function is put together from: its environment, its clock, its log, its metrics and the
// ids it makes.
//
// What belongs here is what all functions read, and how a function that is configured wrongly says so. What only some
// functions need is beneath (table, secrets, eventbus, issuing, overhttp), because a function links and initialises
// every package it imports. Nothing about credentials is decided here.
package wiring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/clock"
	"github.com/mobilecred/mobilecred/internal/telemetry"
)

// ErrUnconfigured is what a function that handles events answers each of them with while its configuration is wrong, so
// that the event is tried again and in the end kept among the failed ones. It names no variable: the error travels with
// the event.
var ErrUnconfigured = errors.New("the function is not configured; its log says what is missing or wrong")

// Base is what every function has, and reads the configuration for the adapters.
//
// Its reading methods note what is missing or wrong instead of returning errors, so that one start names everything.
// What they return is only good for use when Ready says so.
type Base struct {
	Now   func() time.Time    // whole milliseconds, UTC; nil when the clock is configured wrongly
	NewID func() string       // at least 128 random bits, in the alphabet of ids
	Count func(metric string) // raises a metric by one
	Gauge func(metric string, value float64)
	Log   *slog.Logger

	getenv   func(string) string
	problems []string // in the order they were met, each once
}

// New begins to put a function together that reads its environment by getenv and logs to out. It makes the log the
// default one of package slog.
func New(getenv func(string) string, out io.Writer) *Base {
	b := &Base{
		NewID:  func() string { return strings.ToLower(rand.Text()) },
		Count:  telemetry.Counter(out, time.Now),
		Gauge:  telemetry.Gauge(out, time.Now),
		Log:    telemetry.Logger(out),
		getenv: getenv,
	}
	slog.SetDefault(b.Log)
	now, err := clock.New(getenv)
	b.Note(err)
	b.Now = now
	return b
}

// Note notes that the configuration is wrong: err, or every error that errors.Join made it of. The text must hold no
// value of a variable. A nil error is no problem, and one that was noted before is not repeated.
func (b *Base) Note(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			b.Note(one)
		}
		return
	}
	if err != nil && !slices.Contains(b.problems, err.Error()) {
		b.problems = append(b.problems, err.Error())
	}
}

// Required reads a variable that has to be set.
func (b *Base) Required(name string) string {
	value := b.getenv(name)
	if value == "" {
		b.Note(fmt.Errorf("%s is not set", name))
	}
	return value
}

// Optional reads a variable that may be absent or empty, which are the same.
func (b *Base) Optional(name string) string { return b.getenv(name) }

// Accounts reads the names of the provider accounts from ACCOUNTS, separated by commas. Each has to be one that fits
// into the path of a webhook.
func (b *Base) Accounts() []string {
	text := b.Required("ACCOUNTS")
	if text == "" {
		return nil
	}
	names := strings.Split(text, ",")
	if slices.ContainsFunc(names, func(name string) bool { return !isID(name) }) {
		b.Note(errors.New("ACCOUNTS is not a list of names, separated by commas, each of 1 to 64 letters, digits, " +
			"dots, underscores and hyphens"))
	}
	return names
}

func isID(name string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	return name != "" && len(name) <= 64 &&
		!strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(alphabet, r) })
}

// AWS builds the configuration of the client of one service, named by a constant of package awsconf.
func (b *Base) AWS(service string) aws.Config {
	c, err := awsconf.New(b.getenv, service)
	b.Note(err)
	return c
}

// Ready says whether everything read so far was there and right. When it was not, Ready logs every problem in one line;
// ask once, after the last adapter is made.
func (b *Base) Ready() bool {
	if len(b.problems) == 0 {
		return true
	}
	b.Log.Error("bad configuration: no invocation can be served", "problems", b.problems)
	return false
}
