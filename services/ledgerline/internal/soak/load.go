package main

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// companies have the jobs in turn.
	companies = 40
	// maxOpen bounds the jobs that have not ended: on a machine that is too slow
	// for the rate, jobs come as fast as they end.
	maxOpen = 400
	// maxProblems bounds what is told of what went wrong.
	maxProblems = 20
)

// load adds jobs at Pleo and judges each one that has ended.
type load struct {
	fleet    *fleet
	items    int
	added    int
	held     int // times a job was not added because too many were open
	ended    int
	booked   int
	failed   int
	open     map[uuid.UUID]struct{}
	problems []string
}

func (l *load) add() error {
	if len(l.open) >= maxOpen {
		l.held++
		return nil
	}
	id, err := l.fleet.upstream.AddJob(simulator.JobSpec{CompanyID: l.fleet.upstream.Company(l.added % companies), Items: &l.items})
	if err != nil {
		return fmt.Errorf("add a job: %w", err)
	}
	l.added++
	l.open[id] = struct{}{}
	return nil
}

// judge looks at the jobs that were open: each that has ended was closed once, with
// every item final, and its items were booked once each, in order.
func (l *load) judge() error {
	for id := range l.open {
		j, err := l.fleet.upstream.Job(id)
		if err != nil {
			return fmt.Errorf("read a job: %w", err)
		}
		switch j.Status {
		case simulator.JobPending, simulator.JobInProgress:
			continue
		case simulator.JobCompleted, simulator.JobCompletedWithErrors:
		default:
			l.problem("job %s is %s at Pleo: %s %s", id, j.Status, j.FailureReasonType, j.FailureReason)
		}
		delete(l.open, id)
		l.ended++
		at := l.fleet.books.take(id)
		l.booked += at.booked
		l.failed += at.failed
		successful, failed := 0, 0
		for _, item := range j.Items {
			switch item.Status {
			case simulator.ItemSuccessful:
				successful++
			case simulator.ItemFailed:
				failed++
			}
		}
		if successful != at.booked || failed != at.failed || successful+failed != l.items {
			l.problem("job %s: %d items successful and %d failed at Pleo, %d booked and %d refused by the sink, of %d", id, successful, failed, at.booked, at.failed, l.items)
		}
		if at.doubled > 0 || at.disordered > 0 {
			l.problem("job %s: %d items were sent twice, %d out of order", id, at.doubled, at.disordered)
		}
		if j.OpenAtClose > 0 || len(j.Events) != 2 {
			l.problem("job %s was closed with %d open items; events %v", id, j.OpenAtClose, j.Events)
		}
	}
	return nil
}

func (l *load) problem(format string, args ...any) {
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}
