package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// maxSubjectBytes is far over any subject in use and far below the server's
// limit of 4 KiB for a protocol line.
const maxSubjectBytes = 512

// ownSubjects begin the engine's own subjects: an item sent there would come
// back as work.
const ownSubjects = "ledgerline."

// natsCarrier asks on one subject and takes the first reply.
type natsCarrier struct {
	conn    *nats.Conn
	subject string
}

func openNATS(subject string, o Options) (*natsCarrier, error) {
	if o.NATS == nil {
		return nil, fmt.Errorf("%w: nats: needs a connection to NATS", ErrSpec)
	}
	return &natsCarrier{conn: o.NATS, subject: subject}, nil
}

func checkSubject(subject string) error {
	switch {
	case subject == "":
		return errors.New("needs a subject, as in nats:erp.book")
	case len(subject) > maxSubjectBytes:
		return fmt.Errorf("the subject is over %d bytes", maxSubjectBytes)
	case strings.ContainsFunc(subject, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("the subject holds a blank or a control character")
	case strings.ContainsAny(subject, "*>"):
		return errors.New("the subject holds a wildcard; an item is sent to one subject")
	case strings.HasPrefix(subject, "."), strings.HasSuffix(subject, "."), strings.Contains(subject, ".."):
		return errors.New("the subject has an empty token")
	case strings.HasPrefix(subject, ownSubjects), strings.HasPrefix(subject, "$"), strings.HasPrefix(subject, "_INBOX."):
		return fmt.Errorf("subjects under %s, $ and _INBOX. belong to the engine and to NATS", ownSubjects)
	}
	return nil
}

func (c *natsCarrier) carry(ctx context.Context, d Delivery, body []byte) Answer {
	// While it reconnects, the client keeps what is published and sends it
	// later: perhaps long after this attempt was given up, and after another
	// worker took the job.
	if !c.conn.IsConnected() {
		return Answer{Outcome: Retry, Detail: "not sent: NATS is not connected"}
	}
	msg := nats.NewMsg(c.subject)
	for _, h := range d.headers() {
		msg.Header.Set(h[0], h[1])
	}
	msg.Data = body
	reply, err := c.conn.RequestMsgWithContext(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Answer{Outcome: Retry, Detail: "nobody answers on the subject " + c.subject}
	case errors.Is(err, nats.ErrMaxPayload):
		// No wait mends this, and the item is not at fault: a person raises the
		// server's limit.
		return Answer{Outcome: Refused, Detail: fmt.Sprintf("not sent: a body of %d bytes is over the NATS server's max_payload of %d", len(body), c.conn.MaxPayload())}
	case err != nil:
		return unanswered(ctx, err)
	}
	return natsAnswer(c.subject, reply)
}

func natsAnswer(subject string, reply *nats.Msg) Answer {
	if len(reply.Data) > MaxAnswerBytes {
		return Answer{Outcome: Refused, Detail: fmt.Sprintf("the sink's answer of %d bytes is over %d", len(reply.Data), MaxAnswerBytes)}
	}
	answer, understood := lineAnswer(reply.Data)
	if !understood {
		if text := reply.Header.Get(micro.ErrorHeader); text != "" {
			answer.Detail += "; its service error is " + reply.Header.Get(micro.ErrorCodeHeader) + " " + text
		} else if strings.Contains(string(reply.Data), `"stream"`) && strings.Contains(string(reply.Data), `"seq"`) {
			answer.Detail += "; it looks like JetStream's: a stream stores the subject " + subject + " and answers before the sink"
		}
	}
	return answer
}

// ready sends nothing to the subject: whatever arrives there is an item.
func (c *natsCarrier) ready(ctx context.Context) error {
	if err := c.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("reach NATS: %w", err)
	}
	return nil
}

// close leaves the connection to its owner.
func (c *natsCarrier) close() error { return nil }
