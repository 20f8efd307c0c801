package endpoint

import "errors"

// ErrNobody is returned by Ask when no replica of the service is running, or none
// that may be reached with these credentials.
var ErrNobody = errors.New("nobody answers")

// RefusedError is returned by Ask when the service answered with an error.
type RefusedError struct {
	// Code is that of an HTTP answer: "400" for a request that cannot be
	// understood, "409" where the state of things forbids it, "503" for later.
	Code string
	Text string
}

func (e *RefusedError) Error() string { return e.Text }

// Refuse is the error of a handler that answers with a code of its own; any other
// error is answered with "503".
func Refuse(code, text string) error { return &RefusedError{Code: code, Text: text} }
