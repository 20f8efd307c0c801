package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

type page struct {
	Data       any      `json:"data"`
	Pagination pageInfo `json:"pagination"`
}

// find is the job that a request names, if the caller may see it. The caller holds
// s.mu.
func (s *Simulator) find(c *call, text string) (*job, answer, bool) {
	id, ok := parseID(text)
	if !ok {
		return nil, refuse(http.StatusBadRequest, typeBadRequest, "The job id is no UUID."), false
	}
	j := s.jobs[id]
	if j == nil {
		return nil, refuse(http.StatusNotFound, typeJobNotFound, "Export job not found."), false
	}
	if !c.caller.sees(j.companyID) {
		return nil, forbidden("The credential belongs to another company."), false
	}
	return j, answer{}, true
}

// company is the company to look at: as asked, or the caller's own; zero is all.
func (c *call) company() (uuid.UUID, answer, bool) {
	if !c.query.Has("company_id") {
		return c.caller.company, answer{}, true
	}
	id, ok := parseID(c.query.Get("company_id"))
	if !ok {
		return id, refuse(http.StatusBadRequest, typeBadRequest, "company_id is no UUID."), false
	}
	if !c.caller.sees(id) {
		return id, forbidden("The credential belongs to another company."), false
	}
	return id, answer{}, true
}

// echo is what currentRequestPagination.parameters shows: ids and states, in lower
// case.
func (c *call) echo(names ...string) map[string][]string {
	echoed := map[string][]string{}
	for _, name := range names {
		for _, value := range c.query[name] {
			echoed[name] = append(echoed[name], strings.ToLower(value))
		}
	}
	return echoed
}

// listJobs is GET /v3/export-jobs. An organisation credential that names no
// company sees the jobs of all.
func (s *Simulator) listJobs(c *call) answer {
	company, refusal, ok := c.company()
	if !ok {
		return refusal
	}
	wanted := map[string]bool{}
	for _, status := range c.query["statuses"] {
		switch status {
		case JobPending, JobInProgress, JobCompleted, JobCompletedWithErrors, JobFailed:
			wanted[status] = true
		default:
			return refuse(http.StatusBadRequest, typeBadRequest, "statuses: "+status+" is unknown.")
		}
	}
	q, err := parsePageQuery(c.query)
	if err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, err.Error())
	}
	s.mu.Lock()
	now := s.now()
	for _, j := range s.byAge {
		s.settle(j, now)
	}
	l := listing{
		length: len(s.byAge), key: func(row int) int64 { return s.byAge[row].key() }, id: func(row int) uuid.UUID { return s.byAge[row].id },
		keep: func(row int) bool {
			j := s.byAge[row]
			return (company == uuid.Nil || j.companyID == company) && (len(wanted) == 0 || wanted[j.status])
		},
		parameters: c.echo("company_id", "statuses"),
	}
	rows, info := l.page(q, s.cfg.PageLimit, s.cfg.MaxPageLimit, s.quirks(c))
	views := make([]jobView, len(rows))
	for i, row := range rows {
		views[i] = s.byAge[row].view()
	}
	s.mu.Unlock()
	return reply(http.StatusOK, page{views, info})
}

// getJob is GET /v3/export-jobs/{jobId}.
func (s *Simulator) getJob(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, refusal, ok := s.find(c, c.r.PathValue("jobId"))
	if !ok {
		return refusal
	}
	view := j.view()
	if j.staleReads > 0 {
		j.staleReads--
		c.faults.note(FaultStaleRead)
		view = j.before
	}
	return reply(http.StatusOK, data(view))
}

