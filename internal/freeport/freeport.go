// Package freeport picks ports for servers that cannot be told to take any.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// The ports stay below the kernel's default range for outgoing connections (32768 and up), so that no client socket can sit
// on one while its server restarts.
const first, count = 20000, 12000

// One process gets each port once, until all had their turn: of two that ask, none gets what the other has not bound yet.
var (
	begin = rand.IntN(count)
	given atomic.Int64
)

// Find picks a port of 127.0.0.1 that nobody listens on.
func Find() (int, error) {
	const tries = 64
	for range tries {
		port := first + (begin+int(given.Add(1)))%count
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port in %d-%d: none in %d tries", first, first+count-1, tries)
}

// A Test is what [Pick] needs of one.
type Test interface {
	Helper()
	Fatal(...any)
}

// Pick is Find for a test.
func Pick(t Test) int {
	t.Helper()
	port, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
