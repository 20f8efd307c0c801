package simulator

import (
	"encoding/json"
	"net/http"
)

// eventRequest is CreateExportJobEvent of the API.
type eventRequest struct {
	JobID             string `json:"jobId"`
	Event             string `json:"event"`
	FailureReason     string `json:"failureReason"`
	FailureReasonType string `json:"failureReasonType"`
}

func jobOfEvent(c *call) string {
	var request eventRequest
	_ = json.Unmarshal(c.body, &request) // a body that is no JSON names no job; the endpoint refuses it
	return request.JobID
}

// createEvent is POST /v3/export-job-events.
func (s *Simulator) createEvent(c *call) answer {
	var request eventRequest
	if err := json.Unmarshal(c.body, &request); err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, "The body is no CreateExportJobEvent.")
	}
	if request.JobID == "" || request.Event == "" {
		return refuse(http.StatusBadRequest, typeMissing, "jobId and event are required.")
	}
	switch request.Event {
	case EventStarted, EventFailed, EventCompleted, EventCompletedWithErrors:
	default:
		return refuse(http.StatusBadRequest, typeBadRequest, "event "+request.Event+" is unknown.")
	}
	if request.FailureReasonType != "" && !jobFailureTypes[request.FailureReasonType] {
		return refuse(http.StatusBadRequest, typeBadRequest, "failureReasonType "+request.FailureReasonType+" is unknown.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j, refusal, ok := s.find(c, request.JobID)
	if !ok {
		return refusal
	}
	if !s.post(j, request, ByClient) {
		return refuse(http.StatusUnprocessableEntity, typeBadStatusChange, "Export Job status change failed")
	}
	if c.faults.hit(FaultStaleRead) {
		j.staleReads = maxStaleReads
	}
	// A bare JSON string, as a preview of the reference shows it: a caller that
	// decodes it into an object fails.
	return reply(http.StatusAccepted, "Export Job Event created successfully.")
}

// maxStaleReads is how many reads of a job may show the state before an event.
const maxStaleReads = 2

// post makes the move of a job event, if it is allowed; the caller holds s.mu.
func (s *Simulator) post(j *job, request eventRequest, by string) bool {
	if !j.allows(request.Event) {
		j.refusals.Events++
		return false
	}
	event := JobEvent{At: s.now(), Event: request.Event, By: by}
	if request.Event == EventFailed {
		event.FailureReason, event.FailureReasonType = request.FailureReason, request.FailureReasonType
	}
	s.move(j, event)
	return true
}
