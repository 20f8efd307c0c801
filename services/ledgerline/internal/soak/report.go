package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// findings are what a run has found.
type findings struct {
	options  options
	samples  *samples
	shares   []string // processor time by process
	left     []string
	problems []string

	added, held, ended, booked, failed int
}

func (f *findings) take(l *load) {
	f.added, f.held, f.ended, f.booked, f.failed, f.problems = l.added, l.held, l.ended, l.booked, l.failed, l.problems
}

// processorTime notes what share of a core each process used.
func (f *findings) processorTime(fleet *fleet, took time.Duration) error {
	for _, p := range fleet.processes {
		used, err := p.cpu()
		if err != nil {
			return err
		}
		f.shares = append(f.shares, fmt.Sprintf("%s %.1f %%", p.name, 100*used.Seconds()/took.Seconds()))
	}
	return nil
}

func (f *findings) print(w io.Writer) error {
	fmt.Fprintf(w, "%g minutes, %g jobs a second of %d items, seed %d, faults %s: %d jobs added, %d ended, %d items booked, %d refused by the sink",
		f.options.Minutes, f.options.Rate, f.options.Items, f.options.Seed, f.options.Faults, f.added, f.ended, f.booked, f.failed)
	if f.held > 0 {
		fmt.Fprintf(w, "; %d times %d jobs were open and none was added", f.held, maxOpen)
	}
	fmt.Fprintf(w, "\nof one core: %s\n%d samples, the first tenth left out; medians of the first and of the last third:\n\n", strings.Join(f.shares, ", "), len(f.samples.at))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "of\twhat\tfirst third\tlast third\thighest\tlimit\t\t")
	for _, g := range f.samples.judge() {
		if g.most == 0 {
			continue // nothing was ever there
		}
		limit, verdict := "kept on purpose", ""
		if g.limit >= 0 {
			limit, verdict = amount(g.what, g.limit), "flat"
		}
		if g.fails() {
			verdict = "GREW"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", g.of, g.what, amount(g.what, g.first), amount(g.what, g.last), amount(g.what, g.most), limit, verdict)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// verdict is nil where nothing grew, nothing is left and every job ended well.
func (f *findings) verdict() error {
	var errs []error
	judged := f.samples.judge()
	if len(judged) == 0 {
		errs = append(errs, errors.New("too few samples to judge"))
	}
	for _, g := range judged {
		if g.fails() {
			errs = append(errs, errors.New(g.String()))
		}
	}
	for _, left := range f.left {
		errs = append(errs, fmt.Errorf("after the last job %s", left))
	}
	for _, p := range f.problems {
		errs = append(errs, errors.New(p))
	}
	if f.ended == 0 {
		errs = append(errs, errors.New("no job ended"))
	}
	return errors.Join(errs...)
}

// amount writes bytes as megabytes and all else as a whole number.
func amount(what string, v float64) string {
	if strings.HasSuffix(what, "bytes") {
		return fmt.Sprintf("%.1f MB", v/(1<<20))
	}
	return fmt.Sprintf("%.0f", v)
}
