package config

import "time"

// Sink is where items go.
type Sink struct {
	Spec    string        `name:"sink" env:"LEDGERLINE_SINK" default:"log:" kind:"sink" help:"log:, file:PATH, http://…, https://…, exec:COMMAND or nats:SUBJECT."`
	Token   Secret        `name:"sink-token" env:"LEDGERLINE_SINK_TOKEN" placeholder:"TOKEN" help:"Bearer token sent to an HTTP sink."`
	Timeout time.Duration `name:"sink-timeout" env:"LEDGERLINE_SINK_TIMEOUT" default:"30s" help:"Time for one attempt."`
}

// Validate returns every fault of the group but those of the specification,
// which is the sink package's to judge; see CheckSpec.
func (c Sink) Validate() (faults Faults) {
	checkTimeout("LEDGERLINE_SINK_TIMEOUT", c.Timeout, &faults)
	return faults
}

// CheckSpec is a fault where check does not take the specification. The message
// of check is shown, so it must not quote a password. Programs with a sink call
// this in their Validate.
func (c Sink) CheckSpec(check func(spec string) error) (faults Faults) {
	if err := check(c.Spec); err != nil {
		faults.Add("LEDGERLINE_SINK", "cannot be used: "+err.Error(),
			"give log:, file:PATH, http://…, https://…, exec:COMMAND or nats:SUBJECT")
	}
	return faults
}
