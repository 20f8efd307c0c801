package jobview

import (
	"time"

	"github.com/ledgerline/ledgerline/pkg/lag"
)

// Lag is what waits in the whole installation; the JSON names are the outside
// contract's.
type Lag struct {
	// JobsWaiting are sealed jobs that no worker has claimed.
	JobsWaiting int `json:"jobsWaiting"`
	// JobsActive are claimed jobs.
	JobsActive int `json:"jobsActive"`
	// Items of sealed jobs that are not acked.
	Items uint64 `json:"items"`
	// OldestJobAgeSeconds counts from the seal of the oldest unfinished job; 0
	// when there is none.
	OldestJobAgeSeconds float64 `json:"oldestJobAgeSeconds"`
}

// LagOf is a snapshot in the contract's form.
func LagOf(s *lag.Snapshot, now time.Time) Lag {
	return Lag{JobsWaiting: s.Waiting, JobsActive: s.Active, Items: s.Items, OldestJobAgeSeconds: s.OldestAge(now).Seconds()}
}
