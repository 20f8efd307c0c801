package logevent

// Events of the connection to NATS and of the embedded server. A warning about
// the connection needs no person: the program waits and goes on by itself.
const (
	NATSWaiting        = "nats waiting"          // warn: cause; no server has answered yet
	NATSConnected      = "nats connected"        // info: url, server, server_version
	NATSDisconnected   = "nats disconnected"     // warn: cause
	NATSReconnected    = "nats reconnected"      // info: url, server, server_version, reconnects
	NATSClosed         = "nats closed"           // info
	NATSAccessRefused  = "nats access refused"   // error: cause; the server does not accept who we are
	NATSSlowConsumer   = "nats slow consumer"    // warn: subject, dropped
	NATSErrorReported  = "nats error reported"   // warn: cause, subject
	NATSLameDuck       = "nats server leaving"   // info: url
	NATSServerTooOld   = "nats server too old"   // error: cause
	NATSServerStarted  = "nats server started"   // info: data_dir, addr, monitor, server_version
	NATSServerStopped  = "nats server stopped"   // info: data_dir
	NATSStoreUnusable  = "nats store unusable"   // error: it cannot be written; nothing is stored until it can be
	NATSStoreReopened  = "nats store reopened"   // info: data_dir; it can be written again
	NATSStoreUnseen    = "nats store unseen"     // warn: it could not be looked at for damage; at the next look
	NATSDamageTakenOut = "nats damage taken out" // error: stream, after_message, kept (the file as it was); the store goes on without a damaged part
	NATSServerWrote    = "nats server wrote"     // by the server's level: text
)
