package program

import (
	"fmt"
	"os"

	"github.com/nats-io/nuid"
)

// ProcessName tells a person which process of a service it is, and is unique also
// where host and process number are not. It has less than 128 bytes.
func ProcessName(service string) string {
	const hostBytes, unique = 64, 8
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	id := nuid.Next()
	return fmt.Sprintf("%s-%.*s-%d-%s", service, hostBytes, host, os.Getpid(), id[len(id)-unique:])
}
