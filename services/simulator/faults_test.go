package simulator_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// faulty is a simulator of one job of 30 items with faults.
func faulty(t *testing.T, faults string) (*upstream, simulator.JobSnapshot) {
	t.Helper()
	cfg := config(11, 1, 30)
	cfg.Faults = plan(t, faults)
	cfg.OversizedBytes = 1 << 20
	u := start(t, cfg)
	u.spoiled = true
	return u, u.Snapshot().Jobs[0]
}

func itemsPath(job simulator.JobSnapshot) string {
	return "/v3/export-jobs/" + job.ID.String() + "/items?limit=10"
}

func payloadPath(job simulator.JobSnapshot) string {
	return "/v3/export-items?limit=10&job_id=" + job.ID.String()
}

func (u *upstream) shown(fault simulator.Fault) int64 { return u.Counters().Faults[fault] }

func TestFaultsWithAStatus(t *testing.T) {
	t.Parallel()
	for faults, check := range map[string]func(*testing.T, reply){
		"unauthorized:always":       func(t *testing.T, r reply) { r.wantRefusal(t, 401, "UNAUTHORIZED") },
		"rate-limit-seconds:always": func(t *testing.T, r reply) { wantRetryAfter(t, r, false) },
		"rate-limit-date:always":    func(t *testing.T, r reply) { wantRetryAfter(t, r, true) },
		"server-errors:always": func(t *testing.T, r reply) {
			if r.status != 500 && r.status != 502 && r.status != 503 {
				t.Errorf("status %d", r.status)
			}
		},
	} {
		t.Run(faults, func(t *testing.T) {
			t.Parallel()
			u, job := faulty(t, faults)
			for range 10 {
				check(t, u.get(itemsPath(job)))
			}
			name, _, _ := strings.Cut(faults, ":")
			if u.shown(simulator.Fault(name)) != 10 {
				t.Errorf("shown %d times", u.shown(simulator.Fault(name)))
			}
		})
	}
}

func wantRetryAfter(t *testing.T, r reply, date bool) {
	t.Helper()
	r.wantRefusal(t, http.StatusTooManyRequests, "TOO_MANY_REQUESTS")
	value := r.header.Get("Retry-After")
	at, err := http.ParseTime(value)
	if date != (err == nil) || !date && value != "1" || date && at.Sub(epoch) != 2*time.Second {
		t.Errorf("Retry-After %q", value)
	}
}

func TestFaultsOfTheConnection(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "reset:always")
	if r := u.get(itemsPath(job)); !errors.Is(r.err, syscall.ECONNRESET) {
		t.Errorf("reset: %v, status %d", r.err, r.status)
	}
	u.event(job.ID, "started")
	if got, _ := u.Job(job.ID); got.Status != "pending" {
		t.Error("a reset request was carried out")
	}

	u, job = faulty(t, "lost-reply:once")
	if r := u.event(job.ID, "started"); r.err == nil {
		t.Errorf("the reply arrived: %d", r.status)
	}
	if got := u.job(job.ID).Status; got != "in_progress" {
		t.Errorf("lost reply: the job is %s", got)
	}
	u.event(job.ID, "started").wantRefusal(t, http.StatusUnprocessableEntity, "INVALID_EXPORT_JOB_STATUS_CHANGE") // trap 6
	if r := u.put(job.ID, booked(job.Items[0].AccountingEntryID.String())); r.err == nil {
		t.Errorf("the reply to the update arrived: %d", r.status)
	}
	if got, _ := u.Job(job.ID); got.Items[0].Status != "successful" {
		t.Error("the update whose reply was lost was not carried out")
	}
	if n := u.Counters().Requests["create_event"][0]; n != 1 {
		t.Errorf("%d dropped connections counted", n)
	}
}

