package natsconn

import "errors"

var (
	// ErrServerTooOld is returned when the server is older than MinServerVersion,
	// or does not say a version that can be read.
	ErrServerTooOld = errors.New("NATS server is too old")

	// ErrNotConnected is returned by Ready while there is no connection.
	ErrNotConnected = errors.New("NATS is not connected")

	// ErrClosed is returned when the connection was closed for good while it was
	// waited for.
	ErrClosed = errors.New("NATS connection was closed")
)
