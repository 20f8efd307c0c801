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
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/steer"
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
		company, err := knownCompany(ctx, js, id)
		if err != nil {
			return err
		}
		ack, err := steer.Publish(ctx, js, id, company)
		if err != nil {
			return err
		}
		answer := struct {
			JobID    string `json:"jobId"`
			Stream   string `json:"stream"`
			Sequence uint64 `json:"sequence"`
		}{id.String(), ack.Stream, ack.Sequence}
		return s.print(answer, func() error {
			return s.printf("%s", wrap(fmt.Sprintf("Event stored for job %s. `ledgerline job %s` shows how it goes.", id, id), "", tableWidth))
		})
	})
}

// knownCompany is whose job it is where that is known here, else empty: a fetcher with
// no default credential cannot read a job of nobody's.
func knownCompany(ctx context.Context, js jetstream.JetStream, id uuid.UUID) (string, error) {
	store, err := jobstate.Open(ctx, js)
	if err != nil {
		return "", err
	}
	state, _, err := store.Get(ctx, id)
	if errors.Is(err, jobstate.ErrNotFound) {
		return "", nil
	}
	return state.GetCompanyId(), err
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
		return s.print(json.RawMessage(answer.Data), func() error {
			return s.printf("%s", wrap(lookTold(answer.Data), "", tableWidth))
		})
	})
}

// lookTold is a gateway's answer in words. One that is not understood, of a newer
// gateway, is told as it is.
func lookTold(answer []byte) string {
	var o struct {
		CompanyID string `json:"companyId"`
		JobID     string `json:"jobId"`
		Action    string `json:"action"`
		Reason    string `json:"reason"`
	}
	_ = json.Unmarshal(answer, &o) // what is no JSON has no action
	follow := fmt.Sprintf(" `ledgerline job %s` shows how it goes.", o.JobID)
	switch o.Action {
	case "started":
		return fmt.Sprintf("Job %s of company %s is started.", o.JobID, o.CompanyID) + follow
	case "resumed":
		return fmt.Sprintf("Job %s of company %s was in progress at Pleo and is taken up.", o.JobID, o.CompanyID) + follow
	case "busy":
		return fmt.Sprintf("Nothing was started: job %s of company %s is in hand here (%s), and the next one follows it.", o.JobID, o.CompanyID, o.Reason) + follow
	case "nothing":
		return fmt.Sprintf("No job of company %s waits at Pleo.", o.CompanyID)
	case "waiting":
		return fmt.Sprintf("Nothing was started for company %s, and it is tried again by itself: %s.", o.CompanyID, o.Reason)
	case "not_eligible":
		return fmt.Sprintf("Job %s of company %s cannot be started: %s.", o.JobID, o.CompanyID, o.Reason)
	}
	return string(answer)
}
