package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

func TestTheOldestJobIsStartedAndTheNextWhenItHasEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	var jobs []uuid.UUID
	for range 5 { // three pages of two
		jobs = append(jobs, b.pleo.add(company, "pending"))
	}
	b.start() // no poll but the one at the start, no webhook
	for i, job := range jobs {
		b.wantEvent(job)
		for _, later := range jobs[i+1:] {
			if n := b.pleo.job(later).started; n != 0 {
				t.Fatalf("job %s was started %d times before its turn", later, n)
			}
		}
		if i == 2 {
			// Parked is an end as well: the next may begin, whatever Pleo says of this one.
			b.pleo.end(job, "failed", "job_expired")
			b.endHere(job, ledgerlinev1.JobPhase_JOB_PHASE_PARKED)
			continue
		}
		b.end(job)
	}
	b.settled()
	b.noEvents()
	for _, job := range jobs {
		if j := b.pleo.job(job); j.started != 1 || j.refused != 0 {
			t.Errorf("job %s was started %d times, refused %d", job, j.started, j.refused)
		}
	}
}

func TestTheMarkIsTheFetchersDrainingJobOnceTheEventIsOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	var marked *ledgerlinev1.JobState
	b.pleo.set(func(p *fakePleo) {
		p.posting = func(http.ResponseWriter, *fakeJob) bool {
			marked = b.state(job)
			return false
		}
	})
	g := b.start()
	b.wantEvent(job)
	if !jobstate.Starting(marked) || marked.GetWorker() != g.config.Name || marked.GetCreatedAt() == nil || marked.GetDeadline() == nil {
		t.Errorf("before \"started\" the bucket says %v", marked)
	}
	handed := b.waitState(job, func(s *ledgerlinev1.JobState) bool { return s.GetWorker() == "" })
	if handed.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_DRAINING || handed.GetCompanyId() != b.pleo.company(job.String()) || handed.GetRun() != 1 {
		t.Errorf("after the event the bucket says %v", handed)
	}
}

func TestASinkThatIsNotReadyLeavesTheJobAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	sink := &sinkSwitch{err: errors.New("no period is open"), asked: make(chan struct{}, 10)}
	b.start(func(c *Config) { c.Sink = sink })
	line := b.log.Wait(logevent.JobLeftAlone)
	if reason, _ := line["error"].(string); reason != "not ready: the sink: no period is open" {
		t.Errorf("the reason shown is %q", reason)
	}
	for range 2 { // a second question: the first one's job was not started
		select {
		case <-sink.asked:
		case <-b.ctx().Done():
			t.Fatal("the sink was not asked again")
		}
	}
	if n := b.pleo.count("POST"); n != 0 || b.state(job) != nil {
		t.Errorf("%d posts, state %v: the job was not left alone", n, b.state(job))
	}
	sink.set(nil)
	b.wantEvent(job)
}

// A crash between "started" and the event: the connection is gone before the event
// can be published. Another gateway, whose own start has polled long before, finds
// the job.
func TestACrashAfterStartedLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gateways := map[string]*running{}
	for n := 1; n <= 2; n++ {
		g := b.start()
		gateways[g.config.Name] = g
		b.log.WaitCount(logevent.JobsPolled, n)
	}
	company := uuid.New()
	job := b.pleo.add(company, "pending")
	b.pleo.set(func(p *fakePleo) {
		p.posted = func(http.ResponseWriter, *fakeJob) bool {
			gateways[b.state(job).GetWorker()].conn.Close()
			return false
		}
	})
	b.announce(createdHook(job, company))
	b.wantEvent(job)
	b.log.Wait(logevent.JobTaken)
	b.settled()
	b.noEvents()
	if j := b.pleo.job(job); j.started != 1 || b.pleo.count("POST") != 1 {
		t.Errorf("started %d times by %d posts, want one of each (trap 7)", j.started, b.pleo.count("POST"))
	}
}

