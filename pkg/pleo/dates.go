package pleo

import (
	"encoding/json"
	"time"
)

// maxDateBytes bounds what is looked at as a date: the longest form has 35
// bytes with nanoseconds and offset.
const maxDateBytes = 64

// dateLayouts are the forms taken for an instant. Time parsing takes a
// fraction of a second wherever seconds stand. Forms without seconds are what
// the JVM's own toString writes when the seconds are zero, "+0000" is what its
// older JSON writers produce. A form without a zone is read as UTC.
var dateLayouts = []string{
	time.RFC3339,
	"2006-01-02",
	"2006-01-02T15:04:05",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04",
}

// parseDate reads RFC 3339 and the plain ISO 8601 forms next to it; the result
// is in UTC. false for anything else, and for years that RFC 3339 cannot write
// again once the offset is taken off.
func parseDate(s string) (time.Time, bool) {
	if len(s) < len("2006-01-02") || len(s) > maxDateBytes {
		return time.Time{}, false
	}
	for _, layout := range dateLayouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		t = t.UTC()
		if t.Year() < 1 || t.Year() > 9999 || t.IsZero() {
			return time.Time{}, false
		}
		return t, true
	}
	return time.Time{}, false
}

// wireDate takes whatever stands where a date should: an unreadable date must
// not cost the row.
type wireDate struct {
	at  time.Time // zero when absent or unreadable
	raw string    // the string as received; for a value that is no string its JSON text; "" for null
}

// UnmarshalJSON never returns an error for valid JSON, by design.
func (d *wireDate) UnmarshalJSON(b []byte) error {
	*d = wireDate{}
	if string(b) == "null" {
		return nil
	}
	if len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &d.raw) != nil {
		d.raw = string(b)
		return nil //nolint:nilerr // an unreadable date is a date that is not there
	}
	d.at, _ = parseDate(d.raw)
	return nil
}
