package pleo

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// MaxPages bounds one drain: ten million items at the default page size, and
	// hours of requests at any rate that is allowed to us.
	MaxPages = 100_000

	// MaxEmptyPages bounds pages without a row, one after another. A few are
	// legal; at ten requests a second this many cost a hundred seconds, and then
	// the reason is told instead of the job's deadline passing.
	MaxEmptyPages = 1000

	// maxCursorBytes: a cursor goes into a URL, and servers commonly take request
	// lines of 8 KB. Those seen have 50 bytes.
	maxCursorBytes = 4096
)

// PageStats tells what a drain read, also when it ended with an error.
type PageStats struct {
	Pages int   // pages that were handed on, empty ones included
	Rows  int   // rows on them, doubles included
	Total int64 // "total" of the last page, a hint: -1 when the upstream did not say
}

// listing is one paged operation.
type listing[T any] struct {
	op    Operation
	path  []string
	query url.Values // without limit and after
	of    string     // "items of job …", for errors
	jobID string     // for logs
	row   func(json.RawMessage) (T, error)
}

// page is one page, read to its end and checked.
type page[T any] struct {
	rows    []T
	hasNext bool
	end     string // endCursor; may be set on the last page too (trap 11)
	total   int64  // -1: not said
}

// drain reads every page from after on and hands each to fn, whole and in the
// upstream's order. Only hasNextPage ends it: neither a short page, nor an empty
// one, nor total, nor an absent cursor (traps 11, 12, 17). Between pages it
// holds nothing but a digest of each cursor.
func drain[T any](ctx context.Context, c *Client, l listing[T], after string, fn func([]T) error) (PageStats, error) {
	stats := PageStats{Total: -1}
	followed := map[[sha256.Size]byte]struct{}{}
	if after != "" {
		followed[sha256.Sum256([]byte(after))] = struct{}{}
	}
	empty := 0
	for number := 1; ; number++ {
		p, err := fetchPage(ctx, c, l, number, after)
		if err != nil {
			return stats, err
		}
		if p.hasNext {
			cursor := sha256.Sum256([]byte(p.end))
			if _, seen := followed[cursor]; seen {
				return stats, fmt.Errorf("fetch page %d of the %s: %w", number, l.of, ErrCursorRepeated)
			}
			followed[cursor] = struct{}{}
		}
		stats.Pages++
		stats.Rows += len(p.rows)
		stats.Total = p.total
		if len(p.rows) > 0 {
			empty = 0
			if err := fn(p.rows); err != nil {
				return stats, err
			}
		} else {
			empty++
		}
		switch {
		case !p.hasNext:
			return stats, nil
		case empty >= MaxEmptyPages:
			return stats, fmt.Errorf("fetch page %d of the %s: %w: %d without a row one after another", number+1, l.of, ErrTooManyPages, empty)
		case number >= c.maxPages:
			return stats, fmt.Errorf("fetch page %d of the %s: %w: at most %d are read", number+1, l.of, ErrTooManyPages, c.maxPages)
		}
		after = p.end
	}
}

// fetchPage reads one page. number is for the error and the log only; 0 is a page
// whose place in the listing is not known.
func fetchPage[T any](ctx context.Context, c *Client, l listing[T], number int, after string) (page[T], error) {
	query := url.Values{}
	for name, values := range l.query {
		query[name] = values
	}
	// Always explicit: the upstream's default is unpublished (trap 17).
	query.Set("limit", strconv.Itoa(c.pageSize))
	if after != "" {
		// The request's name is after, the answer's endCursor (trap 13).
		query.Set("after", after)
	}
	doing := fmt.Sprintf("fetch page %d of the %s", number, l.of)
	if number == 0 {
		doing = "fetch a page of the " + l.of
	}
	var p page[T]
	err := c.do(ctx, call{
		op:     l.op,
		doing:  doing,
		jobID:  l.jobID,
		method: http.MethodGet,
		path:   l.path,
		query:  query,
		wanted: only200,
		bound:  c.pageBound,
		take: func(r io.Reader) (err error) {
			p, err = readPage(r, l.row)
			return err
		},
	})
	if err != nil {
		return page[T]{}, err
	}
	e := c.log.Debug().Str("operation", string(l.op))
	if l.jobID != "" {
		e.Str("job_id", l.jobID)
	}
	e.Int("page", number).Int("rows", len(p.rows)).Bool("has_next_page", p.hasNext).Msg(logevent.PageFetched)
	return p, nil
}

// errTrailing: a second value after the page. Not valid JSON, so tried again.
var errTrailing = errors.New("text after the end of the JSON value")

