package fetcher

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

var (
	// errTaken is returned when another replica sealed the job first.
	errTaken = errors.New("another fetcher sealed the job first")
	// errLater is returned when the work cannot go on now and nobody is at fault:
	// the event is handed back and comes again.
	errLater = errors.New("the event is handed back")
)

// parkError ends an event with a reason for a person.
type parkError struct {
	// event is true when the event is parked rather than the job: the job is not
	// known here.
	event  bool
	reason string
	// run is the run whose drain ended so, of a job of the company; uuid.Nil where that
	// is not known.
	run     uint32
	company uuid.UUID
}

func (e *parkError) Error() string { return e.reason }

func parkJob(format string, args ...any) error {
	return &parkError{reason: fmt.Sprintf(format, args...)}
}

func parkEvent(format string, args ...any) error {
	return &parkError{event: true, reason: fmt.Sprintf(format, args...)}
}
