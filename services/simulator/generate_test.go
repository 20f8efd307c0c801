package simulator_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func config(seed uint64, jobs, items int) simulator.Config {
	return simulator.Config{Seed: seed, Jobs: jobs, ItemsPerJob: items, VendorBasedBookkeeping: seed%2 == 0}
}

func TestSameSeedSameBytes(t *testing.T) {
	t.Parallel()
	paths := func(u *upstream) []string {
		job := u.Snapshot().Jobs[1].ID.String()
		return []string{"/v3/export-jobs", "/v3/export-jobs/" + job + "/items?limit=17", "/v3/export-items?job_id=" + job + "&limit=40"}
	}
	one, two, other := start(t, config(7, 3, 60)), start(t, config(7, 3, 60)), start(t, config(8, 3, 60))
	for i, path := range paths(one) {
		a, b := one.get(path).want(t, http.StatusOK, nil), two.get(path).want(t, http.StatusOK, nil)
		if string(a.body) != string(b.body) {
			t.Errorf("%s differs between two simulators of one seed", path)
		}
		if c := other.get(paths(other)[i]); string(a.body) == string(c.body) {
			t.Errorf("%s is the same with another seed", path)
		}
	}
}

func TestAnEntryLooksTheSameInALaterJob(t *testing.T) {
	t.Parallel()
	u := start(t, config(3, 1, 20))
	first := u.Snapshot().Jobs[0]
	before := u.payloads(first.ID, "100")
	if err := u.Cancel(first.ID); err != nil {
		t.Fatal(err)
	}
	entry := first.Items[4].AccountingEntryID
	var created struct{ Data wireJob }
	u.do(http.MethodPost, "/v3/export-jobs", map[string]any{
		"companyId": strings.ToUpper(first.CompanyID.String()), "accountingEntryIds": []uuid.UUID{entry, entry},
		"options": map[string]bool{"vendorBasedBookkeeping": true},
	}).want(t, http.StatusCreated, &created)
	again := u.payloads(uuid.MustParse(created.Data.ID), "100")
	if len(again) != 1 {
		t.Fatalf("%d items in the second job, want 1", len(again))
	}
	i := slices.IndexFunc(before, func(p wirePayload) bool { return p.AccountingEntryID == entry.String() })
	if i < 0 || before[i].Date != again[0].Date || string(before[i].Amount) != string(again[0].Amount) {
		t.Errorf("the entry changed: %+v, then %+v", before, again)
	}
}

// Items look like the real ones: about 2 KB, with shared instants, several ways to
// write one instant, and every nullable part null somewhere (trap 32).
func TestItemsAreRealistic(t *testing.T) {
	t.Parallel()
	u := start(t, config(2, 1, 400))
	job := u.Snapshot().Jobs[0].ID
	var raw []json.RawMessage
	rows, _ := drain[json.RawMessage](u, "/v3/export-items", map[string][]string{"job_id": {job.String()}, "limit": {"100"}})
	raw = append(raw, rows...)
	bytes, nulls := 0, map[string]int{}
	texts, instants := map[string]int{}, map[int64]map[string]bool{}
	offsets, fractions := 0, 0
	for _, text := range raw {
		bytes += len(text)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			if string(value) == "null" {
				nulls[name]++
			}
		}
		for _, name := range []string{`"account":null`, `"tax":null`, `"tags":null`} {
			if strings.Contains(string(text), name) {
				nulls[name]++
			}
		}
		var date string
		if err := json.Unmarshal(fields["date"], &date); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339Nano, date)
		if err != nil {
			t.Fatalf("date %q: %v", date, err)
		}
		texts[date]++
		if instants[at.UnixNano()] == nil {
			instants[at.UnixNano()] = map[string]bool{}
		}
		instants[at.UnixNano()][date] = true
		if !strings.HasSuffix(date, "Z") {
			offsets++
		}
		if strings.Contains(date, ".") {
			fractions++
		}
	}
	if mean := bytes / len(raw); mean < 1500 || mean > 2800 {
		t.Errorf("an item has %d bytes in the mean, want about 2 KB", mean)
	}
	for _, name := range []string{
		"user", "supplier", "vendor", "bookkeeping", "files", "contraAccount", "note", "servicePeriod", "team", "subType",
		`"account":null`, `"tax":null`, `"tags":null`,
	} {
		if nulls[name] == 0 || nulls[name] == len(raw) {
			t.Errorf("%s is null in %d of %d items", name, nulls[name], len(raw))
		}
	}
	if offsets == 0 || fractions == 0 {
		t.Errorf("%d dates with offsets, %d with fractions", offsets, fractions)
	}
	spellings, shared := 0, 0
	for _, forms := range instants {
		spellings = max(spellings, len(forms))
	}
	for _, count := range texts {
		shared = max(shared, count)
	}
	if spellings < 2 || shared < 2 {
		t.Errorf("an instant is written in at most %d ways, a date shared by at most %d items", spellings, shared)
	}
}

// The default order tells nothing: neither by date nor by entry id (trap 15).
func TestDefaultOrderIsNotAnOrderToRelyOn(t *testing.T) {
	t.Parallel()
	u := start(t, config(5, 1, 100))
	payloads := u.payloads(u.Snapshot().Jobs[0].ID, "100")
	byID := func(a, b wirePayload) int { return strings.Compare(a.AccountingEntryID, b.AccountingEntryID) }
	byDate := func(a, b wirePayload) int { return strings.Compare(a.Date, b.Date) }
	for name, order := range map[string]func(a, b wirePayload) int{"id": byID, "date": byDate} {
		backwards := func(a, b wirePayload) int { return order(b, a) }
		if slices.IsSortedFunc(payloads, order) || slices.IsSortedFunc(payloads, backwards) {
			t.Errorf("the default order is by %s", name)
		}
	}
}

func TestFileLinksLiveADay(t *testing.T) {
	t.Parallel()
	u := start(t, config(9, 1, 50))
	var link string
	for _, p := range u.payloads(u.Snapshot().Jobs[0].ID, "100") {
		if len(p.Files) > 0 {
			link = strings.TrimPrefix(p.Files[0].URL, "https://files.simulator.invalid")
		}
	}
	public := u.as("")
	if r := public.get(link).want(t, http.StatusOK, nil); len(r.body) == 0 {
		t.Error("the file is empty")
	}
	public.get(link+"0").wantRefusal(t, http.StatusNotFound, "NOT_FOUND")
	u.clock.Advance(24*time.Hour + time.Second)
	public.get(link).want(t, http.StatusGone, nil)
}