func TestFaultsOfTheBody(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "cut-json:always")
	broken, clean := 0, 0
	for range 20 {
		r := u.get(itemsPath(job))
		switch {
		case r.err != nil:
			broken++
		case !json.Valid(r.body):
			clean++
		default:
			t.Fatalf("a whole body: %.100s", r.body)
		}
	}
	if broken == 0 || clean == 0 {
		t.Errorf("%d bodies broken off, %d ended early in good order", broken, clean)
	}

	u, job = faulty(t, "invalid-json:always")
	if r := u.get(itemsPath(job)).want(t, http.StatusOK, nil); json.Valid(r.body) {
		t.Errorf("valid: %.100s", r.body)
	}

	u, job = faulty(t, "wrong-shape:always")
	r := u.get(itemsPath(job)).want(t, http.StatusOK, nil)
	if !json.Valid(r.body) || json.Unmarshal(r.body, &wirePage[wireItem]{}) == nil {
		t.Errorf("not of another shape: %s", r.body)
	}

	u, job = faulty(t, "oversized-page:always")
	var page wirePage[wireItem]
	if r := u.get(itemsPath(job)).want(t, http.StatusOK, &page); len(r.body) < 1<<20 || len(page.Data) != 10 {
		t.Errorf("%d bytes, %d items", len(r.body), len(page.Data))
	}

	u, job = faulty(t, "slow-body:always")
	if rows := u.items(job.ID, "10"); len(rows) != 30 || u.shown(simulator.FaultSlowBody) != 3 {
		t.Errorf("slowly %d rows, %d slow bodies", len(rows), u.shown(simulator.FaultSlowBody))
	}
}

func TestFaultsOfPagingThatAreHarmless(t *testing.T) {
	t.Parallel()
	for _, fault := range []simulator.Fault{
		simulator.FaultShortPages, simulator.FaultEmptyPage, simulator.FaultDuplicateItem, simulator.FaultStatusChanges,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			u, job := faulty(t, string(fault)+":always")
			for name, ids := range map[string][]string{"items": entriesOf(u.items(job.ID, "10")), "payloads": payloadIDs(u.payloads(job.ID, "10"))} {
				different := map[string]bool{}
				for _, id := range ids {
					different[id] = true
				}
				if len(different) != 30 {
					t.Errorf("%s: %d different of %d", name, len(different), len(ids))
				}
				if fault == simulator.FaultDuplicateItem && len(ids) <= 30 {
					t.Errorf("%s: nothing twice", name)
				}
			}
			if u.shown(fault) == 0 {
				t.Error("not shown")
			}
			// By offset and backwards too: every page still makes sense.
			u.get(itemsPath(job)+"&offset=5").want(t, http.StatusOK, nil)
		})
	}
	u, job := faulty(t, "empty-page:always")
	var page wirePage[wireItem]
	u.get(itemsPath(job)).want(t, http.StatusOK, &page)
	if len(page.Data) != 0 || !page.Pagination.HasNextPage || page.Pagination.EndCursor == nil {
		t.Errorf("no empty page: %+v", page.Pagination)
	}
	u, job = faulty(t, "status-changes:always")
	u.items(job.ID, "3")
	changed := 0
	for _, item := range u.items(job.ID, "30") {
		if item.Status == "in_progress" {
			changed++
		}
	}
	if changed == 0 {
		t.Error("no status changed while paging")
	}
}

func payloadIDs(rows []wirePayload) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.AccountingEntryID
	}
	return ids
}

// second reads the second page of a list by the first one's cursor.
func second(u *upstream, path string) (one, two wirePage[wireItem]) {
	u.t.Helper()
	u.get(path).want(u.t, http.StatusOK, &one)
	if one.Pagination.EndCursor != nil {
		u.get(path+"&after="+url.QueryEscape(*one.Pagination.EndCursor)).want(u.t, http.StatusOK, &two)
	}
	return one, two
}

