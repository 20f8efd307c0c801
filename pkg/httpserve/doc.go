// Package httpserve is the small HTTP server of every program.
//
// It promises /healthz, which says that the process answers; /readyz, which says
// what the program's own check says, with the reason where it is not ready; a
// bound on everything a client can make it hold (connections, headers, bodies,
// time); and an end that lets requests in hand finish.
//
// It leaves every other path to the handler it is given, and what "ready" means
// to the program.
package httpserve
