package config

import "strconv"

// What the sink gets of an item, and what a permanently failed item does.
const (
	PayloadFull       = "full"
	PayloadNone       = "none"
	OnFailureContinue = "continue"
	OnFailureStop     = "stop"
)

// MaxConcurrentJobs bounds what one process holds open; each job has a
// consumer, a position and a temporary file.
const MaxConcurrentJobs = 10_000

// Consumer is what only the consumer asks for.
type Consumer struct {
	Payload        string `name:"payload" env:"LEDGERLINE_PAYLOAD" default:"full" enum:"full,none" help:"full: the sink gets each item's export item; none: it gets null."`
	OnFailure      string `name:"on-failure" env:"LEDGERLINE_ON_FAILURE" default:"continue" enum:"continue,stop" help:"A permanently failed item: continue with the next, or stop the job there."`
	Report         bool   `name:"report" env:"LEDGERLINE_REPORT" default:"true" help:"Report results and completion to Pleo; false: the sink does that itself."`
	ConcurrentJobs int    `name:"concurrent-jobs" env:"LEDGERLINE_CONCURRENT_JOBS" default:"64" help:"Jobs worked on at a time by this process."`
}

// Validate returns every fault of the group.
func (c Consumer) Validate() (faults Faults) {
	if c.ConcurrentJobs < 1 || c.ConcurrentJobs > MaxConcurrentJobs {
		limit := strconv.Itoa(MaxConcurrentJobs)
		faults.Add("LEDGERLINE_CONCURRENT_JOBS", "is not between 1 and "+limit, "give 1 to "+limit)
	}
	return faults
}

// RequirePleo is a fault where these settings need Pleo and no way to sign in is
// set. A consumer that neither reports nor reads payloads needs none.
func (c Consumer) RequirePleo(pleo Pleo) Faults {
	switch {
	case c.Report:
		return pleo.RequireCredentials("results are reported to Pleo (LEDGERLINE_REPORT is true)")
	case c.Payload == PayloadFull:
		return pleo.RequireCredentials("export items are read from Pleo (LEDGERLINE_PAYLOAD is full)")
	default:
		return nil
	}
}