func TestPoisonOfPaging(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "repeated-cursor")
	for range 2 {
		one, two := second(u, itemsPath(job))
		if !two.Pagination.HasNextPage || *two.Pagination.EndCursor != *one.Pagination.EndCursor {
			t.Errorf("no repeated cursor: %+v", two.Pagination)
		}
	}
	u, job = faulty(t, "repeated-cursor:once")
	if one, two := second(u, itemsPath(job)); *two.Pagination.EndCursor != *one.Pagination.EndCursor {
		t.Error("no repeated cursor in the first drain")
	}
	if rows := u.items(job.ID, "10"); len(rows) != 30 {
		t.Errorf("%d rows in the second drain", len(rows))
	}
	if rows := u.payloads(job.ID, "10"); len(rows) != 30 {
		t.Errorf("%d payloads", len(rows))
	}

	u, job = faulty(t, "missing-cursor")
	if one, _ := second(u, itemsPath(job)); !one.Pagination.HasNextPage || one.Pagination.EndCursor != nil {
		t.Errorf("no missing cursor: %+v", one.Pagination)
	}

	strangers := func(rows []wireItem) (n int) {
		for _, row := range rows {
			if row.ExportJobID != job.ID.String() {
				n++
			}
		}
		return n
	}
	u, job = faulty(t, "foreign-item")
	if n := strangers(u.items(job.ID, "10")); n != 3 {
		t.Errorf("%d foreign items", n)
	}
	if rows := u.payloads(job.ID, "10"); len(rows) != 33 {
		t.Errorf("%d payloads", len(rows))
	}
	u, job = faulty(t, "foreign-item:once")
	if n := strangers(u.items(job.ID, "10")); n != 3 {
		t.Errorf("%d foreign items in the first drain", n)
	}
	if n := strangers(u.items(job.ID, "10")); n != 0 {
		t.Errorf("%d foreign items in the second drain", n)
	}
}

func TestPoisonOfPayloads(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "missing-payload@0.3")
	first, again := payloadIDs(u.payloads(job.ID, "10")), payloadIDs(u.payloads(job.ID, "30"))
	if len(first) == 30 || len(first) == 0 || !slices.Equal(first, again) {
		t.Errorf("%d payloads, then %d", len(first), len(again))
	}
	u, job = faulty(t, "unreadable-date@0.3")
	bad := 0
	for _, p := range u.payloads(job.ID, "10") {
		if _, err := time.Parse(time.RFC3339, p.Date); err != nil {
			bad++
		}
	}
	if bad == 0 || bad == 30 {
		t.Errorf("%d unreadable dates", bad)
	}
	u, job = faulty(t, "contra-accounts")
	for range 2 {
		u.get(payloadPath(job)).wantRefusal(t, http.StatusBadRequest, "MISSING_CONTRA_ACCOUNTS") // trap 34
	}
	u, job = faulty(t, "contra-accounts:once")
	u.get(payloadPath(job)).wantRefusal(t, http.StatusBadRequest, "MISSING_CONTRA_ACCOUNTS")
	u.get(payloadPath(job)).want(t, http.StatusOK, nil)
}

func TestAJobExpiresWhileItIsWorkedOn(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "expiry")
	u.started(job.ID)
	for range 8 {
		if u.job(job.ID).Status == "failed" {
			return
		}
	}
	t.Error("the job lives on")
}

// Trap 22: a 200 that refuses some items.
func TestPartialErrors(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "partial-errors@0.5")
	var waiting []map[string]any
	for _, item := range job.Items {
		waiting = append(waiting, booked(item.AccountingEntryID.String()))
	}
	rounds := 0
	for ; len(waiting) > 0 && rounds < 4; rounds++ {
		var answer wireUpdate
		u.put(job.ID, waiting...).want(t, http.StatusOK, &answer)
		if rounds == 0 && (len(answer.Errors) == 0 || len(answer.Data) == 0) {
			t.Errorf("not partial: %d good, %d bad", len(answer.Data), len(answer.Errors))
		}
		waiting = nil
		for _, problem := range answer.Errors {
			waiting = append(waiting, booked(problem.AccountingEntryID))
		}
	}
	if len(waiting) > 0 || rounds > 3 {
		t.Errorf("%d updates are still refused after %d rounds", len(waiting), rounds)
	}
}

func TestAnEventShowsLate(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "stale-read")
	u.started(job.ID)
	var seen []string
	for range 3 {
		seen = append(seen, u.job(job.ID).Status)
	}
	if want := []string{"pending", "pending", "in_progress"}; !slices.Equal(seen, want) { // trap 5
		t.Errorf("seen %q", seen)
	}
}

