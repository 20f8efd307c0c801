package pleo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// MaxUpdateBatch is the most items that one update takes; one more, and the
// upstream refuses all of them with 413 (trap 39).
const MaxUpdateBatch = 100

// ItemFailureType says why an item failed. The upstream may add values; those
// are kept when read, and refused when sent.
type ItemFailureType string

// Item failure types of the description, version 3 of the API (trap 27: the
// last four are unknown to older versions).
const (
	ItemReceiptUploadFailure     ItemFailureType = "receipt_upload_failure"
	ItemReceiptDownloadFailure   ItemFailureType = "receipt_download_failure"
	ItemReceiptFileTooLarge      ItemFailureType = "receipt_file_size_limit_exceeded"
	ItemReceiptConversionFailure ItemFailureType = "receipt_conversion_failure"
	ItemUnexpectedFailure        ItemFailureType = "unexpected_failure"
	ItemInvalidConfiguration     ItemFailureType = "invalid_configuration"
	ItemMissingConfiguration     ItemFailureType = "missing_configuration"
	ItemSystemAuthentication     ItemFailureType = "accounting_system_authentication_failure"
	ItemSystemRateLimit          ItemFailureType = "accounting_system_rate_limit"
	ItemSystemUnreachable        ItemFailureType = "accounting_system_unreachable"
	ItemValidationFailure        ItemFailureType = "validation_failure"
	ItemSystemValidationFailure  ItemFailureType = "accounting_system_validation_failure"
	ItemAuthorizationFailure     ItemFailureType = "authorization_failure"
	ItemSystemTimeout            ItemFailureType = "accounting_system_timeout"
	ItemVendorUnknown            ItemFailureType = "vendor_unknown"
	ItemAccountUnknown           ItemFailureType = "account_unknown"
	ItemTaxCodeUnknown           ItemFailureType = "tax_code_unknown"
	ItemTagUnknown               ItemFailureType = "tag_unknown"
)

// Known tells whether the upstream's description has the value.
func (t ItemFailureType) Known() bool {
	switch t {
	case ItemReceiptUploadFailure, ItemReceiptDownloadFailure, ItemReceiptFileTooLarge,
		ItemReceiptConversionFailure, ItemUnexpectedFailure, ItemInvalidConfiguration,
		ItemMissingConfiguration, ItemSystemAuthentication, ItemSystemRateLimit,
		ItemSystemUnreachable, ItemValidationFailure, ItemSystemValidationFailure,
		ItemAuthorizationFailure, ItemSystemTimeout, ItemVendorUnknown, ItemAccountUnknown,
		ItemTaxCodeUnknown, ItemTagUnknown:
		return true
	}
	return false
}

// ItemUpdate is one item's new status. Empty fields are left out of the request;
// whether the upstream then keeps or clears an older value is not documented.
type ItemUpdate struct {
	AccountingEntryID string // any letter case
	Status            ItemStatus
	ExportedAt        time.Time // when the accounting system made the entry (trap 28); sent in UTC, whole seconds
	ExternalID        string
	ExternalURL       string
	FailureReason     string
	FailureReasonType ItemFailureType
}

type wireItemUpdate struct {
	AccountingEntryID string          `json:"accountingEntryId"`
	Status            ItemStatus      `json:"status"`
	ExportedAt        string          `json:"exportedAt,omitempty"`
	ExternalID        string          `json:"externalId,omitempty"`
	ExternalURL       string          `json:"externalUrl,omitempty"`
	FailureReason     string          `json:"failureReason,omitempty"`
	FailureReasonType ItemFailureType `json:"failureReasonType,omitempty"`
}

// exportedAtLayout is the form that the description asks for.
const exportedAtLayout = "2006-01-02T15:04:05Z"

func (u ItemUpdate) wire() (wireItemUpdate, error) {
	entry, err := argumentID("accounting entry id", u.AccountingEntryID)
	if err != nil {
		return wireItemUpdate{}, err
	}
	if !u.Status.known() {
		return wireItemUpdate{}, fmt.Errorf("%w: unknown status of entry %s", ErrInvalidArgument, entry)
	}
	if u.FailureReasonType != "" && !u.FailureReasonType.Known() {
		return wireItemUpdate{}, fmt.Errorf("%w: unknown failure type of entry %s", ErrInvalidArgument, entry)
	}
	w := wireItemUpdate{
		AccountingEntryID: entry,
		Status:            u.Status,
		ExternalID:        u.ExternalID,
		ExternalURL:       u.ExternalURL,
		FailureReason:     shortened(u.FailureReason),
		FailureReasonType: u.FailureReasonType,
	}
	if !u.ExportedAt.IsZero() {
		w.ExportedAt = u.ExportedAt.UTC().Format(exportedAtLayout)
	}
	return w, nil
}

