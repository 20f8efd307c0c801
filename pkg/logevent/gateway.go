package logevent

// Events of the gateway: a job from its detection to its job-started event.
// "job started" and "job parked" are the fetcher's too.
const (
	GatewayReady          = "gateway ready"          // info: gateway, company_id, poll_interval
	WebhooksUnsigned      = "webhooks unsigned"      // warn: no secret is set, every webhook is answered 401
	WebhookStored         = "webhook stored"         // info: webhook_id, event_type, job_id, company_id
	WebhookIgnored        = "webhook ignored"        // debug: webhook_id, reason
	WebhookRefused        = "webhook refused"        // warn: status, reason
	WebhookNotStored      = "webhook not stored"     // error: it is answered 503
	SecretUnreadable      = "webhook secret unread"  // error: webhooks are answered 503
	DetectionsUnreachable = "detections unreachable" // warn: the queue cannot be read
	DetectionNotSettled   = "detection not settled"  // warn: its ack was not taken; it comes again
	DetectionRefused      = "detection refused"      // error: it cannot be read
	DetectionDropped      = "detection dropped"      // warn: nobody here serves its company
	CheckAsked            = "check asked"            // info: company_id, job_id
	JobsPolled            = "jobs polled"            // info: pages, pending, in_progress, companies
	PollFailed            = "poll failed"            // warn
	JobLeftAlone          = "job left alone"         // warn: reason, retry_in; nothing was started
	JobResumed            = "job resumed"            // info: its event is published, "started" is not posted again
	JobTaken              = "job taken from gateway" // warn: the gateway that was starting it is gone
	JobNotStarted         = "job not started"        // info: it ended at Pleo before; status, reason
	MarkLost              = "mark lost"              // warn: somebody else took the job over
	StatesUnwatched       = "states unwatched"       // warn: the jobs bucket cannot be followed
	CompanyNotWoken       = "company not woken"      // warn: its next job waits for the poll
	EndpointFailed        = "endpoint failed"        // warn: the micro service
)