// A crash between the mark and "started".
func TestACrashBeforeStartedLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	other := b.start()
	b.log.WaitCount(logevent.JobsPolled, 1)
	job := b.pleo.add(company, "pending")
	next := b.pleo.add(company, "pending")
	// What a gateway leaves behind that dies there: its mark, and the detection.
	_, err := b.jobs.Update(b.ctx(), job, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.Worker, s.CompanyId, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, "gateway-of-the-dead", company.String(), 1
		s.CreatedAt = timestamppb.New(b.pleo.job(job).created)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	other.announce(t, next, b.pleo)
	b.wantEvent(job)
	if took := time.Since(began); took < testLease {
		t.Errorf("the mark was taken over after %s, within the lease of %s", took, testLease)
	}
	b.log.Wait(logevent.JobTaken)
	b.end(job)
	b.wantEvent(next)
}

// A gateway that is alive keeps its mark for as long as it takes.
func TestALivingGatewayKeepsItsMark(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	slow := make(chan struct{})
	release := sync.OnceFunc(func() { close(slow) })
	t.Cleanup(release)
	reads := 0
	b.pleo.set(func(p *fakePleo) {
		p.reading = func(w http.ResponseWriter, job *fakeJob) bool {
			if reads++; reads > 1 {
				return false
			}
			view := map[string]any{"data": job.view()}
			p.mu.Unlock()
			<-slow
			p.mu.Lock()
			writeJSON(w, http.StatusOK, view)
			return true
		}
	})
	first := b.start()
	b.pleo.wait("GET /v3/export-jobs/", 1)
	second := b.start()
	second.announce(t, job, b.pleo)
	// For three leases the first one renews it, and the second one looks on.
	renewed, enough := context.WithCancel(b.ctx())
	defer enough()
	revisions := 0
	err := b.jobs.Watch(renewed, func(s *ledgerlinev1.JobState, _ time.Time, _ bool) {
		if s.GetWorker() != first.config.Name {
			t.Errorf("the mark is %q's", s.GetWorker())
			enough()
		}
		if revisions++; revisions == 12 {
			enough()
		}
	})
	if err != nil || revisions < 12 {
		t.Fatalf("the mark was renewed %d times: %v", revisions, err)
	}
	release()
	b.wantEvent(job)
	b.settled()
	b.noEvents()
	if b.pleo.job(job).started != 1 || b.pleo.job(job).refused != 0 {
		t.Errorf("started %d times, refused %d", b.pleo.job(job).started, b.pleo.job(job).refused)
	}
}

// Trap 6: the reply to "started" is lost; the repetition is refused, and counts as
// done.
func TestALostReplyToStartedCountsAsDone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	b.pleo.set(func(p *fakePleo) {
		p.posted = func(w http.ResponseWriter, _ *fakeJob) bool {
			cut(w)
			return true
		}
	})
	b.start()
	b.wantEvent(job)
	if j := b.pleo.job(job); j.started != 1 || j.refused != 1 {
		t.Errorf("started %d times, refused %d times, want 1 and 1", j.started, j.refused)
	}
	b.settled()
	b.noEvents()
}

// Trap 5: after 202 the job still looks pending. It is not started again, and the
// fetchers hear of it only when it no longer does: they park a pending job.
func TestAnAcceptedStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	b.pleo.set(func(p *fakePleo) {
		p.posted = func(_ http.ResponseWriter, job *fakeJob) bool {
			job.stale = 3
			return false
		}
	})
	g := b.start()
	b.wantEvent(job)
	if left := b.pleo.job(job).stale; left != 0 {
		t.Errorf("the event came while the job looked pending, for %d more reads", left)
	}
	g.announce(t, job, b.pleo) // the same again
	b.settled()
	b.noEvents()
	if n := b.pleo.count("POST"); n != 1 {
		t.Errorf("%d posts, want 1", n)
	}
}

// Trap 4: "started" is refused because the user has cancelled in that moment. The
// job is over here, and the company's next one begins.
func TestAJobThatEndsAtPleoBeforeItsStartMakesWay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	cancelled, next := b.pleo.add(company, "pending"), b.pleo.add(company, "pending")
	b.pleo.set(func(p *fakePleo) {
		p.posting = func(_ http.ResponseWriter, job *fakeJob) bool {
			if job.id == cancelled.String() {
				job.status, job.reasonType = "failed", "canceled_by_user"
			}
			return false
		}
	})
	b.start()
	b.wantEvent(next)
	state := b.state(cancelled)
	if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED || state.GetWorker() != "" || state.GetReason() != "the job is failed at Pleo, canceled_by_user" {
		t.Errorf("the cancelled job is %v", state)
	}
}

