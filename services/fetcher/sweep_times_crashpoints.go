//go:build crashpoints

package fetcher

import "time"

// The janitor of a process that is to die in it comes round at once: the times are
// those of sweep_times.go, with seconds for minutes and hours.
const (
	sweepInterval = time.Second
	orphanAge     = 3 * time.Second
	lostAge       = 3 * time.Second
	tendInterval  = time.Second
)
