package config

import (
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// logTimeFormat shows milliseconds: the steps of one item are that close.
const logTimeFormat = "2006-01-02T15:04:05.000Z07:00"

var (
	logLevels  = []string{"trace", "debug", "info", "warn", "error"}
	logFormats = []string{formatJSON, formatConsole}
)

const (
	formatJSON    = "json"
	formatConsole = "console"
)

// Log is what is logged and how it looks.
type Log struct {
	Level string `name:"log-level" env:"LEDGERLINE_LOG_LEVEL" default:"info" help:"Least level that is logged: trace, debug, info, warn or error."`
	// Format is json or console once Load is done.
	Format string `name:"log-format" env:"LEDGERLINE_LOG_FORMAT" placeholder:"json" help:"json, or console for people; console by itself on a terminal."`
}

// settle decides what was left open.
func (c *Log) settle(stderr io.Writer) {
	if c.Format != "" {
		return
	}
	c.Format = formatJSON
	if isTerminal(stderr) {
		c.Format = formatConsole
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// Validate returns every fault of the group.
func (c Log) Validate() (faults Faults) {
	if !slices.Contains(logLevels, c.Level) {
		faults.Add("LEDGERLINE_LOG_LEVEL", "is no level", "give "+orList(logLevels))
	}
	if !slices.Contains(logFormats, c.Format) {
		faults.Add("LEDGERLINE_LOG_FORMAT", "is no format", "give "+orList(logFormats))
	}
	return faults
}

// Logger writes to w by these settings. w is written to by one goroutine at a
// time. Groups that no Load has filled log json from level info.
func (c Log) Logger(w io.Writer) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil || c.Level == "" {
		level = zerolog.InfoLevel
	}
	if c.Format == formatConsole {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !isTerminal(w) || os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(zerolog.SyncWriter(w)).Level(level).Hook(zerolog.HookFunc(stampTime))
}

// stampTime puts the time in as text: the library's own way depends on a global
// variable.
func stampTime(event *zerolog.Event, _ zerolog.Level, _ string) {
	event.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(logTimeFormat))
}

// orList is "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
