package simulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// seedSpan is the longest time over which the creation of the seeded jobs is
// spread. It stays far below the usual expiry.
const seedSpan = 10 * time.Minute

// JobSpec describes a job to add. The zero value is a pending job of company 0
// with Config.ItemsPerJob generated items, created now.
type JobSpec struct {
	// ID of the job; zero: the next generated one.
	ID uuid.UUID `json:"id"`
	// CompanyID of the job; zero: Company(0).
	CompanyID uuid.UUID `json:"companyId"`
	// Items is the number of generated items; nil: Config.ItemsPerJob. Ignored
	// when Entries are given.
	Items *int `json:"items"`
	// Entries, when not nil, are the job's items one by one.
	Entries []EntrySpec `json:"entries"`
	// NumberOfItems, when not nil, is what the job claims instead of the truth.
	NumberOfItems *int `json:"numberOfItems"`
	// Status of the job: pending (also when empty) or in_progress.
	Status string `json:"status"`
	// CreatedAt; zero: now. It is also when the expiry clock starts, unless that
	// would have expired the job before it was added; then now.
	CreatedAt time.Time `json:"createdAt"`
	// ExpiresIn in seconds; 0: Config.ExpiresIn.
	ExpiresIn int `json:"expiresIn"`
	// VendorBasedBookkeeping as in the API.
	VendorBasedBookkeeping bool `json:"vendorBasedBookkeeping"`
	// Quiet sends no webhook.
	Quiet bool `json:"quiet"`
}

// EntrySpec is one explicit item.
type EntrySpec struct {
	// ID is the accounting entry id.
	ID uuid.UUID `json:"accountingEntryId"`
	// Status of the item; empty: pending.
	Status string `json:"status"`
	// Payload is answered as it is by GET /v3/export-items; nil: generated.
	Payload json.RawMessage `json:"payload,omitempty"`
	// NoPayload leaves the entry out of GET /v3/export-items.
	NoPayload bool `json:"noPayload"`
}

// Company is the id of company number n of this seed. Numbers from 0 to
// Config.Companies-1 own the seeded jobs; a JobSpec may use any.
func (s *Simulator) Company(n int) uuid.UUID { return namedID(s.cfg.Seed, "company", n) }

// seedJobs makes the jobs of Config. They are created one after another in the
// minutes before the start, so that "the oldest job of a company" means something.
func (s *Simulator) seedJobs() error {
	now := s.now().Truncate(time.Second)
	step := time.Second
	if s.cfg.Jobs > 0 {
		step = min(step, seedSpan/time.Duration(s.cfg.Jobs))
	}
	for n := range s.cfg.Jobs {
		spec := JobSpec{
			CompanyID: s.Company(n % s.cfg.Companies), VendorBasedBookkeeping: s.cfg.VendorBasedBookkeeping,
			CreatedAt: now.Add(-step * time.Duration(s.cfg.Jobs-n)), Quiet: !s.cfg.Webhook.AtStart,
		}
		j, err := s.newJob(spec)
		if err != nil {
			return fmt.Errorf("seed job %d: %w", n, err)
		}
		// The expiry clock of seeded jobs starts with the simulator.
		j.lastUpdatedAt = now
		if err := s.insert(j); err != nil {
			return fmt.Errorf("seed job %d: %w", n, err)
		}
		if !spec.Quiet {
			s.announce(j)
		}
	}
	return nil
}

// AddJob adds a job and announces it by webhook unless the spec is quiet. Unlike
// POST /v3/export-jobs it does not mind other unfinished jobs of the company.
func (s *Simulator) AddJob(spec JobSpec) (uuid.UUID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.newJob(spec)
	if err != nil {
		return uuid.Nil, fmt.Errorf("add job: %w", err)
	}
	if err := s.insert(j); err != nil {
		return uuid.Nil, fmt.Errorf("add job %s: %w", j.id, err)
	}
	if !spec.Quiet {
		s.announce(j)
	}
	return j.id, nil
}

