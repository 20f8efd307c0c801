// Package consumer works sealed jobs: it claims a manifest, gives the job's items
// to the sink one at a time in their order, records each result in the ledger
// before the next item is sent, reports to Pleo, closes the job and acks.
//
// It promises: an item reaches the sink only while the ledger says that this
// worker has the job; an entry whose booking was recorded is not sent again;
// after a takeover at most the one item that was sent and not recorded is sent
// again, with a higher attempt; the jobs of a company do not overlap; a job is
// finished when its last position was settled, never because a queue looks empty.
//
// It leaves to the sink: to refuse a worker of an older epoch, and to recognise
// the one item in doubt by its idempotency key.
package consumer
