package demo

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

const (
	// progressInterval is how often the bars move.
	progressInterval = 100 * time.Millisecond
	// lineInterval is how often a line is printed where there are no bars.
	lineInterval = time.Second
	barWidth     = 40
)

// progress shows how far the run is: bars on a terminal, lines elsewhere.
type progress struct {
	out   io.Writer
	jobs  int
	items int

	bars                   *mpb.Progress
	started, booked, ended *mpb.Bar

	lineAt time.Time
	last   tick
}

func newProgress(out io.Writer, c *Command) *progress {
	p := &progress{out: out, jobs: c.Jobs, items: c.Jobs * c.Items}
	fmt.Fprintf(out, "Ledgerline demo: %d export jobs of %d items, seed %d, faults %s.\n", c.Jobs, c.Items, c.Seed, c.Faults)
	fmt.Fprintf(out, "Pleo's webhook, the fetch, the booking and the completed job: all of it in this process.\n\n")
	if isWideTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(barWidth), mpb.WithRefreshRate(progressInterval))
		p.started = p.bar("jobs started", p.jobs)
		p.booked = p.bar("items booked", p.items)
		p.ended = p.bar("jobs completed", p.jobs)
	}
	return p
}

// isWideTerminal tells whether bars can be drawn; a terminal that does not tell its
// width cannot.
func isWideTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	return err == nil && width >= barWidth
}

func (p *progress) bar(name string, total int) *mpb.Bar {
	const nameWidth = 16
	return p.bars.AddBar(int64(max(total, 1)),
		mpb.PrependDecorators(decor.Name(name, decor.WC{W: nameWidth, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.CountersNoUnit("%d / %d")))
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
