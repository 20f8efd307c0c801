package logevent

// Events around streams, leases and stored state.
const (
	TopologyWaited   = "topology waited"    // warn: the streams cannot be looked up yet
	StreamCreated    = "stream created"     // info: stream, replicas
	LedgerKeptLonger = "ledger kept longer" // warn: the existing ledger forgets later than asked
	LeaseLost        = "lease lost"         // warn: no heartbeat was confirmed in time
	HeartbeatMissed  = "heartbeat missed"   // warn: one heartbeat was not confirmed
	StoreLost        = "store lost"         // error: lost; streams or durables are gone or were made anew: docs/reliability.md
	StoreNotRenewed  = "store not renewed"  // error: what is gone could not be made anew; it is tried again
	StateNotWritten  = "state not written"  // warn: the jobs bucket could not be updated
)
