package statuspage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/jobview"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

const (
	// openPause is the wait between two looks for the streams, which another part
	// of this process, or another process, is about to create.
	openPause = 500 * time.Millisecond
	// patience is how long a person waits for an action to be carried out; what is
	// not by then is under way.
	patience = 2 * time.Second
)

// Worker has the page follow the installation on NATS.
type Worker struct {
	page *Page
	js   jetstream.JetStream
}

// OnNATS connects a page with the installation. timeout bounds one NATS request.
func OnNATS(page *Page, conn *nats.Conn, timeout time.Duration) (*Worker, error) {
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(timeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream for the status page: %w", err)
	}
	return &Worker{page: page, js: js}, nil
}

// Ready is nil: a page without figures says so itself, and makes no worker unready.
func (w *Worker) Ready(context.Context) error { return nil }

// Run waits for the streams and follows the jobs until ctx ends.
func (w *Worker) Run(ctx context.Context) error {
	for topology.Check(ctx, w.js) != nil {
		timer := time.NewTimer(openPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			w.page.live.close()
			return nil
		case <-timer.C:
		}
	}
	return w.page.Follow(ctx, &installation{js: w.js})
}

// installation reads and steers the jobs on NATS.
type installation struct {
	js jetstream.JetStream

	// Opened by the first reading; the stores themselves are safe for concurrent
	// use.
	view   *jobview.View
	parked *parked.Store
	lag    *lag.Reader

	// What is parked is read again when its stream has changed: an event may be
	// large.
	parkedState jetstream.StreamState
	list        []Parked
}

func (i *installation) Read(ctx context.Context) (Reading, error) {
	if i.parked == nil {
		var err error
		if i.view, err = jobview.Open(ctx, i.js); err != nil {
			return Reading{}, err
		}
		if i.lag, err = lag.Open(ctx, i.js); err != nil {
			return Reading{}, err
		}
		if i.parked, err = parked.Open(ctx, i.js); err != nil {
			return Reading{}, err
		}
	}
	rows, err := i.view.All(ctx)
	if err != nil && !errors.Is(err, jobstate.ErrUnreadable) { // which `ledgerline jobs` names
		return Reading{}, err
	}
	waits, err := i.lag.Snapshot(ctx)
	if err != nil {
		return Reading{}, err
	}
	if err := i.readParked(ctx); err != nil {
		return Reading{}, err
	}
	r := Reading{
		Jobs: make([]Job, 0, len(rows)), Parked: i.list,
		Lag: Lag{
			JobsWaiting: waits.Waiting, JobsActive: waits.Active, Items: waits.Items, OldestJobAge: waits.OldestAge(time.Now()),
		},
	}
	for _, row := range rows {
		r.Jobs = append(r.Jobs, jobOf(row))
	}
	return r, nil
}

func (i *installation) readParked(ctx context.Context) error {
	stream, err := i.js.Stream(ctx, subject.StreamParked)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", subject.StreamParked, err)
	}
	state := stream.CachedInfo().State
	if i.list != nil && state.LastSeq == i.parkedState.LastSeq && state.FirstSeq == i.parkedState.FirstSeq && state.Msgs == i.parkedState.Msgs {
		return nil
	}
	list := []Parked{}
	err = i.parked.List(ctx, func(_ string, p *ledgerlinev1.Parked) {
		list = append(list, Parked{
			Event: p.GetKind() == ledgerlinev1.ParkedKind_PARKED_KIND_EVENT,
			JobID: p.GetJobId(), Reason: p.GetReason(), At: p.GetParkedAt().AsTime(),
		})
	})
	if err != nil {
		return err
	}
	i.list, i.parkedState = list, state
	return nil
}

func jobOf(row jobview.Row) Job {
	j := Job{
		ID: row.JobID, Company: row.CompanyID, State: row.State, Position: row.Position, Total: row.Total, Epoch: row.Epoch,
		Worker: row.Worker, Reason: row.Reason, Created: row.Created, Sealed: row.Sealed, Ended: row.Ended,
	}
	if row.Deadline != nil {
		j.Deadline = *row.Deadline
	}
	switch row.Request {
	case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE:
		if row.State != statePaused { // the wish stands for as long as the pause lasts
			j.Asked = Pause
		}
	case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME:
		j.Asked = Resume
	case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL:
		j.Asked = Cancel
	}
	return j
}

// Steer is one of the operator's commands.
func (i *installation) Steer(ctx context.Context, job uuid.UUID, action Action) (string, error) {
	s, err := steer.Open(ctx, i.js)
	if err != nil {
		return "", err
	}
	s.Patience = patience
	// A consumer, which may serve this page, must not be able to publish events.
	s.Started = s.ThroughFetcher
	ask := map[Action]func(context.Context, uuid.UUID) (steer.Answer, error){
		Retry: s.Retry, Pause: s.Pause, Resume: s.Resume, Cancel: s.Cancel,
	}[action]
	said, err := ask(ctx, job)
	if err != nil {
		return "", err
	}
	return "Job " + job.String() + ": " + said.Text + ".", nil
}
