package config

// PayloadReads is what a fetcher and a consumer read of the payload, for a gateway:
// before it starts a job it sees that the credential may read what they will need.
type PayloadReads struct {
	Order   string `name:"order" env:"LEDGERLINE_ORDER" default:"date" enum:"date,entry" help:"As the fetcher's: with date the payload's scope is checked before a job is started."`
	Payload string `name:"payload" env:"LEDGERLINE_PAYLOAD" default:"full" enum:"full,none" help:"As the consumer's: with full the payload's scope is checked before a job is started."`
}

// Any tells whether the payload is read at all.
func (r PayloadReads) Any() bool { return r.Order == OrderDate || r.Payload == PayloadFull }
