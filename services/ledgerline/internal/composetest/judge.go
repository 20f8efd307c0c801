package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// sinkFile is the sample sink's record, in its container.
const sinkFile = "/data/bookings.jsonl"

// booking is one line of the sample sink's file.
type booking struct {
	Job        uuid.UUID `json:"job"`
	Epoch      uint64    `json:"epoch"`
	At         time.Time `json:"at"`
	Key        string    `json:"key"`
	ExternalID string    `json:"externalId"`
	Item       struct {
		AccountingEntryID uuid.UUID `json:"accountingEntryId"`
		Date              string    `json:"date"`
	} `json:"item"`
}

// bookings reads the sink's record, which lies in its volume.
func (s *stack) bookings(ctx context.Context) ([]booking, error) {
	sinks, err := s.containers(ctx, "sink")
	if err != nil || len(sinks) != 1 {
		return nil, fmt.Errorf("find the sink among %d containers: %w", len(sinks), err)
	}
	archive, err := s.run(ctx, "docker", "cp", sinks[0].ID+":"+sinkFile, "-")
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(bytes.NewReader(archive))
	if _, err := files.Next(); err != nil {
		return nil, fmt.Errorf("read the sink's record: %w", err)
	}
	content, err := io.ReadAll(files)
	if err != nil {
		return nil, fmt.Errorf("read the sink's record: %w", err)
	}
	var all []booking
	// What stands behind the last newline is being written.
	for line := range bytes.Lines(content[:bytes.LastIndexByte(content, '\n')+1]) {
		var b booking
		if err := json.Unmarshal(line, &b); err != nil {
			return nil, fmt.Errorf("read the sink's record: %w", err)
		}
		if b.Key != "" {
			all = append(all, b)
		}
	}
	return all, nil
}

func (s *stack) snapshot(ctx context.Context) (state simulator.Snapshot, problems []string, err error) {
	var answer struct {
		simulator.Snapshot
		Problems []string `json:"problems"`
	}
	err = s.ask(ctx, "GET", "simulator", "8090", "/_simulator/snapshot", nil, &answer)
	return answer.Snapshot, answer.Problems, err
}

// judge compares the simulated Pleo's final state with the sink's record, and asks
// the sink how often it was sent what it had booked: once at most for each time that a
// job changed hands, which its epochs tell. (A machine at its limit loses leases of
// its own accord, so the faults that were made are no bound.) Where a ledger was lost
// more may come again, and jobs that carry entries again are judged by judgeAgain.
func (s *stack) judge(ctx context.Context) error {
	state, problems, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	booked, err := s.bookings(ctx)
	if err != nil {
		return err
	}
	byJob := map[uuid.UUID][]booking{}
	epochs := map[string]int{}
	for _, b := range booked {
		byJob[b.Job] = append(byJob[b.Job], b)
		epochs[b.Job.String()] = max(epochs[b.Job.String()], int(b.Epoch))
	}
	again, err := s.sentAgain(ctx)
	if err != nil {
		return err
	}
	items := 0
	for _, job := range state.Jobs {
		if a, carries := s.again[job.ID.String()]; carries {
			problems = append(problems, judgeAgain(job, a, again[job.ID.String()])...)
			continue
		}
		problems = append(problems, judgeJob(job, byJob[job.ID])...)
		items += len(job.Items)
		delete(byJob, job.ID)
	}
	for id := range byJob {
		problems = append(problems, fmt.Sprintf("job %s was booked and is unknown at Pleo", id))
	}
	total := 0
	for job, keys := range again {
		if _, carries := s.again[job]; carries {
			continue
		}
		total += len(keys)
		if changes := epochs[job] - 1; len(keys) > changes+s.lost[job] {
			problems = append(problems, fmt.Sprintf("job %s: %d items were sent again, and it changed hands %d times", job, len(keys), changes))
		}
	}
	if err := s.judgeAccess(ctx); err != nil {
		problems = append(problems, err.Error())
	}
	if len(problems) > 0 {
		const most = 20
		return fmt.Errorf("%d faults found:\n  %s", len(problems), strings.Join(problems[:min(most, len(problems))], "\n  "))
	}
	s.say("judged: %d jobs completed, %d items booked once each and in order, reported as booked; %d sent again", len(state.Jobs), items, total)
	return nil
}

