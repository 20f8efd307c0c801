// Package jobview reads what people ask of jobs: one row a job, with the fields
// of the outside contract, section 8, from the jobs bucket, the ledger and the
// jobs' consumers. The commands, the status page and the tests read jobs here and
// nowhere else.
//
// It promises a row that was true at some moment of the call, no snapshot over all
// jobs. It changes nothing.
package jobview