// readPage reads {"data": […], "pagination": {…}} row by row: the text of one
// row is held at a time, beside the rows that row made of the ones before.
//
// A wrong shape is reported only once the rest turned out to be valid JSON: text
// that is cut or garbled is to be asked for again, whatever it looked like up to
// there.
func readPage[T any](r io.Reader, row func(json.RawMessage) (T, error)) (page[T], error) {
	d := pageReader[T]{dec: json.NewDecoder(r), row: row, page: page[T]{total: -1}}
	d.dec.UseNumber() // or 1e999 in a member that we skip would be an error
	if err := d.read(); err != nil {
		if errors.Is(err, io.EOF) {
			// Token says io.EOF in the middle of a value, too.
			err = io.ErrUnexpectedEOF
		}
		return page[T]{}, err
	}
	if d.fault != nil {
		return page[T]{}, d.fault
	}
	return d.page, nil
}

type pageReader[T any] struct {
	dec                    *json.Decoder
	row                    func(json.RawMessage) (T, error)
	page                   page[T]
	fault                  error           // the first wrong shape
	scratch                json.RawMessage // one row, reused
	hasData, hasPagination bool
}

func (d *pageReader[T]) wrong(format string, args ...any) {
	if d.fault == nil {
		d.fault = fmt.Errorf("%w: "+format, append([]any{ErrPageShape}, args...)...)
	}
}

func (d *pageReader[T]) read() error {
	top, err := d.dec.Token()
	if err != nil {
		return err
	}
	if top != json.Delim('{') {
		d.wrong("page is not an object")
		return d.finish(opened(top))
	}
	for d.dec.More() {
		name, err := d.dec.Token()
		if err != nil {
			return err
		}
		switch {
		case name == "data" && !d.hasData:
			d.hasData = true
			err = d.readData()
		case name == "pagination" && !d.hasPagination:
			d.hasPagination = true
			err = d.readPagination()
		case name == "data", name == "pagination":
			d.wrong("%s stands twice", name)
			err = d.dec.Decode(&d.scratch)
		default:
			err = d.dec.Decode(&d.scratch)
		}
		if err != nil {
			return err
		}
	}
	if err := d.finish(1); err != nil {
		return err
	}
	if !d.hasData {
		d.wrong("data is missing")
	}
	if !d.hasPagination {
		d.wrong("pagination is missing")
	}
	return nil
}

func (d *pageReader[T]) readData() error {
	open, err := d.dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('[') {
		d.wrong("data is not an array")
		return d.skip(opened(open))
	}
	for n := 1; d.dec.More(); n++ {
		if err := d.dec.Decode(&d.scratch); err != nil {
			return err
		}
		if d.fault != nil {
			continue
		}
		row, err := d.row(d.scratch)
		if err != nil {
			d.fault = fmt.Errorf("row %d: %w", n, err)
			d.page.rows = nil
			continue
		}
		d.page.rows = append(d.page.rows, row)
	}
	_, err = d.dec.Token() // the closing bracket
	return err
}

func (d *pageReader[T]) readPagination() error {
	if err := d.dec.Decode(&d.scratch); err != nil {
		return err
	}
	var info struct {
		HasNextPage *bool           `json:"hasNextPage"`
		EndCursor   string          `json:"endCursor"`
		Total       json.RawMessage `json:"total"`
	}
	if err := asShape(json.Unmarshal(d.scratch, &info)); err != nil {
		d.wrong("pagination cannot be read (%s)", err)
		return nil
	}
	if info.HasNextPage == nil {
		d.wrong("pagination.hasNextPage is missing")
		return nil
	}
	d.page.hasNext, d.page.end = *info.HasNextPage, info.EndCursor
	if total, err := strconv.ParseInt(string(info.Total), 10, 64); err == nil && total >= 0 {
		d.page.total = total
	}
	switch {
	case !d.page.hasNext:
	case d.page.end == "":
		if d.fault == nil {
			d.fault = ErrCursorMissing
		}
	case len(d.page.end) > maxCursorBytes:
		d.wrong("endCursor has more than %d bytes", maxCursorBytes)
	}
	return nil
}

// skip reads on until depth open values are closed.
func (d *pageReader[T]) skip(depth int) error {
	for depth > 0 {
		token, err := d.dec.Token()
		if err != nil {
			return err
		}
		depth += opened(token)
	}
	return nil
}

// finish reads to the end of the text, with depth values still open. Reading on
// to the very end also lets the connection be used again.
func (d *pageReader[T]) finish(depth int) error {
	if err := d.skip(depth); err != nil {
		return err
	}
	switch _, err := d.dec.Token(); {
	case err == nil:
		return errTrailing
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	default:
		return err
	}
}

// opened is how many values a token opens: 1, 0 or -1.
func opened(token json.Token) int {
	switch token {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}
