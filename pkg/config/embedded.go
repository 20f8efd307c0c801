package config

import "fmt"

// Embedded is the NATS server inside `ledgerline up`, in place of NATS. User and
// password protect the address it listens on; without one they are not used, so
// that an environment shared with other programs does no harm.
type Embedded struct {
	DataDir  string `name:"data-dir" env:"LEDGERLINE_DATA_DIR" default:"./ledgerline-data" help:"Store of the embedded NATS server."`
	Listen   string `name:"nats-listen" env:"LEDGERLINE_NATS_LISTEN" placeholder:"HOST:PORT" help:"Also open the embedded server on this address."`
	Monitor  string `name:"nats-monitor" env:"LEDGERLINE_NATS_MONITOR" placeholder:"HOST:PORT" help:"Address of the embedded server's monitoring; it asks for no password."`
	User     Secret `name:"nats-user" env:"NATS_USER" placeholder:"USER" help:"User asked for on the opened address."`
	Password Secret `name:"nats-password" env:"NATS_PASSWORD" placeholder:"PASSWORD" help:"Password asked for on the opened address."`
}

// Validate returns every fault of the group.
func (c Embedded) Validate() (faults Faults) {
	if c.DataDir == "" {
		faults.Add("LEDGERLINE_DATA_DIR", "is empty", "give the path of a directory")
	}
	if c.Monitor != "" {
		checkAddress("LEDGERLINE_NATS_MONITOR", c.Monitor, &faults)
	}
	if c.Listen == "" {
		return faults
	}
	checkAddress("LEDGERLINE_NATS_LISTEN", c.Listen, &faults)
	switch {
	case c.User.IsSet() && !c.Password.IsSet():
		faults.Add("NATS_PASSWORD", "is missing: NATS_USER is set", "set both, or neither")
	case !c.User.IsSet() && c.Password.IsSet():
		faults.Add("NATS_USER", "is missing: NATS_PASSWORD is set", "set both, or neither")
	}
	return faults
}

// Login is what the opened address asks for; empty where none is opened, or
// where whoever reaches it is let in. Errors: ErrSecretFile.
func (c Embedded) Login() (user, password string, err error) {
	if c.Listen == "" {
		return "", "", nil
	}
	if user, err = c.User.Value(); err != nil {
		return "", "", fmt.Errorf("read NATS_USER: %w", err)
	}
	if password, err = c.Password.Value(); err != nil {
		return "", "", fmt.Errorf("read NATS_PASSWORD: %w", err)
	}
	return user, password, nil
}
