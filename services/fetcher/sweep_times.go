//go:build !crashpoints

package fetcher

import "time"

const (
	// sweepInterval is how often the janitor looks; every replica does, at times
	// of its own.
	sweepInterval = 10 * time.Minute
	// orphanAge is how old items without a manifest must be before they are
	// purged: far longer than storing them takes.
	orphanAge = time.Hour
	// lostAge is how long a job may stand open with nothing stored for it before
	// its event is published again.
	lostAge = 10 * time.Minute
	// tendInterval is how often a fetcher looks after manifests; every replica
	// does, at times of its own. It is the longest that a job stands still whose
	// manifest the server has forgotten, but for the second look.
	tendInterval = 30 * time.Second
)