// Contract, section 5: 400, 404 and others park the job; 403 is the credential's.
func TestARefusedStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		parked bool
	}{
		{"bad request", http.StatusBadRequest, true},
		{"not found", http.StatusNotFound, true},
		{"forbidden", http.StatusForbidden, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			company := uuid.New()
			job, next := b.pleo.add(company, "pending"), b.pleo.add(company, "pending")
			b.pleo.set(func(p *fakePleo) {
				p.find(job.String()).passed = c.parked
				p.posting = func(w http.ResponseWriter, j *fakeJob) bool {
					if j.id != job.String() {
						return false
					}
					refuse(w, c.status, "SOME_TYPE")
					return true
				}
			})
			b.start()
			if !c.parked {
				b.log.Wait(logevent.JobLeftAlone)
				if b.pleo.job(next).started != 0 || !jobstate.Starting(b.state(job)) {
					t.Errorf("a missing scope cost the job its turn: %v", b.state(job))
				}
				return
			}
			b.wantEvent(next)
			if s := b.state(job); s.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
				t.Errorf("the refused job is %v", s)
			}
			info, err := b.stream(subject.StreamParked).Info(b.ctx())
			if err != nil || info.State.Msgs != 1 {
				t.Errorf("%v jobs are parked, want 1: %v", info.State.Msgs, err)
			}
		})
	}
}

// A job whose payload the credential may not read is left alone,
// and said so, until it may; it would be parked by the fetcher otherwise, with its
// hour running. Everything else that Pleo answers there is the fetcher's to judge.
func TestAMissingPayloadScopeLeavesTheJobAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		status  int
		reads   bool
		started bool
	}{
		{"forbidden", http.StatusForbidden, true, false},
		{"forbidden and not needed", http.StatusForbidden, false, true},
		{"a contra account is missing", http.StatusBadRequest, true, true},
		{"granted", http.StatusOK, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			company := uuid.New()
			job := b.pleo.add(company, "pending")
			b.pleo.set(func(p *fakePleo) {
				p.exporting = func(w http.ResponseWriter, _ *fakeJob) bool {
					if c.status != http.StatusOK {
						refuse(w, c.status, "SOME_TYPE")
					}
					return c.status != http.StatusOK
				}
			})
			b.start(func(config *Config) { config.ReadsPayload = c.reads })
			if c.started {
				b.wantEvent(job)
			} else {
				b.waitState(job, func(s *ledgerlinev1.JobState) bool {
					return jobstate.Starting(s) && strings.Contains(s.GetReason(), "not started: ") && strings.Contains(s.GetReason(), "403 SOME_TYPE")
				})
				b.log.Wait(logevent.JobLeftAlone)
				b.noEvents()
				if got := b.pleo.job(job).started; got != 0 {
					t.Errorf("the job was started %d times", got)
				}
				// Somebody grants the scope, and the next look starts the job.
				b.pleo.set(func(p *fakePleo) { p.exporting = nil })
				b.announce(createdHook(job, company))
				b.wantEvent(job)
				b.waitState(job, func(s *ledgerlinev1.JobState) bool { return s.GetReason() == "" && s.GetWorker() == "" })
			}
			if got := b.pleo.job(job).started; got != 1 {
				t.Errorf("the job was started %d times", got)
			}
			asked := b.pleo.count("GET /v3/export-items?job_id=" + job.String() + "&limit=1")
			if c.reads == (asked == 0) {
				t.Errorf("the payload was asked for %d times", asked)
			}
		})
	}
}

