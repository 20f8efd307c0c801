package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// lookPatience bounds one look, Pleo's trouble included, so that one company's
	// does not hold the slot of another's.
	lookPatience = 2 * time.Minute
	// maxLookAgain is how often a look begins anew because the job it had chosen
	// was gone when it came to it.
	maxLookAgain = 5
	// maxListed bounds the jobs that one listing is kept of. A company with this
	// many jobs waiting has another trouble than ours.
	maxListed = 100_000
	// blockedPause is the wait for a job that is in progress at Pleo and not known
	// here: nothing tells when it ends.
	blockedPause = time.Minute
)

// action is what a look did, as the answer to a check names it.
type action string

const (
	started  action = "started"      // a job was started
	resumed  action = "resumed"      // a job that Pleo has in progress was taken up
	busy     action = "busy"         // a job of the company is in work here; the next one follows it
	nothing  action = "nothing"      // no job waits
	waiting  action = "waiting"      // a job was left alone; it is tried again
	elsewise action = "not_eligible" // the job asked for has ended, here or at Pleo
)

// outcome is what a look came to. It is also the answer to a check.
type outcome struct {
	CompanyID string `json:"companyId,omitempty"`
	JobID     string `json:"jobId,omitempty"`
	Action    action `json:"action"`
	Reason    string `json:"reason,omitempty"`
}

// candidate is a job at Pleo that may come next.
type candidate struct {
	pleo.Job
	id, company uuid.UUID
}

func candidateOf(job pleo.Job) (candidate, error) {
	id, err := subject.ParseID(job.ID)
	if err != nil {
		return candidate{}, fmt.Errorf("job: %w", err)
	}
	company, err := subject.ParseID(job.CompanyID)
	if err != nil {
		return candidate{}, fmt.Errorf("company of job %s: %w", id, err)
	}
	return candidate{Job: job, id: id, company: company}, nil
}

// older is the order among a company's jobs, the consumers' too.
func older(a, b candidate) int {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c
	}
	return bytes.Compare(a.id[:], b.id[:])
}

// errAgain is returned when a job is not what the listing said: it is read anew.
var errAgain = errors.New("the job has changed since it was listed")

// look starts the company's next job where one may begin.
func (g *Gateway) look(ctx context.Context, company uuid.UUID, logger zerolog.Logger) (outcome, error) {
	drop, taken := g.hands.take(company)
	if !taken {
		return outcome{}, later(inHandPause, "company %s is being looked at", company)
	}
	defer drop()
	logger = logger.With().Stringer("company_id", company).Logger()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for range maxLookAgain {
		o, err := g.lookOnce(ctx, company, logger)
		if !errors.Is(err, errAgain) {
			o.CompanyID = company.String()
			return o, err
		}
	}
	return outcome{}, leftAlone(0, "the jobs of company %s change while they are looked at", company)
}

// lookOnce reads the company's jobs and tries the oldest that counts.
func (g *Gateway) lookOnce(ctx context.Context, company uuid.UUID, logger zerolog.Logger) (outcome, error) {
	// What here says is busy will be seen to end by the same watch that says so,
	// and the company is looked at again then: nothing has to wait for it.
	if job, phase, found := g.here.busy(company); found {
		if ctx.Err() != nil {
			// Stopping, and here is followed no more: another gateway looks.
			return outcome{}, context.Cause(ctx)
		}
		return outcome{JobID: job.String(), Action: busy, Reason: "the job is " + jobstate.PhaseName(phase)}, nil
	}
	if err := g.ready.ask(ctx); err != nil {
		return outcome{}, leftAlone(0, "not ready: %v", err)
	}
	jobs, err := g.list(ctx, company, pleo.JobPending, pleo.JobInProgress)
	if err != nil {
		return outcome{}, err
	}
	if jobs, err = g.addMarked(ctx, company, jobs); err != nil {
		return outcome{}, err
	}
	slices.SortFunc(jobs, older)
	for _, job := range jobs {
		switch known := g.here.job(job.id); {
		case known.standing == over:
			// Parked or cancelled here, whatever Pleo says: a person's matter, and
			// no reason for the next one to wait.
			continue
		case known.standing == underWay:
			return outcome{JobID: job.ID, Action: busy, Reason: "the job is " + jobstate.PhaseName(known.phase)}, nil
		case known.standing == unknown && job.Status == pleo.JobInProgress:
			// Ours from before the bucket was lost, or another integration's: Pleo
			// does not say whose (trap 10), and a normal run resumes nothing.
			reason := fmt.Sprintf("job %s is in progress at Pleo and not known here: if it is ours, ask for that job by its id", job.ID)
			return outcome{JobID: job.ID, Action: waiting, Reason: reason}, leftAlone(blockedPause, "%s", reason)
		}
		return g.start(ctx, job, logger)
	}
	return outcome{Action: nothing}, nil
}

