package governor

import (
	"encoding/json"
	"testing"
	"time"
)

// A hand, another clock or another version may have written the budget: whatever
// it holds, requests go on within bounds.
func FuzzBudget(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"rate":10,"next":"2026-01-01T00:00:00Z","granted":3,"since":"2026-01-01T00:00:00Z","grown":"2026-01-01T00:00:00Z"}`,
		`{"rate":-1,"next":"9999-12-31T23:59:59Z"}`, `{"rate":1e308,"believed":1e-308,"pausedUntil":"9999-12-31T23:59:59Z"}`, `{"granted":9223372036854775807}`,
		`{"since":"0001-01-01T00:00:00Z","grown":"9999-12-31T23:59:59Z","refusedAt":"9999-12-31T23:59:59Z"}`,
	} {
		f.Add([]byte(s), 5)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	check := func(t *testing.T, b budget) {
		t.Helper()
		if !(b.Rate >= minRate && b.Rate <= maxRate) {
			t.Errorf("rate %g", b.Rate)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		var b budget
		if json.Unmarshal(data, &b) != nil {
			return
		}
		s := b.take(now, n)
		check(t, b)
		if s.left < 1 || s.spacing <= 0 || s.first.After(now.Add(MaxPause+maxAhead)) {
			t.Errorf("%d slots from %s, %s apart", s.left, s.first, s.spacing)
		}
		b.refuse(now, refusal{sent: now, until: now.Add(time.Second)})
		check(t, b)
		if s := b.take(now.Add(time.Minute), n); s.first.After(now.Add(time.Minute + MaxPause + maxAhead)) {
			t.Errorf("a minute later the next slot is at %s", s.first)
		}
	})
}
