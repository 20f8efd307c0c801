package config

import (
	"fmt"
	"strings"
)

// exitUsage is the exit code for wrong usage or configuration.
const exitUsage = 2

// Fault is one thing that is wrong with the settings, told so that the person
// who set it can put it right.
type Fault struct {
	// Setting is the environment variable's name, or empty for a fault of usage
	// such as an unknown flag.
	Setting string
	// Problem continues the sentence that begins with the setting: "is over 1000".
	Problem string
	// WayOut says what to do instead, in the imperative: "give 1 to 1000".
	WayOut string

	// What Load knows and a Validate does not.
	flag   string // with its dashes
	value  string // as given; never that of a secret
	source string // where the value came from
}

// String is one line: variable, flag, value, where it came from, problem, way
// out.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Setting)
	if f.flag != "" {
		if f.Setting == "" {
			b.WriteString(f.flag)
		} else {
			fmt.Fprintf(&b, " (%s)", f.flag)
		}
	}
	if f.value != "" {
		fmt.Fprintf(&b, " = %s", f.value)
	}
	if f.source != "" {
		fmt.Fprintf(&b, " from %s", f.source)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	if f.WayOut != "" {
		b.WriteString("; ")
		b.WriteString(f.WayOut)
	}
	return b.String()
}

// Faults are all that a check found; none means that all is well. The type is
// not an error on purpose: a Validate that returned one would be taken up by
// kong, which stops at the first.
type Faults []Fault

// Add appends one fault of setting.
func (fs *Faults) Add(setting, problem, wayOut string) {
	*fs = append(*fs, Fault{Setting: setting, Problem: problem, WayOut: wayOut})
}

// Err is nil without faults, else an *Error.
func (fs Faults) Err(program string) error {
	if len(fs) == 0 {
		return nil
	}
	return &Error{Program: program, Faults: fs}
}

// Error is wrong usage or configuration, every fault at once. Its text is
// several lines, for a person at a terminal.
type Error struct {
	Program string
	Faults  Faults
}

func (e *Error) Error() string {
	var b strings.Builder
	noun := "faults"
	if len(e.Faults) == 1 {
		noun = "fault"
	}
	fmt.Fprintf(&b, "%s: %d %s in usage or configuration", e.Program, len(e.Faults), noun)
	for _, f := range e.Faults {
		b.WriteString("\n  ")
		b.WriteString(f.String())
	}
	return b.String()
}

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *Error) Unwrap() error { return ErrInvalid }

// ExitCode is 2.
func (e *Error) ExitCode() int { return exitUsage }
