package installation

import (
	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
)

// Command is `ledgerline up`.
type Command struct {
	Embedded config.Embedded `embed:""`
	Streams  config.Streams  `embed:""`
	HTTP     config.HTTP     `embed:""`
	Log      config.Log      `embed:""`
	Shutdown config.Shutdown `embed:""`
	Pleo     config.Pleo     `embed:""`
	Fetcher  config.Fetcher  `embed:""`
	Sink     config.Sink     `embed:""`
	Consumer config.Consumer `embed:""`
	Gateway  config.Gateway  `embed:""`
	Status   config.Status   `embed:""`
}

// Validate returns the faults that no group sees alone.
func (c Command) Validate() config.Faults {
	faults := append(c.Pleo.RequireCredentials("jobs are read from Pleo"), c.Sink.CheckSpec(sink.Validate)...)
	if c.Streams.Replicas > 1 {
		faults.Add("LEDGERLINE_REPLICAS", "is more than 1, and the embedded server is alone", "leave it out, or run the services on a cluster")
	}
	return faults
}

// Run is the command.
func (c *Command) Run(s *operate.Session) error {
	return Run(s.Context, Settings{
		Embedded: c.Embedded, Streams: c.Streams, HTTP: c.HTTP, Pleo: c.Pleo,
		Fetcher: c.Fetcher, Sink: c.Sink, Consumer: c.Consumer, Gateway: c.Gateway,
		Status: c.Status, Name: "ledgerline up", Version: s.Runtime.Version,
	}, s.Runtime.Log, Started{})
}
