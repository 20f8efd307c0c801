package config

// Orders of a job's items.
const (
	OrderDate  = "date"
	OrderEntry = "entry"
)

// Fetcher is what only the fetcher asks for.
type Fetcher struct {
	Order     string `name:"order" env:"LEDGERLINE_ORDER" default:"date" enum:"date,entry" help:"date: transaction date, then entry id; entry: entry id alone."`
	StartJobs bool   `name:"start-jobs" env:"LEDGERLINE_START_JOBS" default:"false" help:"Start a pending job itself; for installations without a gateway."`
}
