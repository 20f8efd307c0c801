package consumer

import (
	"errors"
	"fmt"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

var (
	// errStopping is returned when the process is shutting down: the job goes to
	// another worker at once.
	errStopping = errors.New("this worker is shutting down")
	// errStale is returned when the sink says that a newer worker has the job.
	errStale = errors.New("the sink knows a newer epoch of the job")
	// errLater is returned when the job cannot go on now and nobody is at fault.
	errLater = errors.New("the job is handed back")
	// errUnrecorded ends a write that the ledger does not answer.
	errUnrecorded = fmt.Errorf("%w: the ledger did not answer", errLater)
	// errExpired is returned when the job's deadline has passed.
	errExpired = errors.New("the job's deadline has passed")
	// errPaused is returned between two items when an operator has paused the job.
	errPaused = errors.New("an operator has paused the job")
	// errCancelled is returned between two items when an operator wants the job
	// ended.
	errCancelled = errors.New("an operator has cancelled the job")
	// errNoPage is returned when Pleo is not waited for any longer.
	errNoPage = errors.New("no page came")
	// errReported is the cause of a lane that the reporter stopped.
	errReported = errors.New("reporting to Pleo ended")
)

// endedAtPleoError is returned when Pleo shows the job as ended. What that means
// depends on how far the run is; work decides.
type endedAtPleoError struct{ read pleo.Job }

func (e *endedAtPleoError) Error() string {
	reason := string(e.read.FailureReasonType)
	switch {
	case reason != "" && e.read.FailureReason != "":
		reason = " (" + reason + ": " + e.read.FailureReason + ")"
	case reason != "" || e.read.FailureReason != "":
		reason = " (" + reason + e.read.FailureReason + ")"
	}
	return fmt.Sprintf("the job is %s at Pleo%s", e.read.Status, reason)
}

// endError ends the job's run in a phase, with a reason for a person.
type endError struct {
	phase  ledgerlinev1.JobPhase
	reason string
}

func (e *endError) Error() string { return e.reason }

func park(format string, args ...any) error {
	return &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, reason: fmt.Sprintf(format, args...)}
}
