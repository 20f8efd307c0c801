package logevent

// Events of every program.
const (
	ConfigLoaded    = "config loaded"    // info: effective settings, secrets redacted
	HTTPListening   = "http listening"   // info: addr
	ServiceStarted  = "service started"  // info: service, version
	ServiceStopped  = "service stopped"  // info: service
	ShutdownForced  = "shutdown forced"  // error: reason
	ShutdownStarted = "shutdown started" // info: signal
)
