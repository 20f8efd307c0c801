package simulator

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Snapshot is the whole state, for a judge that compares it with another record.
type Snapshot struct {
	Now  time.Time     `json:"now"`
	Jobs []JobSnapshot `json:"jobs"` // oldest first
}

// JobSnapshot is one job. Zero times have not happened.
type JobSnapshot struct {
	ID                uuid.UUID  `json:"id"`
	CompanyID         uuid.UUID  `json:"companyId"`
	Status            string     `json:"status"`
	NumberOfItems     int        `json:"numberOfItems"`
	CreatedAt         time.Time  `json:"createdAt"`
	StartedAt         time.Time  `json:"startedAt,omitzero"`
	LastUpdatedAt     time.Time  `json:"lastUpdatedAt"`
	CompletedAt       time.Time  `json:"completedAt,omitzero"`
	ExpiredAt         time.Time  `json:"expiredAt,omitzero"`
	ExpiresIn         int        `json:"expiresIn"` // seconds
	FailureReason     string     `json:"failureReason,omitempty"`
	FailureReasonType string     `json:"failureReasonType,omitempty"`
	Events            []JobEvent `json:"events"`
	// OpenAtClose is how many items had no final state when the job was closed.
	OpenAtClose int            `json:"openAtClose"`
	Refusals    Refusals       `json:"refusals"`
	Items       []ItemSnapshot `json:"items"` // in order of creation
}

// Refusals counts what a job refused, whoever asked. After a lost reply a caller
// may earn some of them in good faith.
type Refusals struct {
	Events  int `json:"events"`  // 422 to a job event
	Updates int `json:"updates"` // 422 to an item update: the job was finished
	Items   int `json:"items"`   // errors[] of accepted updates, injected ones included
}

// ItemSnapshot is one item.
type ItemSnapshot struct {
	AccountingEntryID uuid.UUID `json:"accountingEntryId"`
	Status            string    `json:"status"`
	ExternalID        string    `json:"externalId,omitempty"`
	ExternalURL       string    `json:"externalUrl,omitempty"`
	FailureReason     string    `json:"failureReason,omitempty"`
	FailureReasonType string    `json:"failureReasonType,omitempty"`
	ExportedAt        time.Time `json:"exportedAt,omitzero"`
	Updates           int       `json:"updates"` // accepted ones; more than 1: reported again
}

// Snapshot copies the state of every job and item. Jobs whose time is up have
// expired by then.
func (s *Simulator) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	snapshot := Snapshot{Now: now, Jobs: make([]JobSnapshot, len(s.byAge))}
	for i, j := range s.byAge {
		s.settle(j, now)
		snapshot.Jobs[i] = j.snapshot()
	}
	return snapshot
}

// Job copies the state of one job.
func (s *Simulator) Job(id uuid.UUID) (JobSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return JobSnapshot{}, fmt.Errorf("job %s: %w", id, ErrJobUnknown)
	}
	s.settle(j, s.now())
	return j.snapshot(), nil
}

// Updates lists the accepted item updates of a job in the order in which they
// came, those of a second integration included; at most the first 4,000,000.
func (s *Simulator) Updates(id uuid.UUID) ([]ItemUpdate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return nil, fmt.Errorf("updates of job %s: %w", id, ErrJobUnknown)
	}
	return append([]ItemUpdate{}, j.updates...), nil
}