// quirks are the paging faults of this call; the caller holds s.mu.
func (s *Simulator) quirks(c *call) pageQuirks {
	if !c.query.Has("after") && !c.query.Has("before") && !c.query.Has("offset") {
		s.faults.drains[c.faults.scope]++
	}
	c.faults.drain = s.faults.drains[c.faults.scope]
	quirks := pageQuirks{
		empty: c.faults.hit(FaultEmptyPage), duplicate: c.faults.hit(FaultDuplicateItem) && c.query.Has("after"),
		missingCursor: c.faults.poisoned(FaultMissingCursor), repeatedCursor: c.faults.poisoned(FaultRepeatedCursor),
	}
	if c.faults.hit(FaultShortPages) {
		h := c.faults.roll("short-size", c.faults.n)
		quirks.short = func(limit int) int { return 1 + int(h%uint64((limit+1)/2)) }
	}
	for fault, on := range map[Fault]bool{
		FaultEmptyPage: quirks.empty, FaultDuplicateItem: quirks.duplicate, FaultMissingCursor: quirks.missingCursor,
		FaultRepeatedCursor: quirks.repeatedCursor, FaultShortPages: quirks.short != nil,
	} {
		if on {
			c.faults.note(fault)
		}
	}
	return quirks
}

func (j *job) listing(keep func(row int) bool, parameters map[string][]string) listing {
	base := j.createdAt.UnixNano()
	return listing{
		length: j.entries.count, key: func(row int) int64 { return base + int64(row+1)*keyStep },
		id:   func(row int) uuid.UUID { return namedID(uint64(base)^j.entries.seed, j.id.String(), row) },
		keep: keep, parameters: parameters,
	}
}

// listItems is GET /v3/export-jobs/{jobId}/items: readable in every state of the job.
func (s *Simulator) listItems(c *call) answer {
	q, err := parsePageQuery(c.query)
	if err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, err.Error())
	}
	s.mu.Lock()
	j, refusal, ok := s.find(c, c.r.PathValue("jobId"))
	if !ok {
		s.mu.Unlock()
		return refusal
	}
	var keep func(int) bool
	if c.query.Has("status") {
		state, known := parseItemStatus(c.query.Get("status"))
		if !known {
			s.mu.Unlock()
			return refuse(http.StatusBadRequest, typeBadRequest, "status: "+c.query.Get("status")+" is unknown.")
		}
		keep = func(row int) bool { return j.states[row] == state }
	}
	parameters := c.echo("status")
	parameters["jobId"] = []string{j.id.String()}
	if c.query.Has("after") && !j.finished() && c.faults.hit(FaultStatusChanges) {
		s.meddle(c, j)
	}
	l := j.listing(keep, parameters)
	rows, info := l.page(q, s.cfg.PageLimit, s.cfg.MaxPageLimit, s.quirks(c))
	views := make([]itemView, len(rows), len(rows)+1)
	for i, row := range rows {
		views[i] = j.itemView(row)
	}
	if c.faults.poisoned(FaultForeignItem) {
		c.faults.note(FaultForeignItem)
		views = append(views, itemView{
			ExportJobID: s.strangerID(j, "job"), AccountingEntryID: s.strangerID(j, "entry"), Status: ItemPending,
		})
	}
	s.mu.Unlock()
	return reply(http.StatusOK, page{views, info})
}

// strangerID is an id that has no business in this job.
func (s *Simulator) strangerID(j *job, kind string) uuid.UUID {
	return namedID(s.cfg.Seed, "stranger "+kind, int(j.number))
}

// meddle is the second integration at work: one pending item, by seed, becomes
// in_progress. It stays open, so nothing is lost to the caller.
func (s *Simulator) meddle(c *call, j *job) {
	if j.entries.count == 0 {
		return
	}
	index := int(c.faults.roll("meddled item", c.faults.n) % uint64(j.entries.count))
	if j.states[index] != statePending {
		return
	}
	c.faults.note(FaultStatusChanges)
	s.record(j, index, stateInProgress, ItemUpdate{At: s.now(), By: ByOther})
}

