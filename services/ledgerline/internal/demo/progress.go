package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ledgerline/ledgerline/services/ledgerline/internal/terminal"
)

const (
	// progressInterval is how often the bars move.
	progressInterval = 100 * time.Millisecond
	// lineInterval is how often a line is printed where there are no bars.
	lineInterval = time.Second
	barWidth     = 36
	nameWidth    = 18
	// narrowest is what a line needs with a bar that is still one; it shrinks with
	// the terminal.
	narrowest = 60
)

// progress shows how far the run is: bars on a terminal, lines elsewhere.
type progress struct {
	out   io.Writer
	jobs  int
	items int

	look                   terminal.Look
	bars                   *mpb.Progress
	started, booked, ended *mpb.Bar

	began  time.Time
	lineAt time.Time
	last   tick
}

func newProgress(out io.Writer, c *Command) *progress {
	p := &progress{out: out, look: terminal.Of(out), jobs: c.Jobs, items: c.Jobs * c.Items}
	fmt.Fprintf(out, "%s: %d export jobs of %d items, seed %d, faults %s.\n", p.look.Strong("Ledgerline demo"), c.Jobs, c.Items, c.Seed, c.Faults)
	fmt.Fprintf(out, "Pleo's webhook, the fetch, the booking and the completed job: all of it in this process.\n")
	return p
}

// begin tells where the status page is, and draws the bars.
func (p *progress) begin(addr string) {
	fmt.Fprintf(p.out, "Its status page, while it runs: http://%s/\n\n", addr)
	if p.look.Width < narrowest {
		return
	}
	p.began = time.Now()
	p.bars = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(barWidth), mpb.WithRefreshRate(progressInterval))
	p.started = p.bar("jobs started", p.jobs, nil)
	p.booked = p.bar("items booked", p.items, p.pace)
	p.ended = p.bar("jobs completed", p.jobs, nil)
}

// pace is how many items are booked in a second, over the whole run.
func (p *progress) pace(booked int64) string {
	seconds := time.Since(p.began).Seconds()
	if booked == 0 || seconds < 1 {
		return ""
	}
	return p.look.Soft("  " + terminal.Count(int64(float64(booked)/seconds)) + "/s")
}

func (p *progress) bar(name string, total int, pace func(int64) string) *mpb.Bar {
	of := " of " + terminal.Count(int64(total))
	return p.bars.New(int64(max(total, 1)), p.look.Bar(),
		mpb.PrependDecorators(decor.Name("  "+name, decor.WC{W: nameWidth, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			text := "  " + terminal.Count(min(s.Current, int64(total))) + of
			if pace != nil {
				text += pace(s.Current)
			}
			return text
		})))
}

// show takes the present state.
func (p *progress) show(t tick) {
	if p.bars != nil {
		p.started.SetCurrent(int64(t.started))
		p.booked.SetCurrent(int64(t.booked))
		p.ended.SetCurrent(int64(t.ended))
		return
	}
	if t == p.last || (time.Since(p.lineAt) < lineInterval && t.ended < p.jobs) {
		return
	}
	p.lineAt, p.last = time.Now(), t
	fmt.Fprintf(p.out, "  started %d/%d jobs, booked %d/%d items, completed %d/%d jobs\n",
		t.started, p.jobs, t.booked, p.items, t.ended, p.jobs)
}

// stop leaves the bars as they are.
func (p *progress) stop() {
	if p.bars == nil {
		return
	}
	for _, bar := range []*mpb.Bar{p.started, p.booked, p.ended} {
		bar.Abort(false) // a full bar has ended already
	}
	p.bars.Wait()
}
