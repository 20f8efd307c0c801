package httpserve

import "errors"

// ErrListen is returned when the address cannot be listened on.
var ErrListen = errors.New("HTTP address cannot be listened on")
