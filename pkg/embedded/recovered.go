package embedded

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// streamInfoTimeout bounds one question to a server in the same process.
const streamInfoTimeout = 10 * time.Second

// streams are what the server has recovered, in the one account there is.
func (s *Server) streams() ([]server.StreamDetail, error) {
	info, err := s.srv.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Config: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: list the streams: %w", ErrStore, s.dataDir, err)
	}
	for _, account := range info.AccountDetails {
		if account.Name == server.DEFAULT_GLOBAL_ACCOUNT {
			return account.Streams, nil
		}
	}
	return nil, nil
}

// checkRecovered compares the streams that lay on disk with those the server
// recovered. It leaves out one whose description is damaged, and would let it be
// created anew, empty: the bookings in it would be forgotten in silence.
func (s *Server) checkRecovered(said *bridge, stored []string, before map[string]highWater, accepted bool) error {
	streams, err := s.streams()
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(stored), func(name string) bool {
		return slices.ContainsFunc(streams, func(d server.StreamDetail) bool { return d.Name == name })
	})
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: %s: recovered without %s; %s; the messages were left as they are: restore a backup, "+
			"or move the directory away to begin with an empty store",
			ErrStore, s.dataDir, strings.Join(missing, ", "), said.said())
	}
	if err := s.checkReadable(streams); err != nil {
		return err
	}
	if !accepted {
		if err := checkHighWater(s.dataDir, before, streams); err != nil {
			return err
		}
	}
	s.marks, s.files = nil, nil // what was lost is accepted, what was known is old
	if _, err := s.look(); err != nil {
		return err
	}
	if err := writeHighWater(s.dataDir, s.marks); err != nil {
		return fmt.Errorf("%w: %w", ErrDataDir, err)
	}
	return forgetAccepted(s.dataDir)
}

// checkReadable asks for each stream as a client would: one that a newer server
// wrote is recovered by name and answers nothing.
func (s *Server) checkReadable(streams []server.StreamDetail) error {
	if len(streams) == 0 {
		return nil
	}
	nc, err := nats.Connect("", s.InProcess())
	if err != nil {
		return fmt.Errorf("%w: connect inside the process: %w", ErrServer, err)
	}
	defer nc.Close()
	for _, stream := range streams {
		answer, err := nc.Request(fmt.Sprintf(server.JSApiStreamInfoT, stream.Name), nil, streamInfoTimeout)
		if err != nil {
			return fmt.Errorf("%w: %s: read stream %s: %w", ErrStore, s.dataDir, stream.Name, err)
		}
		var info server.JSApiStreamInfoResponse
		if err := json.Unmarshal(answer.Data, &info); err != nil {
			return fmt.Errorf("%w: %s: read stream %s: %w", ErrStore, s.dataDir, stream.Name, err)
		}
		if info.Error != nil {
			return fmt.Errorf("%w: %s: stream %s: %w", ErrStore, s.dataDir, stream.Name, info.Error)
		}
		if info.StreamInfo == nil {
			return fmt.Errorf("%w: %s: stream %s answers without its state", ErrStore, s.dataDir, stream.Name)
		}
	}
	return nil
}
