package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// Ask asks one replica for what is offered on a subject. It returns ErrNobody
// where none is there, a *RefusedError where it says no, and another error where
// no answer came: what was asked may have been done then.
func Ask(ctx context.Context, conn *nats.Conn, subj string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the request to %s: %w", subj, err)
	}
	msg, err := conn.RequestWithContext(ctx, subj, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("ask %s: %w", subj, ErrNobody)
	case err != nil:
		return fmt.Errorf("ask %s: %w", subj, err)
	}
	if text := msg.Header.Get(micro.ErrorHeader); text != "" {
		return &RefusedError{Code: msg.Header.Get(micro.ErrorCodeHeader), Text: text}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", subj, err)
	}
	return nil
}

// maxReplicas bounds how many replicas a look at a service counts.
const maxReplicas = 10_000

// Replicas asks every replica of a service for its word, as `nats micro ping`
// does, and returns those that answered within patience of one another.
func Replicas(ctx context.Context, conn *nats.Conn, service string, patience time.Duration) ([]micro.Info, error) {
	subj, err := micro.ControlSubject(micro.InfoVerb, service, "")
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", service, err)
	}
	inbox := conn.NewRespInbox()
	answers, err := conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", service, err)
	}
	// The connection may be gone by now, and the subscription with it.
	defer func() { _ = answers.Unsubscribe() }()
	if err := conn.PublishRequest(subj, inbox, nil); err != nil {
		return nil, fmt.Errorf("look for %s: %w", service, err)
	}
	found := []micro.Info{}
	for len(found) < maxReplicas {
		waiting, cancel := context.WithTimeout(ctx, patience)
		msg, err := answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case errors.Is(err, nats.ErrNoResponders) || (errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil):
			return found, nil
		case err != nil:
			return found, fmt.Errorf("look for %s: %w", service, err)
		}
		var info micro.Info
		if err := json.Unmarshal(msg.Data, &info); err != nil {
			return found, fmt.Errorf("read what a replica of %s says: %w", service, err)
		}
		found = append(found, info)
	}
	return found, nil
}
