// Package ledger is the record of what was done: who works on a job, which item
// was sent, how each ended. Everything goes through one compare-and-set on the
// job's ledger subject, which is record, position and fence in one synced write.
//
// It promises: after Claim returned a Tenure, every write of an earlier tenure
// of that job fails with ErrFenced; the jobs of one company never have two
// tenures at a time that can both write; a record that Append returned nil for
// is stored once; the epoch rises at every claim; each record carries the hash
// of the one before it, so that a changed or missing record shows.
//
// It leaves to its caller: when to claim (the manifest in hand is the right to), to
// look the job's last record up when the manifest comes, since the claim is compared
// with that, what to send, and to stop when ErrFenced comes.
package ledger
