package natsconn

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/nats-io/nats.go"
)

// MinServerVersion is the oldest server that is accepted: older ones do not
// reset a consumer, and a job's order after a takeover rests on that.
const MinServerVersion = "2.14"

const (
	minMajor = 2
	minMinor = 14
)

var versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:\D|$)`)

// checkVersion returns ErrServerTooOld, with the found and the needed version,
// or nil.
func checkVersion(found string) error {
	parts := versionPattern.FindStringSubmatch(found)
	if parts == nil {
		return fmt.Errorf("%w: it calls its version %q; %s or newer is needed", ErrServerTooOld, found, MinServerVersion)
	}
	major, _ := strconv.Atoi(parts[1]) // six digits at most, by the pattern
	minor, _ := strconv.Atoi(parts[2])
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("%w: version %s was found; %s or newer is needed", ErrServerTooOld, found, MinServerVersion)
	}
	return nil
}

// Ready is nil while nc is connected to a server that is new enough, else
// ErrNotConnected or ErrServerTooOld. A nil nc, one that Connect has not returned
// yet, is not connected.
func Ready(nc *nats.Conn) error {
	if nc == nil {
		return ErrNotConnected
	}
	if status := nc.Status(); status != nats.CONNECTED {
		return fmt.Errorf("%w: %s", ErrNotConnected, status)
	}
	return checkVersion(nc.ConnectedServerVersion())
}
