package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// A leader that is lost while a worker starts is waited for: the worker does not
// end.
func TestAStartWaitsForALeader(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	options := topology.Options{Replicas: 1, Lease: time.Minute}
	if err := topology.Ensure(ctx, js, options, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{
		Conn: js.Conn(), Logger: zerolog.Nop(), Worker: "worker", ConcurrentJobs: 1,
		Payload: PayloadNone, OnFailure: OnFailureContinue,
		Topology: options, APITimeout: topology.APITimeout(options.Lease),
	})
	if err != nil {
		t.Fatal(err)
	}
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	options := topology.Options{Replicas: 1, Lease: time.Minute}
	if err := topology.Ensure(ctx, js, options, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	store, err := jobstate.Open(ctx, js)
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
	c, err := New(Config{
		Conn: js.Conn(), Logger: zerolog.Nop(), Worker: "worker", ConcurrentJobs: 1,
		Payload: PayloadNone, OnFailure: OnFailureContinue,
		Topology: options, APITimeout: topology.APITimeout(options.Lease),
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
