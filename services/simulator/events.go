package simulator

// Every log event of this package. Messages are these constants and nothing
// else; values go into snake_case fields.
const (
	eventStarted            = "simulator started"         // info: addr, jobs, seed
	eventStopped            = "simulator stopped"         // info
	eventRequestAnswered    = "request answered"          // debug: operation, job_id, code, request_id
	eventFaultInjected      = "fault injected"            // info: fault, operation, job_id, request_id
	eventJobCreated         = "job created"               // info: job_id, company_id, items
	eventJobMoved           = "job moved"                 // info: job_id, status, by, failure_type
	eventWebhookDelivered   = "webhook delivered"         // info: job_id, webhook_id, attempt, code
	eventWebhookRefused     = "webhook refused"           // warn: job_id, webhook_id, attempt, code
	eventWebhookAbandoned   = "webhook abandoned"         // warn: job_id, webhook_id, attempts
	eventWebhookDropped     = "webhook dropped"           // warn: job_id (queue full)
	eventConnectionKept     = "connection not resettable" // warn: operation
	eventControlMisanswered = "control answer unwritten"  // warn: path
)
