package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// ItemUpdate is one accepted update of one item.
type ItemUpdate struct {
	At                time.Time `json:"at"`
	By                string    `json:"by"`
	AccountingEntryID uuid.UUID `json:"accountingEntryId"`
	Status            string    `json:"status"`
	ExternalID        string    `json:"externalId,omitempty"`
}

// itemChange is UpdateExportJobItem of the API. Pointers tell "not sent" from "sent".
type itemChange struct {
	AccountingEntryID *string `json:"accountingEntryId"`
	Status            *string `json:"status"`
	ExportedAt        *string `json:"exportedAt"`
	ExternalID        *string `json:"externalId"`
	ExternalURL       *string `json:"externalUrl"`
	FailureReason     *string `json:"failureReason"`
	FailureReasonType *string `json:"failureReasonType"`

	entry      uuid.UUID
	state      itemState
	exportedAt *time.Time
}

type updateError struct {
	AccountingEntryID uuid.UUID `json:"accountingEntryId"`
	Type              string    `json:"type"`
	Message           string    `json:"message"`
}

type updateAnswer struct {
	Data   []itemView    `json:"data"`
	Errors []updateError `json:"errors"`
}

// updateItems is PUT /v3/export-jobs/{jobId}/items. The body is a bare array. A
// body that does not fit the schema is refused as a whole, a change that does not
// fit the item is reported in errors while the others are carried out.
func (s *Simulator) updateItems(c *call) answer {
	changes, refusal, ok := parseChanges(c.body)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j, refusal, ok := s.find(c, c.r.PathValue("jobId"))
	if !ok {
		return refusal
	}
	if j.finished() {
		j.refusals.Updates++
		return refuse(http.StatusUnprocessableEntity, typeUnprocessable, "Export job is finished.")
	}
	result := s.change(j, changes, ByClient, c.faults.refuseEntry)
	j.refusals.Items += len(result.Errors)
	for _, problem := range result.Errors {
		if problem.Message == messageInjected {
			c.faults.note(FaultPartialErrors)
		}
	}
	return reply(http.StatusOK, result)
}

const messageInjected = "The export entry cannot be updated at the moment."

// parseChanges checks a body against the schema of the API.
func parseChanges(body []byte) ([]itemChange, answer, bool) {
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil || raw == nil {
		return nil, refuse(http.StatusBadRequest, typeBadRequest, "The body is no JSON array."), false
	}
	if len(raw) > maxItemsPerUpdate {
		return nil, refuse(http.StatusRequestEntityTooLarge, typeUpdateLimit, "Number of items to update is more than 100."), false
	}
	changes := make([]itemChange, len(raw))
	for i := range raw {
		if err := changes[i].parse(raw[i]); err != nil {
			return nil, refuse(http.StatusBadRequest, typeBadRequest, "Element "+strconv.Itoa(i)+": "+err.Error()), false
		}
	}
	return changes, answer{}, true
}

func (ch *itemChange) parse(raw json.RawMessage) error {
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(ch); err != nil {
		return fmt.Errorf("no UpdateExportJobItem: %w", err)
	}
	if ch.AccountingEntryID == nil || ch.Status == nil {
		return fmt.Errorf("accountingEntryId and status are required")
	}
	var ok bool
	if ch.entry, ok = parseID(*ch.AccountingEntryID); !ok {
		return fmt.Errorf("accountingEntryId is no UUID")
	}
	if ch.state, ok = parseItemStatus(*ch.Status); !ok {
		return fmt.Errorf("status %q is unknown", *ch.Status)
	}
	if ch.FailureReasonType != nil && !itemFailureTypes[*ch.FailureReasonType] {
		return fmt.Errorf("failureReasonType %q is unknown", *ch.FailureReasonType)
	}
	if ch.ExportedAt != nil {
		at, err := time.Parse(time.RFC3339, *ch.ExportedAt)
		if err != nil {
			return fmt.Errorf("exportedAt is no date-time: %w", err)
		}
		ch.exportedAt = &at
	}
	return nil
}

// change carries out an update, element by element; the caller holds s.mu.
func (s *Simulator) change(j *job, changes []itemChange, by string, refused func(uuid.UUID) bool) updateAnswer {
	result := updateAnswer{Data: []itemView{}, Errors: []updateError{}}
	now := s.now()
	for i := range changes {
		ch := &changes[i]
		index, held := j.entries.index(ch.entry)
		switch {
		case !held:
			result.Errors = append(result.Errors, updateError{ch.entry, entryUnknown, "Accounting entry does not exist in this export job."})
		case !mayBecome(j.states[index], ch.state):
			result.Errors = append(result.Errors, updateError{
				ch.entry, entryUpdateFailed, "The export entry is " + itemStatus[j.states[index]] + " and cannot become " + *ch.Status + ".",
			})
		case refused != nil && refused(ch.entry):
			result.Errors = append(result.Errors, updateError{ch.entry, entryUpdateFailed, messageInjected})
		default:
			s.keep(j, index, ch)
			s.record(j, index, ch.state, ItemUpdate{At: now, By: by})
			result.Data = append(result.Data, j.itemView(index))
		}
	}
	return result
}

// mayBecome: a final state stays. Reporting the same state again is accepted, so
// that a caller whose reply was lost can repeat itself. The reference says neither.
func mayBecome(from, to itemState) bool {
	return from.open() || from == to
}

// keep stores what was sent and leaves what was not sent as it is.
func (s *Simulator) keep(j *job, index int, ch *itemChange) {
	r := j.results[index]
	if r == nil {
		r = &result{}
		j.results[index] = r
	}
	for _, field := range []struct {
		to   **string
		from *string
	}{
		{&r.externalID, ch.ExternalID}, {&r.externalURL, ch.ExternalURL},
		{&r.failureReason, ch.FailureReason}, {&r.failureReasonType, ch.FailureReasonType},
	} {
		if field.from != nil {
			*field.to = field.from
		}
	}
	if ch.exportedAt != nil {
		r.exportedAt = ch.exportedAt
	}
	r.updates++
}

// record moves an item, renews the job's clock and writes the log of updates.
func (s *Simulator) record(j *job, index int, state itemState, update ItemUpdate) {
	j.setState(index, state)
	if !s.cfg.UpdatesDoNotRenew {
		j.lastUpdatedAt = update.At
	}
	if len(j.updates) >= maxLoggedUpdates {
		j.updatesLost++
		return
	}
	update.AccountingEntryID, update.Status = j.entries.id(index), itemStatus[state]
	if r := j.results[index]; r != nil && r.externalID != nil {
		update.ExternalID = *r.externalID
	}
	j.updates = append(j.updates, update)
}
