package subject

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Streams and the bucket of the outside contract, section 9.
const (
	StreamEvents = "LEDGERLINE_EVENTS"
	StreamPipe   = "LEDGERLINE_PIPE"
	StreamLedger = "LEDGERLINE_LEDGER"
	StreamParked = "LEDGERLINE_PARKED"
	BucketJobs   = "LEDGERLINE_JOBS"
)

// Durables.
const (
	// DurableFetcher takes job-started events off StreamEvents.
	DurableFetcher = "fetcher"
	// DurableConsumer takes sealed manifests off StreamPipe. It is the one
	// stable durable that autoscalers watch.
	DurableConsumer = "consumer"
	// DurableJobPrefix begins the name of a claimed job's consumer.
	DurableJobPrefix = "job-"
)

// Subjects and filters.
const (
	JobStarted = "ledgerline.jobs.started"

	AllItems  = "ledgerline.items.*.*"
	AllReady  = "ledgerline.ready.*"
	AllLedger = "ledgerline.ledger.*.*"
	AllBooked = "ledgerline.booked.*.*"
	AllTurns  = "ledgerline.turn.*"
	AllParked = "ledgerline.parked.>"

	ready     = "ledgerline.ready."
	parkedJob = "ledgerline.parked.job."
)

// Headers on our messages.
const (
	// HeaderContentType tells how a job-started event is encoded.
	HeaderContentType = "Content-Type"
	// ContentTypeProtobuf marks an event encoded as ledgerline.v1.JobStarted.
	ContentTypeProtobuf = "application/x-protobuf"
	// HeaderTraceparent carries the W3C trace context of a job, on its event and on
	// its manifest.
	HeaderTraceparent = "traceparent"
)

// Items is where one drain of a job stores its items. attempt is a NUID.
func Items(job uuid.UUID, attempt string) string {
	return "ledgerline.items." + job.String() + "." + attempt
}

// ItemsOf matches the items of every drain of a job.
func ItemsOf(job uuid.UUID) string { return "ledgerline.items." + job.String() + ".*" }

// ItemsAttempt is the job and the attempt that an items subject names.
func ItemsAttempt(subject string) (job uuid.UUID, attempt string, ok bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || tokens[0] != "ledgerline" || tokens[1] != "items" {
		return uuid.Nil, "", false
	}
	job, err := ParseID(tokens[2])
	return job, tokens[3], err == nil
}

// Ready carries the sealed manifest of a job.
func Ready(job uuid.UUID) string { return ready + job.String() }

// ReadyJob is the job that a manifest's subject names.
func ReadyJob(subject string) (uuid.UUID, bool) {
	id, ours := strings.CutPrefix(subject, ready)
	if !ours {
		return uuid.Nil, false
	}
	job, err := ParseID(id)
	return job, err == nil
}

// Ledger carries the records of a job.
func Ledger(company, job uuid.UUID) string {
	return "ledgerline.ledger." + company.String() + "." + job.String()
}

// LedgerOfJob matches the records of a job whose company is not known.
func LedgerOfJob(job uuid.UUID) string { return "ledgerline.ledger.*." + job.String() }

// LedgerJob is the company and the job that a ledger subject names.
func LedgerJob(subject string) (company, job uuid.UUID, ok bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || tokens[0] != "ledgerline" || tokens[1] != "ledger" {
		return uuid.Nil, uuid.Nil, false
	}
	company, errCompany := ParseID(tokens[2])
	job, errJob := ParseID(tokens[3])
	return company, job, errCompany == nil && errJob == nil
}

// Booked carries the folded bookings of a job.
func Booked(company, job uuid.UUID) string {
	return "ledgerline.booked." + company.String() + "." + job.String()
}

// BookedOf matches the folded bookings of a company.
func BookedOf(company uuid.UUID) string { return "ledgerline.booked." + company.String() + ".*" }

// Turn says which job of a company is being worked on.
func Turn(company uuid.UUID) string { return "ledgerline.turn." + company.String() }

// ParkedJob carries a job that a person must look at.
func ParkedJob(job uuid.UUID) string { return parkedJob + job.String() }

// IsParkedJob tells whether the subject carries a job, and not an event.
func IsParkedJob(subject string) bool { return strings.HasPrefix(subject, parkedJob) }

// ParkedEvent carries an event that a person must look at; digest is a hex
// string, so that the same event parked twice stands once.
func ParkedEvent(digest string) string { return "ledgerline.parked.event." + digest }

// DurableJob is the consumer of one claimed job.
func DurableJob(job uuid.UUID) string { return DurableJobPrefix + job.String() }

// Metadata of our consumers, so that a listing of consumers (`nats consumer report`,
// an exporter) tells what each is for.
const (
	MetadataRole    = "ledgerline.role"
	MetadataJob     = "ledgerline.job"
	MetadataCompany = "ledgerline.company"

	// RoleJob is the consumer of one claimed job: its pending and ack-pending are
	// the job's lag.
	RoleJob = "job"
	// RoleReady is the stable durable of the manifests, RoleEvents that of the
	// job-started events, RoleDetected that of the gateways' detections.
	RoleReady    = "ready"
	RoleEvents   = "events"
	RoleDetected = "detected"
)

// JobMetadata is what the consumer of a job says of itself.
func JobMetadata(job, company uuid.UUID) map[string]string {
	return map[string]string{MetadataRole: RoleJob, MetadataJob: job.String(), MetadataCompany: company.String()}
}

// ParseID reads a UUID in its 36-character form, in any letter case. Other
// forms that UUID libraries take (braces, urn:uuid:, no hyphens) are refused:
// an id must have one spelling to be one key.
func ParseID(s string) (uuid.UUID, error) {
	if len(s) != 36 {
		return uuid.Nil, fmt.Errorf("%q is not a UUID", clip(s))
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%q is not a UUID", clip(s))
	}
	return id, nil
}

// clip keeps a hostile id from filling a log line or a reason.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
