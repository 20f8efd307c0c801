package fetcher

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// maxDrains is how often a job is read: a fault that a fresh drain shows again
	// is the upstream's, not the moment's.
	maxDrains = 2
	// maxEntries bounds the memory of a drain: 32 bytes each. No bookkeeper
	// exports two million expenses at once.
	maxEntries = 2_000_000
	// drainPatience is how long a drain may stand still before its event is handed
	// back, so that jobs of other companies get the slot.
	drainPatience = 5 * time.Minute
)

// entry is what is kept of an item: no payload.
type entry struct {
	id      uuid.UUID
	seconds int64 // transaction date, Unix time
	nanos   int32
	dated   bool
	status  ledgerlinev1.ItemStatus // unspecified: not open
}

// errStill is the cause of a drain that stood still for drainPatience.
var errStill = fmt.Errorf("no page came for %s", drainPatience)

// drain reads all pages and returns the open items in the job's order.
func (f *Fetcher) drain(ctx context.Context, t *task, logger zerolog.Logger) ([]entry, error) {
	var lastErr error
	for n := 1; n <= maxDrains; n++ {
		started := time.Now()
		d := &drainPass{fetcher: f, task: t, logger: logger, notedAt: started, pageBegan: started}
		entries, err := d.read(ctx)
		switch {
		case err == nil && d.missing() && n < maxDrains:
			logger.Warn().Int("rows", d.rows).Int("expected", t.read.NumberOfItems).Msg(logevent.DrainRepeated)
			continue
		case err == nil:
			if d.missing() {
				logger.Warn().Int("rows", d.rows).Int("expected", t.read.NumberOfItems).Msg(logevent.RowsMissing)
			}
			if d.undated > 0 {
				logger.Warn().Int("items", d.undated).Msg(logevent.DatesMissing)
			}
			logger.Info().Int("pages", d.pages).Int("items", d.rows).Int("open", len(entries)).
				Dur("took", time.Since(started)).Msg(logevent.JobDrained)
			f.metrics.DrainDuration.Observe(time.Since(started).Seconds())
			return entries, nil
		case pleo.IsPageFault(err):
			lastErr = err
			logger.Warn().Err(err).Int("drain", n).Msg(logevent.DrainRepeated)
		case errors.Is(err, errStill):
			return nil, fmt.Errorf("%w: %w", errLater, err)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("drain the job: %w", err)
		default:
			return nil, f.drainRefused(ctx, t, err)
		}
	}
	return nil, parkJob("the pages cannot be trusted, also read afresh: %v; nothing of the job was sent", lastErr)
}

// drainRefused is what an answer means that ends the drain.
func (f *Fetcher) drainRefused(ctx context.Context, t *task, err error) error {
	var api *pleo.APIError
	if !errors.As(err, &api) {
		return f.refused(t, err)
	}
	switch {
	case api.HasType(pleo.TypeMissingContraAccounts):
		// The whole payload is refused while one account is not mapped; the
		// bookkeeper learns it from the job.
		crashpoint.Before(crashpoint.FetcherFail)
		post := t.pleo.PostJobEvent(ctx, pleo.JobEvent{
			JobID: t.job.String(), Event: pleo.EventFailed,
			FailureReasonType: pleo.JobMissingConfiguration,
			FailureReason:     "A contra account is not mapped: " + api.Message,
		})
		crashpoint.After(crashpoint.FetcherFail)
		var refused *pleo.APIError
		if post != nil && (ctx.Err() != nil || !errors.As(post, &refused)) {
			return fmt.Errorf("fail the job for its missing contra account: %w", post)
		}
		return parkJob("missing_configuration: %v", api)
	case api.Status == http.StatusUnprocessableEntity:
		if readErr := f.awaitJob(ctx, t, func(read pleo.Job) bool { return read.Status.Final() }); readErr != nil {
			return fmt.Errorf("read the job after %w: %w", api, readErr)
		}
		return parkJob("the job is %s at Pleo%s: %v", t.read.Status, reasonOf(t.read), api)
	}
	return parkJob("Pleo refuses: %v", api)
}

// drainPass is one reading of all pages.
type drainPass struct {
	fetcher *Fetcher
	task    *task
	logger  zerolog.Logger

	pages   int
	rows    int // different items, whatever their status
	undated int
	notedAt time.Time
	// pageBegan is when the page that comes next was asked for.
	pageBegan time.Time
	moved     func() // a page came
}

func (d *drainPass) missing() bool { return d.rows < d.task.read.NumberOfItems }

