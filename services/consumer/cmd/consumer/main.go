// Command consumer works sealed jobs through the sink, in order.
package main

import (
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/consumer"
)

func main() {
	p := program.FromOS("consumer", "Gives the items of sealed jobs to the sink, strictly in order, and reports the results.")
	os.Exit(program.Service(p, &consumer.Settings{}, consumer.Serve))
}
