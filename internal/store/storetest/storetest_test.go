package storetest_test

import (
	"testing"

	"github.com/mobilecred/mobilecred/internal/store/memory"
	"github.com/mobilecred/mobilecred/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return &memory.Store{} })
}
