package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// connectTimeout is how long a command waits for NATS: a person is waiting.
	connectTimeout = 5 * time.Second
	// commandTimeout bounds a command's work.
	commandTimeout = 30 * time.Second
)

// Output is the form of what a command prints.
type Output string

// The forms.
const (
	OutputText Output = "text"
	OutputJSON Output = "json"
)

// Session is what a command runs in.
type Session struct {
	Context context.Context
	Runtime *program.Runtime
	Output  Output
}

// print writes value as JSON, or what text writes.
func (s *Session) print(value any, text func() error) error {
	if s.Output != OutputJSON {
		return text()
	}
	encoder := json.NewEncoder(s.Runtime.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func (s *Session) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(s.Runtime.Stdout, format, args...); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// quietLog keeps the connection's life out of a command's answer; trouble shows.
func (s *Session) quietLog() zerolog.Logger {
	return s.Runtime.Log.Level(max(zerolog.WarnLevel, s.Runtime.Log.GetLevel()))
}

// onNATS connects, runs work and disconnects.
func (s *Session) onNATS(settings config.NATS, work func(ctx context.Context, js jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(s.Context, commandTimeout)
	defer cancel()
	return s.onNATSUntil(ctx, settings, work)
}

// onNATSUntil is onNATS for work that ctx alone bounds.
func (s *Session) onNATSUntil(ctx context.Context, settings config.NATS, work func(ctx context.Context, js jetstream.JetStream) error) error {
	connecting, connected := context.WithTimeoutCause(ctx, connectTimeout,
		fmt.Errorf("no NATS server answered within %s: is it running, and is NATS_URL right? (`ledgerline up` opens its server with --nats-listen 127.0.0.1:4222)", connectTimeout))
	defer connected()
	conn, err := natsconn.Connect(connecting, settings, natsconn.Options{Name: "ledgerline-cli", Logger: s.quietLog()})
	if err != nil {
		if cause := context.Cause(connecting); connecting.Err() != nil && ctx.Err() == nil {
			return cause
		}
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	err = work(ctx, js)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%w: nothing of Ledgerline is on this server yet; start a fetcher, a consumer or `ledgerline up` first", err)
	}
	return err
}

// jobArgument is a job id given on the command line.
type jobArgument struct {
	ID string `arg:"" name:"job" help:"Id of the export job."`
}

// Validate returns a fault where it is no id.
func (j jobArgument) Validate() config.Faults {
	var faults config.Faults
	if _, err := subject.ParseID(j.ID); err != nil {
		faults.Add("JOB", err.Error(), "give the job's id, such as 8eb648ab-464b-42a0-ba17-eda703657e33")
	}
	return faults
}

func (j jobArgument) id() (uuid.UUID, error) { return subject.ParseID(j.ID) }
