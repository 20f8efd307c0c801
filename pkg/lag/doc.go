// Package lag tells what waits in the whole installation, in one snapshot.
//
// # What it promises
//
// The figures are the server's own: a claimed job's lag is what its consumer
// job-<jobId> has pending and ack-pending, and a job is here as long as its manifest
// is. Where a job has no consumer (before the claim, or after the server lost its
// memory) its lag is the manifest's count, less what the ledger shows as settled. A
// job whose run has ended counts no more, even while its manifest is still being
// removed.
//
// One refresh costs one listing of the pipe's consumers, one look at the manifests,
// and what changed since the refresh before: a thousand jobs take some tens of
// milliseconds. A snapshot is shared by whoever asks within MaxAge, and one refresh
// runs at a time, however many ask.
//
// # What it leaves to others
//
// What a job did and how it ended: the ledger (pkg/ledger) and the bucket
// (pkg/jobstate) tell.
package lag
