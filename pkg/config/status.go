package config

import "strconv"

// MinStatusToken is the shortest token of the status page, in bytes: one that
// cannot be found by trying.
const MinStatusToken = 16

// Status is what the status page asks for, wherever it is served.
type Status struct {
	Token Secret `name:"status-token" env:"LEDGERLINE_STATUS_TOKEN" placeholder:"TOKEN" help:"What the status page asks for before it steers jobs; without one it is read-only."`
}

// StatusPage is whether a consumer serves the page; ledgerline up always does.
type StatusPage struct {
	Shown bool `name:"status-page" env:"LEDGERLINE_STATUS_PAGE" default:"false" help:"Serve the status page at /."`
}

// Validate returns every fault of the group.
func (c Status) Validate() (faults Faults) {
	// A file that cannot be read was told of already.
	if token, err := c.Token.Value(); err == nil && c.Token.IsSet() && len(token) < MinStatusToken {
		limit := strconv.Itoa(MinStatusToken)
		faults.Add("LEDGERLINE_STATUS_TOKEN", "is shorter than "+limit+" bytes", "make one up: head -c 24 /dev/urandom | base64")
	}
	return faults
}
