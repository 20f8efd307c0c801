// Package cas publishes by compare-and-set: a message is stored only if its
// subject's last sequence is the one the writer read. A reply that was lost is
// resolved by reading the subject, never by guessing.
//
// It promises that after Put returned nil the message is stored, once, and that
// after ErrConflict it is not the subject's last message and will not be stored
// any more. It does not promise that a message whose reply was lost is absent
// then: it may stand below the one of whoever came next. A subject that is purged
// while a reply is lost has forgotten the message, and it is stored again.
//
// Whoever calls must make its data unique to itself (a worker's name and time, a
// drain's attempt), since data is how Put recognises its own message.
package cas
