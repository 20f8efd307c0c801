// Package steer is how an operator's wish reaches a job: pause, resume, cancel,
// retry. A wish is written to the job's state in LEDGERLINE_JOBS by compare-and-set
// and so survives every crash; the workers follow that bucket, so the one that has
// the job carries it out at once, and a job that nobody has is carried out by the
// worker that is asked for it. Where no worker runs, the wish waits for one.
//
// It promises that no wish overwrites another writer, and that a job that cannot
// be steered so is refused with the way out. What a wish does to the items is the
// consumer's to promise.
package steer
