package simulator

import "errors"

var (
	// ErrConfig is returned when New is given settings that cannot work; the
	// wrapped text names each of them.
	ErrConfig = errors.New("simulator configuration")
	// ErrFaultUnknown is returned when a fault plan names a fault, set or mode
	// that does not exist.
	ErrFaultUnknown = errors.New("unknown fault")
	// ErrJobUnknown is returned when a control method names a job that the
	// simulator does not hold.
	ErrJobUnknown = errors.New("unknown job")
	// ErrJobExists is returned when AddJob is given an id that is taken.
	ErrJobExists = errors.New("job exists")
	// ErrJobFinished is returned when a control method wants to move a job that
	// is already in a final state.
	ErrJobFinished = errors.New("job is finished")
	// ErrClientUnknown is returned when a control method names an OAuth client that
	// is not configured.
	ErrClientUnknown = errors.New("unknown OAuth client")
	// ErrLimit is returned when one of the simulator's own bounds is reached.
	ErrLimit = errors.New("simulator limit reached")
	// ErrClosed is returned when a closed simulator is asked to run.
	ErrClosed = errors.New("simulator is closed")
)
