package pleo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"unicode/utf8"
)

// MaxReasonRunes bounds a failure reason that we send; a longer one is cut. The
// upstream's limit is unpublished, bookkeepers read a sentence, and 100 items of
// this length stay well below MaxObjectBytes.
const MaxReasonRunes = 1000

// Event is what an integration tells about a job.
type Event string

// The events that the upstream takes.
const (
	EventStarted             Event = "started"
	EventFailed              Event = "failed"
	EventCompleted           Event = "completed"
	EventCompletedWithErrors Event = "completed_with_errors"
)

// JobFailureType says why a job failed. The upstream may add values; those are
// kept when read, and refused when sent.
type JobFailureType string

// Job failure types of the description. "service" is the integration, that is,
// us; "accounting system" is the sink's side (trap 25).
const (
	JobInvalidConfiguration    JobFailureType = "invalid_configuration"
	JobMissingConfiguration    JobFailureType = "missing_configuration"
	JobAuthenticationFailure   JobFailureType = "authentication_failure"
	JobSystemAuthentication    JobFailureType = "accounting_system_authentication_failure"
	JobPleoRateLimit           JobFailureType = "pleo_rate_limit"
	JobSystemRateLimit         JobFailureType = "accounting_system_rate_limit"
	JobServiceUnreachable      JobFailureType = "service_unreachable"
	JobSystemUnreachable       JobFailureType = "accounting_system_unreachable"
	JobValidationFailure       JobFailureType = "validation_failure"
	JobAuthorizationFailure    JobFailureType = "authorization_failure"
	JobIntegrationUnusable     JobFailureType = "integration_unusable"
	JobExpired                 JobFailureType = "job_expired"
	JobServiceTimeout          JobFailureType = "service_timeout"
	JobAccountingSystemTimeout JobFailureType = "accounting_system_timeout"
	JobCanceledByUser          JobFailureType = "canceled_by_user"
)

// Known tells whether the upstream's description has the value.
func (t JobFailureType) Known() bool {
	switch t {
	case JobInvalidConfiguration, JobMissingConfiguration, JobAuthenticationFailure,
		JobSystemAuthentication, JobPleoRateLimit, JobSystemRateLimit, JobServiceUnreachable,
		JobSystemUnreachable, JobValidationFailure, JobAuthorizationFailure, JobIntegrationUnusable,
		JobExpired, JobServiceTimeout, JobAccountingSystemTimeout, JobCanceledByUser:
		return true
	}
	return false
}

// JobEvent tells the upstream about a job.
type JobEvent struct {
	JobID string // any letter case
	Event Event
	// FailureReason, for a person, and FailureReasonType go with EventFailed
	// only; both may be left out.
	FailureReason     string
	FailureReasonType JobFailureType
}

type wireJobEvent struct {
	JobID             string         `json:"jobId"` // not exportJobId (trap 23)
	Event             Event          `json:"event"`
	FailureReason     string         `json:"failureReason,omitempty"`
	FailureReasonType JobFailureType `json:"failureReasonType,omitempty"`
}

// PostJobEvent sends one event: POST /v3/export-job-events.
//
// The upstream answers 202: the new state need not be visible at once (trap 5).
// A reply that gets lost makes us send the event again, which may then be
// refused with 422 TypeInvalidStatusChange although it took effect (trap 6):
// after a 422 read the job, and count the wanted state as success.
func (c *Client) PostJobEvent(ctx context.Context, e JobEvent) error {
	id, err := argumentID("job id", e.JobID)
	if err != nil {
		return err
	}
	switch e.Event {
	case EventStarted, EventFailed, EventCompleted, EventCompletedWithErrors:
	default:
		return fmt.Errorf("%w: unknown job event", ErrInvalidArgument)
	}
	if e.Event != EventFailed && (e.FailureReason != "" || e.FailureReasonType != "") {
		return fmt.Errorf("%w: job event %s takes no failure reason", ErrInvalidArgument, e.Event)
	}
	if e.FailureReasonType != "" && !e.FailureReasonType.Known() {
		return fmt.Errorf("%w: unknown failure type of a job", ErrInvalidArgument)
	}
	body, err := json.Marshal(wireJobEvent{
		JobID:             id,
		Event:             e.Event,
		FailureReason:     shortened(e.FailureReason),
		FailureReasonType: e.FailureReasonType,
	})
	if err != nil {
		return fmt.Errorf("encode event %s of job %s: %w", e.Event, id, err)
	}
	return c.do(ctx, call{
		op:     OpCreateJobEvent,
		doing:  fmt.Sprintf("post event %s of job %s", e.Event, id),
		jobID:  id,
		method: http.MethodPost,
		path:   []string{"v3", "export-job-events"},
		body:   body,
		wanted: func(status int) bool { return status >= 200 && status < 300 },
		bound:  math.MaxInt64, // take reads a part only
		take: func(r io.Reader) error {
			// The status says it all; the body has no schema (trap 5). What is
			// left of it is read for the connection's sake, and its loss changes
			// nothing: the event was accepted.
			_, _ = io.Copy(io.Discard, io.LimitReader(r, MaxErrorBytes))
			return nil
		},
	})
}

// shortened cuts a failure reason to MaxReasonRunes.
func shortened(reason string) string {
	if utf8.RuneCountInString(reason) <= MaxReasonRunes {
		return reason
	}
	return string([]rune(reason)[:MaxReasonRunes-1]) + "…"
}