// Traps 7 and 9: what is in progress at Pleo and not known here is resumed at the
// start, without a second "started".
func TestAJobInProgressIsResumedAtTheStart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	job, next := b.pleo.add(company, "in_progress"), b.pleo.add(company, "pending")
	b.start()
	b.wantEvent(job)
	if n := b.pleo.count("POST"); n != 0 {
		t.Errorf("%d posts for a job that was started before", n)
	}
	b.end(job)
	b.wantEvent(next)
}

// Trap 10: in a normal run a job in progress that is not known here is another
// integration's. It blocks its company and is not taken, until somebody names it.
func TestAJobInProgressElsewhereBlocksItsCompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.start()
	b.log.WaitCount(logevent.JobsPolled, 1)
	company := uuid.New()
	foreign, mine := b.pleo.add(company, "in_progress"), b.pleo.add(company, "pending")
	g.announce(t, mine, b.pleo)
	b.log.Wait(logevent.JobLeftAlone)
	if n := b.pleo.count("POST"); n != 0 {
		t.Errorf("%d posts while another job is in progress", n)
	}
	b.noEvents()
	b.pleo.end(foreign, "completed", "")
	g.announce(t, mine, b.pleo)
	b.wantEvent(mine)
}

// A job that is in work here blocks its company also when Pleo has closed it
// already: the report of its last items may still be on its way.
func TestAJobInWorkHereBlocksItsCompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	first := b.pleo.add(company, "completed")
	b.endHere(first, ledgerlinev1.JobPhase_JOB_PHASE_REPORTING)
	next := b.pleo.add(company, "pending")
	g := b.start()
	b.log.WaitCount(logevent.JobsPolled, 1)
	g.announce(t, next, b.pleo)
	b.settled()
	if n := b.pleo.job(next).started; n != 0 {
		t.Fatalf("the next job was started %d times before the first had ended", n)
	}
	b.endHere(first, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED)
	b.wantEvent(next)
}

// A person may delete what is known here of a job; it begins anew.
func TestAJobWhoseStateWasDeletedIsStarted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	b.endHere(job, ledgerlinev1.JobPhase_JOB_PHASE_REPORTING)
	kv, err := b.js.KeyValue(b.ctx(), subject.BucketJobs)
	if err == nil {
		err = kv.Delete(b.ctx(), job.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wantEvent(job)
}

// A gateway that stops follows the bucket no more: what it takes for busy is another
// one's to look at.
func TestAStoppingGatewayDoesNotSayBusy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.gateway()
	company := uuid.New()
	g.here.visit(&ledgerlinev1.JobState{
		JobId: uuid.NewString(), CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE,
	}, false)
	ctx, stop := context.WithCancel(b.ctx())
	if o, err := g.lookOnce(ctx, company, zerolog.Nop()); err != nil || o.Action != busy {
		t.Errorf("while it runs: %v, %v", o, err)
	}
	stop()
	if o, err := g.lookOnce(ctx, company, zerolog.Nop()); err == nil {
		t.Errorf("once it stops: %v", o)
	}
}

// What has ended here is never started again, whatever Pleo says.
func TestAJobThatIsOverHereIsPassedOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	parked := b.pleo.add(company, "pending")
	b.pleo.set(func(p *fakePleo) { p.jobs[0].passed = true })
	b.endHere(parked, ledgerlinev1.JobPhase_JOB_PHASE_PARKED)
	next := b.pleo.add(company, "pending")
	b.start()
	b.wantEvent(next)
	if n := b.pleo.job(parked).started; n != 0 {
		t.Errorf("the parked job was started %d times", n)
	}
}

// A graceful stop finishes the start in hand.
func TestAStopFinishesTheStartInHand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	posting, release := make(chan struct{}), make(chan struct{})
	b.pleo.set(func(p *fakePleo) {
		p.posting = func(http.ResponseWriter, *fakeJob) bool {
			close(posting)
			p.mu.Unlock()
			<-release
			p.mu.Lock()
			return false
		}
	})
	g := b.start()
	<-posting
	stopped := make(chan struct{})
	go func() {
		g.stop()
		close(stopped)
	}()
	close(release)
	<-stopped
	b.wantEvent(job)
	if q := b.queued(); len(q) != 0 {
		t.Errorf("detections are left after the stop: %v", q)
	}
}
