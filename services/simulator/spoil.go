package simulator

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// slowChunks is how many pieces a slow body comes in.
const slowChunks = 8

// send writes an answer, spoiled by at most one fault. It does not return for
// answers that end with a broken connection.
func (s *Simulator) send(w http.ResponseWriter, c *call, a answer, spoil Fault) {
	switch spoil {
	case FaultReset:
		s.reset(w, c)
		return
	case FaultLostReply, FaultLostRefresh:
		panic(http.ErrAbortHandler) // net/http closes the connection without a word
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", a.contentType)
	switch spoil {
	case FaultCutJSON:
		half := a.body[:len(a.body)/2]
		if s.cutCleanly(c) {
			// As by a proxy that lost its upstream: a proper HTTP answer, half a JSON.
			write(w, a.status, half, len(half))
			return
		}
		write(w, a.status, half, len(a.body))
		panic(http.ErrAbortHandler)
	case FaultInvalidJSON:
		spoiled := append(bytes.Clone(a.body[:len(a.body)*2/3]), []byte("\x00]} <!-- upstream error -->")...)
		write(w, a.status, spoiled, len(spoiled))
	case FaultWrongShape:
		shape := []byte(`{"data":{"rows":{}},"pagination":["none"],"id":17}`)
		write(w, a.status, shape, len(shape))
	case FaultOversizedPage:
		s.writeOversized(w, a)
	case FaultSlowBody:
		s.writeSlowly(w, c, a)
	default:
		write(w, a.status, a.body, len(a.body))
	}
}

func write(w http.ResponseWriter, status int, body []byte, announced int) {
	w.Header().Set("Content-Length", strconv.Itoa(announced))
	w.WriteHeader(status)
	// A caller that went away is the caller's business.
	_, _ = w.Write(body)
}

func (s *Simulator) cutCleanly(c *call) bool {
	return c.faults.roll("cut-kind", c.faults.n)%2 == 0
}

// reset makes the caller see a reset connection: with linger 0, closing sends RST.
func (s *Simulator) reset(w http.ResponseWriter, c *call) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Warn().Str("operation", c.op.name).Err(err).Msg(eventConnectionKept)
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the close is a plain one, still no answer
	}
	_ = conn.Close()
}

func (s *Simulator) writeOversized(w http.ResponseWriter, a answer) {
	w.WriteHeader(a.status)
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	_, err := io.WriteString(w, `{"padding":"`)
	for left := s.cfg.OversizedBytes; left > 0 && err == nil; left -= int64(len(chunk)) {
		_, err = w.Write(chunk[:min(left, int64(len(chunk)))])
	}
	if err != nil {
		return // a caller with a bound hangs up here, as it should
	}
	_, _ = io.WriteString(w, `",`)
	_, _ = w.Write(a.body[1:])
}

func (s *Simulator) writeSlowly(w http.ResponseWriter, c *call, a answer) {
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	flush := http.NewResponseController(w)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for i := range slowChunks {
		select {
		case <-pause.C:
		case <-c.r.Context().Done():
			return
		case <-s.ctx.Done():
			panic(http.ErrAbortHandler)
		}
		from, to := len(a.body)*i/slowChunks, len(a.body)*(i+1)/slowChunks
		if _, err := w.Write(a.body[from:to]); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		pause.Reset(s.cfg.SlowBody / slowChunks)
	}
}
