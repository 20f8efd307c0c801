package consumer

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// A leader that is lost while a worker starts is waited for: the worker does not
// end.
func TestAStartWaitsForALeader(t *testing.T) {
	t.Parallel()
	c, ctx := made(t)
	servers := natstest.NewLeaderless(c.js)
	c.js = servers
	if err := c.open(ctx); err != nil {
		t.Fatal(err)
	}
	if looks := servers.Looks(subject.StreamLedger); looks < 3 {
		t.Errorf("the ledger was looked up %d times", looks)
	}
}

// A worker knows what was asked of the jobs before it takes its first manifest: it
// would begin a younger job before a paused one of its company.
func TestAJobIsHeldFromTheFirstManifestOn(t *testing.T) {
	t.Parallel()
	c, ctx := made(t)
	store, err := jobstate.Open(ctx, c.js)
	if err != nil {
		t.Fatal(err)
	}
	company, older, younger := uuid.New(), uuid.New(), uuid.New()
	created := time.Now().Add(-time.Minute)
	_, err = store.Update(ctx, older, func(s *ledgerlinev1.JobState) error {
		s.CompanyId, s.CreatedAt = company.String(), timestamppb.New(created)
		s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED
		s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.open(ctx); err != nil {
		t.Fatal(err)
	}
	if asked := c.turns.request(company, older); asked != ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE {
		t.Errorf("the worker knows of %s", asked)
	}
	if before := c.turns.older(company, younger, created.Add(time.Minute)); len(before) != 1 || before[0].id != older || before[0].phase != ledgerlinev1.JobPhase_JOB_PHASE_PAUSED {
		t.Errorf("older than the younger job: %v", before)
	}
}
