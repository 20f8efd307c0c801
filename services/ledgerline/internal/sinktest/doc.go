// Package sinktest is `ledgerline sink-test`: it delivers to somebody's own sink
// what a worker would deliver on a bad day, and says of each bad habit found what
// it would cost in production.
//
// It promises: nothing is sent before the caller asked for it; every test item
// carries the company's id it was given, an entry id that begins with 7e577e57 and
// a note that says what it is; two runs never share an entry; a sink that passes
// has answered each situation as the outside contract asks.
//
// It sees a sink from outside, by its answers. Whether a booking was made that no
// answer tells of, only the books can say: Options.Count asks them. Whether the
// sink remembers across a restart shows only where it can be restarted:
// Options.Restart.
package sinktest
