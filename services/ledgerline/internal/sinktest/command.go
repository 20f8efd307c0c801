package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
)

const (
	// connectTimeout is how long the command waits for NATS: a person is waiting.
	connectTimeout = 5 * time.Second
	// maxItemBytes bounds the file with the item to send; a page of a hundred items
	// is smaller.
	maxItemBytes = 1 << 20
	// shell runs the user's own commands, as it does those of an exec: sink.
	shell = "/bin/sh"
	// countedKey is the variable that holds the idempotency key for --count.
	countedKey = "KEY"
)

// Command is `ledgerline sink-test`.
type Command struct {
	URL     string `arg:"" optional:"" name:"url" help:"The sink: http://…, https://…, exec:COMMAND or nats:SUBJECT; LEDGERLINE_SINK where it is left out."`
	Yes     bool   `help:"Go on and book the test items. Without it nothing is sent."`
	Company string `placeholder:"UUID" help:"Company of the test items, where the sink must know it."`
	Item    string `placeholder:"FILE" help:"JSON file with the export item to send, where a made-up one cannot be booked."`
	Count   string `placeholder:"COMMAND" help:"Command that prints how many bookings your system holds for the idempotency key in $KEY."`
	Restart string `placeholder:"COMMAND" help:"Command that restarts the sink and returns."`

	NATS config.NATS `embed:""`
	Sink config.Sink `embed:""`
	Log  config.Log  `embed:""`
}

// Validate returns the faults that no group sees alone.
func (c Command) Validate() config.Faults {
	var faults config.Faults
	if c.URL == "" && c.Sink.Spec == "log:" {
		faults.Add("URL", "is missing", "give the sink's address, or set LEDGERLINE_SINK")
	} else if err := sink.Validate(c.spec()); err != nil {
		faults.Add("URL", "cannot be used: "+err.Error(), "give http://…, https://…, exec:COMMAND or nats:SUBJECT")
	} else if kind := c.kind(); kind == "log" || kind == "file" {
		faults.Add("URL", kind+": is Ledgerline's own and books nowhere", "give http://…, https://…, exec:COMMAND or nats:SUBJECT")
	}
	if c.Company != "" {
		if _, err := uuid.Parse(c.Company); err != nil {
			faults.Add("--company", "is not a UUID", "give a company's id")
		}
	}
	return faults
}

func (c Command) spec() string {
	if c.URL != "" {
		return c.URL
	}
	return c.Sink.Spec
}

func (c Command) kind() string {
	kind, _, _ := strings.Cut(c.spec(), ":")
	return strings.ToLower(strings.TrimSpace(kind))
}

// shown is the sink without credentials. A command may hold anything.
func (c Command) shown() string {
	switch c.kind() {
	case "http", "https":
		return config.RedactURL(c.spec())
	case "exec":
		return "exec: (your command)"
	}
	return c.spec()
}

// Run tests the sink and ends with exit code 1 where it failed a check.
func (c *Command) Run(s *operate.Session) error {
	options, closeAll, err := c.options(s)
	if err != nil {
		return err
	}
	defer closeAll()
	text := s.Output != operate.OutputJSON
	if text || !c.Yes {
		notice := s.Runtime.Stdout
		if !text {
			notice = s.Runtime.Stderr
		}
		fmt.Fprintf(notice, "Ledgerline sink-test of %s\n"+
			"It books about %d test items of company %s; their ids begin with 7e577e57.\n", options.Name, testItems, options.Company)
	}
	if !c.Yes {
		var faults config.Faults
		faults.Add("--yes", "is missing: nothing was sent", "give it when these items may be booked there")
		return faults.Err(s.Runtime.Name)
	}
	if text {
		fmt.Fprintln(s.Runtime.Stdout)
		options.Told = func(check Check) { writeCheck(s.Runtime.Stdout, check) }
	}
	report, err := Run(s.Context, options)
	if err != nil {
		return err
	}
	if text {
		writeSum(s.Runtime.Stdout, report)
	} else if err := writeJSON(s.Runtime.Stdout, report); err != nil {
		return err
	}
	if !report.OK {
		return program.Exit(1)
	}
	return nil
}

// testItems is about how many bookings a run leaves behind.
const testItems = 48

func writeJSON(w io.Writer, report *Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// options are what the command line makes of a run. closeAll ends what was opened
// for it.
func (c *Command) options(s *operate.Session) (o Options, closeAll func(), err error) {
	logger := s.Runtime.Log.Level(max(zerolog.WarnLevel, s.Runtime.Log.GetLevel()))
	o = Options{Name: c.shown(), Company: TestCompany, Timeout: c.Sink.Timeout, Reopen: c.kind() == "exec"}
	if c.Company != "" {
		if o.Company, err = uuid.Parse(c.Company); err != nil {
			return o, nil, fmt.Errorf("--company: %w", err)
		}
	}
	if c.Item != "" {
		if o.Item, err = readItem(c.Item); err != nil {
			return o, nil, err
		}
	}
	if c.Count != "" {
		o.Count = func(ctx context.Context, key string) (int, error) { return count(ctx, c.Count, key) }
	}
	if c.Restart != "" {
		o.Restart = func(ctx context.Context) error { return restart(ctx, c.Restart, s.Runtime.Stderr) }
	}
	opening := sink.Options{Timeout: c.Sink.Timeout, Logger: logger, MaxConcurrent: jobsTogether}
	if c.Sink.Token.IsSet() {
		opening.Token = c.Sink.Token.Value
	}
	closeAll = func() {}
	switch c.kind() {
	case "http", "https":
		address, err := url.Parse(strings.TrimSpace(c.spec()))
		if err != nil { // sink.Validate has taken it
			return o, nil, errors.New("the address cannot be read as a URL")
		}
		o.Raw = &RawHTTP{URL: address, Token: opening.Token, Timeout: c.Sink.Timeout}
	case "nats":
		if opening.NATS, err = connect(s.Context, c.NATS, logger); err != nil {
			return o, nil, err
		}
		closeAll = opening.NATS.Close
	}
	o.Open = func() (sink.Sink, error) { return sink.Open(c.spec(), opening) }
	return o, closeAll, nil
}

func connect(ctx context.Context, settings config.NATS, logger zerolog.Logger) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout,
		fmt.Errorf("no NATS server answered within %s: is it running, and is NATS_URL right?", connectTimeout))
	defer cancel()
	conn, err := natsconn.Connect(ctx, settings, natsconn.Options{Name: "ledgerline-sink-test", Logger: logger})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}

func readItem(path string) (json.RawMessage, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the item: %w", err)
	}
	defer func() { _ = file.Close() }()
	item, err := io.ReadAll(io.LimitReader(file, maxItemBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the item: %w", err)
	}
	var fields map[string]json.RawMessage
	if len(item) > maxItemBytes || json.Unmarshal(item, &fields) != nil || fields == nil {
		return nil, fmt.Errorf("read the item: %s holds no JSON object of at most %d bytes", path, maxItemBytes)
	}
	return item, nil
}

// count runs the user's command for the books.
func count(ctx context.Context, command, key string) (int, error) {
	cmd := exec.CommandContext(ctx, shell, "-c", command)
	cmd.Env = append(os.Environ(), countedKey+"="+key)
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("--count: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return 0, fmt.Errorf("--count: the command printed no number: %w", err)
	}
	return n, nil
}

func restart(ctx context.Context, command string, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, shell, "-c", command)
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("--restart: %w", err)
	}
	return nil
}
