package operate

import (
	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/program"
)

// Health is `ledgerline health`: the probe of a container that runs `up`.
type Health struct {
	HTTP config.HTTP `embed:""`
}

// Run asks `ledgerline up` beside it whether it is ready.
func (c *Health) Run(s *Session) error {
	if err := program.AskReady(s.Context, c.HTTP.Listen); err != nil {
		return err
	}
	return s.print(map[string]bool{"ready": true}, func() error { return s.printf("ready\n") })
}
