package pleo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"
)

// JobStatus is an export job's status. The upstream may add values; those are
// kept as received.
type JobStatus string

// Job statuses of the description.
const (
	JobPending             JobStatus = "pending"
	JobInProgress          JobStatus = "in_progress"
	JobCompleted           JobStatus = "completed"
	JobCompletedWithErrors JobStatus = "completed_with_errors"
	JobFailed              JobStatus = "failed"
)

// Final tells whether the job has ended: no update and no payload read is
// possible any more. An unknown status is not final.
func (s JobStatus) Final() bool {
	return s == JobCompleted || s == JobCompletedWithErrors || s == JobFailed
}

// DefaultExpiry is how long a job lives after its last action where the job
// does not say (source: Pleo's page on multi-currency; every sample has 3600).
const DefaultExpiry = time.Hour

// Job is an export job: one batch of one company's accounting entries. Times
// that the upstream left out, or that cannot be read, are zero.
type Job struct {
	ID                string // UUID, lower case
	CompanyID         string // UUID, lower case
	Status            JobStatus
	NumberOfItems     int           // entries selected; 0 when not said
	ExpiresIn         time.Duration // counted from the last action; 0 when not said
	CreatedAt         time.Time
	StartedAt         time.Time
	LastUpdatedAt     time.Time
	CompletedAt       time.Time
	ExpiredAt         time.Time
	FailureReason     string
	FailureReasonType JobFailureType

	Interactive            bool // started by a user, not by the system
	VendorBasedBookkeeping bool // its export items carry vendor and bookkeeping

	ReadAt time.Time // our clock, when the answer was read
}

// Deadline is when Pleo gives the job up unless something happens to it:
// LastUpdatedAt plus ExpiresIn. Without LastUpdatedAt, which may be null, it counts
// from StartedAt, else from CreatedAt; where that has passed for a job which the
// upstream does not call ended, something we are not told of has renewed it, and it
// counts from ReadAt. Without ExpiresIn, DefaultExpiry is taken. It is by the
// upstream's clock, and moves with each update: use the job as read last.
func (j Job) Deadline() time.Time {
	expiry := j.ExpiresIn
	if expiry <= 0 {
		expiry = DefaultExpiry
	}
	if !j.LastUpdatedAt.IsZero() {
		return j.LastUpdatedAt.Add(expiry)
	}
	from := j.StartedAt
	if from.IsZero() {
		from = j.CreatedAt
	}
	if deadline := from.Add(expiry); !from.IsZero() && (deadline.After(j.ReadAt) || j.Status.Final()) {
		return deadline
	}
	return j.ReadAt.Add(expiry)
}

type wireJob struct {
	ID                     string         `json:"id"`
	CompanyID              string         `json:"companyId"`
	Status                 JobStatus      `json:"status"`
	NumberOfItems          int            `json:"numberOfItems"`
	ExpiresIn              int64          `json:"expiresIn"`
	CreatedAt              wireDate       `json:"createdAt"`
	StartedAt              wireDate       `json:"startedAt"`
	LastUpdatedAt          wireDate       `json:"lastUpdatedAt"`
	CompletedAt            wireDate       `json:"completedAt"`
	ExpiredAt              wireDate       `json:"expiredAt"`
	FailureReason          string         `json:"failureReason"`
	FailureReasonType      JobFailureType `json:"failureReasonType"`
	IsInteractive          bool           `json:"isInteractive"`
	VendorBasedBookkeeping bool           `json:"vendorBasedBookkeeping"`
}

func (w wireJob) job() (Job, error) {
	id, err := answerID("job's id", w.ID)
	if err != nil {
		return Job{}, err
	}
	company, err := answerID("job's companyId", w.CompanyID)
	if err != nil {
		return Job{}, err
	}
	if w.Status == "" {
		return Job{}, fmt.Errorf("%w: job's status is missing", ErrPageShape)
	}
	return Job{
		ID:            id,
		CompanyID:     company,
		Status:        w.Status,
		NumberOfItems: max(w.NumberOfItems, 0),
		// int32 by the description; a larger number must not overflow a Duration.
		ExpiresIn:              time.Duration(min(max(w.ExpiresIn, 0), math.MaxInt32)) * time.Second,
		CreatedAt:              w.CreatedAt.at,
		StartedAt:              w.StartedAt.at,
		LastUpdatedAt:          w.LastUpdatedAt.at,
		CompletedAt:            w.CompletedAt.at,
		ExpiredAt:              w.ExpiredAt.at,
		FailureReason:          w.FailureReason,
		FailureReasonType:      w.FailureReasonType,
		Interactive:            w.IsInteractive,
		VendorBasedBookkeeping: w.VendorBasedBookkeeping,
		ReadAt:                 time.Now(),
	}, nil
}

