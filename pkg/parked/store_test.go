package parked_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// limit ends a test that hangs.
const limit = time.Minute

type bench struct {
	t     *testing.T
	ctx   context.Context
	js    jetstream.JetStream
	store *parked.Store
}

func newBench(t *testing.T) *bench {
	t.Helper()
	js := natstest.Start(t).JetStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	store, err := parked.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, ctx: ctx, js: js, store: store}
}

func (b *bench) park(job, company uuid.UUID, reason string) {
	b.t.Helper()
	if err := b.store.Job(b.ctx, job, company, reason); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) parkEvent(job uuid.UUID, event []byte, contentType, reason string) {
	b.t.Helper()
	if err := b.store.Event(b.ctx, job, event, contentType, reason); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) list() (all []*ledgerlinev1.Parked) {
	b.t.Helper()
	if err := b.store.List(b.ctx, func(_ string, p *ledgerlinev1.Parked) { all = append(all, p) }); err != nil {
		b.t.Fatal(err)
	}
	return all
}

func TestTheSameThingReplacesItself(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if all := b.list(); len(all) != 0 {
		t.Errorf("an empty store holds %v", all)
	}
	job, company := uuid.New(), uuid.New()
	b.park(job, uuid.Nil, "first reason")
	b.park(job, company, "second reason")
	b.parkEvent(uuid.Nil, []byte("one"), "", "unreadable")
	b.parkEvent(uuid.Nil, []byte("two"), "", "unreadable")
	b.parkEvent(uuid.Nil, []byte("one"), "", "still unreadable")
	all := b.list()
	if len(all) != 3 {
		t.Fatalf("%d things are parked, not 3: %v", len(all), all)
	}
	if p := all[0]; p.GetKind() != ledgerlinev1.ParkedKind_PARKED_KIND_JOB || p.GetJobId() != job.String() ||
		p.GetCompanyId() != company.String() || p.GetReason() != "second reason" || p.GetParkedAt() == nil {
		t.Errorf("the job: %v", p)
	}
	if p := all[2]; p.GetKind() != ledgerlinev1.ParkedKind_PARKED_KIND_EVENT || string(p.GetEvent()) != "one" || p.GetReason() != "still unreadable" || p.GetJobId() != "" {
		t.Errorf("the event: %v", p)
	}
}

func TestHostileEventsAreCutAndKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	large := bytes.Repeat([]byte{0xff, 0xfe, '{'}, parked.MaxEvent)
	b.parkEvent(uuid.Nil, large, strings.Repeat("\xff", 10<<10), strings.Repeat("\xc3\x28", 10<<10))
	b.parkEvent(uuid.Nil, nil, "", "an empty event")
	p := b.list()[0]
	if !bytes.Equal(p.GetEvent(), large[:parked.MaxEvent]) || p.GetEventSize() != uint64(len(large)) {
		t.Errorf("%d bytes of %d are kept", len(p.GetEvent()), p.GetEventSize())
	}
	for name, text := range map[string]string{"reason": p.GetReason(), "content type": p.GetContentType()} {
		if !utf8.ValidString(text) || len(text) == 0 || len(text) > 3<<10 {
			t.Errorf("the %s has %d bytes, valid %v", name, len(text), utf8.ValidString(text))
		}
	}
	// Two large events that differ only behind the cut are two.
	other := append(bytes.Clone(large), '!')
	b.parkEvent(uuid.Nil, other, "", "too large")
	if all := b.list(); len(all) != 3 {
		t.Errorf("%d things are parked, not 3", len(all))
	}
}

func TestACutReasonEndsWithAWholeCharacter(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.park(uuid.New(), uuid.Nil, strings.Repeat("€", 10<<10))
	if reason := b.list()[0].GetReason(); strings.Trim(reason, "€") != "…" {
		t.Errorf("it ends with %q", reason[len(reason)-8:])
	}
}

func TestRemoveForgetsAJobAndItsEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job, other := uuid.New(), uuid.New()
	b.park(job, uuid.Nil, "r")
	b.park(other, uuid.Nil, "r")
	b.parkEvent(job, []byte("one"), "", "r")
	b.parkEvent(job, []byte("two"), "", "r")
	b.parkEvent(other, []byte("three"), "", "r")
	b.parkEvent(uuid.Nil, []byte("four"), "", "r")
	unreadable(b)
	things, err := b.store.Of(b.ctx, job)
	if err != nil || len(things) != 3 {
		t.Fatalf("%d things: %v", len(things), err)
	}
	// Parked again since: the same event, and the job.
	again := uuid.New()
	b.park(again, uuid.Nil, "r")
	newer, err := b.store.Of(b.ctx, again)
	if err != nil {
		t.Fatal(err)
	}
	b.park(again, uuid.Nil, "another reason")
	for range 2 {
		if err := b.store.Remove(b.ctx, append(things, newer...)); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	_ = b.store.List(b.ctx, func(_ string, p *ledgerlinev1.Parked) {
		left++
		if p.GetJobId() == job.String() {
			t.Errorf("left is %v", p)
		}
	})
	if left != 4 {
		t.Errorf("%d things are left, not 4", left)
	}
}

// unreadable stores what this version cannot read.
func unreadable(b *bench) (corrupt, newer string) {
	b.t.Helper()
	corrupt, newer = subject.ParkedEvent("c0"), subject.ParkedEvent("ff")
	data, err := proto.Marshal(&ledgerlinev1.Parked{MinReader: ledger.Version + 1})
	if err != nil {
		b.t.Fatal(err)
	}
	for subj, data := range map[string][]byte{corrupt: []byte("nothing parked"), newer: data} {
		if _, err := b.js.Publish(b.ctx, subj, data); err != nil {
			b.t.Fatal(err)
		}
	}
	return corrupt, newer
}

func TestWhatCannotBeReadHidesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	corrupt, newer := unreadable(b)
	b.park(uuid.New(), uuid.Nil, "r")
	seen := 0
	err := b.store.List(b.ctx, func(string, *ledgerlinev1.Parked) { seen++ })
	if !errors.Is(err, ledger.ErrNewer) || !strings.Contains(err.Error(), corrupt) || !strings.Contains(err.Error(), newer) || seen != 1 {
		t.Errorf("%d things: %v", seen, err)
	}
}
