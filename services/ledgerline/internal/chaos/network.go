//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// toxicLimit bounds the wait for a toxic to take hold of a proxy's connections.
const toxicLimit = 5 * time.Second

// link is the network between two: one proxy, or one to each node of a cluster.
type link struct {
	name string
	// ends are the processes at it; everybody stands for all of them.
	ends    []string
	proxies []*toxiproxy.Proxy

	mu   sync.Mutex
	busy bool
}

func (l *link) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		return false
	}
	l.busy = true
	return true
}

func (l *link) free() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
}

// network makes the proxies.
type network struct {
	server *toxiproxy.ApiServer
	links  []*link
}

func newNetwork() *network {
	return &network{server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())}
}

// connect opens a link to the addresses and returns where to dial instead.
func (n *network) connect(name string, ends []string, addresses ...string) ([]string, error) {
	l := &link{name: name, ends: ends}
	var dial []string
	for i, address := range addresses {
		listen, err := freeAddress()
		if err != nil {
			return nil, err
		}
		proxy := toxiproxy.NewProxy(n.server, fmt.Sprintf("%s %d", name, i+1), listen, address)
		if err := proxy.Start(); err != nil {
			return nil, fmt.Errorf("open the link %s: %w", name, err)
		}
		l.proxies = append(l.proxies, proxy)
		dial = append(dial, proxy.Listen)
	}
	n.links = append(n.links, l)
	return dial, nil
}

func (n *network) close() {
	for _, l := range n.links {
		for _, p := range l.proxies {
			p.Stop()
		}
	}
}

// toxic is one fault of toxiproxy's.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float64          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// cut is a link that refuses connections and has dropped those it had; it is not
// one of toxiproxy's toxics.
const cut = "cut"

// troubles are the kinds of network trouble. The number decides their extent; all
// last as long as the fault.
var troubles = map[string]func(lease time.Duration, number uint64) []toxic{
	"latency": func(lease time.Duration, number uint64) []toxic {
		return bothWays("latency", map[string]int64{
			"latency": part(lease, 0.1+float64(number%120)/100), "jitter": part(lease, 0.1),
		})
	},
	"reset": func(_ time.Duration, number uint64) []toxic {
		return bothWays("reset_peer", map[string]int64{"timeout": int64(number % 500)})
	},
	"half-open": func(_ time.Duration, number uint64) []toxic {
		ways := bothWays("timeout", map[string]int64{"timeout": 0})
		if side := number % 3; side < 2 {
			return ways[side : side+1] // one side hears, the other does not
		}
		return ways
	},
	"slow-close": func(lease time.Duration, number uint64) []toxic {
		// Cut off after some bytes, and slow to say so.
		return append(bothWays("slow_close", map[string]int64{"delay": part(lease, 1.2)}),
			bothWays("limit_data", map[string]int64{"bytes": 200 + int64(number%20_000)})...)
	},
	"bandwidth": func(_ time.Duration, number uint64) []toxic {
		return bothWays("bandwidth", map[string]int64{"rate": 1 + int64(number%4)}) // KB/s
	},
	cut: func(time.Duration, uint64) []toxic { return nil },
}

func part(of time.Duration, share float64) int64 {
	return time.Duration(float64(of) * share).Milliseconds()
}

func bothWays(kind string, attributes map[string]int64) []toxic {
	var ways []toxic
	for _, stream := range []string{"upstream", "downstream"} {
		ways = append(ways, toxic{Name: kind + " " + stream, Type: kind, Stream: stream, Toxicity: 1, Attributes: attributes})
	}
	return ways
}

// spoil begins a trouble.
func (n *network) spoil(ctx context.Context, l *link, kind string, toxics []toxic) error {
	for _, p := range l.proxies {
		if kind == cut {
			p.Stop()
			continue
		}
		added := make(chan error, 1)
		go func() { added <- add(p, toxics) }()
		limit := time.NewTimer(toxicLimit)
		select {
		case err := <-added:
			if err != nil {
				return fmt.Errorf("spoil the link %s: %w", l.name, err)
			}
		case <-limit.C:
			// A frozen end takes nothing, and the data before it holds the toxic up.
			// It takes hold of the connections that come after.
		case <-ctx.Done():
		}
		limit.Stop()
	}
	return nil
}

func add(p *toxiproxy.Proxy, toxics []toxic) error {
	for _, t := range toxics {
		text, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode a toxic: %w", err)
		}
		if _, err := p.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
			return fmt.Errorf("add %s: %w", t.Name, err)
		}
	}
	return nil
}

// mend ends every trouble of a link. The proxies are made anew: taking a toxic out
// of one waits for what is stuck in it, and a frozen end takes nothing.
func (n *network) mend(l *link) error {
	for i, p := range l.proxies {
		p.Stop()
		l.proxies[i] = toxiproxy.NewProxy(n.server, p.Name, p.Listen, p.Upstream)
		if err := l.proxies[i].Start(); err != nil {
			return fmt.Errorf("open the link %s again: %w", l.name, err)
		}
	}
	return nil
}
