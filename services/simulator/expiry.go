package simulator

import "time"

const (
	eventNameExpired  = "expired"
	eventNameCanceled = "canceled"
)

// settle lets time act on a job: every look at a job goes through here first, so
// a jump of the clock needs no timer and no waiting. The job expired at its
// deadline, not when somebody looked.
func (s *Simulator) settle(j *job, now time.Time) {
	if j.finished() || now.Before(j.deadline()) {
		return
	}
	s.expireAt(j, j.deadline())
}

func (s *Simulator) expireAt(j *job, at time.Time) {
	s.move(j, JobEvent{
		At: at, Event: eventNameExpired, By: ByPleo,
		FailureReason: "Job not updated within expiry time limit.", FailureReasonType: reasonExpired,
	})
}

// move applies an event and logs it.
func (s *Simulator) move(j *job, event JobEvent) {
	j.apply(event)
	s.log.Info().Stringer("job_id", j.id).Str("status", j.status).Str("by", event.By).
		Str("failure_type", event.FailureReasonType).Msg(eventJobMoved)
}
