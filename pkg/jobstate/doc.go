// Package jobstate keeps what people ask of a job, in the bucket LEDGERLINE_JOBS
// under the key <jobId>: its phase, worker and deadline, why it waits, and what
// an operator asked for. Consumers also take from it which of a company's jobs
// is the oldest here. Nothing that must not be wrong rests on it: what was done
// is decided by the ledger, and a lost bucket is written again as jobs go on.
package jobstate
