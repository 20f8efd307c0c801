package logevent

// Events of the consumer: a job from its claim to its end.
const (
	ConsumerReady        = "consumer ready"        // info: worker
	ManifestsUnreachable = "manifests unreachable" // warn: sealed jobs cannot be pulled
	ManifestRefused      = "manifest refused"      // error: it cannot be read
	JobsUnwatched        = "jobs unwatched"        // warn: the jobs bucket cannot be followed
	JobWaiting           = "job waiting"           // info: reason
	HolderWoken          = "holder woken"          // warn: holder; the ledger alone knows the job whose turn it is, its event comes again
	JobClaimed           = "job claimed"           // info: total
	JobTakenOver         = "job taken over"        // warn: epoch, position
	JobDropped           = "job dropped"           // warn: somebody else has it
	JobHandedBack        = "job handed back"       // it comes again, here or elsewhere
	JobNotSettled        = "job not settled"       // warn: its ack or purge was not taken; done again
	WishSeen             = "wish seen"             // info: job_id, request; an operator asked for it, whoever holds the job
	JobPaused            = "job paused"            // info: position; an operator asked for it
	JobContinued         = "job continued"         // info: position, paused
	JobMended            = "job mended"            // info: did; a reconciliation reported or closed at Pleo
	JobEnded             = "job ended"             // info: phase, counts
	ItemSettled          = "item settled"          // debug: position, outcome
	ItemRetried          = "item retried"          // warn: position, attempt, retry_in, detail
	ItemsMissed          = "items missed"          // warn: a gap or an empty pull; the consumer is reset
	ItemsLost            = "items lost"            // error: reason; an item is not in the store: the job is drained again
	LedgerForgot         = "ledger forgot"         // error: reason; the ledger was lost under a sealed job: it is drained again
	ItemsUnreachable     = "items unreachable"     // warn: the job's items cannot be pulled
	SinkRefused          = "sink refused"          // error: it refuses us, not the item
	SinkNotClosed        = "sink not closed"       // warn
	PayloadMissing       = "payload missing"       // warn: the entry has no export item; it is sent with null
	PayloadRepeated      = "payload repeated"      // warn: read afresh after a fault of its pages
	DeadlineNear         = "deadline near"         // warn: needed (unknown before the first item), left, position, total
	DeadlineUnread       = "deadline unread"       // warn: Pleo could not be asked
	ItemsReported        = "items reported"        // debug: items
	ReportRefused        = "report refused"        // warn: items that Pleo did not take; reported again
	ReportTooLarge       = "report too large"      // warn: batch halved
	ReportUnfinished     = "report unfinished"     // warn: left to whoever has the job next
	AckFailed            = "ack failed"            // warn: the item comes again, settled
	CloseRetried         = "close retried"         // warn
)
