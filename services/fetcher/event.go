package fetcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// readEvent understands a job-started event; company is uuid.Nil where it names
// none. Its error is a sentence for a person; job is set where the event named one
// all the same.
func readEvent(contentType string, body []byte) (job, company uuid.UUID, err error) {
	if len(body) > parked.MaxEvent {
		return uuid.Nil, uuid.Nil, parkEvent("the event has %d bytes, more than %d", len(body), parked.MaxEvent)
	}
	started := new(ledgerlinev1.JobStarted)
	mediaType := contentType
	if parsed, _, err := mime.ParseMediaType(contentType); err == nil {
		mediaType = parsed
	}
	if mediaType == subject.ContentTypeProtobuf {
		if err := proto.Unmarshal(body, started); err != nil {
			return uuid.Nil, uuid.Nil, parkEvent("the event is no ledgerline.v1.JobStarted: %v", err)
		}
	} else if started, err = readJSON(body); err != nil {
		return uuid.Nil, uuid.Nil, err
	}
	if started.GetJobId() == "" {
		return uuid.Nil, uuid.Nil, parkEvent("the event has no jobId")
	}
	job, err = subject.ParseID(started.GetJobId())
	if err != nil {
		return uuid.Nil, uuid.Nil, parkEvent("the event's jobId %v", err)
	}
	// The company tells which credential to read the job with; then the job's own
	// wins. One that cannot be an id shows a publisher at fault.
	if c := started.GetCompanyId(); c != "" {
		if company, err = subject.ParseID(c); err != nil {
			return job, uuid.Nil, parkEvent("the event's companyId %v", err)
		}
	}
	return job, company, nil
}

// contentTypeOf is the event's content type. NATS takes header names letter by
// letter, and publishers that know headers from HTTP write them in any case.
func contentTypeOf(msg jetstream.Msg) string {
	for name, values := range msg.Headers() {
		if strings.EqualFold(name, subject.HeaderContentType) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

func readJSON(body []byte) (*ledgerlinev1.JobStarted, error) {
	var event struct {
		JobID     string `json:"jobId"`
		CompanyID string `json:"companyId"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&event); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			if wrong.Field == "" {
				return nil, parkEvent("the event's body is a JSON %s, must be an object", wrong.Value)
			}
			return nil, parkEvent("the event's %s is a JSON %s, must be a string", wrong.Field, wrong.Value)
		}
		return nil, parkEvent("the event is not JSON: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, parkEvent("the event is not JSON: something stands behind the object")
	}
	return &ledgerlinev1.JobStarted{JobId: event.JobID, CompanyId: event.CompanyID}, nil
}
