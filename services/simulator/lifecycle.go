package simulator

import (
	"time"
)

// Who moved something. The API has no such notion; the judge does.
const (
	ByClient = "client" // a call to the API
	ByPleo   = "pleo"   // expiry
	ByUser   = "user"   // cancel in the web app
	ByOther  = "other"  // a second integration with the same rights
)

// Job events of the API.
const (
	EventStarted             = "started"
	EventFailed              = "failed"
	EventCompleted           = "completed"
	EventCompletedWithErrors = "completed_with_errors"
)

// Reasons that only Pleo itself gives.
const (
	reasonExpired  = "job_expired"
	reasonCanceled = "canceled_by_user"
)

var jobFailureTypes = set(
	"invalid_configuration", "missing_configuration", "authentication_failure", "accounting_system_authentication_failure",
	"pleo_rate_limit", "accounting_system_rate_limit", "service_unreachable", "accounting_system_unreachable",
	"validation_failure", "authorization_failure", "integration_unusable", reasonExpired, "service_timeout",
	"accounting_system_timeout", reasonCanceled,
)

var itemFailureTypes = set(
	"receipt_upload_failure", "receipt_download_failure", "receipt_file_size_limit_exceeded", "receipt_conversion_failure",
	"unexpected_failure", "invalid_configuration", "missing_configuration", "accounting_system_authentication_failure",
	"accounting_system_rate_limit", "accounting_system_unreachable", "validation_failure",
	"accounting_system_validation_failure", "authorization_failure", "accounting_system_timeout",
	"vendor_unknown", "account_unknown", "tax_code_unknown", "tag_unknown",
)

func set(words ...string) map[string]bool {
	s := make(map[string]bool, len(words))
	for _, word := range words {
		s[word] = true
	}
	return s
}

// JobEvent is one accepted move of a job, in the order in which they happened.
type JobEvent struct {
	At                time.Time `json:"at"`
	Event             string    `json:"event"` // of the API, or "expired" and "canceled"
	By                string    `json:"by"`
	FailureReason     string    `json:"failureReason,omitempty"`
	FailureReasonType string    `json:"failureReasonType,omitempty"`
	OpenItems         int       `json:"openItems"` // items without a final state at that moment
}

// The transitions, all of them:
//
//	pending      started                          in_progress
//	pending      failed                           failed      (the reference is silent; readiness checks before the claim need it)
//	in_progress  completed, completed_with_errors the same
//	in_progress  failed                           failed
//
// Everything else, a second started included, is refused: a caller that repeats
// an event after a lost reply must read the job.
func (j *job) allows(event string) bool {
	switch event {
	case EventStarted:
		return j.status == JobPending
	case EventFailed:
		return j.status == JobPending || j.status == JobInProgress
	case EventCompleted, EventCompletedWithErrors:
		return j.status == JobInProgress
	default:
		return false
	}
}

// apply makes an allowed move.
func (j *job) apply(event JobEvent) {
	event.OpenItems = j.open
	j.before = j.view()
	switch event.Event {
	case EventStarted:
		j.status = JobInProgress
		j.startedAt = event.At
	case EventCompleted, EventCompletedWithErrors:
		j.status = event.Event
		j.completedAt = event.At
		j.openAtClose = j.open
	default: // failed, expired, canceled
		j.status = JobFailed
		j.completedAt = event.At
		j.openAtClose = j.open
		j.failureReason, j.failureReasonType = orNil(event.FailureReason), orNil(event.FailureReasonType)
		if event.Event == eventNameExpired {
			j.completedAt, j.expiredAt = time.Time{}, event.At
		}
		j.abandonOpen()
	}
	j.lastUpdatedAt = event.At
	if len(j.events) < maxLoggedJobEvents {
		j.events = append(j.events, event)
	}
}

// abandonOpen gives up every item without a final state, as Pleo does when a job
// fails or expires.
func (j *job) abandonOpen() {
	for i, state := range j.states {
		if state.open() {
			j.states[i] = stateAbandoned
		}
	}
	j.open = 0
}

// setState moves one item and keeps the count of open ones.
func (j *job) setState(index int, state itemState) {
	if j.states[index].open() {
		j.open--
	}
	if state.open() {
		j.open++
	}
	j.states[index] = state
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
