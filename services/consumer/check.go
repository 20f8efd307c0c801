package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// checkLimit bounds a look at Pleo and the sink; a person waits for it.
const checkLimit = 10 * time.Second

// check tells how this worker stands with Pleo and its sink: an operator's own
// machine has the credentials of neither.
func (c *Consumer) check(ctx context.Context, _ struct{}) (endpoint.Check, error) {
	answer := endpoint.Check{
		Worker: c.config.Worker, Payload: string(c.config.Payload), Report: c.config.Report,
		Lease: c.config.Topology.Lease.String(), Replicas: c.config.Topology.Replicas,
		Pleo: endpoint.Ready, Sink: endpoint.Ready,
	}
	if err := c.config.Sink.Ready(ctx); err != nil {
		answer.Sink = err.Error()
	}
	answer.Pleo = c.checkPleo(ctx)
	return answer, nil
}

// checkPleo reads one page of jobs with the default credential. That the credential
// may report as well shows only when there is something to report.
func (c *Consumer) checkPleo(ctx context.Context) string {
	if c.config.Pleo == nil {
		return "not asked: LEDGERLINE_REPORT=false and LEDGERLINE_PAYLOAD=none"
	}
	client, err := c.config.Pleo.For(uuid.Nil)
	if err != nil {
		return "not asked: each company has a credential of its own"
	}
	_, err = client.Jobs(ctx, pleo.JobsQuery{Statuses: []pleo.JobStatus{pleo.JobInProgress}})
	var api *pleo.APIError
	switch {
	case err == nil:
		return endpoint.Ready
	case errors.As(err, &api) && (api.Status == http.StatusUnauthorized || api.Status == http.StatusForbidden):
		return fmt.Sprintf("the credential is refused: %v", api)
	}
	return err.Error()
}
