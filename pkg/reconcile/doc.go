// Package reconcile puts side by side what Pleo, the stream and the ledger say of
// one job, and names each difference with what mends it.
//
// It decides and reads nothing itself: a consumer reads the three, since it has the
// credential for Pleo, and carries the reports out; whoever runs the command does
// the rest. A job that is being worked on differs for moments; such a difference is
// its worker's to end and no finding.
package reconcile