// UpdateResult says what became of each item of an accepted request: a 200 is
// not yet an accepted batch (trap 22).
type UpdateResult struct {
	Updated    []JobItem     // accepted, as the upstream now has them
	Errors     []ItemRefusal // refused
	Unanswered []string      // entries of the request that stand in neither, lower case
}

// ItemRefusal is one element of an update's errors. Branch on its presence: the
// upstream's type names and their descriptions do not match (trap 22).
type ItemRefusal struct {
	AccountingEntryID string // UUID, lower case
	Type              string // as received
	Message           string // for a person, shortened to MaxMessageBytes
}

// UpdateJobItems reports at most MaxUpdateBatch items' results:
// PUT /v3/export-jobs/{jobId}/items, whose body is a bare array (trap 21).
// Without updates nothing is sent.
//
// A reply that gets lost makes us send the same batch again. 422
// TypeJobStatusUnprocessable means that the job has ended, not by whom (trap 4):
// read the job.
func (c *Client) UpdateJobItems(ctx context.Context, jobID string, updates []ItemUpdate) (UpdateResult, error) {
	id, err := argumentID("job id", jobID)
	if err != nil {
		return UpdateResult{}, err
	}
	if len(updates) > MaxUpdateBatch {
		return UpdateResult{}, fmt.Errorf("%w: %d updates, at most %d", ErrInvalidArgument, len(updates), MaxUpdateBatch)
	}
	if len(updates) == 0 {
		return UpdateResult{}, nil
	}
	batch := make([]wireItemUpdate, len(updates))
	for i, u := range updates {
		if batch[i], err = u.wire(); err != nil {
			return UpdateResult{}, err
		}
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return UpdateResult{}, fmt.Errorf("encode %d updates of job %s: %w", len(updates), id, err)
	}
	var result UpdateResult
	err = c.do(ctx, call{
		op:     OpUpdateJobItems,
		doing:  fmt.Sprintf("update %d items of job %s", len(updates), id),
		jobID:  id,
		method: http.MethodPut,
		path:   []string{"v3", "export-jobs", id, "items"},
		body:   body,
		wanted: only200,
		bound:  MaxObjectBytes,
		take: func(r io.Reader) (err error) {
			result, err = readUpdateResult(r, id, batch)
			return err
		},
	})
	if err != nil {
		return UpdateResult{}, err
	}
	return result, nil
}

func readUpdateResult(r io.Reader, job string, batch []wireItemUpdate) (UpdateResult, error) {
	var answer struct {
		Data   []wireJobItem `json:"data"`
		Errors []struct {
			AccountingEntryID string `json:"accountingEntryId"`
			Type              string `json:"type"`
			Message           string `json:"message"`
		} `json:"errors"`
	}
	if err := readObject(r, &answer); err != nil {
		return UpdateResult{}, err
	}
	// Either may be absent when it has nothing to say; Unanswered shows what
	// neither of them speaks of. Both absent is another answer than ours.
	if answer.Data == nil && answer.Errors == nil {
		return UpdateResult{}, fmt.Errorf("%w: neither data nor errors", ErrPageShape)
	}
	var result UpdateResult
	answered := make(map[string]struct{}, len(batch))
	for i, w := range answer.Data {
		item, err := w.of(job)
		if err != nil {
			return UpdateResult{}, fmt.Errorf("row %d of data: %w", i+1, err)
		}
		answered[item.AccountingEntryID] = struct{}{}
		result.Updated = append(result.Updated, item)
	}
	for i, w := range answer.Errors {
		entry, err := answerID("accountingEntryId", w.AccountingEntryID)
		if err != nil {
			return UpdateResult{}, fmt.Errorf("row %d of errors: %w", i+1, err)
		}
		answered[entry] = struct{}{}
		result.Errors = append(result.Errors, ItemRefusal{
			AccountingEntryID: entry,
			Type:              printable(w.Type),
			Message:           printable(w.Message),
		})
	}
	for _, u := range batch {
		if _, ok := answered[u.AccountingEntryID]; !ok {
			result.Unanswered = append(result.Unanswered, u.AccountingEntryID)
		}
	}
	return result, nil
}
