// Package installation is a complete installation in one process: the embedded
// NATS server and one of each service on it. `ledgerline up` is this package and
// nothing else; `ledgerline demo` runs the same one.
package installation
