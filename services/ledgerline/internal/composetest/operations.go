package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// operationsItems make a job long enough to do something to it in the middle.
	operationsItems = 2000
	// carried is how many entries of each kind a later job carries again.
	carried = 20
	// lostReports is how many items of a job may be sent again where its ledger was
	// lost: what one report holds, and the one in hand (docs/reliability.md).
	lostReports = 101
)

// programs are what an upgrade replaces, and what signs in to NATS.
var programs = []string{"gateway", "fetcher", "consumer"}

// operationsDay does to an installation at work what docs/operations.md tells its
// operator to do: an upgrade, new passwords, a backup, and a restore after the store
// was lost.
func (s *stack) operationsDay(ctx context.Context) error {
	s.env = append(s.env, fmt.Sprintf("JOBS=%d", companies), fmt.Sprintf("ITEMS=%d", firstItems), fmt.Sprintf("COMPANIES=%d", companies))
	if s.options.from != "" {
		s.env = append(s.env, "TAG="+s.options.from)
	}
	if err := s.up(ctx); err != nil {
		return err
	}
	s.say("up: every container is healthy")
	defer s.untag(ctx)
	if err := s.upgrade(ctx); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if err := s.newPasswords(ctx); err != nil {
		return fmt.Errorf("new passwords: %w", err)
	}
	if err := s.backupAndRestore(ctx); err != nil {
		return fmt.Errorf("backup and restore: %w", err)
	}
	return s.judge(ctx)
}

// upOnly is `docker compose up -d` of some services only: the simulator has no memory
// and stays as it is.
func (s *stack) upOnly(ctx context.Context, args ...string) error {
	if _, err := s.composed(ctx, append([]string{"up", "-d", "--no-build"}, args...)...); err != nil {
		return err
	}
	return s.healthy(ctx)
}

