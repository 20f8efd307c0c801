package config

import (
	"net"
	"strconv"
	"time"
)

// Service is what every long-running program has. A program's own struct adds
// the groups it needs besides:
//
//	type Config struct {
//		Service config.Service `embed:""`
//		Pleo    config.Pleo    `embed:""`
//		Fetcher config.Fetcher `embed:""`
//	}
type Service struct {
	NATS     NATS     `embed:""`
	Streams  Streams  `embed:""`
	HTTP     HTTP     `embed:""`
	Log      Log      `embed:""`
	Shutdown Shutdown `embed:""`
}

// Streams is what a program must know to create the streams, or to check those
// that are there.
type Streams struct {
	Replicas     int           `name:"replicas" env:"LEDGERLINE_REPLICAS" default:"1" help:"Replicas of streams and buckets; 3 on a cluster."`
	Lease        time.Duration `name:"lease" env:"LEDGERLINE_LEASE" default:"10s" help:"How long the job of a dead fetcher or consumer stays unclaimed; at least 2s."`
	LedgerMaxAge time.Duration `name:"ledger-max-age" env:"LEDGERLINE_LEDGER_MAX_AGE" default:"0" help:"How long bookings are remembered; 0 is for ever, otherwise at least 24h."`
}

const (
	// maxReplicas is what JetStream allows.
	maxReplicas = 5

	// MinLease leaves room for four heartbeats of half a second each and for an
	// answer of the server that takes as long.
	MinLease = 2 * time.Second

	// MinLedgerMaxAge is far above the time that any job runs: a shorter memory
	// would forget the position of a job that is being worked on.
	MinLedgerMaxAge = 24 * time.Hour
)

// Validate returns every fault of the group.
func (c Streams) Validate() (faults Faults) {
	if c.Replicas < 1 || c.Replicas > maxReplicas || c.Replicas%2 == 0 {
		faults.Add("LEDGERLINE_REPLICAS", "is no number of replicas that can elect a leader", "give 1, 3 or 5")
	}
	if c.Lease < MinLease {
		faults.Add("LEDGERLINE_LEASE", "is shorter than "+MinLease.String(), "give 2s or more")
	}
	if c.LedgerMaxAge != 0 && c.LedgerMaxAge < MinLedgerMaxAge {
		faults.Add("LEDGERLINE_LEDGER_MAX_AGE", "is shorter than 24h: the position of a running job would be forgotten",
			"give 24h or more, or 0 to remember bookings for ever")
	}
	return faults
}

// HTTP is the program's own small server.
type HTTP struct {
	Listen string `name:"listen" env:"LEDGERLINE_LISTEN" default:":8080" help:"Address of /healthz, /readyz and /metrics; port 0 picks a free one."`
}

// Validate returns every fault of the group.
func (c HTTP) Validate() (faults Faults) {
	checkAddress("LEDGERLINE_LISTEN", c.Listen, &faults)
	return faults
}

func checkAddress(setting, address string, faults *Faults) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		faults.Add(setting, "is not host:port", "give an address such as 127.0.0.1:8080, or :8080 for every interface")
	}
}

// Shutdown is how a program ends.
type Shutdown struct {
	Timeout time.Duration `name:"shutdown-timeout" env:"LEDGERLINE_SHUTDOWN_TIMEOUT" default:"20s" help:"How long the item in hand may take after SIGTERM or SIGINT; then the program ends by force."`
}

// Validate returns every fault of the group.
func (c Shutdown) Validate() (faults Faults) {
	checkTimeout("LEDGERLINE_SHUTDOWN_TIMEOUT", c.Timeout, &faults)
	return faults
}

func checkTimeout(setting string, timeout time.Duration, faults *Faults) {
	if timeout <= 0 {
		faults.Add(setting, "is not above 0", "give a duration such as 30s")
	}
}
