package natsconn

import (
	"errors"
	"testing"
)

func TestOnlyServersThatAreNewEnoughAreAccepted(t *testing.T) {
	t.Parallel()
	for found, accepted := range map[string]bool{
		"2.14.0": true, "2.14.0-RC.1": true, "2.15.2": true, "v2.14.3": true, "3.0.0": true, "2.14": true,
		"2.13.9": false, "2.10.0": false, "1.99.9": false, "2.1.4": false,
		"": false, "latest": false, "2": false, "2.14x": true, "99999999999999999999.1": false,
	} {
		err := checkVersion(found)
		if accepted != (err == nil) {
			t.Errorf("version %q: accepted is %v: %v", found, err == nil, err)
		}
		if err != nil && !errors.Is(err, ErrServerTooOld) {
			t.Errorf("version %q: %v is not ErrServerTooOld", found, err)
		}
	}
}

func TestReconnectWaitsGrowAndStayBounded(t *testing.T) {
	t.Parallel()
	for round := range 70 {
		wait := reconnectWait(round)
		if wait < minReconnectWait/2 || wait > maxReconnectWait {
			t.Errorf("round %d: waits %s", round, wait)
		}
	}
	if wait := reconnectWait(30); wait < maxReconnectWait/2 {
		t.Errorf("a late round waits only %s", wait)
	}
}
