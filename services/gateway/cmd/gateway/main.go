// Command gateway detects export jobs and starts them.
package main

import (
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/gateway"
)

func main() {
	p := program.FromOS("gateway", "Detects Pleo export jobs by webhook and poll, and starts them one at a time per company.")
	os.Exit(program.Service(p, &gateway.Settings{}, gateway.Serve))
}
