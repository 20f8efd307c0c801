package pleo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// ItemStatus is an export job item's status. The upstream may add values; those
// are kept as received.
type ItemStatus string

// Item statuses of the description.
const (
	ItemPending    ItemStatus = "pending"
	ItemInProgress ItemStatus = "in_progress"
	ItemSuccessful ItemStatus = "successful"
	ItemFailed     ItemStatus = "failed"
	ItemAbandoned  ItemStatus = "abandoned"
)

// Open tells whether the item still waits for a result: pending, or in_progress,
// which only an integration sets and which a restart must not miss (trap 8). An
// unknown status is neither open nor final.
func (s ItemStatus) Open() bool { return s == ItemPending || s == ItemInProgress }

// Final tells whether the item has its result.
func (s ItemStatus) Final() bool {
	return s == ItemSuccessful || s == ItemFailed || s == ItemAbandoned
}

func (s ItemStatus) known() bool { return s.Open() || s.Final() }

// JobItem is the control record of one accounting entry in one job. It carries
// no date, amount or number (trap 16). Strings that the upstream sent as null
// are empty.
type JobItem struct {
	JobID             string // UUID, lower case; always the job asked for
	AccountingEntryID string // UUID, lower case
	Status            ItemStatus
	ExportedAt        time.Time // zero when absent or unreadable
	ExternalID        string
	ExternalURL       string
	FailureReason     string
	FailureReasonType ItemFailureType // null is normal here, whatever the description says (trap 26)
}

type wireJobItem struct {
	ExportJobID       string          `json:"exportJobId"`
	AccountingEntryID string          `json:"accountingEntryId"`
	Status            ItemStatus      `json:"status"`
	ExportedAt        wireDate        `json:"exportedAt"`
	ExternalID        string          `json:"externalId"`
	ExternalURL       string          `json:"externalUrl"`
	FailureReason     string          `json:"failureReason"`
	FailureReasonType ItemFailureType `json:"failureReasonType"`
}

// of checks the row and that it is job's.
func (w wireJobItem) of(job string) (JobItem, error) {
	if w.ExportJobID == "" {
		return JobItem{}, fmt.Errorf("%w: exportJobId is empty", ErrForeignItem)
	}
	id, err := answerID("exportJobId", w.ExportJobID)
	if err != nil {
		return JobItem{}, err
	}
	if id != job {
		return JobItem{}, fmt.Errorf("%w: it is job %s's", ErrForeignItem, id)
	}
	entry, err := answerID("accountingEntryId", w.AccountingEntryID)
	if err != nil {
		return JobItem{}, err
	}
	if w.Status == "" {
		return JobItem{}, fmt.Errorf("%w: status is missing", ErrPageShape)
	}
	return JobItem{
		JobID:             job, // the same text, without keeping one copy a row
		AccountingEntryID: entry,
		Status:            w.Status,
		ExportedAt:        w.ExportedAt.at,
		ExternalID:        w.ExternalID,
		ExternalURL:       w.ExternalURL,
		FailureReason:     w.FailureReason,
		FailureReasonType: w.FailureReasonType,
	}, nil
}

func jobItemRow(job string) func(json.RawMessage) (JobItem, error) {
	return func(raw json.RawMessage) (JobItem, error) {
		var w wireJobItem
		if err := asShape(json.Unmarshal(raw, &w)); err != nil {
			return JobItem{}, err
		}
		return w.of(job)
	}
}

// EachJobItem drains a job's items, GET /v3/export-jobs/{jobId}/items, and hands
// each page that has rows to fn, which may keep it. It sends no status filter:
// with one, items that change while paging would be skipped (trap 14). fn's
// error ends the drain and is returned as it is. After any other error, what fn
// got is a part only.
func (c *Client) EachJobItem(ctx context.Context, jobID string, fn func([]JobItem) error) (PageStats, error) {
	id, err := argumentID("job id", jobID)
	if err != nil {
		return PageStats{Total: -1}, err
	}
	return drain(ctx, c, listing[JobItem]{
		op:    OpListJobItems,
		path:  []string{"v3", "export-jobs", id, "items"},
		of:    "items of job " + id,
		jobID: id,
		row:   jobItemRow(id),
	}, "", fn)
}
