//go:build !linux

package main

import (
	"context"
	"time"
)

// pass lets time pass, or ctx end.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
