// Package operate is the operator's commands. They read streams, bucket and
// ledger; what they change goes through the same streams as everything else.
package operate
