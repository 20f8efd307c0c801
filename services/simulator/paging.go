package simulator

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// keyStep is the distance between the internal keys of neighbouring rows, in
// nanoseconds. The room between two keys is used by the fault empty-page, which
// needs cursors that point between rows.
const keyStep = int64(time.Microsecond)

// listing is a list that can be paged: rows 0 to length-1 in ascending order of
// an internal key. The key is the moment of the row's creation and has nothing to
// do with its date or its id.
type listing struct {
	length int
	key    func(row int) int64 // nanoseconds, strictly ascending
	id     func(row int) uuid.UUID
	keep   func(row int) bool // nil: all rows
	// parameters are echoed as currentRequestPagination.parameters.
	parameters map[string][]string
}

func (l *listing) kept(row int) bool { return l.keep == nil || l.keep(row) }

// pageQuery is what the caller asked for.
type pageQuery struct {
	after, before       *int64 // keys
	rawAfter, rawBefore string
	offset              *int64
	limit               *int
	sortingKeys         []string
	sortingOrder        []string
	ascending           bool
}

var pageOrders = set("ASC", "ASC_NULLS_FIRST", "ASC_NULLS_LAST", "DESC", "DESC_NULLS_FIRST", "DESC_NULLS_LAST")

// sortKey is the only sort key: the reference names none.
const sortKey = "createdAt"

func parsePageQuery(values url.Values) (pageQuery, error) {
	q := pageQuery{sortingKeys: orEmpty(values["sorting_keys"]), sortingOrder: orEmpty(values["sorting_order"])}
	exclusive := 0
	for name, into := range map[string]struct {
		key **int64
		raw *string
	}{"after": {&q.after, &q.rawAfter}, "before": {&q.before, &q.rawBefore}} {
		raw := values.Get(name)
		if !values.Has(name) {
			continue
		}
		exclusive++
		key, err := decodeCursor(raw)
		if err != nil {
			return q, fmt.Errorf("%s: %w", name, err)
		}
		*into.key, *into.raw = &key, raw
	}
	if values.Has("offset") {
		exclusive++
		offset, err := strconv.ParseInt(values.Get("offset"), 10, 64)
		if err != nil || offset < 0 {
			return q, fmt.Errorf("offset: %q is not a number from 0", values.Get("offset"))
		}
		q.offset = &offset
	}
	if exclusive > 1 {
		return q, fmt.Errorf("only one of after, before and offset may be given")
	}
	if values.Has("limit") {
		limit, err := strconv.ParseInt(values.Get("limit"), 10, 32)
		if err != nil || limit < 0 {
			return q, fmt.Errorf("limit: %q is not a number from 0 to %d", values.Get("limit"), math.MaxInt32)
		}
		q.limit = ptr(int(limit))
	}
	if len(q.sortingKeys) != len(q.sortingOrder) {
		return q, fmt.Errorf("sorting_keys and sorting_order differ in length")
	}
	for i, key := range q.sortingKeys {
		if key != sortKey {
			return q, fmt.Errorf("sorting_keys: %q is unknown, %q is known", key, sortKey)
		}
		if !pageOrders[q.sortingOrder[i]] {
			return q, fmt.Errorf("sorting_order: %q is unknown", q.sortingOrder[i])
		}
		q.ascending = i == 0 && strings.HasPrefix(q.sortingOrder[i], "ASC") || i > 0 && q.ascending
	}
	return q, nil
}

// pageInfo is CursorPageInfo of the API.
type pageInfo struct {
	HasPreviousPage bool        `json:"hasPreviousPage"`
	HasNextPage     bool        `json:"hasNextPage"`
	Current         currentPage `json:"currentRequestPagination"`
	StartCursor     *string     `json:"startCursor,omitempty"`
	EndCursor       *string     `json:"endCursor,omitempty"`
	Total           *int64      `json:"total,omitempty"`
}

type currentPage struct {
	After        string              `json:"after,omitempty"`
	Before       string              `json:"before,omitempty"`
	Limit        *int                `json:"limit,omitempty"`
	Offset       *int64              `json:"offset,omitempty"`
	SortingKeys  []string            `json:"sortingKeys"`
	SortingOrder []string            `json:"sortingOrder"`
	Parameters   map[string][]string `json:"parameters"`
}

// pageQuirks are the ways in which one page may be made to misbehave.
type pageQuirks struct {
	short          func(limit int) int // a smaller limit
	empty          bool
	duplicate      bool
	missingCursor  bool
	repeatedCursor bool
}

