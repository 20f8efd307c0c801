package program

import (
	"errors"
	"fmt"
)

// ErrSignalled is the cause that context.Cause tells when a signal ended the
// context. Main takes a function that returns it, or context.Canceled, after a
// signal for one that ended well.
var ErrSignalled = errors.New("a signal asked for the end")

// Exit is returned by a run function that has told its result already and only
// wants an exit code, such as a check that found something. Nothing is printed
// for it.
type Exit int //nolint:errname // reads as what it does: return program.Exit(1)

func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// ExitCode is the number itself.
func (e Exit) ExitCode() int { return int(e) }