// Job reads one export job: GET /v3/export-jobs/{jobId}. An unknown job is an
// *APIError with status 404.
func (c *Client) Job(ctx context.Context, jobID string) (Job, error) {
	id, err := argumentID("job id", jobID)
	if err != nil {
		return Job{}, err
	}
	var job Job
	err = c.do(ctx, call{
		op:     OpGetJob,
		doing:  "read job " + id,
		jobID:  id,
		method: http.MethodGet,
		path:   []string{"v3", "export-jobs", id},
		wanted: only200,
		bound:  MaxObjectBytes,
		take: func(r io.Reader) error {
			var answer struct {
				Data wireJob `json:"data"`
			}
			if err := readObject(r, &answer); err != nil {
				return err
			}
			read, err := answer.Data.job()
			if err != nil {
				return err
			}
			if read.ID != id {
				return fmt.Errorf("%w: it is about job %s", ErrPageShape, read.ID)
			}
			job = read
			return nil
		},
	})
	if err != nil {
		return Job{}, err
	}
	return job, nil
}

const (
	// ShowPatience is how long what Pleo has accepted of a job, or refuses because of
	// it, may take to show in a reading of the job.
	ShowPatience = 10 * time.Second
	// showLeast and showMost bound the waits between the readings.
	showLeast = 100 * time.Millisecond
	showMost  = 2 * time.Second
)

// AwaitJob reads a job until it shows what is known of it from elsewhere, for as long
// as patience, and returns the last reading, whether it shows or not: a reading may
// be older than an event that was accepted, or than the end for which a call was
// refused (traps 4 and 5). An answer that is no job is read once more.
func (c *Client) AwaitJob(ctx context.Context, jobID string, patience time.Duration, shows func(Job) bool) (Job, error) {
	until := time.Now().Add(patience)
	faulty := false
	for wait := showLeast; ; wait = min(2*wait, showMost) {
		read, err := c.Job(ctx, jobID)
		switch {
		case IsPageFault(err) && !faulty:
			faulty = true
		case err != nil:
			return Job{}, err
		case shows(read) || time.Now().After(until):
			return read, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Job{}, fmt.Errorf("read job %s: %w", jobID, context.Cause(ctx))
		}
	}
}

// JobsQuery selects export jobs.
type JobsQuery struct {
	// CompanyID limits the listing to one company. With an organisation's
	// credential it is needed for all but discovery (trap 38). Empty: all that
	// the credential may see.
	CompanyID string
	// Statuses limits the listing to these. Empty: all.
	Statuses []JobStatus
	// After is the cursor to go on from. Empty: from the start.
	After string
}

// JobPage is one page of export jobs, in the upstream's order, which is not
// promised to be by age.
type JobPage struct {
	Jobs        []Job
	HasNextPage bool   // the only sign that there is more
	EndCursor   string // for JobsQuery.After; may be set on the last page too
	Total       int64  // a hint; -1 when not said
}

func (c *Client) jobs(q JobsQuery) (listing[Job], error) {
	l := listing[Job]{
		op:    OpListJobs,
		path:  []string{"v3", "export-jobs"},
		query: url.Values{},
		of:    "export jobs",
	}
	company := ""
	if q.CompanyID != "" {
		id, err := argumentID("company id", q.CompanyID)
		if err != nil {
			return l, err
		}
		company = id
		l.query.Set("company_id", id) // snake case, whatever some pages print (trap 24)
		l.of = "export jobs of company " + id
	}
	for _, s := range q.Statuses {
		l.query.Add("statuses", string(s))
	}
	l.row = func(raw json.RawMessage) (Job, error) {
		var w wireJob
		if err := asShape(json.Unmarshal(raw, &w)); err != nil {
			return Job{}, err
		}
		job, err := w.job()
		if err == nil && company != "" && job.CompanyID != company {
			err = fmt.Errorf("%w: job %s is company %s's", ErrForeignItem, job.ID, job.CompanyID)
		}
		return job, err
	}
	return l, nil
}

// Jobs reads one page of export jobs: GET /v3/export-jobs.
func (c *Client) Jobs(ctx context.Context, q JobsQuery) (JobPage, error) {
	l, err := c.jobs(q)
	if err != nil {
		return JobPage{}, err
	}
	p, err := fetchPage(ctx, c, l, 0, q.After)
	if err != nil {
		return JobPage{}, err
	}
	return JobPage{Jobs: p.rows, HasNextPage: p.hasNext, EndCursor: p.end, Total: p.total}, nil
}

// EachJob drains the listing and hands each page that has rows to fn, which may
// keep it. fn's error ends the drain and is returned as it is. After any other
// error, what fn got is a part only.
func (c *Client) EachJob(ctx context.Context, q JobsQuery, fn func([]Job) error) (PageStats, error) {
	l, err := c.jobs(q)
	if err != nil {
		return PageStats{Total: -1}, err
	}
	return drain(ctx, c, l, q.After, fn)
}
