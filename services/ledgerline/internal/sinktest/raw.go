package sinktest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// RawHTTP posts over a connection of its own what an HTTP client would not: half a
// request. It uses no proxy.
type RawHTTP struct {
	// URL may carry a user and a password.
	URL *url.URL
	// Token gives the bearer token; nil for none.
	Token func() (string, error)
	// Timeout bounds one request.
	Timeout time.Duration
}

// ending is how much of a request is sent, and how the sending ends.
type ending int

const (
	whole     ending = iota
	halfEnded        // half of the body, then the end of what we send; the answer can still be read
	halfReset        // half of the body, then the connection is broken
)

// post returns the status of the answer; 0 where there was none.
func (r *RawHTTP) post(ctx context.Context, d sink.Delivery, body []byte, end ending) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	request, err := r.request(ctx, d, body)
	if err != nil {
		return 0, err
	}
	if end != whole {
		request = request[:len(request)-len(body)+len(body)/2]
	}
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", address(r.URL))
	if err != nil {
		return 0, fmt.Errorf("connect to the sink: %w", err)
	}
	defer func() { _ = plain.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Now()) })
	defer stop()
	conn := plain
	if r.URL.Scheme == "https" {
		secure := tls.Client(plain, &tls.Config{ServerName: r.URL.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return 0, fmt.Errorf("connect to the sink: %w", err)
		}
		conn = secure
	}
	if _, err := conn.Write(request); err != nil {
		return 0, fmt.Errorf("send to the sink: %w", err)
	}
	switch end {
	case halfReset:
		if tcp, ok := plain.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return 0, nil
	case halfEnded:
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			if err := half.CloseWrite(); err != nil {
				return 0, nil // it has hung up already, and books nothing
			}
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if end == halfEnded {
			return 0, nil
		}
		return 0, fmt.Errorf("read the sink's answer: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, sink.MaxAnswerBytes))
	_ = answer.Body.Close()
	return answer.StatusCode, nil
}

// request is the whole request as it goes over the wire.
func (r *RawHTTP) request(ctx context.Context, d sink.Delivery, body []byte) ([]byte, error) {
	bare := *r.URL
	bare.User = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, bare.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for name, value := range map[string]string{
		"Content-Type":          "application/json",
		"Idempotency-Key":       d.IdempotencyKey(),
		"Ledgerline-Job-Id":     d.JobID,
		"Ledgerline-Company-Id": d.CompanyID,
		"Ledgerline-Position":   strconv.FormatUint(uint64(d.Position), 10),
		"Ledgerline-Total":      strconv.FormatUint(uint64(d.Total), 10),
		"Ledgerline-Epoch":      strconv.FormatUint(d.Epoch, 10),
		"Ledgerline-Attempt":    strconv.FormatUint(uint64(d.Attempt), 10),
		"Ledgerline-Sink-Test":  "a header of a later version",
		"Connection":            "close",
		"User-Agent":            "ledgerline-sink-test",
	} {
		req.Header.Set(name, value)
	}
	token := ""
	if r.Token != nil {
		if token, err = r.Token(); err != nil {
			return nil, fmt.Errorf("read the sink's token: %w", err)
		}
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case r.URL.User != nil:
		password, _ := r.URL.User.Password()
		req.SetBasicAuth(r.URL.User.Username(), password)
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	return wire.Bytes(), nil
}

func address(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// saysBooked tells whether a status counts as a booking.
func saysBooked(status int) bool {
	return status >= 200 && status <= 299 || status == http.StatusConflict
}

// cutOff sends half a body and then the whole item.
func (s *suite) cutOff(ctx context.Context) finding {
	if s.Raw == nil {
		return skipped("not asked: only an HTTP request can be cut off")
	}
	for _, end := range []ending{halfEnded, halfReset} {
		d := s.item(fmt.Sprintf("cut off %d", end))
		body, err := d.Body()
		if err != nil {
			return failed("%v", err)
		}
		status, err := s.Raw.post(ctx, d, body, end)
		switch {
		case err != nil:
			return failed("%v", err)
		case saysBooked(status):
			return failed("half a body was answered HTTP %d", status)
		}
		if problem, _ := s.inBooks(ctx, d, 0); problem != "" {
			return failed("after half a body %s", problem)
		}
		d.Attempt++
		if status, err = s.Raw.post(ctx, d, body, whole); err == nil && status == http.StatusConflict {
			return failed("the whole item was answered HTTP 409: the half of it had been booked")
		}
		if err != nil || !saysBooked(status) {
			d.Attempt++
			if a := s.settle(ctx, &d); a.Outcome != sink.Booked {
				return failed("after half a body the whole item was answered %s", said(a))
			}
		}
		if problem, _ := s.inBooks(ctx, d, 1); problem != "" {
			return failed("after the whole item %s", problem)
		}
	}
	return passed("half a body books nothing, the whole item after it is booked")
}
