package embedded

import (
	"fmt"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// maxKeptComplaints bounds what a refusal quotes from the server's log.
const maxKeptComplaints = 8

// bridge hands the server's log to zerolog and keeps its first complaints, so
// that a refusal to start can say what the server said. The server's notices are
// ours at level debug: a start writes some twenty of them.
type bridge struct {
	log zerolog.Logger

	mu         sync.Mutex
	complaints []string
	fatal      bool
	unwritten  bool // a stream could not be written
}

func (b *bridge) Noticef(format string, v ...any) { b.emit(b.log.Debug(), format, v) }
func (b *bridge) Debugf(format string, v ...any)  { b.emit(b.log.Trace(), format, v) }
func (b *bridge) Tracef(format string, v ...any)  { b.emit(b.log.Trace(), format, v) }

func (b *bridge) Warnf(format string, v ...any) {
	b.keep(false, format, v)
	b.emit(b.log.Warn(), format, v)
}

func (b *bridge) Errorf(format string, v ...any) {
	b.watch(format)
	b.keep(false, format, v)
	b.emit(b.log.Error(), format, v)
}

// Fatalf does not end the process: Start reads the flag and returns an error.
func (b *bridge) Fatalf(format string, v ...any) {
	b.keep(true, format, v)
	b.emit(b.log.Error(), format, v)
}

func (b *bridge) emit(event *zerolog.Event, format string, v []any) {
	event.Str("text", strings.TrimSpace(fmt.Sprintf(format, v...))).Msg(logevent.NATSServerWrote)
}

func (b *bridge) keep(fatal bool, format string, v []any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fatal = b.fatal || fatal
	if len(b.complaints) < maxKeptComplaints {
		b.complaints = append(b.complaints, strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

func (b *bridge) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fatal
}

// said quotes the complaints, or says that there were none.
func (b *bridge) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) == 0 {
		return "the server gave no reason"
	}
	return "the server says: " + strings.Join(b.complaints, "; ")
}
