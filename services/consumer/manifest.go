package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// decodeManifest reads a stored manifest; its error names the subject.
func decodeManifest(subj string, data []byte) (*ledgerlinev1.Manifest, error) {
	manifest := new(ledgerlinev1.Manifest)
	if err := proto.Unmarshal(data, manifest); err != nil {
		return nil, fmt.Errorf("the manifest on %s is unreadable: %w", subj, err)
	}
	if manifest.GetMinReader() > ledger.Version {
		return nil, fmt.Errorf("the manifest on %s: %w", subj, ledger.ErrNewer)
	}
	return manifest, nil
}

// readManifest makes a job of the manifest that was given to this worker.
func (c *Consumer) readManifest(ctx context.Context, msg jetstream.Msg) (*job, error) {
	manifest, err := decodeManifest(msg.Subject(), msg.Data())
	if err != nil {
		return nil, err
	}
	id, err := subject.ParseID(manifest.GetJobId())
	if err != nil {
		return nil, fmt.Errorf("the manifest on %s: job: %w", msg.Subject(), err)
	}
	company, err := subject.ParseID(manifest.GetCompanyId())
	if err != nil {
		return nil, fmt.Errorf("the manifest on %s: company: %w", msg.Subject(), err)
	}
	return &job{
		c: c, id: id, company: company, manifest: manifest, msg: msg, stop: ctx.Done(),
		logger: c.logger.With().Stringer("job_id", id).Stringer("company_id", company).Logger(),
	}, nil
}

// refuse parks a manifest that cannot be read; one of a newer version waits for
// a worker that can.
func (c *Consumer) refuse(ctx context.Context, msg jetstream.Msg, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	c.logger.Error().Err(err).Msg(logevent.ManifestRefused)
	if errors.Is(err, ledger.ErrNewer) {
		crashpoint.Before(crashpoint.ConsumerRefuseLate)
		err = msg.NakWithDelay(c.config.Topology.Lease)
		crashpoint.After(crashpoint.ConsumerRefuseLate)
	} else {
		err = c.parkManifest(ctx, msg, err.Error())
	}
	if err != nil {
		c.logger.Warn().Err(err).Msg(logevent.JobNotSettled)
	}
}

func (c *Consumer) parkManifest(ctx context.Context, msg jetstream.Msg, reason string) error {
	crashpoint.Before(crashpoint.ConsumerRefuse)
	err := c.parked.Event(ctx, uuid.Nil, msg.Data(), "manifest on "+msg.Subject(), reason)
	crashpoint.After(crashpoint.ConsumerRefuse)
	if err != nil {
		return err
	}
	c.metrics.EventsParked.Inc()
	crashpoint.Before(crashpoint.ConsumerRefuseAck)
	err = msg.DoubleAck(ctx)
	crashpoint.After(crashpoint.ConsumerRefuseAck)
	return err // a fetcher removes it (tend.go), so that its job can be drained again
}

// sealed tells whether a job has a manifest, readable or not.
func (c *Consumer) sealed(ctx context.Context, id uuid.UUID) (bool, error) {
	msg, err := c.ready(ctx, id)
	return msg != nil, err
}

// manifest is a job's last manifest, nil for none.
func (c *Consumer) manifest(ctx context.Context, id uuid.UUID) (*ledgerlinev1.Manifest, error) {
	msg, err := c.ready(ctx, id)
	if msg == nil || err != nil {
		return nil, err
	}
	return decodeManifest(msg.Subject, msg.Data)
}

// ready is a job's last manifest as stored, nil for none.
func (c *Consumer) ready(ctx context.Context, id uuid.UUID) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	msg, err := c.pipe.GetLastMsgForSubject(ctx, subject.Ready(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the manifest of job %s: %w", id, err)
	}
	return msg, nil
}
