package consumer

import "testing"

// Contract section 6: 0.5 s growing to 30 s with jitter, whatever the dice say.
func TestWaitsBetweenSendsStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	const series, waitsOfEach = 500, 20
	for range series {
		waits := newWaits()
		for n := range waitsOfEach {
			wait := waits.NextBackOff()
			if wait < retryMin || wait > retryMax {
				t.Fatalf("wait %d is %s, outside of %s to %s", n+1, wait, retryMin, retryMax)
			}
			if n == 0 && wait > 2*retryMin {
				t.Fatalf("the first wait is %s already", wait)
			}
			if n == waitsOfEach-1 && wait < retryMax/2 {
				t.Fatalf("wait %d is %s: it does not grow", n+1, wait)
			}
		}
	}
}
