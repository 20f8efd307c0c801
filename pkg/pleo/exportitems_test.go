package pleo

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The payload is kept byte for byte: amounts that no float holds (trap 30),
// white space, escapes, null members (trap 32), members that we do not know.
// Nothing of it is interpreted, tax least of all (trap 31).
func TestExportItemsAreKeptAsReceived(t *testing.T) {
	t.Parallel()
	items := []string{
		`{ "accountingEntryId" : "` + entryA + `",  "date":"2025-12-10T15:46:34.123+02:00",
		   "amount":{"inWalletCurrency":{"currency":"UNDEFINED","value":90071992547409931}},"note":"caf\u00e9 é \/ <&>","user":null}`,
		`{"date":null,"files":null,"vendor":null,"x":1.10,"x":1e400,"accountingEntryId":"` + strings.ToUpper(entryB) + `"}`,
	}
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		// Trap 24: job_id, in snake case.
		if r.URL.Path != "/v3/export-items" || r.URL.RawQuery != "job_id="+jobID+"&limit=100" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, 200, pageJSON("", items...))
	})
	var got []ExportItem
	stats, err := u.EachExportItem(t.Context(), strings.ToUpper(jobID), func(page []ExportItem) error {
		got = append(got, page...)
		return nil
	})
	if err != nil || len(got) != 2 || stats.Rows != 2 {
		t.Fatalf("%d items, %+v, %v", len(got), stats, err)
	}
	for i, item := range got {
		if string(item.Raw) != items[i] {
			t.Errorf("item %d came as\n%s\nand is kept as\n%s", i, items[i], item.Raw)
		}
	}
	if got[0].AccountingEntryID != entryA || got[0].Date == nil ||
		!got[0].Date.Equal(time.Date(2025, 12, 10, 13, 46, 34, 123e6, time.UTC)) || got[0].DateText != "2025-12-10T15:46:34.123+02:00" {
		t.Errorf("item %+v", got[0])
	}
	if got[1].AccountingEntryID != entryB || got[1].Date != nil || got[1].DateText != "" {
		t.Errorf("item %+v", got[1])
	}
	if strings.Contains(u.logs.String(), "caf") {
		t.Error("payload in the log")
	}
}

func TestExportItemFaults(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{
		"no id":         `{"date":"2025-12-10"}`,
		"id is no UUID": `{"accountingEntryId":"x"}`,
		"id is amount":  `{"accountingEntryId":89696}`,
		"text":          `"` + entryA + `"`,
		"null":          `null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, pageJSON("", row)) })
			_, err := u.EachExportItem(t.Context(), jobID, func([]ExportItem) error { return nil })
			if !errors.Is(err, ErrPageShape) || !strings.Contains(err.Error(), "page 1 of the export items of job "+jobID+": row 1") {
				t.Error(err)
			}
			if strings.Contains(err.Error(), "89696") {
				t.Errorf("payload in the error: %v", err)
			}
		})
	}
}

// Trap 34: one missing contra account refuses the whole call; trap 29: in either
// letter case. Trap 4: a payload of an ended job is refused.
func TestExportItemsRefused(t *testing.T) {
	t.Parallel()
	for errType, status := range map[string]int{"missing_contra_accounts": 400, "EXPORT_JOB_STATUS_UNPROCESSABLE": 422} {
		t.Run(errType, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, status, `{"type":"`+errType+`"}`) })
			_, err := u.EachExportItem(t.Context(), jobID, func([]ExportItem) error { return nil })
			refusal, ok := errors.AsType[*APIError](err)
			if !ok || refusal.Status != status || !refusal.HasType(strings.ToUpper(errType)) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	utc := func(y, mo, d, h, mi, s, ns int) time.Time {
		return time.Date(y, time.Month(mo), d, h, mi, s, ns, time.UTC)
	}
	for text, want := range map[string]time.Time{
		"2025-12-10T15:46:34Z":                utc(2025, 12, 10, 15, 46, 34, 0),
		"2025-12-10T15:46:34.5Z":              utc(2025, 12, 10, 15, 46, 34, 500e6),
		"2025-12-10T15:46:34.123456789+05:30": utc(2025, 12, 10, 10, 16, 34, 123456789),
		"2025-12-10T15:46:34-01:00":           utc(2025, 12, 10, 16, 46, 34, 0),
		"2025-12-10T15:46:34.000+0000":        utc(2025, 12, 10, 15, 46, 34, 0),
		"2025-12-10T15:46:34":                 utc(2025, 12, 10, 15, 46, 34, 0),
		"2025-12-10T15:46:34.25":              utc(2025, 12, 10, 15, 46, 34, 250e6),
		"2025-12-10T15:46":                    utc(2025, 12, 10, 15, 46, 0, 0),
		"2025-12-10T15:46+01:00":              utc(2025, 12, 10, 14, 46, 0, 0),
		"2025-12-10":                          utc(2025, 12, 10, 0, 0, 0, 0),
		"2024-02-29":                          utc(2024, 2, 29, 0, 0, 0, 0),
	} {
		if got, ok := parseDate(text); !ok || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %s %t, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "yesterday", "2025-02-29", "2025-13-01", "10/12/2025", "20251210", "2025-12-10T25:00:00Z", "1765381594",
		"2025-12-10T15:46:34Z ", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00Z", "2025-12-10T15:46:34." + strings.Repeat("0", 99) + "Z",
	} {
		if got, ok := parseDate(text); ok {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

// An item whose date cannot be read is still an item (trap 16: the date decides
// the order only).
func TestUnreadableDateKeepsTheItem(t *testing.T) {
	t.Parallel()
	for value, text := range map[string]string{
		`"soon"`: "soon", `null`: "", `1765381594`: "1765381594", `{"year":2025}`: `{"year":2025}`, `""`: "", `"\u0032025"`: "2025",
	} {
		item, err := exportItemRow([]byte(`{"accountingEntryId":"` + entryA + `","date":` + value + `}`))
		if err != nil || item.Date != nil || item.DateText != text {
			t.Errorf("date %s: %+v, %v", value, item, err)
		}
	}
}