// newJob builds a job from its description; the caller holds s.mu.
func (s *Simulator) newJob(spec JobSpec) (*job, error) {
	number := s.nextNumber
	now := s.now().Truncate(time.Second)
	j := &job{
		number: number, id: spec.ID, companyID: spec.CompanyID, createdAt: spec.CreatedAt.UTC().Truncate(time.Second),
		createdBy: namedID(s.cfg.Seed, "bookkeeper", int(number%7)), interactive: true, vendorBased: spec.VendorBasedBookkeeping,
		expiresIn: spec.ExpiresIn, status: spec.Status, results: map[int]*result{},
	}
	if j.id == uuid.Nil {
		j.id = namedID(s.cfg.Seed, "job", int(number))
	}
	if j.companyID == uuid.Nil {
		j.companyID = s.Company(0)
	}
	if spec.CreatedAt.IsZero() {
		j.createdAt = now
	}
	if j.expiresIn == 0 {
		j.expiresIn = s.cfg.ExpiresIn
	}
	if j.expiresIn < 0 {
		return nil, fmt.Errorf("%w: expiresIn is %d", ErrConfig, j.expiresIn)
	}
	j.lastUpdatedAt = j.createdAt
	if !now.Before(j.deadline()) {
		j.lastUpdatedAt = now
	}
	switch j.status {
	case "", JobPending:
		j.status = JobPending
	case JobInProgress:
		j.startedAt = j.lastUpdatedAt
	default:
		return nil, fmt.Errorf("%w: a job cannot be added as %q", ErrConfig, j.status)
	}
	if err := j.fill(s.cfg.Seed, spec, s.cfg.ItemsPerJob); err != nil {
		return nil, err
	}
	j.expireAtCall = s.faults.expiryCall(j.id)
	return j, nil
}

// fill gives a new job its items.
func (j *job) fill(seed uint64, spec JobSpec, usual int) error {
	if spec.Entries != nil {
		if err := j.fillListed(spec.Entries); err != nil {
			return err
		}
	} else {
		count := usual
		if spec.Items != nil {
			count = *spec.Items
		}
		if count < 0 || count > maxItemsPerJob {
			return fmt.Errorf("%w: %d items in a job, at most %d", ErrLimit, count, maxItemsPerJob)
		}
		j.entries = entries{seed: seed, generator: j.number, count: count}
		j.states = make([]itemState, count)
	}
	for _, state := range j.states {
		if state.open() {
			j.open++
		}
	}
	j.numberOfItems = j.entries.count
	if spec.NumberOfItems != nil {
		j.numberOfItems = *spec.NumberOfItems
	}
	return nil
}

func (j *job) fillListed(specs []EntrySpec) error {
	if len(specs) > maxCreatedEntries {
		return fmt.Errorf("%w: %d entries listed, at most %d", ErrLimit, len(specs), maxCreatedEntries)
	}
	ids := make([]uuid.UUID, len(specs))
	for i, entry := range specs {
		ids[i] = entry.ID
	}
	j.entries = listEntries(ids)
	j.entries.payloads = map[int]json.RawMessage{}
	j.states = make([]itemState, j.entries.count)
	for _, entry := range specs {
		index := j.entries.place[entry.ID]
		if entry.Status != "" {
			state, ok := parseItemStatus(entry.Status)
			if !ok {
				return fmt.Errorf("%w: item status %q", ErrConfig, entry.Status)
			}
			j.states[index] = state
		}
		switch {
		case entry.NoPayload:
			j.entries.payloads[index] = json.RawMessage{}
		case entry.Payload != nil:
			if !json.Valid(entry.Payload) {
				return fmt.Errorf("%w: the payload of entry %s is no JSON", ErrConfig, entry.ID)
			}
			j.entries.payloads[index] = slices.Clone(entry.Payload)
		}
	}
	return nil
}

// insert makes a job visible; the caller holds s.mu, or nobody else knows s yet.
func (s *Simulator) insert(j *job) error {
	if len(s.jobs) >= maxJobs {
		return fmt.Errorf("%w: %d jobs", ErrLimit, maxJobs)
	}
	if s.jobs[j.id] != nil {
		return ErrJobExists
	}
	s.nextNumber++
	s.jobs[j.id] = j
	place, _ := slices.BinarySearchFunc(s.byAge, j.key(), func(have *job, key int64) int {
		return int(min(max(have.key()-key, -1), 1))
	})
	s.byAge = slices.Insert(s.byAge, place, j)
	s.log.Info().Stringer("job_id", j.id).Stringer("company_id", j.companyID).Int("items", j.entries.count).Msg(eventJobCreated)
	return nil
}
