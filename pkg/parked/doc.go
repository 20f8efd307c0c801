// Package parked keeps what a person must look at, on LEDGERLINE_PARKED: jobs
// that cannot go on and events that cannot be understood or used. The same thing
// parked again replaces itself.
package parked
