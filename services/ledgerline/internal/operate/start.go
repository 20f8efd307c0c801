package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Start is `ledgerline start JOB` or `ledgerline start --company ID`.
type Start struct {
	NATS    config.NATS `embed:""`
	Log     config.Log  `embed:""`
	Job     optionalJob `embed:""`
	Company string      `placeholder:"UUID" help:"Ask a gateway to start this company's oldest pending job, in place of naming a job."`
}

// Validate wants one of the two.
func (c Start) Validate() (faults config.Faults) {
	if (c.Job.ID == "") == (c.Company == "") {
		faults.Add("JOB", "or --company is wanted, one of the two", "give a job's id to publish its event, or --company ID to have its oldest pending job started")
	}
	if c.Company != "" {
		if _, err := subject.ParseID(c.Company); err != nil {
			faults.Add("--company", err.Error(), "give the company's id")
		}
	}
	return faults
}

// Run publishes the job-started event and waits until it is stored. The same
// event any number of times does a job's work once. For a company it asks a
// gateway, and prints what that did.
func (c *Start) Run(s *Session) error {
	if c.Company != "" {
		return c.askGateway(s)
	}
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		if _, err := js.Stream(ctx, subject.StreamEvents); err != nil {
			return fmt.Errorf("open stream %s: %w", subject.StreamEvents, err)
		}
		ack, err := Publish(ctx, js, id)
		if err != nil {
			return err
		}
		answer := struct {
			JobID    string `json:"jobId"`
			Stream   string `json:"stream"`
			Sequence uint64 `json:"sequence"`
		}{id.String(), ack.Stream, ack.Sequence}
		return s.print(answer, func() error {
			return s.printf("Event stored for job %s. `ledgerline job %s` shows how it goes.\n", id, id)
		})
	})
}

// askGateway has a gateway look at the company at once.
func (c *Start) askGateway(s *Session) error {
	request, err := json.Marshal(map[string]string{"companyId": strings.ToLower(c.Company)})
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		answer, err := js.Conn().RequestWithContext(ctx, subject.GatewayCheck, request)
		if errors.Is(err, nats.ErrNoResponders) {
			return errors.New("no gateway is running on this server; start one, or `ledgerline up`")
		}
		if err != nil {
			return fmt.Errorf("ask a gateway: %w", err)
		}
		if text := answer.Header.Get(micro.ErrorHeader); text != "" {
			return fmt.Errorf("the gateway says: %s", text)
		}
		return s.print(json.RawMessage(answer.Data), func() error { return s.printf("%s\n", answer.Data) })
	})
}

// Publish publishes the job-started event of a job and waits until it is stored.
func Publish(ctx context.Context, js jetstream.JetStream, job uuid.UUID) (*jetstream.PubAck, error) {
	event, err := json.Marshal(map[string]string{"jobId": job.String()})
	if err != nil {
		return nil, fmt.Errorf("encode the event of job %s: %w", job, err)
	}
	ack, err := js.Publish(ctx, subject.JobStarted, event)
	if err != nil {
		return nil, fmt.Errorf("publish the event of job %s: %w", job, err)
	}
	return ack, nil
}
