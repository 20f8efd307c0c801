package consumer

import (
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// forecast tells, from a job's own rate, whether its time will do.
type forecast struct {
	began    time.Time
	position uint32 // settled when it began
	warnedAt time.Time
	short    bool // counted among the jobs that are short of time
}

// short counts the job among those that are short of time, or not.
func (j *job) short(is bool) {
	if is == j.pace.short {
		return
	}
	j.pace.short = is
	if is {
		j.c.metrics.JobsShortOfTime.Inc()
	} else {
		j.c.metrics.JobsShortOfTime.Dec()
	}
}

// forecast warns, now and then, of a job that at its present rate needs more time
// than is left. Only the second half of a lifetime counts: before that, the next
// accepted report renews it.
func (j *job) forecast() {
	left, lifetime := j.deadline.left()
	if left > lifetime/2 {
		j.short(false)
		return
	}
	if time.Since(j.pace.warnedAt) < lifetime/deadlineReads {
		return
	}
	settled, open := j.tenure.Position-j.pace.position, j.total()-j.tenure.Position
	event := j.logger.Warn()
	if settled > 0 {
		needed := time.Since(j.pace.began) / time.Duration(settled) * time.Duration(open)
		if needed <= left {
			j.short(false)
			return
		}
		event = event.Dur("needed", needed)
	}
	j.short(true)
	j.pace.warnedAt = time.Now()
	event.Dur("left", left).Uint32("position", j.tenure.Position).Uint32("total", j.total()).Msg(logevent.DeadlineNear)
}
