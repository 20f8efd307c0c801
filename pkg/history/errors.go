package history

import "errors"

// ErrGone is returned by Read when the message it must end at is not stored any
// more: it was purged, has expired or was lost.
var ErrGone = errors.New("the message to read up to is gone")

// ErrDamaged is returned by ReadWhole when the server holds a message that it cannot
// read.
var ErrDamaged = errors.New("a stored message is damaged")
