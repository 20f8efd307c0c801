// Command fetcher turns job-started events into sealed jobs.
package main

import (
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/fetcher"
)

func main() {
	p := program.FromOS("fetcher", "Reads the export jobs that were started and seals their items for the consumers.")
	os.Exit(program.Service(p, &fetcher.Settings{}, fetcher.Serve))
}
