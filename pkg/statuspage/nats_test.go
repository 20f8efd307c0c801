package statuspage

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// The page waits for the streams, shows what they say, and its actions stand in
// the job's state.
func TestThePageOnNATS(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	page := New(Options{Program: "test", Token: func() (string, error) { return testToken, nil }})
	before := page.now
	worker, err := OnNATS(page, js.Conn(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := worker.Ready(ctx); err != nil {
		t.Error(err)
	}
	if !strings.Contains(before.view.Verdict.Headline, "Not connected") {
		t.Errorf("before the streams are there: %+v", before.view.Verdict)
	}
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	jobs, err := jobstate.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	waiting, stopped := uuid.MustParse(jobA), uuid.MustParse(jobB)
	for job, phase := range map[uuid.UUID]ledgerlinev1.JobPhase{waiting: ledgerlinev1.JobPhase_JOB_PHASE_SEALED, stopped: ledgerlinev1.JobPhase_JOB_PHASE_PARKED} {
		if _, err := jobs.Update(ctx, job, func(s *ledgerlinev1.JobState) error {
			s.Phase, s.Total, s.CompanyId, s.Run = phase, 12, uuid.NewString(), 1
			s.Deadline = timestamppb.New(time.Now().Add(30 * time.Hour))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	store, err := parked.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Job(ctx, stopped, uuid.Nil, "the accounts are missing"); err != nil {
		t.Fatal(err)
	}
	if err := store.Event(ctx, uuid.Nil, []byte("<"), "text/plain", "it is not JSON"); err != nil {
		t.Fatal(err)
	}
	v := until(t, page, func(v *view) bool { return len(v.Parked.Rows) == 2 && len(v.Waiting.Rows) == 1 })
	if v.Verdict.Headline != "2 things need you" || v.Parked.Rows[0].Reason != "the accounts are missing" || !v.Parked.Rows[1].Event || v.Waiting.Rows[0].Done != "12 items" {
		t.Errorf("the page shows %+v", v)
	}
	source := &installation{js: js}
	if text, err := source.Steer(ctx, waiting, Pause); err != nil || !strings.Contains(text, "paused") {
		t.Errorf("pause: %q, %v", text, err)
	}
	v = until(t, page, func(v *view) bool { return len(v.Running.Rows) == 1 })
	if row := v.Running.Rows[0]; row.Label != "Paused" || row.Actions[0] != Resume {
		t.Errorf("a paused job is %+v", row)
	}
	// A page may stand on a consumer, which must not publish events: a fetcher does.
	asked, err := js.Conn().SubscribeSync(subject.FetcherAgain)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if msg, err := asked.NextMsg(30 * time.Second); err == nil {
			_ = msg.Respond([]byte("{}"))
		}
	}()
	if text, err := source.Steer(ctx, stopped, Retry); err != nil || !strings.Contains(text, "drained again") {
		t.Errorf("retry: %q, %v", text, err)
	}
	until(t, page, func(v *view) bool { return v.draining == 1 && len(v.Parked.Rows) == 1 })
}

// until waits for a state of the page.
func until(t *testing.T, page *Page, is func(*view) bool) *view {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		now := page.fresh(t.Context().Done())
		if is(now.view) {
			return now.view
		}
		select {
		case <-now.replaced:
		case <-limit:
			t.Fatalf("it does not come; the page shows %+v", now.view)
		}
	}
}

// What one reading of a thousand open jobs costs, on a server that syncs nothing.
func BenchmarkReadAThousandJobs(b *testing.B) {
	js := natstest.Start(b).JetStream(b)
	ctx := b.Context()
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()); err != nil {
		b.Fatal(err)
	}
	jobs, err := jobstate.Open(ctx, js)
	if err != nil {
		b.Fatal(err)
	}
	for range 1_000 {
		if _, err := jobs.Update(ctx, uuid.New(), func(s *ledgerlinev1.JobState) error {
			s.Phase, s.Total, s.CompanyId, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, 12, uuid.NewString(), 1
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	source := &installation{js: js}
	for b.Loop() {
		if _, err := source.Read(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
