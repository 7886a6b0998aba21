package gateway

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultConnections is how many connections both ports hold when [Config] does not say. One that is idle costs about 20
// KiB, over TLS 50.
const DefaultConnections = 4096

// crowd bounds the connections of a gateway. When there are too many, the one that has been idle longest goes: whoever
// opens thousands and says nothing pushes out his own, and no script finds the door shut. When all are at work, as those are
// whose bodies are waited for, one goes of the address that has most; the new one when that is its own. Safe for concurrent use.
type crowd struct {
	max int
	log *slog.Logger

	mu   sync.Mutex
	all  map[net.Conn]*list.Element // nil value: at work
	idle list.List                  // of net.Conn, longest first: those that have not asked yet, too
	said time.Time
}

func newCrowd(most int, log *slog.Logger) *crowd {
	if most == 0 {
		most = DefaultConnections
	}
	return &crowd{max: most, log: log, all: map[net.Conn]*list.Element{}}
}

// watch is the hook of [http.Server.ConnState].
func (c *crowd) watch(conn net.Conn, state http.ConnState) {
	if gone := c.note(conn, state); gone != nil {
		_ = gone.Close() // its own goroutine sees that and ends
	}
}

// note keeps the books and says which connection must go.
func (c *crowd) note(conn net.Conn, state http.ConnState) (gone net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, known := c.all[conn]
	if !known && state != http.StateNew {
		return nil // one that had to go says so by itself
	}
	if at != nil {
		c.idle.Remove(at)
	}
	switch state {
	case http.StateNew, http.StateIdle:
		if !known && len(c.all) >= c.max {
			c.complain()
			if first := c.idle.Front(); first != nil {
				gone = c.idle.Remove(first).(net.Conn)
			} else if gone = c.greediest(); host(gone) == host(conn) {
				return conn
			}
			delete(c.all, gone)
		}
		c.all[conn] = c.idle.PushBack(conn)
	case http.StateActive:
		c.all[conn] = nil
	default:
		delete(c.all, conn)
	}
	return gone
}

// greediest is a connection of the address that has most of them.
func (c *crowd) greediest() (one net.Conn) {
	count, most := map[string]int{}, 0
	for conn := range c.all {
		at := host(conn)
		if count[at]++; count[at] > most {
			most, one = count[at], conn
		}
	}
	return one
}

// host is where a connection comes from.
func host(conn net.Conn) string {
	name, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return name
}

// complain says once a minute that there are too many.
func (c *crowd) complain() {
	if time.Since(c.said) < time.Minute {
		return
	}
	c.said = time.Now()
	c.log.Warn("too many connections: some are closed, idle ones first", "most", c.max, "key", "http-max-connections")
}

// count is how many there are.
func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}
