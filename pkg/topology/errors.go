package topology

import "errors"

var (
	// ErrDiffers is returned when a stream, durable or bucket exists and differs in
	// a field that the promises rest on. The message names every difference.
	ErrDiffers = errors.New("differs from what the promises rest on")
	// ErrImpossible is returned when the server will never create a stream: its
	// subjects belong to another stream, or it asks for replicas where there is no
	// cluster.
	ErrImpossible = errors.New("cannot be created here")
)
