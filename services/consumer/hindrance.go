package consumer

import (
	"context"
	"fmt"
	"time"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
)

const (
	// hinderedAfter is the send of an item from which on the job's state says what
	// holds it up: one that goes at the second or third is worth no write.
	hinderedAfter = 3
	// hinderedAgain is how often that is written anew while it lasts.
	hinderedAgain = 30 * time.Second
)

// hindrance is what holds a job up at its sink, as its state says.
type hindrance struct {
	told time.Time // zero where the state says nothing
}

// hindered tells people, in the job's state, that an item is sent in vain.
func (j *job) hindered(ctx context.Context, position uint32, sends int, detail string) {
	if sends < hinderedAfter || time.Since(j.hindrance.told) < hinderedAgain {
		return
	}
	j.hindrance.told = time.Now()
	reason := fmt.Sprintf("item %d was sent %d times and is not booked: %s", position, sends, detail)
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		if s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE {
			s.Reason = reason
		}
	})
}

// unhindered takes that back once the item is settled.
func (j *job) unhindered(ctx context.Context) {
	if j.hindrance.told.IsZero() {
		return
	}
	j.hindrance.told = time.Time{}
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		if s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE {
			s.Reason = ""
		}
	})
}
