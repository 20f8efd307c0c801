package embedded

import "errors"

var (
	// ErrDataDir is returned when the data directory cannot be created, read or
	// written.
	ErrDataDir = errors.New("data directory cannot be used")

	// ErrDataDirInUse is returned when another process holds the data directory.
	ErrDataDirInUse = errors.New("data directory is in use by another process")

	// ErrAddress is returned when a listening or monitoring address is not
	// host:port, or cannot be listened on.
	ErrAddress = errors.New("address cannot be listened on")

	// ErrStore is returned when the server does not come up on what lies in the
	// data directory, or leaves a stream of it out.
	ErrStore = errors.New("store cannot be read")

	// errLost is part of an ErrStore where messages are not there any more: a person
	// decides what happens then.
	errLost = errors.New("messages are damaged or gone")

	// ErrServer is returned when the server does not start for another reason.
	ErrServer = errors.New("embedded NATS server does not start")

	// ErrNotReady is returned by Ready when the server was shut down or has
	// switched its storage off, as it does on a full disk.
	ErrNotReady = errors.New("embedded NATS server is not ready")
)
