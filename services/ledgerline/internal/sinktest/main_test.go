package sinktest

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the exec: sink of these tests, in a process of its own.
func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		answerLines(path)
		return
	}
	goleak.VerifyTestMain(m)
}
