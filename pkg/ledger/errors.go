package ledger

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

var (
	// ErrFenced is returned when another worker has claimed the job since: this
	// tenure may do nothing more, or gets none. A ledger that was lost looks the same.
	ErrFenced = errors.New("another worker has claimed the job")
	// ErrEnded is returned by Claim when the ledger says that this run of the job
	// has ended, or that a later one has begun.
	ErrEnded = errors.New("this run of the job has ended")
	// ErrSuperseded is returned by Claim when a later run of the job has begun; it
	// is an ErrEnded too.
	ErrSuperseded = fmt.Errorf("a later run has begun: %w", ErrEnded)
	// ErrAside is returned when a tenure without its company's turn is to send or
	// to settle an item.
	ErrAside = errors.New("the job was claimed without its company's turn")
	// ErrUnknown is returned when the ledger has no record of a job.
	ErrUnknown = errors.New("the ledger has no record of the job")
	// ErrNewer is returned when a stored record needs a newer reader.
	ErrNewer = errors.New("the record was written by a newer version; upgrade this program")
)

// CompanyBusyError is returned by Claim while another job of the company has the
// turn and has not ended.
type CompanyBusyError struct {
	Company, Holder uuid.UUID
	// Claimed is the job's own claim where that was stored before another job was
	// faster at the turn: the Last of the next try. Nil where nothing was stored.
	Claimed *Entry
}

func (e *CompanyBusyError) Error() string {
	return fmt.Sprintf("job %s of company %s has the turn", e.Holder, e.Company)
}
