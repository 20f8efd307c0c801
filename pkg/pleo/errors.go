package pleo

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrInvalidArgument is returned when the caller's own argument cannot be
	// sent: an id that is no UUID, an unknown event, status or reason type, a
	// failure reason on an event that is not "failed", too many updates.
	// Nothing was sent.
	ErrInvalidArgument = errors.New("invalid argument")

	// ErrCursorRepeated is returned when a page that says hasNextPage carries a
	// cursor that was already followed in this drain, directly or in a cycle.
	ErrCursorRepeated = errors.New("cursor repeated")

	// ErrCursorMissing is returned when a page says hasNextPage and has no
	// endCursor to go on with.
	ErrCursorMissing = errors.New("hasNextPage without endCursor")

	// ErrPageTooLarge is returned when an answer is longer than its bound:
	// MaxPageBytes for a page, MaxObjectBytes for anything else.
	ErrPageTooLarge = errors.New("answer too large")

	// ErrPageShape is returned when an answer is valid JSON of the wrong shape:
	// a required member is missing, has another type, or an id is no UUID; also
	// when the answer is about another job than the one asked for. (Text that is
	// no JSON is trouble on the way, and tried again.)
	ErrPageShape = errors.New("answer of the wrong shape")

	// ErrTooManyPages is returned when a drain passed MaxPages pages, or
	// MaxEmptyPages pages without a row one after another, and the upstream
	// still says hasNextPage.
	ErrTooManyPages = errors.New("too many pages")

	// ErrForeignItem is returned when a job item's exportJobId is empty or
	// another job's, or when a listed job belongs to another company than the
	// one asked for.
	ErrForeignItem = errors.New("row of another job or company")
)

// IsPageFault tells whether err means that the upstream's answer itself cannot
// be trusted (ErrCursorRepeated, ErrCursorMissing, ErrPageTooLarge,
// ErrPageShape, ErrTooManyPages, ErrForeignItem). Such an answer is not tried
// again here; a drain that is begun afresh may go well.
func IsPageFault(err error) bool {
	for _, fault := range []error{
		ErrCursorRepeated, ErrCursorMissing, ErrPageTooLarge,
		ErrPageShape, ErrTooManyPages, ErrForeignItem,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// Error types of the upstream that decide something. The upstream writes them
// in upper case in one place and in lower case in another (trap 29): compare
// with [APIError.HasType].
const (
	TypeExportInProgress       = "EXPORT_ALREADY_IN_PROGRESS"
	TypeExportNotFound         = "EXPORT_NOT_FOUND"
	TypeInvalidStatusChange    = "INVALID_EXPORT_JOB_STATUS_CHANGE"
	TypeItemsUpdateLimit       = "EXPORT_JOB_ITEMS_UPDATE_LIMIT"
	TypeJobStatusUnprocessable = "EXPORT_JOB_STATUS_UNPROCESSABLE"
	TypeMissingContraAccounts  = "MISSING_CONTRA_ACCOUNTS"
	TypeUnsupportedVersion     = "UNSUPPORTED_API_VERSION"
)

// APIError is an answer with a status that is not the wanted one. A call returns
// it at once, except for 401, 408, 429 and 5xx: those are tried again, and show
// up only inside the error of a call whose context ended. Look at the context
// first, then at the status.
type APIError struct {
	Operation  Operation
	Status     int           // HTTP status
	Type       string        // upstream's error type as written, "" when the body had none
	Message    string        // upstream's text, shortened to MaxMessageBytes; for a person
	RequestID  string        // the request-Id header, which Pleo's support asks for
	RetryAfter time.Duration // what Retry-After asked for, at most MaxRetryAfter; 0 when absent
	Attempt    int           // the try of this call that got the answer, from 1; above 1 an earlier one may have done the work
}

// HasType compares the upstream's error type in any letter case.
func (e *APIError) HasType(t string) bool { return strings.EqualFold(e.Type, t) }

func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pleo answered %d", e.Status)
	if e.Type != "" {
		b.WriteString(" " + e.Type)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.RequestID != "" {
		b.WriteString(" (request-Id " + e.RequestID + ")")
	}
	return b.String()
}

// trouble is anything on the way that may pass: no connection, no answer in
// time, a cut body, no credential at hand. It carries text only. Wrapping the
// cause would let a time-out of one request, or of one dial, pass for the end
// of the caller's context (net's time-out errors match
// context.DeadlineExceeded).
type trouble struct {
	code string // for Call.Code
	text string
}

func (t *trouble) Error() string { return t.text }
