package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// alarms are the kernel's timers that nobody waits for.
var alarms = sync.Pool{New: func() any {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a timer of the kernel's: %w", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
}}

type alarm struct {
	fd   int
	file *os.File // the runtime's poller waits for it, no thread does
}

// pass lets time pass, as precisely as the kernel can: Go's own timers go off up to
// a millisecond late in an idle process, and many of them in the same moment. Who
// waits for a sink of five milliseconds would measure the timers. It waits to the
// end: what passes here are milliseconds.
func pass(ctx context.Context, d time.Duration) {
	if d <= 0 || ctx.Err() != nil {
		return
	}
	switch a := alarms.Get().(type) {
	case *alarm:
		defer alarms.Put(a)
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
		if err := unix.TimerfdSettime(a.fd, 0, &at, nil); err != nil {
			panic(fmt.Errorf("set a timer of the kernel's: %w", err))
		}
		var expirations [8]byte
		if _, err := a.file.Read(expirations[:]); err != nil {
			panic(fmt.Errorf("wait for a timer of the kernel's: %w", err))
		}
	case error:
		panic(a)
	}
}
