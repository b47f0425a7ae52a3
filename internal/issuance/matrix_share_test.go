//go:build !race

package issuance_test

// matrixShare: one of so many cells of each operation is played.
const matrixShare = 1
