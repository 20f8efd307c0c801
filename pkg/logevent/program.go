package logevent

// Events of a program's end and of its HTTP server.
const (
	ServiceFailed     = "service failed"      // error: service, cause
	HTTPErrorReported = "http error reported" // warn: text
	HTTPStopped       = "http stopped"        // info: addr
)