func (j *job) snapshot() JobSnapshot {
	snapshot := JobSnapshot{
		ID: j.id, CompanyID: j.companyID, Status: j.status, NumberOfItems: j.numberOfItems, CreatedAt: j.createdAt,
		StartedAt: j.startedAt, LastUpdatedAt: j.lastUpdatedAt, CompletedAt: j.completedAt, ExpiredAt: j.expiredAt,
		ExpiresIn: j.expiresIn, FailureReason: orBlank(j.failureReason), FailureReasonType: orBlank(j.failureReasonType),
		Events: append([]JobEvent{}, j.events...), OpenAtClose: j.openAtClose, Refusals: j.refusals, Items: make([]ItemSnapshot, j.entries.count),
	}
	for i := range snapshot.Items {
		item := ItemSnapshot{AccountingEntryID: j.entries.id(i), Status: itemStatus[j.states[i]]}
		if r := j.results[i]; r != nil {
			item.ExternalID, item.ExternalURL = orBlank(r.externalID), orBlank(r.externalURL)
			item.FailureReason, item.FailureReasonType = orBlank(r.failureReason), orBlank(r.failureReasonType)
			item.Updates = r.updates
			if r.exportedAt != nil {
				item.ExportedAt = *r.exportedAt
			}
		}
		snapshot.Items[i] = item
	}
	return snapshot
}

func orBlank(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// Problems tells what an integration did to these jobs that it should not have
// done: closed one with open items, closed it with an event that does not fit its
// items, worked on two jobs of a company at once. Empty is good.
func (s Snapshot) Problems() []string {
	var problems []string
	running := map[uuid.UUID][]JobSnapshot{}
	for _, j := range s.Jobs {
		problems = append(problems, j.problems()...)
		if !j.StartedAt.IsZero() {
			running[j.CompanyID] = append(running[j.CompanyID], j)
		}
	}
	for _, company := range slices.SortedFunc(maps.Keys(running), compareIDs) {
		jobs := running[company]
		slices.SortStableFunc(jobs, func(a, b JobSnapshot) int { return a.StartedAt.Compare(b.StartedAt) })
		for i := 1; i < len(jobs); i++ {
			// A job that was added in progress was started by nobody.
			if !slices.ContainsFunc(jobs[i].Events, func(e JobEvent) bool { return e.Event == EventStarted }) {
				continue
			}
			if ended := jobs[i-1].ended(); ended.IsZero() || ended.After(jobs[i].StartedAt) {
				problems = append(problems, fmt.Sprintf("company %s: job %s was started before job %s had ended", company, jobs[i].ID, jobs[i-1].ID))
			}
		}
	}
	return problems
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

func (j JobSnapshot) ended() time.Time {
	if !j.ExpiredAt.IsZero() {
		return j.ExpiredAt
	}
	return j.CompletedAt
}

func (j JobSnapshot) problems() []string {
	var problems []string
	good, bad := 0, 0
	for _, item := range j.Items {
		switch item.Status {
		case ItemSuccessful:
			good++
		case ItemFailed:
			bad++
		}
	}
	for _, event := range j.Events {
		if event.By != ByClient {
			continue
		}
		if closing := event.Event == EventCompleted || event.Event == EventCompletedWithErrors; closing && event.OpenItems > 0 {
			problems = append(problems, fmt.Sprintf("job %s: %s with %d open items", j.ID, event.Event, event.OpenItems))
		}
		switch {
		case event.Event == EventCompleted && bad > 0:
			problems = append(problems, fmt.Sprintf("job %s: completed with %d failed items", j.ID, bad))
		case event.Event == EventCompletedWithErrors && (bad == 0 || good == 0):
			problems = append(problems, fmt.Sprintf("job %s: completed_with_errors with %d successful and %d failed items", j.ID, good, bad))
		}
	}
	return problems
}

// Counters are what happened so far.
type Counters struct {
	// Requests by operation and status code; code 0 is a dropped connection.
	Requests map[string]map[int]int64 `json:"requests"`
	// Faults that were shown, by name.
	Faults map[Fault]int64 `json:"faults"`
	// RateAccepted and RateRefused count the calls that met the real rate limit;
	// both stay 0 without one.
	RateAccepted int64 `json:"rateAccepted"`
	RateRefused  int64 `json:"rateRefused"`
}

// Counters copies the counters.
func (s *Simulator) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counters{
		Requests: map[string]map[int]int64{}, Faults: maps.Clone(s.faults.shown),
		RateAccepted: s.accepted, RateRefused: s.refused,
	}
	for operation, codes := range s.counts {
		c.Requests[operation] = maps.Clone(codes)
	}
	return c
}
