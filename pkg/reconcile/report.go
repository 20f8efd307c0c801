package reconcile

import "time"

// Limit is how long a consumer takes at most to read a job's three sides.
const Limit = 50 * time.Second

// MaxFindings bounds the entries that a report names; the counts are complete.
const MaxFindings = 100

// Request asks a consumer to read a job and, with Fix, to report and close what is
// open at Pleo although the job has ended here.
type Request struct {
	JobID string `json:"jobId"`
	Fix   bool   `json:"fix"`
}

// Report is what the three sides say. Its JSON is what `ledgerline reconcile` gives.
type Report struct {
	JobID     string `json:"jobId"`
	CompanyID string `json:"companyId"`
	// State and Reason are the job's here; State is empty where nothing of it is
	// known.
	State  string `json:"state"`
	Reason string `json:"reason"`

	Pleo   AtPleo   `json:"pleo"`
	Stream InStream `json:"stream"`
	Ledger InLedger `json:"ledger"`

	// Findings are the differences, those of the job before those of its entries.
	Findings []Finding `json:"findings"`
	// More is how many findings were left out.
	More int `json:"more"`
	// Fixed says what was done about them.
	Fixed []string `json:"fixed"`
	// OK is true where nothing needs to be done.
	OK bool `json:"ok"`
}

// AtPleo is the job as Pleo shows it.
type AtPleo struct {
	Status            string `json:"status"`
	FailureReasonType string `json:"failureReasonType"`
	Items             int    `json:"items"`
	Open              int    `json:"open"`
	Successful        int    `json:"successful"`
	// Failed counts the abandoned ones too.
	Failed int `json:"failed"`
}

// InStream is what waits for a worker.
type InStream struct {
	// Sealed is true while the job's manifest is there.
	Sealed bool   `json:"sealed"`
	Run    uint32 `json:"run"`
	Items  int    `json:"items"`
}

// InLedger is what was recorded, over all runs of the job.
type InLedger struct {
	Run      uint32 `json:"run"`
	Epoch    uint64 `json:"epoch"`
	Position uint32 `json:"position"`
	Booked   int    `json:"booked"`
	Failed   int    `json:"failed"`
	// End is the state that the last run ended in, empty while it goes on.
	End string `json:"end"`
}

// Kind names a difference.
type Kind string

// The differences of a job.
const (
	// Unknown: open at Pleo, and nothing is known of it here.
	Unknown Kind = "unknown"
	// Lost: open here, and neither its event nor its manifest is to be found.
	Lost Kind = "lost"
	// Parked: a person must look at it.
	Parked Kind = "parked"
	// NotClosed: ended here, every item is final at Pleo, and the job is still open
	// there.
	NotClosed Kind = "not_closed"
	// EndedAtPleo: open here, ended there.
	EndedAtPleo Kind = "ended_at_pleo"
)

// The differences of an entry.
const (
	// Unreported: it has a result here, and is open at Pleo.
	Unreported Kind = "unreported"
	// Open: open at Pleo without a result here, and the job has ended here.
	Open Kind = "open"
	// Contradiction: the results here and at Pleo are not the same.
	Contradiction Kind = "contradiction"
	// Gone: it was sealed or settled here, and Pleo does not list it.
	Gone Kind = "gone"
)

// Fix is what mends a difference.
type Fix string

// The ways.
const (
	// ByNobody: it ends by itself.
	ByNobody Fix = "none"
	// ByReport: the result is reported again, from the ledger.
	ByReport Fix = "report"
	// ByClose: the closing event is posted.
	ByClose Fix = "close"
	// ByRetry: the job is drained again.
	ByRetry Fix = "retry"
	// ByStart: the job's event is published.
	ByStart Fix = "start"
	// ByPerson: somebody must decide.
	ByPerson Fix = "person"
)

// Finding is one difference.
type Finding struct {
	Kind Kind `json:"kind"`
	// AccountingEntryID is empty for a finding about the job.
	AccountingEntryID string `json:"accountingEntryId"`
	// Pleo is the item's status there, empty where Pleo does not list it.
	Pleo string `json:"pleo"`
	// Ledger is the item's outcome here, empty for none.
	Ledger string `json:"ledger"`
	// ExternalID of the booking.
	ExternalID string `json:"externalId"`
	Fix        Fix    `json:"fix"`
	// Text says it in a sentence.
	Text string `json:"text"`
}
