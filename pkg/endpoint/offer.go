package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// version is that of the endpoints' requests and answers.
	version = "1.0.0"
	// maxRequestBytes bounds what is read of a request; they have some hundred
	// bytes, the longest a reason of two thousand.
	maxRequestBytes = 16 << 10
	// maxInHand bounds the requests that one replica works on; further ones are
	// refused, and the asker asks again.
	maxInHand = 16
	// offerPause is the wait after the service could not be offered.
	offerPause = 500 * time.Millisecond
)

// Endpoint is one thing a service can be asked for.
type Endpoint struct {
	// Name within the service, and the subject that is asked.
	Name, Subject string
	// Handle takes a request. It must not wait: see Answer for what takes time.
	Handle micro.Handler
}

// Service is one replica of a service.
type Service struct {
	Conn        *nats.Conn
	Name        string
	Description string
	// Metadata tells replicas apart, such as by the worker's name.
	Metadata  map[string]string
	Endpoints []Endpoint
	Logger    zerolog.Logger
}

// Offer offers the service, and with it answers $SRV.PING, INFO and STATS, until
// ctx ends. A connection that refuses is tried again: work goes on without.
func Offer(ctx context.Context, s Service) {
	for {
		service, err := s.add()
		if err == nil {
			<-ctx.Done()
			err = service.Stop()
		}
		if err != nil && !s.Conn.IsClosed() {
			s.Logger.Warn().Err(err).Msg(logevent.EndpointFailed)
		}
		timer := time.NewTimer(offerPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (s Service) add() (micro.Service, error) {
	service, err := micro.AddService(s.Conn, micro.Config{
		Name: s.Name, Version: version, Description: s.Description, Metadata: s.Metadata,
	})
	if err != nil {
		return nil, fmt.Errorf("offer %s: %w", s.Name, err)
	}
	for _, e := range s.Endpoints {
		if err := service.AddEndpoint(e.Name, s.answerable(e.Handle), micro.WithEndpointSubject(e.Subject)); err != nil {
			return nil, errors.Join(fmt.Errorf("offer %s: %w", e.Subject, err), service.Stop())
		}
	}
	return service, nil
}

// answerable leaves out requests whose answer would be stored: the server does not
// look whether who asks may write to the subject that the answer is wanted on, and we
// may write more than an operator, such as a ledger or a token. (What the micro library
// itself answers, on $SRV, is not ours to leave out.)
func (s Service) answerable(handle micro.Handler) micro.Handler {
	return micro.HandlerFunc(func(r micro.Request) {
		if to := r.Reply(); strings.HasPrefix(to, "ledgerline.") || strings.HasPrefix(to, "$") {
			s.Logger.Warn().Str("subject", r.Subject()).Str("reply", to).Msg(logevent.EndpointFailed)
			return
		}
		handle.Handle(r)
	})
}

// Pool runs the requests of a service beside one another, since a service's own
// handlers run one at a time. The zero value is not usable; see NewPool.
type Pool struct {
	ctx     context.Context
	conn    *nats.Conn
	logger  zerolog.Logger
	places  chan struct{}
	running sync.WaitGroup
}

// NewPool makes a pool whose requests end with ctx.
func NewPool(ctx context.Context, conn *nats.Conn, logger zerolog.Logger) *Pool {
	return &Pool{ctx: ctx, conn: conn, logger: logger, places: make(chan struct{}, maxInHand)}
}

// Wait waits for the requests in hand; the service must have ended.
func (p *Pool) Wait() { p.running.Wait() }

// Answer is a handler that decodes a request of type Q, calls work with it in a
// goroutine of its own, within limit, and answers with what that returns.
func Answer[Q, A any](p *Pool, limit time.Duration, work func(context.Context, Q) (A, error)) micro.Handler {
	return micro.HandlerFunc(func(r micro.Request) {
		var request Q
		if err := Decode(r.Data(), &request); err != nil {
			p.reply(r.Reply(), nil, err)
			return
		}
		select {
		case p.places <- struct{}{}:
		default:
			p.reply(r.Reply(), nil, Refuse("503", fmt.Sprintf("%d requests are in hand already; ask again", maxInHand)))
			return
		}
		// The request itself belongs to the service once this returns.
		to := r.Reply()
		p.running.Go(func() {
			defer func() { <-p.places }()
			ctx, cancel := context.WithTimeout(p.ctx, limit)
			defer cancel()
			answer, err := work(ctx, request)
			var data []byte
			if err == nil {
				data, err = json.Marshal(answer)
			}
			p.reply(to, data, err)
		})
	})
}

// Decode reads a request.
func Decode(data []byte, request any) error {
	if len(data) > maxRequestBytes {
		return Refuse("400", fmt.Sprintf("the request has %d bytes, more than %d", len(data), maxRequestBytes))
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return Refuse("400", fmt.Sprintf("the request cannot be read: %v", err))
	}
	return nil
}

// reply answers; the asker may be gone.
func (p *Pool) reply(to string, data []byte, failure error) {
	if to == "" {
		return
	}
	msg := nats.NewMsg(to)
	msg.Data = data
	if failure != nil {
		code := "503"
		var refused *RefusedError
		if errors.As(failure, &refused) {
			code = refused.Code
		}
		msg.Header.Set(micro.ErrorHeader, oneLine(failure.Error()))
		msg.Header.Set(micro.ErrorCodeHeader, code)
		msg.Data = nil
	}
	if err := p.conn.PublishMsg(msg); err != nil {
		p.logger.Warn().Err(err).Msg(logevent.EndpointFailed)
	}
}

// oneLine keeps an error's text within a header.
func oneLine(text string) string {
	const most = 2 << 10
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
