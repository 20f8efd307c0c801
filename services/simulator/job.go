package simulator

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Job states of the API.
const (
	JobPending             = "pending"
	JobInProgress          = "in_progress"
	JobCompleted           = "completed"
	JobCompletedWithErrors = "completed_with_errors"
	JobFailed              = "failed"
)

// Item states of the API.
const (
	ItemPending    = "pending"
	ItemInProgress = "in_progress"
	ItemSuccessful = "successful"
	ItemFailed     = "failed"
	ItemAbandoned  = "abandoned"
)

// itemState is an item's status in one byte.
type itemState uint8

const (
	statePending itemState = iota
	stateInProgress
	stateSuccessful
	stateFailed
	stateAbandoned
)

var itemStatus = [...]string{ItemPending, ItemInProgress, ItemSuccessful, ItemFailed, ItemAbandoned}

func parseItemStatus(text string) (itemState, bool) {
	for state, status := range itemStatus {
		if status == text {
			return itemState(state), true
		}
	}
	return 0, false
}

func (s itemState) open() bool { return s == statePending || s == stateInProgress }

// result is what was reported of an item. Only items that were reported have one.
type result struct {
	exportedAt        *time.Time
	externalID        *string
	externalURL       *string
	failureReason     *string
	failureReasonType *string
	updates           int // accepted updates
}

// job is one export job. Its items' contents are not here: they are generated
// when asked for. All fields after entries are guarded by Simulator.mu.
type job struct {
	number      uint32
	id          uuid.UUID
	companyID   uuid.UUID
	createdBy   uuid.UUID // zero: null
	createdAt   time.Time
	interactive bool
	vendorBased bool
	expiresIn   int
	// numberOfItems is what the job claims; it can be made to differ from the
	// number of entries.
	numberOfItems int
	entries       entries

	status            string
	startedAt         time.Time
	lastUpdatedAt     time.Time
	completedAt       time.Time
	expiredAt         time.Time
	failureReason     *string
	failureReasonType *string

	states       []itemState
	results      map[int]*result
	open         int // items that are pending or in_progress
	events       []JobEvent
	updates      []ItemUpdate
	updatesLost  int // accepted and not in the log, because it was full
	openAtClose  int
	refusals     Refusals
	callsInWork  int // calls since the start, for the fault expiry
	expireAtCall int // 0: never by fault
	staleReads   int // reads that still show before, for the fault stale-read
	before       jobView
}

// key places the job in the default order of lists: by creation, made unique by
// its number.
func (j *job) key() int64 { return j.createdAt.UnixNano() + int64(j.number)*keyStep }

func (j *job) finished() bool {
	return j.status == JobCompleted || j.status == JobCompletedWithErrors || j.status == JobFailed
}

func (j *job) deadline() time.Time {
	return j.lastUpdatedAt.Add(time.Duration(j.expiresIn) * time.Second)
}

// entries are the ids of a job's items: computed from the seed, or listed.
type entries struct {
	seed      uint64
	generator uint32 // number of the job whose ids these are
	count     int
	listed    []uuid.UUID
	place     map[uuid.UUID]int
	payloads  map[int]json.RawMessage // explicit payloads of listed entries; an empty one: missing
}

func (e *entries) id(index int) uuid.UUID {
	if e.listed != nil {
		return e.listed[index]
	}
	return entryID(e.seed, e.generator, index)
}

func (e *entries) index(id uuid.UUID) (int, bool) {
	if e.listed != nil {
		index, ok := e.place[id]
		return index, ok
	}
	number, index, ok := entryPlace(e.seed, id)
	return index, ok && number == e.generator && index < e.count
}

func listEntries(ids []uuid.UUID) entries {
	e := entries{listed: make([]uuid.UUID, 0, len(ids)), place: make(map[uuid.UUID]int, len(ids))}
	for _, id := range ids {
		if _, known := e.place[id]; known {
			continue
		}
		e.place[id] = len(e.listed)
		e.listed = append(e.listed, id)
	}
	e.count = len(e.listed)
	return e
}

// jobView is a job as the API shows it.
type jobView struct {
	ID                     uuid.UUID  `json:"id"`
	CompanyID              uuid.UUID  `json:"companyId"`
	Status                 string     `json:"status"`
	NumberOfItems          int        `json:"numberOfItems"`
	ExpiresIn              int        `json:"expiresIn"`
	IsInteractive          bool       `json:"isInteractive"`
	VendorBasedBookkeeping bool       `json:"vendorBasedBookkeeping"`
	CreatedAt              string     `json:"createdAt"`
	CreatedBy              *uuid.UUID `json:"createdBy"`
	StartedAt              *string    `json:"startedAt"`
	LastUpdatedAt          *string    `json:"lastUpdatedAt"`
	CompletedAt            *string    `json:"completedAt"`
	ExpiredAt              *string    `json:"expiredAt"`
	FailureReason          *string    `json:"failureReason"`
	FailureReasonType      *string    `json:"failureReasonType"`
}

func (j *job) view() jobView {
	v := jobView{
		ID: j.id, CompanyID: j.companyID, Status: j.status, NumberOfItems: j.numberOfItems, ExpiresIn: j.expiresIn,
		IsInteractive: j.interactive, VendorBasedBookkeeping: j.vendorBased, CreatedAt: zulu(j.createdAt),
		StartedAt: zuluOrNull(j.startedAt), LastUpdatedAt: zuluOrNull(j.lastUpdatedAt),
		CompletedAt: zuluOrNull(j.completedAt), ExpiredAt: zuluOrNull(j.expiredAt),
		FailureReason: j.failureReason, FailureReasonType: j.failureReasonType,
	}
	if j.createdBy != uuid.Nil {
		v.CreatedBy = ptr(j.createdBy)
	}
	return v
}

// itemView is a control record as the API shows it. failureReasonType is null
// until there is one: the schema does not say so, the documented sample does.
type itemView struct {
	ExportJobID       uuid.UUID `json:"exportJobId"`
	AccountingEntryID uuid.UUID `json:"accountingEntryId"`
	Status            string    `json:"status"`
	ExternalID        *string   `json:"externalId"`
	ExternalURL       *string   `json:"externalUrl"`
	FailureReasonType *string   `json:"failureReasonType"`
	FailureReason     *string   `json:"failureReason"`
	ExportedAt        *string   `json:"exportedAt"`
}

func (j *job) itemView(index int) itemView {
	v := itemView{ExportJobID: j.id, AccountingEntryID: j.entries.id(index), Status: itemStatus[j.states[index]]}
	if r := j.results[index]; r != nil {
		v.ExternalID, v.ExternalURL = r.externalID, r.externalURL
		v.FailureReason, v.FailureReasonType = r.failureReason, r.failureReasonType
		if r.exportedAt != nil {
			v.ExportedAt = ptr(zulu(*r.exportedAt))
		}
	}
	return v
}

func zuluOrNull(at time.Time) *string {
	if at.IsZero() {
		return nil
	}
	return ptr(zulu(at))
}
