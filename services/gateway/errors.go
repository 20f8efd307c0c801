package gateway

import (
	"errors"
	"fmt"
	"time"
)

var (
	// errHeld is returned when another gateway has the job in hand to start it.
	errHeld = errors.New("another gateway is starting the job")
	// errUnderWay is returned when the job is in work here.
	errUnderWay = errors.New("the job is in work here")
	// errOver is returned when the job has ended here.
	errOver = errors.New("the job has ended here")
	// errMarkLost is the cause of the context of a start whose mark was taken over
	// or could not be renewed in time.
	errMarkLost = errors.New("the mark of the job was lost")
	// errNotEvent is returned for a webhook that is not about a created job.
	errNotEvent = errors.New("not an event of ours")
	// errBody is returned for a webhook that cannot be read.
	errBody = errors.New("the body cannot be used")
	// errTooLarge is returned for a webhook over MaxWebhookBytes.
	errTooLarge = fmt.Errorf("the body has more than %d bytes", MaxWebhookBytes)
	// errUnsigned is returned for a webhook whose signature does not hold.
	errUnsigned = errors.New("the signature does not hold")
	// errRequest is returned for a check that asks for nothing that can be done.
	errRequest = errors.New(`give {"companyId":"<uuid>"} or {"jobId":"<uuid>"}, or both`)
)

// laterError hands a detection back: it is looked at again after in, or after a
// growing wait where that is 0.
type laterError struct {
	reason string
	in     time.Duration
	// expected is true for a wait that is nobody's trouble.
	expected bool
}

func (e *laterError) Error() string { return e.reason }

// later is a wait that is part of the plan.
func later(in time.Duration, format string, args ...any) error {
	return &laterError{reason: fmt.Sprintf(format, args...), in: in, expected: true}
}

// leftAlone is a wait for something to change that a person may have to change.
func leftAlone(in time.Duration, format string, args ...any) error {
	return &laterError{reason: fmt.Sprintf(format, args...), in: in}
}
