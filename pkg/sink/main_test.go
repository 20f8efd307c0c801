package sink_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also the child of the exec: tests. The variable names what
// it is to be; none of its names begins with what a child does not inherit.
const childVariable = "SINK_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childVariable); kind != "" {
		run, known := children[kind]
		if !known {
			fmt.Fprintf(os.Stderr, "no child is called %q\n", kind)
			os.Exit(2)
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var children = map[string]func() error{
	"relay": relayChild,
	"env":   envChild,
}

// relayChild hands each line to the test over HTTP and does what it answers.
func relayChild() error {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // the end of the input is the end of the work
		}
		if err != nil {
			return err
		}
		resp, err := http.Post(os.Getenv("SINK_TEST_FAR"), "application/json", bytes.NewReader(line))
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode == statusSilent:
			_, _ = io.Copy(io.Discard, lines)
		case resp.StatusCode == statusBroken:
			_, _ = os.Stdout.WriteString(`{"outcome":"boo`)
			os.Exit(3)
		default:
			fmt.Printf("%s\n", answer)
		}
	}
}

// envChild answers every line with its environment as a failure's reason.
func envChild() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var reason []string
		for _, setting := range os.Environ() {
			if name, value, _ := bytes.Cut([]byte(setting), []byte("=")); bytes.Contains(value, []byte("visible")) || bytes.Contains(value, []byte("secret")) {
				reason = append(reason, string(name))
			}
		}
		answer, err := json.Marshal(map[string]string{"outcome": "failed", "failureReason": strings.Join(reason, " ")})
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", answer)
	}
	return lines.Err()
}

// How the test tells its relay child to be silent or to die.
const (
	statusSilent = 590
	statusBroken = 591
)
