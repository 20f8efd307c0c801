package logevent

// Events of the fetcher: a job from its event to its seal.
const (
	FetcherReady      = "fetcher ready"      // info
	EventsUnreachable = "events unreachable" // warn: the event queue cannot be read
	EventParked       = "event parked"       // error: reason
	EventHandedBack   = "event handed back"  // warn: it comes again after retry_in
	EventNotSettled   = "event not settled"  // warn: its ack was not taken; it comes again
	EventKnown        = "event known"        // info: the job is held, parked or finished here
	JobStarted        = "job started"        // info: "started" was posted to Pleo
	JobDrained        = "job drained"        // info: pages, items, open
	DrainRepeated     = "drain repeated"     // warn: reason
	DrainAbandoned    = "drain abandoned"    // warn: the lease was lost
	RowsMissing       = "rows missing"       // warn: fewer rows than the job's numberOfItems
	DatesMissing      = "dates missing"      // warn: items without a readable date sort last
	JobSealed         = "job sealed"         // info: count, attempt
	SealLost          = "seal lost"          // info: another fetcher was first, or the job was cancelled
	JobParked         = "job parked"         // error: reason
	AttemptPurged     = "attempt purged"     // info: items that no manifest names
	SweepFailed       = "sweep failed"       // warn
	EventRepublished  = "event republished"  // warn: an open job had neither manifest nor fetcher
	TendFailed        = "tend failed"        // warn
	ManifestOffered   = "manifest offered"   // warn: nobody had a sealed job's manifest any more
	ManifestRemoved   = "manifest removed"   // info: what was left of an ended run
	AttemptNotPurged  = "attempt not purged" // warn: the janitor does it later
)
