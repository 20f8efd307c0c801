package pleo

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

const (
	fullPageRows = 1000
	fullItemSize = 2 << 10
)

// fullPage is a page of 1,000 export items of 2 KB.
func fullPage(next string) []byte {
	rows := make([]string, fullPageRows)
	for i := range rows {
		head := fmt.Sprintf(`{"accountingEntryId":%q,"date":"2025-12-10T15:46:34Z","amount":{"inWalletCurrency":{"currency":"DKK","value":%d}},"note":"`, nthEntry(i), i)
		rows[i] = head + strings.Repeat("x", fullItemSize-len(head)-2) + `"}`
	}
	return []byte(pageJSON(next, rows...))
}

// pagesServer answers page after page from memory.
type pagesServer struct {
	bodies [][]byte
	n      int
}

func (s *pagesServer) RoundTrip(*http.Request) (*http.Response, error) {
	body := s.bodies[s.n]
	s.n++
	return &http.Response{
		StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}, nil
}

// A drain holds one page: with a dozen pages of 2 MB behind it, no more is alive
// than after the first. Not parallel: it reads the whole process's heap.
//
//nolint:paralleltest
func TestDrainHoldsOnePage(t *testing.T) {
	server := &pagesServer{}
	const pages = 12
	for i := range pages {
		next := nthCursor(i + 1)
		if i == pages-1 {
			next = ""
		}
		server.bodies = append(server.bodies, fullPage(next))
	}
	client, err := New(Config{Auth: BearerToken(StaticSecret(token)), Transport: server, PageSize: fullPageRows})
	if err != nil {
		t.Fatal(err)
	}
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	var most uint64
	stats, err := client.EachExportItem(t.Context(), jobID, func(items []ExportItem) error {
		most = max(most, live())
		runtime.KeepAlive(items)
		return nil
	})
	if err != nil || stats.Rows != pages*fullPageRows {
		t.Fatalf("%+v, %v", stats, err)
	}
	page := uint64(len(server.bodies[0]))
	if used := int64(most) - int64(before); used > int64(2*page) {
		t.Errorf("%d bytes alive in the worst moment, pages have %d", used, page)
	}
	runtime.KeepAlive(server)
}

// One page of 1,000 items of 2 KB must not cost more than a few times its size;
// B/op shows it, beside the page's own size.
func BenchmarkExportItemsPage(b *testing.B) {
	body := fullPage("")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ReportMetric(float64(len(body)), "page-bytes")
	for b.Loop() {
		p, err := readPage(bytes.NewReader(body), exportItemRow)
		if err != nil || len(p.rows) != fullPageRows {
			b.Fatal(err)
		}
	}
}

// The control layer's page: 1,000 job items.
func BenchmarkJobItemsPage(b *testing.B) {
	rows := make([]string, fullPageRows)
	for i := range rows {
		rows[i] = jobItemJSON(nthEntry(i))
	}
	body := []byte(pageJSON("", rows...))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := readPage(bytes.NewReader(body), jobItemRow(jobID))
		if err != nil || len(p.rows) != fullPageRows {
			b.Fatal(err)
		}
	}
}
