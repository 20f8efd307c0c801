package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// maxRequestBytes bounds what is read of a check; one has less than 100 bytes.
const maxRequestBytes = 4 << 10

// request is a check: of a company, or of a job, whose company may be named too:
// where companies have credentials of their own and there is no default one, it
// must be.
type request struct {
	CompanyID string `json:"companyId,omitempty"`
	JobID     string `json:"jobId,omitempty"`
}

// listen offers the endpoint, and with it answers $SRV.PING, until ctx ends.
//
// A request goes through the queue like every other detection, so there is one way
// to a start; whichever gateway takes it answers to the asker.
func (g *Gateway) listen(ctx context.Context) {
	endpoint.Offer(ctx, endpoint.Service{
		Conn: g.config.Conn, Name: subject.ServiceGateway, Description: "Starts a company's next export job", Logger: g.logger,
		Metadata: map[string]string{"gateway": g.config.Name, "company": subject.Scope(g.config.Company)},
		Endpoints: []endpoint.Endpoint{{
			Name: "check", Subject: subject.GatewayCheck,
			Handle: micro.HandlerFunc(func(r micro.Request) { g.ask(ctx, r) }),
		}},
	})
}

// ask stores a check. Its answer comes from whoever carries it out.
func (g *Gateway) ask(ctx context.Context, r micro.Request) {
	asked, err := readRequest(r.Data())
	code := "400"
	if err == nil {
		g.logger.Info().Str("company_id", asked.CompanyID).Str("job_id", asked.JobID).Msg(logevent.CheckAsked)
		code = "503"
		err = g.store(ctx, subject.DetectedAt(nuid.Next()), detection{Ask: asked, Reply: r.Reply()})
	}
	if err == nil {
		return
	}
	if err := r.Error(code, err.Error(), nil); err != nil {
		g.logger.Warn().Err(err).Msg(logevent.EndpointFailed)
	}
}

func readRequest(data []byte) (request, error) {
	if len(data) > maxRequestBytes {
		return request{}, fmt.Errorf("%w, in at most %d bytes", errRequest, maxRequestBytes)
	}
	var r request
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return request{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	if r.CompanyID == "" && r.JobID == "" {
		return request{}, errRequest
	}
	for _, text := range []string{r.CompanyID, r.JobID} {
		if _, err := subject.ParseID(text); text != "" && err != nil {
			return request{}, fmt.Errorf("%w: %w", errRequest, err)
		}
	}
	return r, nil
}

// answer carries out a check and tells the asker what came of it. What could not be
// done now is left in the queue as the detection it amounts to.
func (g *Gateway) answer(ctx context.Context, d detection, logger zerolog.Logger) error {
	company, job := idOf(d.Ask.CompanyID), idOf(d.Ask.JobID)
	var o outcome
	var err error
	again := subject.Detected(subject.DetectedCompany, company)
	switch {
	case company != uuid.Nil && !g.serves(company):
		err = errForeign
	case job != uuid.Nil:
		// Named by its id, a job that is in progress at Pleo is taken up: somebody
		// says that it is ours.
		again = subject.Detected(subject.DetectedResume, job)
		o, err = g.lookForJob(ctx, job, company, true, logger)
	case company != uuid.Nil:
		o, err = g.look(ctx, company, logger)
	default:
		logger.Error().Msg(logevent.DetectionRefused)
		return nil
	}
	var wait *laterError
	if errors.Is(err, errForeign) || ctx.Err() != nil || (errors.As(err, &wait) && wait.in == inHandPause) {
		return err
	}
	if err != nil {
		if o.Action == "" {
			o.Action = waiting
		}
		o.Reason = err.Error()
		if err := g.store(ctx, again, detection{CompanyID: d.Ask.CompanyID}); err != nil {
			return err
		}
	}
	g.tell(d, o, logger)
	return nil
}

// tell sends the outcome to the asker, who may be gone.
func (g *Gateway) tell(d detection, o outcome, logger zerolog.Logger) {
	if d.Reply == "" {
		return
	}
	if o.JobID == "" && d.Ask.JobID != "" {
		o.JobID = idOf(d.Ask.JobID).String()
	}
	if o.CompanyID == "" && d.Ask.CompanyID != "" {
		o.CompanyID = idOf(d.Ask.CompanyID).String()
	}
	data, err := json.Marshal(o)
	if err == nil {
		crashpoint.Before(crashpoint.GatewayAnswer)
		err = g.config.Conn.Publish(d.Reply, data)
		crashpoint.After(crashpoint.GatewayAnswer)
	}
	if err != nil {
		logger.Warn().Err(err).Msg(logevent.EndpointFailed)
	}
}
