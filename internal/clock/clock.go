// Package clock tells the time to functions: real time in a deployed function, and in the local run real time plus the
// offset of the world's clock.
//
// Only wiring imports it; everything else is given a function that returns the time.
package clock

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// ErrDeployed is returned by New when the clock of the local run is asked for in what does not look like a local run.
var ErrDeployed = errors.New("MOBILECRED_CLOCK is for the local run only")

var errUnreadable = errors.New("MOBILECRED_CLOCK names a file that holds no duration or cannot be read")

// New returns the clock: UTC, in whole milliseconds, as times are stored. With MOBILECRED_CLOCK it adds the duration
// the file of that name holds, read at every call, or nothing while there is no file. It refuses, with ErrDeployed,
// unless the database is on this very machine, which a deployed function's never is; any other error says that the file
// holds no duration. No error holds a value of the environment.
func New(getenv func(string) string) (func() time.Time, error) {
	file := getenv("MOBILECRED_CLOCK")
	if file == "" {
		return func() time.Time { return whole(time.Now()) }, nil
	}
	if !onThisMachine(getenv("AWS_ENDPOINT_URL_DYNAMODB")) || getenv("AWS_LAMBDA_INITIALIZATION_TYPE") != "" {
		return nil, ErrDeployed
	}
	if _, err := offset(file); err != nil {
		return nil, errUnreadable
	}
	return func() time.Time {
		// Unreadable only while it is being replaced; then the jump has not been announced yet.
		d, _ := offset(file)
		return whole(time.Now().Add(d))
	}, nil
}

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func offset(file string) (time.Duration, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(text)))
}

func onThisMachine(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}
