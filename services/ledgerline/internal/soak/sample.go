package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is sampled. Of a process:
const (
	goroutines = "goroutines"
	heap       = "heap bytes"
	resident   = "resident bytes"
	openFiles  = "open files"
	series     = "metric series"
)

// and of a stream or bucket:
const (
	messages  = "messages"
	subjects  = "subjects"
	consumers = "consumers"
	stored    = "stored bytes"
)

// maxAnswerBytes bounds what is read of a process's figures.
const maxAnswerBytes = 16 << 20

// subjectOf is a process or a stream, and one thing that is sampled of it.
type key struct{ of, what string }

// samples are the series of a run; all of one length.
type samples struct {
	at     []time.Duration // since the start
	ended  []int           // jobs that had ended by then
	values map[key][]float64
}

func newSamples() *samples { return &samples{values: map[key][]float64{}} }

func (s *samples) add(since time.Duration, ended int, now map[key]float64) {
	n := len(s.at)
	s.at, s.ended = append(s.at, since), append(s.ended, ended)
	for k, v := range now {
		if s.values[k] == nil {
			s.values[k] = make([]float64, n) // a stream that came later
		}
		s.values[k] = append(s.values[k], v)
	}
	for k, v := range s.values {
		if len(v) == n {
			s.values[k] = append(v, 0)
		}
	}
}

// take samples every process and stream once.
func (f *fleet) take(ctx context.Context) (map[key]float64, error) {
	now := map[key]float64{}
	for _, p := range f.processes {
		if err := p.sample(ctx, now); err != nil {
			return nil, fmt.Errorf("sample %s: %w", p.name, err)
		}
	}
	listed := f.js.ListStreams(ctx)
	for info := range listed.Info() {
		name := info.Config.Name
		now[key{name, messages}] = float64(info.State.Msgs)
		now[key{name, subjects}] = float64(info.State.NumSubjects)
		now[key{name, consumers}] = float64(info.State.Consumers)
		now[key{name, stored}] = float64(info.State.Bytes)
	}
	if err := listed.Err(); err != nil {
		return nil, fmt.Errorf("sample the streams: %w", err)
	}
	return now, nil
}

func (p *process) sample(ctx context.Context, now map[key]float64) error {
	pid := p.command.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fmt.Errorf("its memory: %w", err)
	}
	kilobytes, err := after(status, "VmRSS:")
	if err != nil {
		return err
	}
	now[key{p.name, resident}] = kilobytes * 1024
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return fmt.Errorf("its open files: %w", err)
	}
	now[key{p.name, openFiles}] = float64(len(files))
	if p.name == "nats-server" {
		return p.sampleProfile(ctx, now)
	}
	return p.sampleMetrics(ctx, now)
}

// sampleMetrics reads a service's /metrics.
func (p *process) sampleMetrics(ctx context.Context, now map[key]float64) error {
	text, err := get(ctx, "http://"+p.addr+"/metrics")
	if err != nil {
		return err
	}
	if now[key{p.name, goroutines}], err = after(text, "go_goroutines "); err != nil {
		return err
	}
	if now[key{p.name, heap}], err = after(text, "go_memstats_heap_alloc_bytes "); err != nil {
		return err
	}
	lines := 0
	for line := range bytes.Lines(text) {
		if len(bytes.TrimSpace(line)) > 0 && line[0] != '#' {
			lines++
		}
	}
	now[key{p.name, series}] = float64(lines)
	return nil
}

// sampleProfile reads the NATS server's profiles. Its heap is what is left after a
// collection, which the question for it asks for.
func (p *process) sampleProfile(ctx context.Context, now map[key]float64) error {
	text, err := get(ctx, "http://"+p.addr+"/debug/pprof/goroutine?debug=1")
	if err != nil {
		return err
	}
	if now[key{p.name, goroutines}], err = after(text, "goroutine profile: total "); err != nil {
		return err
	}
	if text, err = get(ctx, "http://"+p.addr+"/debug/pprof/heap?debug=1&gc=1"); err != nil {
		return err
	}
	now[key{p.name, heap}], err = after(text, "# HeapAlloc = ")
	return err
}

// after is the number that follows the prefix of a line.
func after(text []byte, prefix string) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxAnswerBytes)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), prefix)
		if !found {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			break
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		return value, nil
	}
	return 0, errors.Join(fmt.Errorf("it does not tell %q", strings.TrimSpace(prefix)), lines.Err())
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: %s: %s", url, response.Status, bytes.TrimSpace(text))
	}
	return text, nil
}

// cpu is the processor time that a process has used.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
	}
	// The name, in brackets, may hold blanks; user and system time are the 12th and
	// 13th field behind it, in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("read the processor time of %s: %q", p.name, text)
	}
	ticks := 0
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// leftovers tells what the store still holds that only running jobs need.
func (f *fleet) leftovers(ctx context.Context) ([]string, error) {
	now := map[key]float64{}
	var left []string
	listed := f.js.ListStreams(ctx)
	for info := range listed.Info() {
		now[key{info.Config.Name, messages}] = float64(info.State.Msgs)
		now[key{info.Config.Name, consumers}] = float64(info.State.Consumers)
	}
	if err := listed.Err(); err != nil {
		return nil, fmt.Errorf("look for what is left: %w", err)
	}
	for k, most := range map[key]float64{
		{streamPipe, messages}: 0, {streamPipe, consumers}: 1, {streamEvents, messages}: 0, {streamParked, messages}: 0,
	} {
		if now[k] > most {
			left = append(left, fmt.Sprintf("%s holds %.0f %s, want at most %.0f", k.of, now[k], k.what, most))
		}
	}
	slices.Sort(left)
	return left, nil
}

// names of the series, processes first, in a fixed order.
func (s *samples) keys() []key {
	var keys []key
	for k := range s.values {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		if c := strings.Compare(a.of, b.of); c != 0 {
			return c
		}
		return strings.Compare(a.what, b.what)
	})
	return keys
}

// write writes every sample as CSV.
func (s *samples) write(path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := csv.NewWriter(file)
	keys := s.keys()
	head := []string{"seconds", "jobs ended"}
	for _, k := range keys {
		head = append(head, k.of+" "+k.what)
	}
	rows := [][]string{head}
	for i := range s.at {
		row := []string{strconv.FormatFloat(s.at[i].Seconds(), 'f', 1, 64), strconv.Itoa(s.ended[i])}
		for _, k := range keys {
			row = append(row, strconv.FormatFloat(s.values[k][i], 'f', 0, 64))
		}
		rows = append(rows, row)
	}
	if err := out.WriteAll(rows); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}
