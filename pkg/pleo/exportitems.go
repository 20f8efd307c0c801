package pleo

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

// ExportItem is the full accounting payload of one entry, of which only what
// puts it in order is read.
type ExportItem struct {
	AccountingEntryID string          // UUID, lower case
	Date              *time.Time      // UTC; nil when absent or unreadable
	DateText          string          // the date as received; "" when absent or null. Payload: not for logs
	Raw               json.RawMessage // the item's JSON text, byte for byte as received
}

func exportItemRow(raw json.RawMessage) (ExportItem, error) {
	var w struct {
		AccountingEntryID string   `json:"accountingEntryId"`
		Date              wireDate `json:"date"`
	}
	if err := asShape(json.Unmarshal(raw, &w)); err != nil {
		return ExportItem{}, err
	}
	entry, err := answerID("accountingEntryId", w.AccountingEntryID)
	if err != nil {
		return ExportItem{}, err
	}
	item := ExportItem{
		AccountingEntryID: entry,
		DateText:          w.Date.raw,
		Raw:               bytes.Clone(raw), // raw is the reader's, and used again
	}
	if !w.Date.at.IsZero() {
		item.Date = &w.Date.at
	}
	return item, nil
}

// EachExportItem drains a job's payload, GET /v3/export-items?job_id=…, and hands
// each page that has rows to fn, which may keep it. It holds all items of the
// job, also those that have their result. fn's error ends the drain and is
// returned as it is. After any other error, what fn got is a part only.
//
// The upstream refuses it with 422 once the job has ended, and as a whole with
// 400 TypeMissingContraAccounts when one account is not mapped (trap 34).
func (c *Client) EachExportItem(ctx context.Context, jobID string, fn func([]ExportItem) error) (PageStats, error) {
	id, err := argumentID("job id", jobID)
	if err != nil {
		return PageStats{Total: -1}, err
	}
	return drain(ctx, c, listing[ExportItem]{
		op:    OpListExportItems,
		path:  []string{"v3", "export-items"},
		query: url.Values{"job_id": {id}},
		of:    "export items of job " + id,
		jobID: id,
		row:   exportItemRow,
	}, "", fn)
}

// ReadsExportItems is nil where this credential may read a job's payload. It asks
// for one item and keeps nothing of it; an answer that cannot be used as a page is
// one all the same. Errors are those of [Client.EachExportItem], a missing scope's
// an *APIError with status 403.
func (c *Client) ReadsExportItems(ctx context.Context, jobID string) error {
	id, err := argumentID("job id", jobID)
	if err != nil {
		return err
	}
	err = c.do(ctx, call{
		op:     OpListExportItems,
		doing:  "read one export item of job " + id,
		jobID:  id,
		method: http.MethodGet,
		path:   []string{"v3", "export-items"},
		query:  url.Values{"job_id": {id}, "limit": {"1"}},
		wanted: only200,
		bound:  c.pageBound,
		take: func(r io.Reader) error {
			_, err := readPage(r, exportItemRow)
			return err
		},
	})
	if IsPageFault(err) {
		return nil
	}
	return err
}
