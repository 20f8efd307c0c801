package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nats-io/nats.go"
)

// findings are what a run has found.
type findings struct {
	Machine machine   `json:"machine"`
	Quick   bool      `json:"quick"`
	Lines   []finding `json:"lines"`
}

// machine is what the figures were measured on and with.
type machine struct {
	Go         string `json:"go"`
	Server     string `json:"natsServer"`
	Client     string `json:"natsClient"`
	System     string `json:"system"`
	Cores      int    `json:"cores"`
	Dir        string `json:"dir"`
	LoadBefore string `json:"loadBefore,omitempty"`
	LoadAfter  string `json:"loadAfter,omitempty"`
}

// Kinds of findings.
const (
	kindRaw    = "raw"
	kindOurs   = "ours"
	kindMemory = "memory"
	// kindCluster is a number of jobs at once on a cluster.
	kindCluster = "cluster"
)

// finding is one line of the table.
type finding struct {
	Kind  string  `json:"kind"`
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`  // "/s" or "MB"
	Value float64 `json:"value"` // the median of the rounds
	Least float64 `json:"least"`
	Most  float64 `json:"most"`

	// Share is the median of the rounds' shares of what Of names; 0 for none.
	Share      float64 `json:"share,omitempty"`
	ShareLeast float64 `json:"shareLeast,omitempty"`
	ShareMost  float64 `json:"shareMost,omitempty"`
	Of         string  `json:"of,omitempty"`
	// Asked is what is asked for, of the share or of the value; empty for nothing.
	Asked string `json:"asked,omitempty"`
	Met   *bool  `json:"met,omitempty"`

	// Besides is what else was seen, for people.
	Besides string `json:"besides,omitempty"`
}

func newFinding(kind, name string, rounds rates) finding {
	return finding{
		Kind: kind, Name: name, Unit: "/s", Value: rounds.median(), Least: slices.Min(rounds), Most: slices.Max(rounds),
	}
}

func (f *findings) raw(name string, rounds rates) {
	f.Lines = append(f.Lines, newFinding(kindRaw, name, rounds))
}

// ours adds a line with its shares of a limit; asked is 0 where none is asked
// for.
func (f *findings) ours(name string, rounds, shares rates, of string, asked float64) {
	line := newFinding(kindOurs, name, rounds)
	if len(shares) > 0 {
		line.Share, line.ShareLeast, line.ShareMost, line.Of = shares.median(), slices.Min(shares), slices.Max(shares), of
	}
	if asked > 0 {
		met := line.Share >= asked
		line.Asked, line.Met = fmt.Sprintf(">= %.0f %%", 100*asked), &met
	}
	f.Lines = append(f.Lines, line)
}

func (f *findings) memory(name string, bytes int64) {
	megabytes := float64(bytes) / (1 << 20)
	met := megabytes <= askedMemoryMB
	f.Lines = append(f.Lines, finding{
		Kind: kindMemory, Name: name, Unit: "MB", Value: megabytes, Least: megabytes, Most: megabytes,
		Asked: fmt.Sprintf("<= %d MB", askedMemoryMB), Met: &met,
	})
}

// sort puts the limits before what is compared with them; both were measured in
// turns.
func (f *findings) sort() {
	kinds := []string{kindRaw, kindOurs, kindMemory, kindCluster}
	slices.SortStableFunc(f.Lines, func(a, b finding) int {
		return slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind)
	})
}

func (f *findings) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(f); err != nil {
		return fmt.Errorf("write the findings: %w", err)
	}
	return nil
}

func (f *findings) writeText(w io.Writer) error {
	m := f.Machine
	fmt.Fprintf(w, "%s, nats-server %s, nats.go %s, %s, %d cores\n", m.Go, m.Server, m.Client, m.System, m.Cores)
	fmt.Fprintf(w, "store in %s, every write synced; load average %s before, %s after\n", m.Dir, m.LoadBefore, m.LoadAfter)
	if f.Quick {
		fmt.Fprintln(w, "--quick: too little of everything for the figures to mean much")
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	kind := ""
	for _, line := range f.Lines {
		if line.Kind != kind {
			kind = line.Kind
			fmt.Fprintf(table, "\n%s\n", map[string]string{
				kindRaw:     "RAW LIMITS\tmedian\tleast–most",
				kindOurs:    "LEDGERLINE\tmedian\tleast–most\tshare, median (least–most)\tasked",
				kindMemory:  "MEMORY\tpeak\t\t\tasked",
				kindCluster: "A CLUSTER OF THREE\titems\t\tshare\t",
			}[kind])
		}
		fmt.Fprintln(table, strings.TrimRight(line.cells(), "\t"))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the findings: %w", err)
	}
	return nil
}

func (f finding) cells() string {
	value := grouped(f.Value) + f.Unit
	between := grouped(f.Least) + "–" + grouped(f.Most)
	if f.Unit == "MB" {
		value, between = fmt.Sprintf("%.0f MB", f.Value), ""
	}
	share, asked := "", ""
	if f.Share > 0 {
		share = fmt.Sprintf("%.0f %% (%.0f–%.0f) of %s", 100*f.Share, 100*f.ShareLeast, 100*f.ShareMost, f.Of)
	}
	if f.Met != nil {
		asked = "asked " + f.Asked + ": no"
		if *f.Met {
			asked = "asked " + f.Asked + ": yes"
		}
	}
	return strings.Join([]string{f.Name, value, between, share, asked + f.Besides}, "\t")
}

// grouped writes a number with its thousands apart.
func grouped(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func describeMachine(dir string, conn *nats.Conn) machine {
	return machine{
		Go: runtime.Version(), Server: conn.ConnectedServerVersion(), Client: nats.Version,
		System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Dir: dir, LoadBefore: loadAverage(),
	}
}

// loadAverage is the system's, of the last minute; empty where it tells none.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
