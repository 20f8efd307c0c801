// Package oauth signs in at Pleo with an OAuth pair that rotates: each refresh
// gives a new access token and a new refresh token, and voids the pair before.
// Two replicas that refresh at once can lock the installation out (trap 37).
//
// # A refresh, in numbered steps
//
//  1. Is it needed? The pair in the bucket LEDGERLINE_TOKENS is read: another
//     replica may have renewed it. Then that one is used.
//  2. Lock. A compare-and-set puts this replica's name and a time into the pair's
//     entry. Whoever finds a name there waits for the new pair, or for the time.
//  3. Ask Pleo, with the entry's refresh token.
//  4. Store. A compare-and-set replaces the pair and takes the name out. Only then
//     is the new access token used.
//
// # What it promises
//
//   - One refresh at a time over all replicas that share a NATS, and of those that
//     want one at the same moment one asks Pleo.
//   - The new pair is stored before it is used. While NATS cannot take it, it is
//     kept in memory and stored at the next try; meanwhile nothing is sent.
//   - A refresh that was begun is brought to its end although the call that wanted
//     it has ended; Close waits for it.
//   - Trouble that may pass is tried again with growing waits, which all replicas
//     share: at most one try at a time for the whole installation. That is also
//     how a lost reply is treated: the old refresh token is sent again, and Pleo
//     either takes it or refuses it for good.
//   - A refresh token that Pleo refuses is not sent again by anybody. One event of
//     level error says so and what to do, and so does every error since; the access
//     token is used as long as it lives.
//   - A refresh token in the settings that never was there before replaces the
//     pair. One that was there before does not: it has long been rotated away, and
//     a replica that still has the old settings must not bring it back.
//   - Tokens and the client's secret appear in no log line and in no error. The
//     token endpoint's answers are bounded, its redirects are not followed.
//
// # What it leaves to others
//
//   - Secrecy at rest: the bucket holds the pair as it is. NATS permissions on
//     $KV.LEDGERLINE_TOKENS.> and on its stream guard it, and the disk's own
//     encryption.
//   - A pair that Pleo has given out and that a crash took before it was stored:
//     the protocol knows no way to have it again. If Pleo then refuses the old one,
//     a person must authorise again.
//   - Clocks: those of the replicas agree to within half a minute.
package oauth
