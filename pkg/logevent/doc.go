// Package logevent names every log event once. A log line's message is one of
// these constants (noun + past verb) and never anything else; values go into
// snake_case fields. Tests that wait for an event read the same list.
package logevent
