package config_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/config"
)

// sound holds for any settings: they are read, or every fault is told with its way
// out; help and version are the only other ends.
func sound(t *testing.T, program string, environ, args []string) {
	t.Helper()
	var stdout bytes.Buffer
	loaded, err := config.Load(config.Program{
		Name: program, Version: "v1.2.3", Args: args, Environ: environ, Stdout: &stdout, Stderr: io.Discard,
	}, programs[program]())
	var faults *config.Error
	switch {
	case errors.Is(err, config.ErrHandled):
		if stdout.Len() == 0 {
			t.Errorf("%q %q: nothing was printed", environ, args)
		}
	case errors.As(err, &faults):
		if faults.Error() == "" || faults.ExitCode() != 2 {
			t.Errorf("%q %q: exit %d, %q", environ, args, faults.ExitCode(), faults)
		}
		if strings.Contains(faults.Error(), secretWord) {
			t.Errorf("%q %q: a secret is shown: %v", environ, args, faults)
		}
	case err != nil:
		t.Errorf("%q %q: an error of no kind: %v", environ, args, err)
	case loaded == nil:
		t.Errorf("%q %q: nothing and no error", environ, args)
	}
}

// programOf is one of the programs, any number being one.
func programOf(n uint) string {
	names := slices.Sorted(maps.Keys(programs))
	return names[n%uint(len(names))]
}

func FuzzEnvironment(f *testing.F) {
	i := 0
	for _, name := range []string{
		"LEDGERLINE_LEASE", "LEDGERLINE_PLEO_URL", "LEDGERLINE_SINK", "LEDGERLINE_PAGE_SIZE", "LEDGERLINE_PLEO_RATE", "LEDGERLINE_LISTEN",
		"LEDGERLINE_WEBHOOK_SECRET", "LEDGERLINE_COMPANY_ID", "NATS_URL", "LEDGERLINE_START_JOBS", "LEDGERLINE_ORDER", "LEDGERLINE_UNKNOWN", "", "=",
	} {
		for _, value := range []string{"", "1", "2s", "-1", "http://h:1/p?q#f", "nats://a:b@h:1,h:2", ":0", "date", "whsec_AAAA whsec_!", "\x00", "9e999", "exec:", "é"} {
			f.Add(uint(i), name, value)
			i++
		}
	}
	f.Fuzz(func(t *testing.T, program uint, name, value string) {
		if strings.HasSuffix(name, "_FILE") || name == "LEDGERLINE_CONFIG" {
			t.Skip("opens what it names")
		}
		sound(t, programOf(program), []string{name + "=" + value, "LEDGERLINE_PLEO_TOKEN=" + secretWord}, nil)
	})
}

func FuzzArguments(f *testing.F) {
	for _, words := range []string{
		"--lease 3s", "--lease=3s --lease=4s", "--", "-", "--help", "--version", "job", "job a b", "--output json job a", "--pleo-token", "--no-report",
		"up --unknown x", "--report=maybe", "---", "--=", "--pleo-url= --pleo-url", "demo --jobs -1",
	} {
		for i := range uint(len(programs)) {
			f.Add(i, words)
		}
	}
	f.Fuzz(func(t *testing.T, program uint, words string) {
		args := strings.Fields(words)
		for _, word := range args {
			if strings.Contains(word, "file") || strings.Contains(word, "config") {
				t.Skip("opens what it names")
			}
		}
		sound(t, programOf(program), nil, args)
	})
}
