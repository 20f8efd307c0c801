package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

const (
	// deadlineReads is how often at most a job is read in one lifetime to learn
	// whether its deadline moved.
	deadlineReads = 20
	// leastAge is how old a reading is before a deadline that has passed is read
	// once more.
	leastAge = 100 * time.Millisecond
	// deadlineTimeout bounds one such reading: an item waits for it.
	deadlineTimeout = 5 * time.Second
)

// deadline is when Pleo gives the job up, as the job was read last.
// The lane and the reporter share it.
type deadline struct {
	client *pleo.Client // nil: the manifest's word is all there is
	job    uuid.UUID
	logger zerolog.Logger
	// moved is told a deadline that was read anew, for people and for the metrics.
	moved func(at time.Time)

	mu       sync.Mutex
	at       time.Time
	lifetime time.Duration
	readAt   time.Time
}

// when is the deadline as known last.
func (d *deadline) when() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// left is the time to the deadline as known last, and the lifetime it is a part of.
func (d *deadline) left() (left, lifetime time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Until(d.at), d.lifetime
}

// learn takes a job as it was read.
func (d *deadline) learn(read pleo.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.readAt = read.Deadline(), time.Now()
	if read.ExpiresIn > 0 {
		d.lifetime = read.ExpiresIn
	}
}

// check is nil while the job may go on. In the second half of its lifetime it
// reads the job now and then: each accepted report has renewed it.
func (d *deadline) check(ctx context.Context) error {
	d.mu.Lock()
	left, age, lifetime := time.Until(d.at), time.Since(d.readAt), d.lifetime
	d.mu.Unlock()
	if left > lifetime/2 {
		return nil
	}
	// A report that was accepted since the last look may have renewed a deadline
	// that seems to have passed.
	if d.client != nil && (age > lifetime/deadlineReads || left <= 0 && age > leastAge) {
		if err := d.refresh(ctx); err != nil {
			return err
		}
	}
	if time.Now().Before(d.when()) {
		return nil
	}
	return errExpired
}

// refresh reads the job. That Pleo cannot be asked changes nothing: the deadline
// known last holds.
func (d *deadline) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadlineTimeout)
	defer cancel()
	d.mu.Lock()
	d.readAt = time.Now()
	d.mu.Unlock()
	read, err := d.client.Job(ctx, d.job.String())
	if err != nil {
		d.logger.Warn().Err(err).Msg(logevent.DeadlineUnread)
		return nil
	}
	known := d.when()
	d.learn(read)
	if at := d.when(); !at.Equal(known) {
		d.moved(at)
	}
	return judge(read)
}

// judge tells of a job that has ended at Pleo, by itself or by somebody.
func judge(read pleo.Job) error {
	if !read.Status.Final() {
		return nil
	}
	return &endedAtPleoError{read}
}
