package gateway

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// from is a connection from an address.
type from struct {
	net.Conn
	addr string
}

func (f *from) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", f.addr)
	return a
}

// Requests whose bodies never come are at work and not idle: thousands of them must not shut the door for everybody else.
func TestWhoKeepsAllConnectionsAtWorkPushesOutHisOwn(t *testing.T) {
	t.Parallel()
	const most = 8
	c := newCrowd(most, slog.New(slog.DiscardHandler))
	comes := func(addr string) (conn, gone net.Conn) {
		conn = &from{addr: addr}
		if gone = c.note(conn, http.StateNew); gone != conn {
			c.note(conn, http.StateActive)
		}
		return conn, gone
	}
	script, _ := comes("10.0.0.1:1")
	for i := range most - 1 {
		comes(fmt.Sprintf("10.0.0.66:%d", 100+i))
	}
	if own, gone := comes("10.0.0.66:999"); gone != own {
		t.Errorf("one more of the same address pushes out %v", gone)
	}
	other, gone := comes("10.0.0.2:1")
	if f, ok := gone.(*from); !ok || host(f) != "10.0.0.66" {
		t.Errorf("another host pushes out %v", gone)
	}
	for _, conn := range []net.Conn{script, other} {
		if _, in := c.all[conn]; !in {
			t.Errorf("%v is not there", conn.RemoteAddr())
		}
	}
	if n := c.count(); n != most {
		t.Errorf("%d connections, want %d", n, most)
	}
}
