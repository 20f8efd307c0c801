package consumer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// payloadBuffer is what a write to the payload file collects first.
const payloadBuffer = 256 << 10

// payload is the export items of one job in a file of this worker's own. The
// file has no name: nobody else can open it, and it is gone with the process,
// however that ends. A successor reads the payload again, with fresh file links.
type payload struct {
	file  *os.File
	items map[uuid.UUID]extent
}

type extent struct {
	offset int64
	length int32
}

// readPayload reads all pages of a job's payload.
func readPayload(ctx context.Context, client *pleo.Client, job uuid.UUID) (p *payload, err error) {
	file, err := nameless()
	if err != nil {
		return nil, fmt.Errorf("create the payload file of job %s: %w", job, err)
	}
	p = &payload{file: file, items: map[uuid.UUID]extent{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	out := bufio.NewWriterSize(file, payloadBuffer)
	var offset int64
	crashpoint.Before(crashpoint.ConsumerPayload)
	_, err = client.EachExportItem(ctx, job.String(), func(page []pleo.ExportItem) error {
		for _, item := range page {
			id, err := uuid.Parse(item.AccountingEntryID)
			if err != nil {
				return fmt.Errorf("%w: accountingEntryId: %w", pleo.ErrPageShape, err)
			}
			n, err := out.Write(item.Raw)
			if err != nil {
				return fmt.Errorf("write the payload file of job %s: %w", job, err)
			}
			p.items[id] = extent{offset: offset, length: int32(n)}
			offset += int64(n)
		}
		return nil
	})
	crashpoint.After(crashpoint.ConsumerPayload)
	if err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, fmt.Errorf("write the payload file of job %s: %w", job, err)
	}
	return p, nil
}

// unlinked creates a file, readable by this user alone, and takes its name away.
func unlinked() (*os.File, error) {
	file, err := os.CreateTemp("", "ledgerline-payload-*") // mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink: %w", err), file.Close())
	}
	return file, nil
}

// item is an entry's export item as received, or nil where the payload has none.
func (p *payload) item(id uuid.UUID) (json.RawMessage, error) {
	if p == nil {
		return nil, nil
	}
	at, found := p.items[id]
	if !found {
		return nil, nil
	}
	raw := make([]byte, at.length)
	if _, err := p.file.ReadAt(raw, at.offset); err != nil {
		return nil, fmt.Errorf("read entry %s in the payload file: %w", id, err)
	}
	return raw, nil
}

func (p *payload) close() {
	if p != nil {
		// The file has no name and was only read: its close decides nothing.
		_ = p.file.Close()
	}
}
