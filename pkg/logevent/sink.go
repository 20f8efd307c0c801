package logevent

// Events of the sink.
const (
	ItemDelivered    = "item delivered"     // info: the log: sink's booking; ids, position, total, epoch, attempt
	SinkChildKilled  = "sink child killed"  // warn: pid, reason
	SinkChildStarted = "sink child started" // info: pid
	SinkChildStopped = "sink child stopped" // info: pid, exit_code; it ended by itself
	SinkStderrRead   = "sink stderr read"   // info: pid, line, dropped (lines over the rate before this one)
)