// The same seed and the same calls meet the same faults.
func TestFaultsReplay(t *testing.T) {
	t.Parallel()
	trace := func(seed uint64) (codes []int) {
		cfg := config(seed, 1, 30)
		cfg.Faults = plan(t, "storm")
		u := start(t, cfg)
		u.spoiled = true
		job := u.Snapshot().Jobs[0]
		for range 60 {
			r := u.get(itemsPath(job))
			if r.err != nil {
				codes = append(codes, 0)
			}
			codes = append(codes, r.status, len(r.body))
		}
		return codes
	}
	one, two, other := trace(5), trace(5), trace(6)
	if !slices.Equal(one, two) {
		t.Errorf("one seed, two stories:\n%v\n%v", one, two)
	}
	if slices.Equal(one, other) {
		t.Error("two seeds, one story")
	}
}

// Transient faults, even all of them at every call, let the same request through
// after three failures; a plan in the mode always does not.
func TestTransientFaultsEnd(t *testing.T) {
	t.Parallel()
	u, job := faulty(t, "reset@1,server-errors@1,cut-json@1,unauthorized@1")
	for range 3 {
		if r := u.get(itemsPath(job)); r.err == nil && r.status == http.StatusOK {
			t.Fatal("no fault at rate 1")
		}
	}
	u.get(itemsPath(job)).want(t, http.StatusOK, &wirePage[wireItem]{})
}

func TestPlansThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"nonsense", "reset@x", "reset@-1", "reset@1.5", "reset:twice", "some,resets"} {
		if _, err := simulator.ParseFaults(text); !errors.Is(err, simulator.ErrFaultUnknown) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if p := plan(t, "some, reset@0.9"); p[len(p)-1].Rate != 0.9 {
		t.Errorf("plan %+v", p)
	}
	if p := plan(t, "none"); len(p) != 0 {
		t.Errorf("none is %+v", p)
	}
	for _, name := range simulator.FaultNames() {
		plan(t, string(name)+"@0.5:once")
	}
}

// patient is a caller that follows the reference and repeats what failed; it
// survives the named sets.
type patient struct {
	*upstream
	tries int
}

const patience = 12 // tries of one request; the sets promise far fewer failures

func (p *patient) do(method, path string, body, into any, final ...int) int {
	p.t.Helper()
	for range patience {
		p.tries++
		r := p.upstream.do(method, path, body)
		if r.err != nil || r.status == 401 || r.status == 429 || r.status >= 500 {
			continue
		}
		if slices.Contains(final, r.status) {
			return r.status
		}
		if r.status/100 != 2 {
			p.t.Fatalf("%s %s: %d %s", method, path, r.status, r.body)
		}
		if into == nil || json.Unmarshal(r.body, into) == nil {
			return r.status
		}
	}
	p.t.Fatalf("%s %s failed %d times", method, path, patience)
	return 0
}

func (p *patient) status(id uuid.UUID) string {
	var body struct{ Data wireJob }
	p.do(http.MethodGet, "/v3/export-jobs/"+id.String(), nil, &body)
	return body.Data.Status
}

func (p *patient) post(id uuid.UUID, event, wanted string) {
	body := map[string]string{"jobId": id.String(), "event": event}
	if p.do(http.MethodPost, "/v3/export-job-events", body, nil, http.StatusUnprocessableEntity) == http.StatusUnprocessableEntity {
		if got := p.status(id); got != wanted {
			p.t.Fatalf("%s refused, and the job is %s", event, got)
		}
	}
}

func (p *patient) open(id uuid.UUID) map[string]bool {
	open, after := map[string]bool{}, ""
	for range 200 {
		var page wirePage[wireItem]
		p.do(http.MethodGet, "/v3/export-jobs/"+id.String()+"/items?limit=20"+after, nil, &page)
		for _, item := range page.Data {
			if item.Status == "pending" || item.Status == "in_progress" {
				open[item.AccountingEntryID] = true
			}
		}
		if !page.Pagination.HasNextPage {
			return open
		}
		after = "&after=" + url.QueryEscape(*page.Pagination.EndCursor)
	}
	p.t.Fatal("paging does not end")
	return nil
}

