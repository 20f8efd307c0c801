// Package embedded runs the NATS server that `ledgerline up` and
// `ledgerline demo` carry inside: one node, file storage, every write synced
// before it is acknowledged.
//
// It promises: one process per data directory (a lock file inside holds the
// others off); no listening port unless one is asked for; a refusal in words
// where the directory cannot be created, read, written or locked, where
// JetStream does not come up, where a stream that lies on disk was not recovered,
// and where a stream ends before the message it had reached at the last start or
// orderly end.
//
// It does not promise to notice every damaged byte. The server cuts a stream off
// at a damaged message, and of what was stored between the last start and a crash
// nobody knows how far it had come; where a whole file of older messages is gone
// it warns in its log and goes on. Streams and consumers are the business of the
// package that creates them.
//
// With Options.User and Options.Password set, the opened listener asks for them;
// without, whoever reaches the address is let in, so an address other than the
// loopback's wants both. The monitoring port knows no password.
package embedded
