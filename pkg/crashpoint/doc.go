// Package crashpoint names the moments at which a process may die, and dies there
// when a test asks for it.
//
// Every outside effect of the gateway, the fetcher and the consumer stands between
// Before and After of a Step. In a usual build both are empty and cost nothing. In
// one with the tag crashpoints a process whose environment names a point, as in
//
//	CRASHPOINT="before consumer/send" CRASHPOINT_AT=3
//
// kills itself when it gets there for the third time, as kill -9 does: nothing is
// flushed, handed back or closed.
//
// services/ledgerline/internal/crash kills at each of them in turn, and fails where
// an effect in the services' source has no point, or a point is never reached.
package crashpoint