// upgrade replaces each service by containers of another tag, each in the middle of
// jobs.
func (s *stack) upgrade(ctx context.Context) error {
	tag := s.project
	s.env = append(s.env, "TAG="+tag)
	for _, name := range programs {
		if _, err := s.docker(ctx, "tag", "ledgerline/"+name+":dev", "ledgerline/"+name+":"+tag); err != nil {
			return err
		}
		if err := s.busy(ctx, operationsItems); err != nil {
			return err
		}
		if err := s.upOnly(ctx, "--no-deps", name); err != nil {
			return err
		}
		all, err := s.containers(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range all {
			if want := "ledgerline/" + name + ":" + tag; c.Config.Image != want {
				return fmt.Errorf("%s runs %s, not %s", c.Name, c.Config.Image, want)
			}
		}
		s.say("%d of %s replaced by another tag in the middle of jobs", len(all), name)
	}
	if err := s.busy(ctx, operationsItems); err != nil {
		return err
	}
	if err := s.upOnly(ctx, "--no-deps", "--force-recreate", "nats"); err != nil {
		return err
	}
	s.say("the NATS server replaced in the middle of jobs")
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("every job is completed")
	return nil
}

// untag takes the tag away again; what runs keeps its image.
func (s *stack) untag(ctx context.Context) {
	for _, name := range programs {
		if _, err := s.docker(context.WithoutCancel(ctx), "rmi", "-f", "ledgerline/"+name+":"+s.project); err != nil {
			s.say("%v", err)
		}
	}
}

// newPasswords gives each user of NATS a new password in the middle of jobs, and
// sees that the old one is refused.
func (s *stack) newPasswords(ctx context.Context) error {
	if err := s.busy(ctx, operationsItems); err != nil {
		return err
	}
	old := s.passwords
	s.passwords = map[string]string{}
	for user := range old {
		s.passwords[user] = "new-" + user
		s.env = append(s.env, "NATS_"+strings.ToUpper(user)+"_PASSWORD="+s.passwords[user])
	}
	began := time.Now()
	if err := s.upOnly(ctx, append([]string{"nats"}, programs...)...); err != nil {
		return err
	}
	s.say("new passwords: every container is healthy after %.1f s", time.Since(began).Seconds())
	for user, password := range old {
		if err := s.signIn(ctx, user, password); !errors.Is(err, nats.ErrAuthorization) {
			return fmt.Errorf("the old password of %s is not refused: %w", user, err)
		}
		if err := s.signIn(ctx, user, s.passwords[user]); err != nil {
			return fmt.Errorf("the new password of %s: %w", user, err)
		}
	}
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("every old password is refused, every job is completed")
	return nil
}

// signIn tells whether NATS takes a password.
func (s *stack) signIn(ctx context.Context, user, password string) error {
	address, err := s.address(ctx, s.natsService(), "4222")
	if err != nil {
		return err
	}
	conn, err := nats.Connect("nats://"+address, nats.UserInfo(user, password), nats.Timeout(requestLimit))
	if err == nil {
		conn.Close()
	}
	return err
}

// backup runs NATS's own command line from outside as the administrator.
func (s *stack) backup(ctx context.Context, args ...string) error {
	address, err := s.address(ctx, s.natsService(), "4222")
	if err != nil {
		return err
	}
	as := []string{"--no-context", "--server", "nats://" + address, "--user", "admin", "--password", s.passwords["admin"], "backup"}
	_, err = s.run(ctx, s.options.nats, append(as, args...)...)
	return err
}

// backupAndRestore backs the ledger up in the middle of jobs, lets those end and
// others come to their middle, destroys the store, restores the ledger, and has a
// later job carry entries again of both times.
func (s *stack) backupAndRestore(ctx context.Context) error {
	ids, _, err := s.middle(ctx, operationsItems)
	if err != nil {
		return err
	}
	err = s.wait(ctx, "each of the jobs to have booked", func() (string, error) {
		booked, err := s.bookings(ctx)
		n := map[uuid.UUID]int{}
		for _, b := range booked {
			n[b.Job]++
		}
		for _, id := range ids {
			if n[id] <= carried {
				return fmt.Sprintf("job %s has booked %d", id, n[id]), err
			}
		}
		return "", err
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(s.work, "ledger-backup")
	before := time.Now()
	if err := s.backup(ctx, "stream", subject.StreamLedger, dir, "--no-progress"); err != nil {
		return err
	}
	after := time.Now()
	size, err := sizeOf(dir)
	if err != nil {
		return err
	}
	s.say("the ledger is backed up in the middle of %d jobs: %.1f s, %.1f MB", len(ids), after.Sub(before).Seconds(), float64(size)/1e6)
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("those jobs are completed, which the backup does not know")
	later, _, err := s.middle(ctx, operationsItems)
	if err != nil {
		return err
	}
	if err := s.loseStore(ctx); err != nil {
		return err
	}
	s.say("the NATS server is killed in the middle of %d more jobs, and its volume removed", len(later))
	for _, id := range later {
		s.lost[id.String()] = lostReports
	}
	began := time.Now()
	if _, err := s.composed(ctx, append([]string{"stop"}, programs...)...); err != nil {
		return err
	}
	if _, err := s.composed(ctx, "up", "-d", "--no-build", "nats"); err != nil {
		return err
	}
	err = s.wait(ctx, "the ledger to be restored", func() (string, error) {
		return "", s.backup(ctx, "restore", "stream", dir, "--no-progress")
	})
	if err != nil {
		return err
	}
	if err := s.upOnly(ctx, append([]string{"nats"}, programs...)...); err != nil {
		return err
	}
	s.say("the ledger is restored and everything runs %.1f s later", time.Since(began).Seconds())
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("the jobs that were in their middle are completed")
	if err := s.parkedAsEnded(ctx, ids); err != nil {
		return err
	}
	return s.carryAgain(ctx, ids, before, after)
}

// parkedAsEnded waits until jobs whose end the restored ledger does not have are
// parked, so that a person looks at them once.
func (s *stack) parkedAsEnded(ctx context.Context, ids []uuid.UUID) error {
	err := s.wait(ctx, "the jobs that the backup knew in their middle to be parked", func() (string, error) {
		var parked []struct {
			JobID  uuid.UUID `json:"jobId"`
			Reason string    `json:"reason"`
		}
		if err := s.command(ctx, &parked, "parked"); err != nil {
			return "", err
		}
		left := len(ids)
		for _, p := range parked {
			if slices.Contains(ids, p.JobID) && strings.Contains(p.Reason, "is completed at Pleo and its end is not recorded here") {
				left--
			}
		}
		if left != 0 {
			return fmt.Sprintf("%d of %d", left, len(ids)), nil
		}
		return "", nil
	})
	if err == nil {
		s.say("the %d jobs that had ended since the backup are parked as such", len(ids))
	}
	return err
}

// again is a job that carries entries again which an earlier job booked.
type again struct {
	// known were booked before the backup began, unknown after it had ended.
	known, unknown []booking
}

// carryAgain has a job of each company carry entries again that the earlier jobs
// booked.
func (s *stack) carryAgain(ctx context.Context, earlier []uuid.UUID, began, ended time.Time) error {
	booked, err := s.bookings(ctx)
	if err != nil {
		return err
	}
	state, _, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, job := range state.Jobs {
		if !slices.Contains(earlier, job.ID) {
			continue
		}
		var known, unknown []booking
		for _, b := range booked {
			switch {
			case b.Job != job.ID:
			case b.At.Before(began):
				known = append(known, b)
			case b.At.After(ended):
				unknown = append(unknown, b)
			}
		}
		if len(known) <= carried || len(unknown) < carried {
			return fmt.Errorf("the backup was not made in the middle of job %s: %d bookings before, %d after", job.ID, len(known), len(unknown))
		}
		// In order, so that not the one that was in hand when the backup began.
		a := again{known[:carried], unknown[len(unknown)-carried:]}
		spec := simulator.JobSpec{ID: uuid.New(), CompanyID: job.CompanyID}
		for _, b := range slices.Concat(a.known, a.unknown) {
			spec.Entries = append(spec.Entries, simulator.EntrySpec{ID: b.Item.AccountingEntryID})
		}
		if err := s.ask(ctx, "POST", "simulator", "8090", "/_simulator/jobs", spec, nil); err != nil {
			return err
		}
		s.again[spec.ID.String()] = a
	}
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("%d jobs that carry entries again are completed", len(s.again))
	return nil
}

// judgeAgain holds such a job to what the document says: what the backup knows is
// not sent, what it does not know is sent once more and known to the sink, and Pleo
// is told the first booking of each.
func judgeAgain(job simulator.JobSnapshot, a again, sent []string) (problems []string) {
	known, unknown := map[uuid.UUID]string{}, map[uuid.UUID]string{}
	for _, b := range a.known {
		known[b.Item.AccountingEntryID] = b.ExternalID
	}
	for _, b := range a.unknown {
		unknown[b.Item.AccountingEntryID] = b.ExternalID
	}
	for _, item := range job.Items {
		id := item.AccountingEntryID
		times := 0
		for _, key := range sent {
			if strings.HasSuffix(key, id.String()) {
				times++
			}
		}
		first, want := known[id], 0
		if first == "" {
			first, want = unknown[id], 1
		}
		switch {
		case times != want:
			problems = append(problems, fmt.Sprintf("job %s: entry %s, booked earlier, was sent %d times, not %d", job.ID, id, times, want))
		case item.Status != simulator.ItemSuccessful || item.ExternalID != first:
			problems = append(problems, fmt.Sprintf("job %s: entry %s is %s as %q at Pleo, and was booked as %q", job.ID, id, item.Status, item.ExternalID, first))
		}
	}
	return problems
}

// loseStore kills the server and removes its volume.
func (s *stack) loseStore(ctx context.Context) error {
	victim, err := s.node(ctx, "nats")
	if err != nil {
		return err
	}
	if _, err := s.docker(ctx, "kill", victim.ID); err != nil {
		return err
	}
	if _, err := s.composed(ctx, "rm", "-f", "-s", "nats", "nats-volume"); err != nil {
		return err
	}
	_, err = s.docker(ctx, "volume", "rm", s.project+"_nats")
	return err
}

func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
