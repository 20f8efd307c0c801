package natstest

import "github.com/nats-io/nats.go/jetstream"

// Delivered is a message of which only the number of its deliveries is known. All
// else that is asked of it panics.
type Delivered struct {
	jetstream.Msg
	Times uint64
}

// Metadata tells how often the message was delivered.
func (m Delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{NumDelivered: m.Times}, nil
}
