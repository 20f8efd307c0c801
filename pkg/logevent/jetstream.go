package logevent

// Events around streams, leases and stored state.
const (
	TopologyWaited   = "topology waited"    // warn: the streams cannot be looked up yet
	StreamCreated    = "stream created"     // info: stream, replicas
	LedgerKeptLonger = "ledger kept longer" // warn: the existing ledger forgets later than asked
	LeaseLost        = "lease lost"         // warn: no heartbeat was confirmed in time
	HeartbeatMissed  = "heartbeat missed"   // warn: one heartbeat was not confirmed
	StateNotWritten  = "state not written"  // warn: the jobs bucket could not be updated
)
