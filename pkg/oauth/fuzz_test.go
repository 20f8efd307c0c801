package oauth

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// Whatever stands in the bucket, a decision about it is made without a panic, and
// a token that has expired is never used.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{
		`{"refresh":"r","seeds":["a"]}`, `{"access":"a","refresh":"r","issued":"2026-01-01T00:00:00Z","expires":"2026-01-01T00:10:00Z","seeds":null}`,
		`{"access":"a","refresh":"r","expires":"9999-12-31T23:59:59Z","tries":-1}`, `{"expires":"0001-01-01T00:00:00Z"}`, `[]`, `null`,
	} {
		f.Add([]byte(s), "seed")
	}
	now := time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte, seed string) {
		var e entry
		if json.Unmarshal(data, &e) != nil {
			return
		}
		if e.live(now, 0) && !e.Expires.After(now) {
			t.Errorf("a token that ended at %s is used at %s", e.Expires, now)
		}
		if e.margin() > refreshMargin {
			t.Errorf("renewed %s before its end", e.margin())
		}
		after, _ := e.seeded(seed)
		if !slices.Contains(after.Seeds, hashOf(seed)) || len(after.Seeds) > max(maxSeeds, len(e.Seeds)) {
			t.Errorf("%d seeds after %d, and the one of the settings must be among them", len(after.Seeds), len(e.Seeds))
		}
	})
}
