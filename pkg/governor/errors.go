package governor

import "errors"

// Why a slice was not taken from the shared budget. None of these leaves the
// package: the process goes on by its own rate.
var (
	// errAlone is returned when NATS did not answer a short time ago.
	errAlone = errors.New("NATS did not answer a short time ago")
	// errAway is returned when there is no connection to NATS.
	errAway = errors.New("not connected to NATS")
	// errContended is returned when another replica was faster maxShareTries times.
	errContended = errors.New("other replicas were always faster")
)
