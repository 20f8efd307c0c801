package endpoint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

const (
	// limit ends a test that hangs.
	limit   = time.Minute
	service = "ledgerline-test"
	asked   = "ledgerline.test.double"
)

type question struct {
	Number int `json:"number"`
}

type reply struct {
	Double int `json:"double"`
}

// offer runs a replica until the test ends; each request goes through work.
func offer(t *testing.T, conn *nats.Conn, name string, work func(context.Context, question) (reply, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pool := endpoint.NewPool(ctx, conn, zerolog.Nop())
	done := make(chan struct{})
	go func() {
		defer close(done)
		endpoint.Offer(ctx, endpoint.Service{
			Conn: conn, Name: service, Description: "doubles", Logger: zerolog.Nop(), Metadata: map[string]string{"worker": name},
			Endpoints: []endpoint.Endpoint{{Name: "double", Subject: asked, Handle: endpoint.Answer(pool, limit, work)}},
		})
		pool.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	// It answers from the moment that it shows.
	bounded, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	for {
		found, err := endpoint.Replicas(bounded, conn, service, 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(found, func(i micro.Info) bool { return i.Metadata["worker"] == name }) {
			return
		}
	}
}

func ask(t *testing.T, conn *nats.Conn, q any) (reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var answer reply
	err := endpoint.Ask(ctx, conn, asked, q, &answer)
	return answer, err
}

func doubled(_ context.Context, q question) (reply, error) { return reply{Double: 2 * q.Number}, nil }

func TestARequestIsAnsweredByOneReplica(t *testing.T) {
	t.Parallel()
	conn := natstest.Start(t).JetStream(t).Conn()
	if _, err := ask(t, conn, question{1}); !errors.Is(err, endpoint.ErrNobody) {
		t.Errorf("nobody is there: %v", err)
	}
	var mu sync.Mutex
	calls := 0
	counted := func(ctx context.Context, q question) (reply, error) {
		mu.Lock()
		calls++
		mu.Unlock()
		return doubled(ctx, q)
	}
	offer(t, conn, "a", counted)
	offer(t, conn, "b", counted)
	for n := range 20 {
		if answer, err := ask(t, conn, question{n}); err != nil || answer.Double != 2*n {
			t.Errorf("%d: %+v, %v", n, answer, err)
		}
	}
	if calls != 20 {
		t.Errorf("%d calls for 20 requests", calls)
	}
	found, err := endpoint.Replicas(t.Context(), conn, service, 5*time.Second)
	if err != nil || len(found) != 2 || found[0].Name != service || found[0].Endpoints[0].Subject != asked {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestNoReplicaIsNoError(t *testing.T) {
	t.Parallel()
	found, err := endpoint.Replicas(t.Context(), natstest.Start(t).JetStream(t).Conn(), "nobody", limit)
	if err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestARefusalSaysWhy(t *testing.T) {
	t.Parallel()
	conn := natstest.Start(t).JetStream(t).Conn()
	offer(t, conn, "a", func(_ context.Context, q question) (reply, error) {
		if q.Number == 0 {
			return reply{}, endpoint.Refuse("409", "zero is\nno number\r\nof ours")
		}
		return reply{}, errors.New(strings.Repeat("é", 5_000))
	})
	for _, c := range []struct {
		q          any
		code, text string
	}{
		{question{0}, "409", "zero is no number of ours"},
		{question{1}, "503", "é"},
		{"no object", "400", "the request cannot be read"},
		{map[string]any{"number": 1, "colour": "red"}, "400", "colour"},
		{map[string]any{"padding": strings.Repeat("x", 20<<10)}, "400", "bytes, more than"},
	} {
		_, err := ask(t, conn, c.q)
		var refused *endpoint.RefusedError
		if !errors.As(err, &refused) || refused.Code != c.code || !strings.Contains(refused.Text, c.text) || len(refused.Text) > 2<<10 {
			t.Errorf("%.40v: %v", c.q, err)
		}
	}
}

// What takes long does not hold the next request up, and no more than a bounded
// number is in hand.
func TestRequestsInHandAreBounded(t *testing.T) {
	t.Parallel()
	conn := natstest.Start(t).JetStream(t).Conn()
	inHand, release := make(chan struct{}, 64), make(chan struct{})
	offer(t, conn, "a", func(ctx context.Context, q question) (reply, error) {
		inHand <- struct{}{}
		<-release
		return doubled(ctx, q)
	})
	const most = 16
	errs := make(chan error, most)
	for n := range most {
		go func() {
			answer, err := ask(t, conn, question{n})
			if err == nil && answer.Double != 2*n {
				err = fmt.Errorf("%d: %d", n, answer.Double)
			}
			errs <- err
		}()
	}
	for range most {
		<-inHand
	}
	_, err := ask(t, conn, question{1})
	var refused *endpoint.RefusedError
	if !errors.As(err, &refused) || refused.Code != "503" || !strings.Contains(refused.Text, "ask again") {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	for range most {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A replica that ends ends what it has in hand, and is asked no more.
func TestAReplicaThatEndsIsAskedNoMore(t *testing.T) {
	t.Parallel()
	conn := natstest.Start(t).JetStream(t).Conn()
	inHand := make(chan struct{})
	t.Run("while it runs", func(t *testing.T) {
		offer(t, conn, "a", func(ctx context.Context, _ question) (reply, error) {
			close(inHand)
			<-ctx.Done()
			return reply{}, ctx.Err()
		})
		if err := conn.Publish(asked, []byte(`{"number":1}`)); err != nil {
			t.Fatal(err)
		}
		<-inHand
	})
	if _, err := ask(t, conn, question{1}); !errors.Is(err, endpoint.ErrNobody) {
		t.Errorf("%v", err)
	}
}

// Whoever asks cannot have the answer stored where he may not write himself.
func TestAnAnswerGoesToNoStream(t *testing.T) {
	t.Parallel()
	conn := natstest.Start(t).JetStream(t).Conn()
	var mu sync.Mutex
	var worked []int
	offer(t, conn, "one", func(_ context.Context, q question) (reply, error) {
		mu.Lock()
		defer mu.Unlock()
		worked = append(worked, q.Number)
		return reply{Double: 2 * q.Number}, nil
	})
	for _, to := range []string{"ledgerline.ledger.a.b", "$KV.LEDGERLINE_TOKENS.a", "$JS.API.STREAM.DELETE.LEDGERLINE_LEDGER"} {
		if err := conn.PublishRequest(asked, to, []byte(`{"number":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	// Requests are taken in one after another.
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var answer reply
	if err := endpoint.Ask(ctx, conn, asked, question{Number: 2}, &answer); err != nil || answer.Double != 4 {
		t.Fatalf("%v: %v", answer, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(worked, []int{2}) {
		t.Errorf("worked on %v", worked)
	}
}