func (p *patient) work(id uuid.UUID, size int) {
	p.post(id, "started", "in_progress")
	open := p.open(id)
	if len(open) != size {
		p.t.Fatalf("%d open items, want %d", len(open), size)
	}
	for round := 0; len(open) > 0; round++ {
		if round > 5*size {
			p.t.Fatalf("%d updates are still refused", len(open))
		}
		batch := make([]map[string]any, 0, 25)
		for entry := range open {
			if batch = append(batch, booked(entry)); len(batch) == cap(batch) {
				break
			}
		}
		var answer wireUpdate
		p.do(http.MethodPut, "/v3/export-jobs/"+id.String()+"/items", batch, &answer)
		for _, item := range answer.Data {
			delete(open, item.AccountingEntryID)
		}
	}
	if left := p.open(id); len(left) != 0 {
		p.t.Fatalf("%d items are open at the end", len(left))
	}
	p.post(id, "completed", "completed")
}

func TestTheNamedSetsAreSurvived(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"none", "some", "storm"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(4) {
				cfg := config(seed, 4, 120)
				cfg.Faults = plan(t, set)
				u := start(t, cfg)
				u.spoiled = true
				p := &patient{upstream: u}
				for _, job := range u.Snapshot().Jobs {
					p.work(job.ID, 120)
				}
				snapshot := u.Snapshot()
				if problems := snapshot.Problems(); len(problems) > 0 {
					t.Errorf("seed %d: %q", seed, problems)
				}
				for _, job := range snapshot.Jobs {
					if job.Status != "completed" || len(job.Events) != 2 {
						t.Errorf("seed %d: job %s with events %+v", seed, job.Status, job.Events)
					}
				}
				// Some faults must have shown, or this proves nothing; at most a few kinds may
				// be missing from a storm.
				least := map[string]int{"none": 0, "some": 4, "storm": 11}[set]
				if faults := u.Counters().Faults; len(faults) < least || set == "none" && len(faults) > 0 {
					t.Errorf("seed %d: %d tries met %v", seed, p.tries, faults)
				}
			}
		})
	}
}

// Many callers at once, each with a job of its own, and one that looks on.
func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	cfg := config(21, 12, 60)
	cfg.Faults = plan(t, "storm")
	u := start(t, cfg)
	jobs := u.Snapshot().Jobs
	t.Run("callers", func(t *testing.T) {
		for _, job := range jobs {
			t.Run(job.ID.String(), func(t *testing.T) {
				t.Parallel()
				caller := *u
				caller.t, caller.spoiled = t, true
				(&patient{upstream: &caller}).work(job.ID, 60)
				u.Snapshot().Problems()
			})
		}
	})
	for _, job := range u.Snapshot().Jobs {
		if job.Status != "completed" || job.OpenAtClose != 0 {
			t.Errorf("job %s is %s with %d open items", job.ID, job.Status, job.OpenAtClose)
		}
	}
}

// What the judge calls a problem.
func TestTheJudge(t *testing.T) {
	t.Parallel()
	u := start(t, config(1, 0, 0))
	one, two := u.add(1), u.add(2) // of one company
	// Nobody started these.
	for range 2 {
		if _, err := u.AddJob(simulator.JobSpec{CompanyID: u.Company(1), Status: simulator.JobInProgress}); err != nil {
			t.Fatal(err)
		}
	}
	u.started(one)
	u.clock.Advance(time.Second)
	u.started(two)
	u.put(one, map[string]any{"accountingEntryId": u.items(one, "1")[0].AccountingEntryID, "status": "failed"}).want(t, http.StatusOK, nil)
	u.clock.Advance(time.Second)
	u.event(one, "completed").want(t, http.StatusAccepted, nil)
	u.event(two, "completed_with_errors").want(t, http.StatusAccepted, nil)
	problems := strings.Join(u.Snapshot().Problems(), "; ")
	for _, want := range []string{
		"completed with 1 failed items", "completed_with_errors with 2 open items", "completed_with_errors with 0 successful and 0 failed items",
		"was started before job " + one.String() + " had ended",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("%q is missing in %q", want, problems)
		}
	}
	if strings.Contains(problems, "company "+u.Company(1).String()) {
		t.Errorf("a job that nobody started is a problem: %q", problems)
	}
}
