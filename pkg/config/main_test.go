package config_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The width of --help.
	if err := os.Unsetenv("COLUMNS"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