// listExportItems is GET /v3/export-items: only while the job is pending or in
// progress, and all items of the job whatever their state.
func (s *Simulator) listExportItems(c *call) answer {
	if !c.query.Has("job_id") {
		return refuse(http.StatusBadRequest, typeMissing, "job_id is missing.")
	}
	q, err := parsePageQuery(c.query)
	if err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, err.Error())
	}
	s.mu.Lock()
	j, refusal, ok := s.find(c, c.query.Get("job_id"))
	if ok && j.finished() {
		refusal, ok = refuse(http.StatusUnprocessableEntity, typeUnprocessable, "Export Job is finished and can no longer be processed."), false
	}
	if !ok {
		s.mu.Unlock()
		return refusal
	}
	parameters := c.echo("job_id")
	parameters["job_id"] = []string{j.id.String()}
	l := j.listing(nil, parameters)
	quirks := s.quirks(c)
	if c.faults.poisoned(FaultContraAccounts) {
		c.faults.note(FaultContraAccounts)
		s.mu.Unlock()
		return refuse(http.StatusBadRequest, typeContraAccounts, messageContraMissing)
	}
	rows, info := l.page(q, s.cfg.PageLimit, s.cfg.MaxPageLimit, quirks)
	shown := s.choosePayloads(c, j, rows)
	s.mu.Unlock()

	// The contents are made outside the lock: they are most of the work of this API
	// and depend on nothing that changes.
	g := generator{s.cfg.Seed, j.companyID, j.vendorBased, s.cfg.FileBaseURL, s.now()}
	items := make([]any, len(shown))
	for i, entry := range shown {
		if entry.raw != nil {
			items[i] = entry.raw
			continue
		}
		item := g.item(entry.id)
		if entry.badDate != "" {
			item.Date = entry.badDate
		}
		items[i] = item
	}
	return reply(http.StatusOK, page{items, info})
}

type shownPayload struct {
	id      uuid.UUID
	raw     json.RawMessage
	badDate string
}

var badDates = []string{"yesterday", "2026-13-41T25:61:00Z", "", "12/10/2025", "1765381594"}

// choosePayloads turns rows into what is shown of them; the caller holds s.mu.
func (s *Simulator) choosePayloads(c *call, j *job, rows []int) []shownPayload {
	shown := make([]shownPayload, 0, len(rows)+1)
	for _, row := range rows {
		id := j.entries.id(row)
		raw, explicit := j.entries.payloads[row]
		if explicit && len(raw) == 0 {
			continue // a listed entry without a payload
		}
		if c.faults.poisonedEntry(FaultMissingPayload, id) {
			c.faults.note(FaultMissingPayload)
			continue
		}
		entry := shownPayload{id: id, raw: raw}
		if !explicit && c.faults.poisonedEntry(FaultUnreadableDate, id) {
			c.faults.note(FaultUnreadableDate)
			entry.badDate = badDates[hash(s.cfg.Seed, "bad date", id.String())%uint64(len(badDates))]
		}
		shown = append(shown, entry)
	}
	if c.faults.poisoned(FaultForeignItem) {
		c.faults.note(FaultForeignItem)
		shown = append(shown, shownPayload{id: s.strangerID(j, "entry")})
	}
	return shown
}

// findItem is GET /v3/export-job-items: the control record of one entry. When
// several jobs carried the entry, the newest one's; the reference does not say.
func (s *Simulator) findItem(c *call) answer {
	company, refusal, ok := c.company()
	if !ok {
		return refusal
	}
	id, ok := parseID(c.query.Get("accounting_entry_id"))
	if !ok {
		return refuse(http.StatusBadRequest, typeBadRequest, "accounting_entry_id is missing or no UUID.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for i := len(s.byAge) - 1; i >= 0; i-- {
		j := s.byAge[i]
		if company != uuid.Nil && j.companyID != company {
			continue
		}
		if index, held := j.entries.index(id); held {
			s.settle(j, now)
			return reply(http.StatusOK, data(j.itemView(index)))
		}
	}
	return refuse(http.StatusNotFound, typeEntryNotFound, "Export Job Item not found")
}

// Links of files carry their expiry and a check over it, so that nothing needs to
// be remembered of them.
func fileLink(seed uint64, base string, entry uuid.UUID, n int, expires time.Time) string {
	return base + "/files/" + fileToken(seed, entry, n, expires.Unix())
}
