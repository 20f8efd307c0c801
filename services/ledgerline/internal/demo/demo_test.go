package demo

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/terminal/screentest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// On a terminal there are bars, which end full, and the summary below them.
func TestTheDemoOnATerminal(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("TERM", "xterm-256color")
	screen := screentest.New(t, 80, 40)
	c := &Command{Jobs: 3, Items: 20, Seed: 1, Faults: "none", Keep: t.TempDir()}
	err := c.Run(&operate.Session{Context: t.Context(), Runtime: &program.Runtime{Name: "ledgerline", Log: zerolog.Nop(), Stdout: screen.TTY}, Output: operate.OutputText})
	if err != nil {
		t.Fatal(err)
	}
	text := screen.Until("the summary", func(text string) bool { return strings.Contains(text, "ledgerline simulate") })
	for _, line := range []string{
		`(?m)^Ledgerline demo: 3 export jobs of 20 items, seed 1, faults none\.$`,
		`(?m)^Its status page, while it runs: http://127\.0\.0\.1:\d+/$`,
		`(?m)^  jobs started     ━{36}   ?3 of 3$`,
		`(?m)^  items booked     ━{36}   ?60 of 60`,
		`(?m)^  jobs completed   ━{36}   ?3 of 3$`,
		`(?m)^✓ Every item was booked once, in order, and every job is completed\. [\d.]+m?s$`,
	} {
		if !regexp.MustCompile(line).MatchString(text) {
			t.Errorf("no line %s on:\n%s", line, text)
		}
	}
	if n := strings.Count(text, "items booked"); n != 1 {
		t.Errorf("the bars stand there %d times:\n%s", n, text)
	}
}

func TestTheDemoAsJSONIsJSON(t *testing.T) {
	t.Parallel()
	var out, progress bytes.Buffer
	c := &Command{Jobs: 2, Items: 5, Seed: 1, Faults: "none", Keep: t.TempDir()}
	err := c.Run(&operate.Session{
		Context: t.Context(), Output: operate.OutputJSON,
		Runtime: &program.Runtime{Name: "ledgerline", Log: zerolog.Nop(), Stdout: &out, Stderr: &progress},
	})
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Items != 10 || len(r.Problems) > 0 {
		t.Errorf("%v: %s", err, out.String())
	}
	if !strings.Contains(progress.String(), "booked 10/10 items") {
		t.Errorf("the progress is %q", progress.String())
	}
}