// sentAgain are the keys that the sink was sent of each job and had booked.
func (s *stack) sentAgain(ctx context.Context) (map[string][]string, error) {
	log, err := s.logs(ctx, "sink")
	if err != nil {
		return nil, err
	}
	again := map[string][]string{}
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, "not booked again: "); ok {
			key, job, _ := strings.Cut(strings.TrimSpace(rest), " of job ")
			again[job] = append(again[job], key)
		}
	}
	return again, nil
}

// judgeAccess finds what a program wanted of NATS and its user may not do.
func (s *stack) judgeAccess(ctx context.Context) error {
	refused := map[string]bool{}
	for _, service := range []string{"gateway", "fetcher", "consumer"} {
		log, err := s.logs(ctx, service)
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			if _, cause, ok := strings.Cut(line, "ermissions Violation for "); ok {
				refused[service+": "+strings.Split(cause, `\"`)[1]] = true
			}
		}
	}
	for what := range refused {
		return fmt.Errorf("%d refusals by NATS, such as %s", len(refused), what)
	}
	return nil
}

func judgeJob(job simulator.JobSnapshot, booked []booking) (problems []string) {
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("job %s: ", job.ID)+fmt.Sprintf(format, args...))
	}
	if job.Status != simulator.JobCompleted {
		problem("is %s at Pleo, not completed (%s)", job.Status, job.FailureReason)
	}
	if job.OpenAtClose > 0 {
		problem("was closed with %d open items", job.OpenAtClose)
	}
	closings := 0
	for _, e := range job.Events {
		if e.By == simulator.ByClient && (e.Event == simulator.EventCompleted || e.Event == simulator.EventCompletedWithErrors) {
			closings++
		}
	}
	if closings != 1 {
		problem("has %d closing events", closings)
	}
	of := map[uuid.UUID][]booking{}
	for i, b := range booked {
		of[b.Item.AccountingEntryID] = append(of[b.Item.AccountingEntryID], b)
		if i > 0 && compare(booked[i-1], b) > 0 {
			problem("entry %s was booked before %s", booked[i-1].Item.AccountingEntryID, b.Item.AccountingEntryID)
		}
		if i > 0 && booked[i-1].Epoch > b.Epoch {
			problem("epoch %d booked after epoch %d", b.Epoch, booked[i-1].Epoch)
		}
	}
	for _, item := range job.Items {
		mine := of[item.AccountingEntryID]
		delete(of, item.AccountingEntryID)
		switch {
		case len(mine) != 1:
			problem("entry %s was booked %d times", item.AccountingEntryID, len(mine))
		case item.Status != simulator.ItemSuccessful:
			problem("entry %s is booked, and %s at Pleo", item.AccountingEntryID, item.Status)
		case item.ExternalID != mine[0].ExternalID:
			problem("entry %s is %q in the books and %q at Pleo", item.AccountingEntryID, mine[0].ExternalID, item.ExternalID)
		}
	}
	for id := range of {
		problem("entry %s was booked and is not the job's", id)
	}
	return problems
}

// compare is the order by date, then entry id; no date comes last. It is read here
// anew, not with the code that is judged.
func compare(a, b booking) int {
	da, okA := instant(a.Item.Date)
	db, okB := instant(b.Item.Date)
	switch {
	case okA && okB && !da.Equal(db):
		return da.Compare(db)
	case okA != okB && okA:
		return -1
	case okA != okB:
		return 1
	}
	return slices.Compare(a.Item.AccountingEntryID[:], b.Item.AccountingEntryID[:])
}

func instant(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