// page cuts one page out of a listing. rows are in the order to be shown.
func (l *listing) page(q pageQuery, defaultLimit, maxLimit int, quirks pageQuirks) (rows []int, info pageInfo) {
	// A limit of 0 is allowed by the schema and read as "not given": a page that
	// can hold nothing would never end.
	limit := defaultLimit
	if q.limit != nil && *q.limit > 0 {
		limit = min(*q.limit, maxLimit)
	}
	if quirks.short != nil {
		limit = quirks.short(limit)
	}
	info.Current = currentPage{
		After: q.rawAfter, Before: q.rawBefore, Limit: q.limit, Offset: q.offset,
		SortingKeys: q.sortingKeys, SortingOrder: q.sortingOrder, Parameters: l.parameters,
	}

	// Positions count rows in the order shown; at turns one into a row.
	at := func(position int) int {
		if q.ascending {
			return position
		}
		return l.length - 1 - position
	}
	next := func(from int) int {
		for from < l.length && !l.kept(at(from)) {
			from++
		}
		return from
	}
	previous := func(from int) int { // last kept position below from, or -1
		for from--; from >= 0 && !l.kept(at(from)); from-- {
		}
		return from
	}

	start, end := 0, l.length
	switch {
	case q.after != nil:
		start = sort.Search(l.length, func(p int) bool {
			if q.ascending {
				return l.key(at(p)) > *q.after
			}
			return l.key(at(p)) < *q.after
		})
		if before := previous(start); quirks.duplicate && limit > 1 && before >= 0 {
			start = before
		}
	case q.before != nil:
		end = sort.Search(l.length, func(p int) bool {
			if q.ascending {
				return l.key(at(p)) >= *q.before
			}
			return l.key(at(p)) <= *q.before
		})
		start = end
		for range limit {
			if before := previous(start); before >= 0 {
				start = before
			}
		}
	case q.offset != nil:
		for skipped := int64(0); skipped < *q.offset && start < l.length; skipped++ {
			if start = next(start); start < l.length {
				start++
			}
		}
	}

	if quirks.empty && q.before == nil && q.offset == nil {
		if cursor, ok := l.emptyPageCursor(q, at, next(start)); ok {
			info.HasPreviousPage = previous(start) >= 0
			info.HasNextPage = true
			info.EndCursor = &cursor
			info.Total = ptr(l.total())
			return nil, info
		}
	}

	position := next(start)
	for ; position < end && len(rows) < limit; position = next(position + 1) {
		rows = append(rows, at(position))
	}
	info.HasNextPage = position < l.length
	info.HasPreviousPage = previous(start) >= 0
	info.Total = ptr(l.total())
	switch {
	case len(rows) > 0:
		info.StartCursor = ptr(l.cursor(rows[0]))
		info.EndCursor = ptr(l.cursor(rows[len(rows)-1]))
	case q.after != nil:
		info.EndCursor = &q.rawAfter
	}
	if quirks.repeatedCursor {
		info.HasNextPage = true
		if q.after != nil {
			info.EndCursor = &q.rawAfter
		}
	}
	if quirks.missingCursor {
		info.HasNextPage = true
		info.EndCursor = nil
	}
	return rows, info
}

// emptyPageCursor is a cursor of its own that points to the same place as the one
// asked with: the empty page makes no progress, and yet no cursor repeats. Not
// offered at the end, nor more than maxEmptyPagesInARow times in a row.
func (l *listing) emptyPageCursor(q pageQuery, at func(int) int, first int) (string, bool) {
	if first >= l.length {
		return "", false
	}
	direction := int64(-1) // towards the next row
	if q.ascending {
		direction = 1
	}
	row := at(first)
	from := l.key(row) - direction*keyStep
	depth := int64(0)
	if q.after != nil {
		from = *q.after
		depth = (from*direction%keyStep + keyStep) % keyStep
	}
	if depth >= maxEmptyPagesInARow {
		return "", false
	}
	return encodeCursor(from+direction, l.id(row)), true
}

func (l *listing) total() int64 {
	if l.keep == nil {
		return int64(l.length)
	}
	total := int64(0)
	for row := range l.length {
		if l.keep(row) {
			total++
		}
	}
	return total
}

func (l *listing) cursor(row int) string { return encodeCursor(l.key(row), l.id(row)) }

// A cursor looks as those of the documented sample: two unpadded base32 words,
// the moment (seconds and nanoseconds) and an internal id, joined by "=".
var cursorCoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func encodeCursor(key int64, id uuid.UUID) string {
	var moment [12]byte
	second := int64(time.Second)
	binary.BigEndian.PutUint64(moment[:8], uint64(key/second))
	binary.BigEndian.PutUint32(moment[8:], uint32(key%second))
	return cursorCoding.EncodeToString(moment[:]) + "=" + cursorCoding.EncodeToString(id[:])
}

func decodeCursor(cursor string) (int64, error) {
	first, second, _ := strings.Cut(cursor, "=")
	moment, err := cursorCoding.DecodeString(first)
	id, idErr := cursorCoding.DecodeString(second)
	if err != nil || idErr != nil || len(moment) != 12 || len(id) != 16 {
		return 0, fmt.Errorf("%q is no cursor of this API", cursor)
	}
	seconds, nanos := binary.BigEndian.Uint64(moment[:8]), binary.BigEndian.Uint32(moment[8:])
	if seconds > uint64(math.MaxInt64/int64(time.Second))-1 || int64(nanos) >= int64(time.Second) {
		return 0, fmt.Errorf("%q is no cursor of this API", cursor)
	}
	return int64(seconds)*int64(time.Second) + int64(nanos), nil
}

func orEmpty(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}
