//go:build !external_nats

package main

import (
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/demo"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
)

// inProcess are the commands with a NATS server in the process. The tag
// external_nats leaves them out, for an image beside which a server of its own runs:
// it is a third smaller.
type inProcess struct {
	Demo demo.Command         `cmd:"" group:"Run" help:"Show everything at work, on a simulated Pleo and a local sink."`
	Up   installation.Command `cmd:"" group:"Run" help:"Run a complete installation in one process."`
}
