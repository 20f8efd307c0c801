package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Nothing of a payload is in any stream at any time: no note, name, supplier or
// file link, nor an amount's field. The job is looked at in the middle, when all
// its items are stored.
func TestStreamsHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 120})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(60)})
	here := in.gate()
	var payloads [][]byte
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		payloads = append(payloads, d.Item)
		if d.Position == 60 {
			here.pass(ctx)
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	in.publish(job)
	in.wait(here, "the last item")
	secrets := map[string]bool{"https://files.simulator.invalid": true, "accountingEntryLines": true}
	for _, p := range payloads {
		var item map[string]any
		if err := json.Unmarshal(p, &item); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"note", "supplier", "user", "team", "files", "vendor"} {
			texts(item[field], secrets)
		}
	}
	if len(secrets) < 50 {
		t.Fatalf("only %d texts to look for", len(secrets))
	}
	scan := func() (scanned int) {
		ctx := in.bounded("the streams were not read")
		streams := in.js.ListStreams(ctx)
		for info := range streams.Info() {
			stream, err := in.js.Stream(ctx, info.Config.Name)
			if err != nil {
				t.Fatal(err)
			}
			for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
				msg, err := stream.GetMsg(ctx, seq)
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				scanned++
				for secret := range secrets {
					if bytes.Contains(msg.Data, []byte(secret)) {
						t.Errorf("%s holds %q", msg.Subject, secret)
					}
				}
			}
		}
		if err := streams.Err(); err != nil {
			t.Fatal(err)
		}
		return scanned
	}
	if n := scan(); n < 120 {
		t.Errorf("only %d messages were scanned", n)
	}
	here.open()
	in.completes(job)
	scan()
}

// texts collects the strings of a value that are long enough to be told from
// chance.
func texts(value any, into map[string]bool) {
	const least = 8
	switch v := value.(type) {
	case string:
		if len(v) >= least {
			into[v] = true
		}
	case []any:
		for _, one := range v {
			texts(one, into)
		}
	case map[string]any:
		for _, one := range v {
			texts(one, into)
		}
	}
}

// Trap 33: file links live 24 hours and cannot be had again later. Each worker that
// claims a job reads its payload afresh, so a successor never sends the links of
// the worker before it, however long ago that one read them.
func TestATakeoverReadsThePayloadAgain(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 121})
	const links = "https://files.simulator.invalid"
	var readings atomic.Int64
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !readsPayload(r) {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Query().Get("after") == "" {
			readings.Add(1)
		}
		answer := recorded(next, r)
		marked := bytes.ReplaceAll(answer.Body.Bytes(), []byte(links), fmt.Appendf(nil, "%s/reading-%d", links, readings.Load()))
		answer.Body = bytes.NewBuffer(marked)
		answer.Header().Del("Content-Length")
		replay(w, answer)
	})
	in.fetcher(orderEntry) // reads no payload: each reading is a worker's
	job := in.add(simulator.JobSpec{Items: items(40)})
	in.publish(job)
	toA, stuck := holding(in, 20)
	a := in.consumer(toA)
	in.wait(stuck, "item 20")
	a.die()
	toB := &book{}
	in.consumer(toB)
	in.completes(job)
	for reading, sent := range map[string][]sink.Delivery{"/reading-1/": toA.deliveries(), "/reading-2/": toB.deliveries()} {
		linked := 0
		for _, d := range sent {
			if !bytes.Contains(d.Item, []byte(links)) {
				continue // an item without files
			}
			linked++
			if !bytes.Contains(d.Item, []byte(links+reading)) {
				t.Errorf("position %d, epoch %d, has links that are not of %s", d.Position, d.Epoch, reading)
			}
		}
		if linked == 0 {
			t.Errorf("no item of %s has a file", reading)
		}
	}
}
