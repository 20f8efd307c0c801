package logevent

// Events of the traces.
const (
	TracesOn      = "traces on"      // info: endpoint
	TracesDropped = "traces dropped" // warn: error; nothing else is touched by it
)