// addMarked adds the jobs that a gateway has marked and that are not listed: they
// have ended at Pleo, and their marks with them, or are not to be seen yet.
func (g *Gateway) addMarked(ctx context.Context, company uuid.UUID, jobs []candidate) ([]candidate, error) {
	for _, id := range g.here.marked(company) {
		if slices.ContainsFunc(jobs, func(c candidate) bool { return c.id == id }) {
			continue
		}
		job, err := g.read(ctx, id, company)
		if isStatus(err, http.StatusNotFound) {
			// The start meets the same answer, and parks the job.
			job, err = candidate{Job: pleo.Job{ID: id.String(), CompanyID: company.String()}, id: id, company: company}, nil
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// list reads all pages of the company's jobs in these states.
func (g *Gateway) list(ctx context.Context, company uuid.UUID, statuses ...pleo.JobStatus) ([]candidate, error) {
	// With an organisation's credential the listing is the organisation's unless
	// the company is named (trap 38).
	jobs, _, err := g.listAll(ctx, company, pleo.JobsQuery{CompanyID: company.String(), Statuses: statuses})
	return jobs, err
}

// listAll reads all pages with the credential for the company.
func (g *Gateway) listAll(ctx context.Context, company uuid.UUID, q pleo.JobsQuery) (jobs []candidate, pages int, err error) {
	client, err := g.config.Pleo.For(company)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still := time.AfterFunc(pagePatience, func() { cancel(fmt.Errorf("no page came for %s", pagePatience)) })
	defer still.Stop()
	crashpoint.Before(crashpoint.GatewayList)
	stats, err := client.EachJob(ctx, q, func(page []pleo.Job) error {
		still.Reset(pagePatience)
		for _, job := range page {
			// A state that was not asked for is none that we know what to do with.
			if !slices.Contains(q.Statuses, job.Status) {
				continue
			}
			c, err := candidateOf(job)
			if err != nil {
				return err
			}
			jobs = append(jobs, c)
		}
		if len(jobs) > maxListed {
			return fmt.Errorf("more than %d jobs wait", maxListed)
		}
		return nil
	})
	crashpoint.After(crashpoint.GatewayList)
	return jobs, stats.Pages, err
}

// read reads one job with the credential for the company.
func (g *Gateway) read(ctx context.Context, id, company uuid.UUID) (candidate, error) {
	client, err := g.config.Pleo.For(company)
	if err != nil {
		return candidate{}, err
	}
	job, err := client.Job(ctx, id.String())
	if err != nil {
		return candidate{}, err
	}
	return candidateOf(job)
}

// lookForJob looks at the company of a job. With resume the job itself is taken up
// where it is in progress at Pleo and not known here. company is uuid.Nil where it
// is not known; no other company's credential is tried then than the default one.
func (g *Gateway) lookForJob(ctx context.Context, id, company uuid.UUID, resume bool, logger zerolog.Logger) (outcome, error) {
	job, err := g.readNamed(ctx, id, company)
	if err != nil {
		if isStatus(err, http.StatusNotFound) {
			logger.Warn().Err(err).Msg(logevent.JobNotStarted)
			return outcome{JobID: id.String(), Action: elsewise, Reason: err.Error()}, nil
		}
		return outcome{}, err
	}
	if !g.serves(job.company) {
		return outcome{}, errForeign
	}
	about := func(a action, reason string) outcome {
		return outcome{CompanyID: job.CompanyID, JobID: job.ID, Action: a, Reason: reason}
	}
	known := g.here.job(id)
	switch {
	case known.standing == over || known.standing == underWay:
		a := busy
		if known.standing == over {
			a = elsewise
		}
		return about(a, "the job is "+jobstate.PhaseName(known.phase)+" here"), nil
	case job.Status.Final():
		return about(elsewise, endedAtPleo(job.Job)), nil
	case resume && job.Status == pleo.JobInProgress:
		return g.resume(ctx, job, logger)
	}
	return g.look(ctx, job.company, logger)
}

// readNamed reads a job whose company may be named wrongly, or not at all. What
// counts is what the credential of the job's own company shows.
func (g *Gateway) readNamed(ctx context.Context, id, named uuid.UUID) (candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	job, err := g.read(ctx, id, named)
	if err != nil || job.company == named {
		return job, err
	}
	own := job.company
	if job, err = g.read(ctx, id, own); err == nil && job.company != own {
		err = fmt.Errorf("job %s is company %s's to one credential and %s's to that one's own", id, own, job.company)
	}
	return job, err
}

// resume takes up a job that is in progress at Pleo (traps 7 and 9).
func (g *Gateway) resume(ctx context.Context, job candidate, logger zerolog.Logger) (outcome, error) {
	drop, taken := g.hands.take(job.company)
	if !taken {
		return outcome{}, later(inHandPause, "company %s is being looked at", job.company)
	}
	defer drop()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	if err := g.ready.ask(ctx); err != nil {
		return outcome{}, leftAlone(0, "not ready: %v", err)
	}
	o, err := g.start(ctx, job, logger.With().Stringer("company_id", job.company).Logger())
	if errors.Is(err, errAgain) {
		err = later(inHandPause, "%v", err)
	}
	o.CompanyID = job.CompanyID
	return o, err
}

func endedAtPleo(job pleo.Job) string {
	reason := "the job is " + string(job.Status) + " at Pleo"
	for _, more := range []string{string(job.FailureReasonType), job.FailureReason} {
		if more != "" {
			reason += ", " + more
		}
	}
	return reason
}

func isStatus(err error, statuses ...int) bool {
	var api *pleo.APIError
	return errors.As(err, &api) && slices.Contains(statuses, api.Status)
}
