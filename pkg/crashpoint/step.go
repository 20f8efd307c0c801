package crashpoint

// Step is one outside effect of a service.
type Step string

// The steps, in the order of ARCHITECTURE.md.
const (
	// 0. Detect and start.
	GatewayStore   Step = "gateway/store"   // a detection goes into the queue
	GatewayList    Step = "gateway/list"    // a company's jobs are read
	GatewayMark    Step = "gateway/mark"    // the job is taken in hand
	GatewayStart   Step = "gateway/start"   // "started" is posted
	GatewayPublish Step = "gateway/publish" // the job-started event goes out
	GatewayState   Step = "gateway/state"   // the mark is renewed, handed on or ended
	GatewayPark    Step = "gateway/park"    // a job that Pleo refuses is parked
	GatewayAck     Step = "gateway/ack"     // the detection is done with
	GatewayReturn  Step = "gateway/return"  // the detection goes back as the process stops
	GatewayDelay   Step = "gateway/delay"   // the detection is to come again later
	GatewayAnswer  Step = "gateway/answer"  // who asked for a check is answered

	// 1. Event, 2. Known?
	FetcherAck    Step = "fetcher/ack"    // the event is done with
	FetcherReturn Step = "fetcher/return" // the event goes back as the process stops
	FetcherDelay  Step = "fetcher/delay"  // the event is to come again later

	// 3. Drain.
	FetcherStart Step = "fetcher/start" // "started" is posted where there is no gateway
	FetcherNote  Step = "fetcher/note"  // people are told that the job is drained
	FetcherItems Step = "fetcher/items" // the control records are read
	FetcherPage  Step = "fetcher/page"  // one page of them, or of dates, is taken in
	FetcherDates Step = "fetcher/dates" // the payload's dates are read
	FetcherFail  Step = "fetcher/fail"  // Pleo is told why the job cannot be exported

	// 4. Stage, 5. Seal.
	FetcherStage   Step = "fetcher/stage"   // a batch of items is committed
	FetcherSeal    Step = "fetcher/seal"    // the manifest is stored
	FetcherSealed  Step = "fetcher/sealed"  // people are told of it
	FetcherDiscard Step = "fetcher/discard" // the items of a lost race are purged

	// Parked by the fetcher.
	FetcherParkEvent Step = "fetcher/park-event" // the event is put before a person
	FetcherParkEnd   Step = "fetcher/park-end"   // a consumer writes the last record of a job that was worked on before
	FetcherParkState Step = "fetcher/park-state" // people are told
	FetcherParkJob   Step = "fetcher/park-job"   // the job is put before a person
	FetcherParkAck   Step = "fetcher/park-ack"   // its event is done with
	FetcherTellPark  Step = "fetcher/tell-park"  // a job that the ledger says is parked is put before a person
	FetcherTell      Step = "fetcher/tell"       // people are told of an end that the ledger has

	// What others ask the consumers to do.
	ConsumerDrainClaim  Step = "consumer/drain-claim"  // a job whose drain was refused is claimed to end it
	ConsumerDrainFold   Step = "consumer/drain-fold"   // its bookings are folded
	ConsumerDrainEnd    Step = "consumer/drain-end"    // its last record
	ConsumerCancelClaim Step = "consumer/cancel-claim" // a job that nobody holds is claimed to cancel it
	ConsumerCancel      Step = "consumer/cancel"       // Pleo is told that the job is cancelled
	ConsumerMendReport  Step = "consumer/mend-report"  // results that Pleo lacks are reported
	ConsumerMendClose   Step = "consumer/mend-close"   // a job that Pleo holds open is closed

	// 6. Claim.
	ConsumerClaim      Step = "consumer/claim"       // the epoch rises
	ConsumerNote       Step = "consumer/note"        // people are told how the job stands
	ConsumerRefuse     Step = "consumer/refuse"      // a manifest that cannot be read is parked
	ConsumerRefuseAck  Step = "consumer/refuse-ack"  // and done with
	ConsumerRefuseLate Step = "consumer/refuse-late" // one of a newer version is left to others

	// 7. Recall, payload, reset.
	ConsumerPayload Step = "consumer/payload" // the payload is read
	ConsumerCreate  Step = "consumer/create"  // the job's consumer is made
	ConsumerReset   Step = "consumer/reset"   // and reset
	ConsumerRewind  Step = "consumer/rewind"  // and sent back to the job's first item
	ConsumerOwn     Step = "consumer/own"     // ownership is asserted before a reset in the middle
	ConsumerFetch   Step = "consumer/fetch"   // items are pulled

	// 8. Each item in turn.
	ConsumerSend   Step = "consumer/send"   // the sink is asked and answers
	ConsumerRecord Step = "consumer/record" // what it said stands in the ledger, and the next send

	// 9. Report, ack.
	ConsumerReport   Step = "consumer/report"   // results go to Pleo
	ConsumerItemAck  Step = "consumer/item-ack" // an item whose result is accepted is acked
	ConsumerStrike   Step = "consumer/strike"   // refused results are looked up
	ConsumerStatuses Step = "consumer/statuses" // every item is read again
	ConsumerFail     Step = "consumer/fail"     // Pleo is told why the job cannot be exported

	// 10. Finish.
	ConsumerClose    Step = "consumer/close"    // the closing event
	ConsumerPark     Step = "consumer/park"     // the job is put before a person
	ConsumerFold     Step = "consumer/fold"     // the bookings are folded
	ConsumerEnd      Step = "consumer/end"      // the last record
	ConsumerDelete   Step = "consumer/delete"   // the job's consumer is removed
	ConsumerPurge    Step = "consumer/purge"    // its items are purged
	ConsumerFurther  Step = "consumer/further"  // a further run is asked for
	ConsumerRelease  Step = "consumer/release"  // the manifest is acked
	ConsumerManifest Step = "consumer/manifest" // and removed
	FetcherFurther   Step = "fetcher/further"   // its event is published
	ConsumerReturn   Step = "consumer/return"   // the manifest goes back as the process stops
	ConsumerStale    Step = "consumer/stale"    // the manifest goes back: the sink knows a higher epoch
	ConsumerDelay    Step = "consumer/delay"    // the manifest is to come again later

	// 11. Janitor.
	FetcherOrphans Step = "fetcher/orphans" // items that no manifest names are purged
	FetcherAgain   Step = "fetcher/again"   // the event of a lost job is published again
	FetcherOffer   Step = "fetcher/offer"   // a manifest that the server forgot is offered again
	FetcherOffered Step = "fetcher/offered" // and the forgotten one removed
	FetcherRemove  Step = "fetcher/remove"  // a manifest of an ended run is removed
	FetcherGiveUp  Step = "fetcher/give-up" // a manifest that nobody can read is parked, and then removed
)
