package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// pass lets time pass, as precisely as the system can: Go's own timers go off up to
// a millisecond late in a process that is idle, and many of them in the same moment.
// Who waits for a sink of five milliseconds would measure the timers. ctx is looked
// at before, since what is waited for are milliseconds.
func pass(ctx context.Context, d time.Duration) {
	if d <= 0 || ctx.Err() != nil {
		return
	}
	left := unix.NsecToTimespec(int64(d))
	for errors.Is(unix.Nanosleep(&left, &left), unix.EINTR) {
	}
}
