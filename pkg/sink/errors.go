package sink

import "errors"

var (
	// ErrSpec is returned by Open and Validate when the spec is none of the
	// forms, or lacks what its form needs.
	ErrSpec = errors.New("LEDGERLINE_SINK")
	// ErrNotReady is returned by Ready when the sink would not take an item now.
	ErrNotReady = errors.New("the sink is not ready")
	// ErrClosed is returned by Ready after Close; Deliver then answers Retry
	// with this text.
	ErrClosed = errors.New("the sink is closed")

	// errNoAnswer is the cause of a delivery's context when its time is up.
	errNoAnswer = errors.New("no answer")
)
