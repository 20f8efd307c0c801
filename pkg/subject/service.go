package subject

// The services' names among the NATS micro services: `nats micro ls` shows every
// replica under them.
const (
	ServiceFetcher  = "ledgerline-fetcher"
	ServiceConsumer = "ledgerline-consumer"
)

// The endpoints by which one service asks another for what only the other's
// credential may do, and an operator asks a worker.
const (
	// FetcherAgain publishes the job-started event of a further run: consumers may
	// not publish events.
	FetcherAgain = "ledgerline.fetcher.again"
	// ConsumerEnd writes into the ledger how a drain ended a job: fetchers may not
	// write the ledger.
	ConsumerEnd = "ledgerline.consumer.end"
	// ConsumerSteer carries out what an operator asked of a job that nobody holds.
	ConsumerSteer = "ledgerline.consumer.steer"
	// ConsumerReconcile reads a job at Pleo beside what is stored here.
	ConsumerReconcile = "ledgerline.consumer.reconcile"
	// ConsumerCheck tells how a consumer stands with Pleo and its sink.
	ConsumerCheck = "ledgerline.consumer.check"
)
