package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/jobview"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/terminal"
)

const (
	// watchInterval is how often the jobs are read; the figures are the server's.
	watchInterval = time.Second
	// maxBars is how many jobs are shown at a time on a terminal, so that they fit
	// a screen; the last line counts the rest.
	maxBars = 20
	// barWidth is that of a bar alone.
	barWidth = 24
	// shownID is as much of a job's id as tells it from the others on a screen.
	shownID = 8
)

// Watch is `ledgerline watch`.
type Watch struct {
	NATS      config.NATS `embed:""`
	Log       config.Log  `embed:""`
	UntilDone bool        `help:"End when no job is open any more, in place of watching on."`
}

// Run shows the open jobs until it is stopped: bars on a terminal, elsewhere a line
// for each change, as JSON where that is asked for.
func (c *Watch) Run(s *Session) error {
	err := s.onNATSUntil(s.Context, c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		v, err := jobview.Open(ctx, js)
		if err != nil {
			return err
		}
		var show screen = &lines{s: s, seen: map[string]jobview.Row{}}
		if look := terminal.Of(s.Runtime.Stdout); s.Output != OutputJSON && look.Width > 0 {
			show = newBars(s.Runtime.Stdout, look)
		}
		defer show.stop()
		return c.follow(ctx, v, show)
	})
	if s.Context.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped by who watched
	}
	return err
}

// screen shows the jobs, again and again.
type screen interface {
	show(jobs []jobview.Row) error
	stop()
}

func (c *Watch) follow(ctx context.Context, v *jobview.View, show screen) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		reading, cancel := context.WithTimeout(ctx, commandTimeout)
		jobs, err := v.All(reading)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, jobstate.ErrUnreadable) { // which `ledgerline jobs` names
			return err
		}
		if err := show.show(jobs); err != nil {
			return err
		}
		open := 0
		for _, j := range jobs {
			if j.Open() {
				open++
			}
		}
		if c.UntilDone && open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lines prints a line for each change of a job.
type lines struct {
	s    *Session
	seen map[string]jobview.Row
	more bool // the first look is over
}

func (l *lines) show(jobs []jobview.Row) error {
	for _, j := range jobs {
		before, known := l.seen[j.JobID]
		l.seen[j.JobID] = j
		// What had ended before the watch began is history.
		if known && before.State == j.State && before.Position == j.Position && before.Reason == j.Reason || !known && !l.more && !j.Open() {
			continue
		}
		if l.s.Output == OutputJSON {
			if err := json.NewEncoder(l.s.Runtime.Stdout).Encode(j); err != nil {
				return fmt.Errorf("write JSON: %w", err)
			}
			continue
		}
		text := fmt.Sprintf("%s  %s  %s/%s  %s", time.Now().Format(time.TimeOnly), j.JobID, short(uint64(j.Position)), short(uint64(j.Total)), stateOf(j))
		if err := l.s.printf("%s\n", cut(text, tableWidth)); err != nil {
			return err
		}
	}
	l.more = true
	return nil
}

func (l *lines) stop() {}

// stateOf is a job's state with why it stands still.
func stateOf(j jobview.Row) string {
	if j.Reason == "" {
		return j.State
	}
	return j.State + ": " + j.Reason
}

// bars are a bar for each open job, on a terminal; what ends leaves a line above
// them.
type bars struct {
	look    terminal.Look
	all     *mpb.Progress
	shown   map[string]*jobBar
	summary *jobBar
	ended   map[string]string // states of the jobs that have ended
	more    bool              // the first look is over
}

// jobBar is a bar and what stands behind it. Its text is read by the bars' own
// goroutine.
type jobBar struct {
	bar  *mpb.Bar
	text atomic.Pointer[string]
}

func newBars(out io.Writer, look terminal.Look) *bars {
	b := &bars{look: look, all: mpb.New(mpb.WithOutput(out), mpb.WithWidth(barWidth), mpb.WithAutoRefresh()), shown: map[string]*jobBar{}, ended: map[string]string{}}
	b.summary = b.add("", mpb.NopStyle(), mpb.BarPriority(math.MaxInt))
	return b
}

func (b *bars) add(name string, style mpb.BarFillerBuilder, options ...mpb.BarOption) *jobBar {
	one := &jobBar{}
	one.say("")
	one.bar = b.all.New(0, style, append(options,
		mpb.PrependDecorators(decor.Name(name)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *one.text.Load() })))...)
	return one
}

func (j *jobBar) say(text string) { j.text.Store(&text) }

func (b *bars) show(jobs []jobview.Row) error {
	open, hidden := 0, 0
	for _, j := range jobs {
		one, is := b.shown[j.JobID]
		if !j.Open() {
			if is || b.more && !is && b.ended[j.JobID] != j.State {
				if err := b.leave(j, one); err != nil {
					return err
				}
			}
			b.ended[j.JobID] = j.State
			continue
		}
		delete(b.ended, j.JobID)
		open++
		if !is && len(b.shown) >= maxBars {
			hidden++
			continue
		}
		if !is {
			one = b.add(j.JobID[:shownID]+" ", b.look.Bar())
			b.shown[j.JobID] = one
		}
		one.bar.SetTotal(int64(max(j.Total, 1)), false)
		one.bar.SetCurrent(int64(j.Position))
		const before = shownID + 1 + barWidth + 1
		one.say(" " + cut(fmt.Sprintf("%s/%s %s", short(uint64(j.Position)), short(uint64(j.Total)), stateOf(j)), tableWidth-before-1))
	}
	b.more = true
	text := fmt.Sprintf("%d jobs open", open)
	if open == 1 {
		text = "1 job open"
	}
	if hidden > 0 {
		text += fmt.Sprintf(", %d of them not shown", hidden)
	}
	b.summary.say(text)
	return nil
}

// leave takes an ended job off the bars and leaves a line.
func (b *bars) leave(j jobview.Row, one *jobBar) error {
	if one != nil {
		one.bar.Abort(true)
		delete(b.shown, j.JobID)
	}
	line := cut(fmt.Sprintf("%s  %s  %s/%s  %s", time.Now().Format(time.TimeOnly), j.JobID, short(uint64(j.Position)), short(uint64(j.Total)), stateOf(j)), tableWidth)
	if _, err := b.all.Write([]byte(line + "\n")); err != nil {
		return fmt.Errorf("write a line above the bars: %w", err)
	}
	return nil
}

func (b *bars) stop() {
	for _, one := range b.shown {
		one.bar.Abort(false)
	}
	b.summary.bar.Abort(false)
	b.all.Wait()
}
