package subject

import (
	"strings"

	"github.com/google/uuid"
)

// The gateway's own names: its queue of detections and its endpoint.
const (
	// StreamDetected holds what was detected and is not settled yet.
	StreamDetected = "LEDGERLINE_DETECTED"
	// DurableGateway takes detections off StreamDetected.
	DurableGateway = "gateway"
	// AllDetected matches every detection.
	AllDetected = detected + ".>"

	// ServiceGateway is the gateways' name among the NATS micro services.
	ServiceGateway = "ledgerline-gateway"
	// GatewayCheck is the endpoint that looks at a company or a job at once.
	GatewayCheck = "ledgerline.gateway.check"

	detected = "ledgerline.detected"
)

// Detection says what a detection asks for: the token behind the prefix of its
// subject. The subject's last token says of what.
type Detection string

// The detections. The queue keeps one message a subject, so the same wish twice
// is one message.
const (
	// DetectedCompany: look which job of the company comes next.
	DetectedCompany Detection = "company"
	// DetectedJob: the same for a job whose company is not known.
	DetectedJob Detection = "job"
	// DetectedResume: a job that is in progress at Pleo and not known here.
	DetectedResume Detection = "resume"
	// DetectedCheck: somebody asked, and waits for the answer.
	DetectedCheck Detection = "check"
	// DetectedPoll: the clock of the polls; handed back with the interval.
	DetectedPoll Detection = "poll"
	// DetectedStart: the poll of a gateway that starts.
	DetectedStart Detection = "start"
)

// EveryCompany stands in place of a company in the polls' subjects.
const EveryCompany = "all"

// Detected carries a detection about an id.
func Detected(d Detection, id uuid.UUID) string {
	return detected + "." + string(d) + "." + id.String()
}

// DetectedAt carries a check, by a NUID.
func DetectedAt(check string) string { return detected + "." + string(DetectedCheck) + "." + check }

// DetectedIn carries a poll over one company, or over every one for uuid.Nil.
func DetectedIn(d Detection, company uuid.UUID) string {
	return detected + "." + string(d) + "." + Scope(company)
}

// Scope is the last token of a poll's subject.
func Scope(company uuid.UUID) string {
	if company == uuid.Nil {
		return EveryCompany
	}
	return company.String()
}

// ParseDetected is what a subject of StreamDetected asks for, and of what.
func ParseDetected(subject string) (d Detection, of string, ok bool) {
	rest, ok := strings.CutPrefix(subject, detected+".")
	if !ok {
		return "", "", false
	}
	kind, of, ok := strings.Cut(rest, ".")
	return Detection(kind), of, ok && of != ""
}
