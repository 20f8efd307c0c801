//go:build unix

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports lie below those that systems give to outgoing connections: a server that
// is killed must find its own free when it starts again.
const (
	firstPort = 12_000
	ports     = 18_000
	portTries = 1_000
)

var givenPorts sync.Map

// freeAddress is an address on this host that nobody listens on.
func freeAddress() (string, error) {
	for range portTries {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.N(ports))
		if _, given := givenPorts.LoadOrStore(address, true); given {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue // somebody else's
		}
		if err := listener.Close(); err != nil {
			return "", fmt.Errorf("try %s: %w", address, err)
		}
		return address, nil
	}
	return "", errors.New("no free port was found")
}
