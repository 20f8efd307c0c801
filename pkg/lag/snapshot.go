package lag

import (
	"time"

	"github.com/google/uuid"
)

// Snapshot is what waited at one moment. It is shared: readers change nothing in it.
type Snapshot struct {
	// At is when the reading began; nothing in it is older.
	At time.Time
	// Jobs are the sealed jobs that have not ended, the one with the most lag first.
	Jobs []Job
	// Waiting and Active count them: nobody has claimed the waiting ones. Together
	// they are what the stable durable has pending and ack-pending.
	Waiting, Active int
	// Parked counts the jobs that a person must look at, ParkedEvents the events.
	Parked, ParkedEvents int
	// Items sums the jobs' lag.
	Items uint64
	// Oldest is when the oldest of Jobs was sealed; zero when there is none.
	Oldest time.Time
}

// Job is one sealed job that has not ended.
type Job struct {
	ID, Company uuid.UUID
	// Run of the manifest, from 1.
	Run uint32
	// Active tells whether a worker has claimed it.
	Active bool
	// Total is how many items were sealed, Lag how many of them are not acked.
	Total uint32
	Lag   uint64
	// Since is when it was sealed.
	Since time.Time
	// Deadline is when Pleo gives it up, as its worker read it last.
	Deadline time.Time
}

// OldestAge is the age of the oldest job; 0 when there is none.
func (s *Snapshot) OldestAge(now time.Time) time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(now.Sub(s.Oldest), 0)
}
