// Command brokenrules breaks the rules behind the promises, one by one, and
// checks that each one's test fails. Nothing in the tree is changed: the broken
// file is laid over the good one for that one test run.
//
//	scripts/broken-rules [PATTERN]
//	scripts/broken-rules -check     only that each rule's lines and test are there
//
// rules.txt holds the rules; a rule is
//
//	== what the rule is
//	file services/fetcher/seal.go
//	test ./services/ledgerline/internal/endtoend TestName
//	-- old
//	the lines that keep the rule, exactly and once in the file
//	-- new
//	the lines that break it
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

type rule struct {
	name, file, pkg, test string
	old, broken           []string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "broken-rules:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	pattern := regexp.MustCompile("")
	only := len(args) > 0 && args[0] == "-check"
	if only {
		args = args[1:]
	}
	if len(args) > 0 {
		var err error
		if pattern, err = regexp.Compile(args[0]); err != nil {
			return fmt.Errorf("pattern: %w", err)
		}
	}
	text, err := os.ReadFile("scripts/brokenrules/rules.txt")
	if err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	rules, err := parse(string(text))
	if err != nil {
		return err
	}
	var bad []string
	tried := 0
	for _, r := range rules {
		if !pattern.MatchString(r.name) && !pattern.MatchString(r.test) {
			continue
		}
		tried++
		if only {
			if err := r.check(); err != nil {
				bad = append(bad, r.name+": "+err.Error())
			}
			continue
		}
		verdict, err := r.try()
		if err != nil {
			verdict = "NOT TRIED: " + err.Error()
		}
		fmt.Printf("%-11s %s (%s)\n", strings.SplitN(verdict, ":", 2)[0], r.name, r.test)
		if verdict != "fails" {
			bad = append(bad, r.name+": "+verdict)
		}
	}
	if tried == 0 {
		return errors.New("no rule matches")
	}
	if only && len(bad) > 0 {
		return fmt.Errorf("%d of %d rules cannot be tried:\n  %s", len(bad), tried, strings.Join(bad, "\n  "))
	}
	if only {
		fmt.Printf("%d rules, each with its lines and its test\n", tried)
		return nil
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d rules can be broken unseen:\n  %s", len(bad), tried, strings.Join(bad, "\n  "))
	}
	fmt.Printf("%d rules broken, each one seen by its test\n", tried)
	return nil
}

func parse(text string) ([]rule, error) {
	var rules []rule
	var part *[]string
	for n, line := range strings.Split(text, "\n") {
		name, isRule := strings.CutPrefix(line, "== ")
		switch {
		case isRule:
			rules = append(rules, rule{name: name})
			part = nil
		case len(rules) == 0:
			// What stands before the first rule is for readers.
		case line == "-- old":
			part = &rules[len(rules)-1].old
		case line == "-- new":
			part = &rules[len(rules)-1].broken
		case part != nil:
			*part = append(*part, line)
		case strings.HasPrefix(line, "file "):
			rules[len(rules)-1].file = strings.TrimPrefix(line, "file ")
		case strings.HasPrefix(line, "test "):
			fields := strings.Fields(line)
			if len(fields) != 3 {
				return nil, fmt.Errorf("line %d: want: test PACKAGE NAME", n+1)
			}
			rules[len(rules)-1].pkg, rules[len(rules)-1].test = fields[1], fields[2]
		case strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#"):
			return nil, fmt.Errorf("line %d is not understood: %q", n+1, line)
		}
	}
	return rules, nil
}

// lines are the file, and the lines that keep the rule and that break it.
func (r rule) lines() (good, old, broken string, err error) {
	text, err := os.ReadFile(r.file)
	if err != nil {
		return "", "", "", fmt.Errorf("read: %w", err)
	}
	good = string(text)
	old = strings.Trim(strings.Join(r.old, "\n"), "\n")
	broken = strings.Trim(strings.Join(r.broken, "\n"), "\n")
	if n := strings.Count(good, old); n != 1 || old == "" {
		return "", "", "", fmt.Errorf("the lines to break stand %d times in %s", n, r.file)
	}
	return good, old, broken, nil
}

// check looks whether the rule can be tried: a change may have moved its lines or
// renamed its test.
func (r rule) check() error {
	if _, _, _, err := r.lines(); err != nil {
		return err
	}
	name, _, _ := strings.Cut(r.test, "/") // a subtest
	tests, err := filepath.Glob(filepath.Join(r.pkg, "*_test.go"))
	if err != nil {
		return fmt.Errorf("list the tests of %s: %w", r.pkg, err)
	}
	for _, path := range tests {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if bytes.Contains(text, []byte("\nfunc "+name+"(t *testing.T)")) {
			return nil
		}
	}
	return fmt.Errorf("%s has no test %s", r.pkg, r.test)
}

// try runs the rule's test twice: it must pass as things are, and fail when the
// rule is broken.
func (r rule) try() (string, error) {
	good, old, broken, err := r.lines()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "broken-rule-*")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	path, err := filepath.Abs(r.file)
	if err != nil {
		return "", fmt.Errorf("locate %s: %w", r.file, err)
	}
	brokenFile := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(brokenFile, []byte(strings.Replace(good, old, broken, 1)), 0o600); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: brokenFile}})
	if err != nil {
		return "", fmt.Errorf("encode the overlay: %w", err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	if out, err := r.goTest(); err != nil {
		return "", fmt.Errorf("the test does not pass as things are:\n%s", tail(out))
	}
	out, err := r.goTest("-overlay=" + overlayFile)
	switch {
	case err == nil:
		return "PASSES: the test does not see it", nil
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return "", fmt.Errorf("the broken file does not build:\n%s", tail(out))
	case !bytes.Contains(out, []byte("--- FAIL: "+r.test)):
		return "", fmt.Errorf("something else failed:\n%s", tail(out))
	}
	return "fails", nil
}

func (r rule) goTest(flags ...string) ([]byte, error) {
	test := exec.Command("go", "test", "-count=1", "-timeout=5m", "-run", "^"+r.test+"$", r.pkg)
	// By the environment, so that what the test itself builds is broken too.
	test.Env = append(os.Environ(), "GOFLAGS="+strings.Join(append(flags, os.Getenv("GOFLAGS")), " "))
	return test.CombinedOutput()
}

func tail(out []byte) string {
	const most = 2000
	return string(out[max(0, len(out)-most):])
}
