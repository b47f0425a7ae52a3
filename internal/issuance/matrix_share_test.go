//go:build !race

package issuance_test

// matrixShare: one of so many cells of each operation is played.
const matrixShare = 1

// livesByDefault is how many lives a round has unless the command line says otherwise.
const livesByDefault = lives
