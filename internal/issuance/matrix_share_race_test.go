//go:build race

package issuance_test

// matrixShare: one of so many cells of each operation is played. The race detector makes each five times as slow and
// finds little here, where one process at a time is at work; make simulate plays all of them without it.
const matrixShare = 5

// livesByDefault is fewer under the race detector, which makes them five times as slow: they look for races, and are
// not judged by what they reach.
const livesByDefault = 300
