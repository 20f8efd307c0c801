package tracing

// The spans of a job's life.
const (
	// SpanStart is a gateway's: from the decision to the published event.
	SpanStart = "start"
	// SpanFetch is a fetcher's, from event to seal: the parent of what it consists
	// of, and of all that consumers do.
	SpanFetch = "fetch"
	SpanDrain = "drain"
	SpanPage  = "page"
	SpanStage = "stage"
	SpanSeal  = "seal"
	// SpanClaim is from a manifest in hand to the claimed job, waits for the
	// company's turn in it.
	SpanClaim = "claim"
	// SpanSend is one item from its turn to its recorded settlement, with an event
	// for each transmission. It links to the item before it. SpanSkip is the same of
	// an item that was booked before and is not sent.
	SpanSend = "send"
	SpanSkip = "skip"
	// SpanReport is one report of results to Pleo, SpanClose the end of the job
	// there.
	SpanReport = "report"
	SpanClose  = "close"
)

// The attributes of spans.
const (
	AttrJob      = "ledgerline.job_id"
	AttrCompany  = "ledgerline.company_id"
	AttrRun      = "ledgerline.run"
	AttrEpoch    = "ledgerline.epoch"
	AttrPosition = "ledgerline.position"
	AttrEntry    = "ledgerline.accounting_entry_id"
	AttrOutcome  = "ledgerline.outcome"
	AttrAttempt  = "ledgerline.attempt"
	AttrItems    = "ledgerline.items"
	AttrPage     = "ledgerline.page"

	// EventSent is a transmission of an item, told once it is answered.
	EventSent = "sent"
)

// Attr is one attribute of a span: a string, or a whole number.
type Attr struct {
	Key    string
	Text   string
	Number int64
	number bool
}

// Text is an attribute that is a string.
func Text(key, value string) Attr { return Attr{Key: key, Text: value} }

// Number is an attribute that is a whole number.
func Number[N ~int | ~int32 | ~int64 | ~uint32 | ~uint64](key string, value N) Attr {
	return Attr{Key: key, Number: int64(value), number: true}
}
