// Package pull takes messages off a durable one at a time, so that the server
// serves waiting processes in turn and the load spreads.
package pull