func (d *drainPass) read(ctx context.Context) ([]entry, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still := time.AfterFunc(drainPatience, func() { cancel(errStill) })
	defer still.Stop()
	d.moved = func() { still.Reset(drainPatience) }

	entries, err := d.readItems(ctx)
	if err == nil && d.fetcher.config.Order == OrderDate && len(entries) > 0 {
		err = d.readDates(ctx, entries)
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStill) {
			return nil, fmt.Errorf("%w: %w", errStill, err)
		}
		return nil, err
	}
	sortEntries(entries, d.fetcher.config.Order)
	return entries, nil
}

// readItems reads the control records, unfiltered: a filter on a set whose
// statuses change while it is paged skips rows. It returns the open ones by id.
func (d *drainPass) readItems(ctx context.Context) ([]entry, error) {
	var rows []entry
	crashpoint.Before(crashpoint.FetcherItems)
	_, err := d.task.pleo.EachJobItem(ctx, d.task.job.String(), func(page []pleo.JobItem) error {
		d.page(ctx)
		if len(rows)+len(page) > maxEntries {
			return parkJob("the job has more than %d items", maxEntries)
		}
		for _, item := range page {
			id, err := uuid.Parse(item.AccountingEntryID)
			if err != nil {
				return fmt.Errorf("%w: accountingEntryId: %w", pleo.ErrPageShape, err)
			}
			rows = append(rows, entry{id: id, status: openStatus(item.Status)})
		}
		return nil
	})
	crashpoint.After(crashpoint.FetcherItems)
	if err != nil {
		return nil, err
	}
	// An item seen twice counts once, as it was seen last.
	slices.SortStableFunc(rows, func(a, b entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	open, n := rows[:0], len(rows)
	d.rows = 0
	for i := range n {
		row := rows[i]
		if i+1 < n && rows[i+1].id == row.id {
			continue
		}
		d.rows++
		if row.status != ledgerlinev1.ItemStatus_ITEM_STATUS_UNSPECIFIED {
			open = append(open, row)
		}
	}
	return open, nil
}

// readDates reads the payload and keeps its dates. entries are sorted by id.
func (d *drainPass) readDates(ctx context.Context, entries []entry) error {
	crashpoint.Before(crashpoint.FetcherDates)
	_, err := d.task.pleo.EachExportItem(ctx, d.task.job.String(), func(page []pleo.ExportItem) error {
		d.page(ctx)
		for _, item := range page {
			id, err := uuid.Parse(item.AccountingEntryID)
			if err != nil {
				return fmt.Errorf("%w: accountingEntryId: %w", pleo.ErrPageShape, err)
			}
			i, found := slices.BinarySearchFunc(entries, id, func(e entry, id uuid.UUID) int { return bytes.Compare(e.id[:], id[:]) })
			if !found || item.Date == nil {
				continue
			}
			entries[i].seconds, entries[i].nanos, entries[i].dated = item.Date.Unix(), int32(item.Date.Nanosecond()), true
		}
		return nil
	})
	crashpoint.After(crashpoint.FetcherDates)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.dated {
			d.undated++
		}
	}
	return nil
}

// page counts a page, and tells people about twice a lease that the drain goes
// on.
func (d *drainPass) page(ctx context.Context) {
	crashpoint.After(crashpoint.FetcherPage)
	d.pages++
	d.fetcher.config.Traces.Record(ctx, tracing.SpanPage, d.pageBegan, tracing.Number(tracing.AttrPage, d.pages))
	d.pageBegan = time.Now()
	d.fetcher.metrics.PagesFetched.Inc()
	d.moved()
	if time.Since(d.notedAt) > d.fetcher.config.Topology.Lease/2 {
		d.notedAt = time.Now()
		d.fetcher.note(ctx, d.task, d.pages, d.logger)
	}
}

// sortEntries brings items into the job's order. Entry ids are unique, so the
// order is total: the same items come in the same order in every drain.
func sortEntries(entries []entry, order Order) {
	slices.SortFunc(entries, func(a, b entry) int {
		if order == OrderDate {
			if a.dated != b.dated { // without a date: last
				if a.dated {
					return -1
				}
				return 1
			}
			if c := cmp.Or(cmp.Compare(a.seconds, b.seconds), cmp.Compare(a.nanos, b.nanos)); c != 0 {
				return c
			}
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
}

func openStatus(s pleo.ItemStatus) ledgerlinev1.ItemStatus {
	switch s {
	case pleo.ItemPending:
		return ledgerlinev1.ItemStatus_ITEM_STATUS_PENDING
	case pleo.ItemInProgress:
		return ledgerlinev1.ItemStatus_ITEM_STATUS_IN_PROGRESS
	}
	return ledgerlinev1.ItemStatus_ITEM_STATUS_UNSPECIFIED
}
