package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// road is the way from one server of the bus to the port on which another takes servers. While it is cut nothing passes and nothing
// ends, as with a cable that is pulled: neither side is told.
type road struct {
	to string
	l  net.Listener
	wg sync.WaitGroup // the accepting goroutine, and two for each connection

	mu    sync.Mutex
	open  chan struct{} // closed while it is open
	conns map[net.Conn]bool
	ended bool
}

func newRoad(at, to string) (*road, error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("make a way to %s: %w", to, err)
	}
	r := &road{to: to, l: l, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(r.open)
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // close was called
			}
			r.wg.Go(func() { r.carry(c) })
		}
	})
	return r, nil
}

// carry joins a connection with one of its own.
func (r *road) carry(in net.Conn) {
	defer r.leave(in)
	if !r.enter(in) {
		return
	}
	r.await()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return // the server is down
	}
	defer r.leave(out)
	if !r.enter(out) {
		return
	}
	back := make(chan struct{}) // closed when nothing more comes back
	r.wg.Go(func() { defer close(back); r.pass(in, out) })
	r.pass(out, in)
	<-back
}

// pass hands on what it reads, and ends both connections when one has ended.
func (r *road) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.await()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *road) await() {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	<-open
}

func (r *road) enter(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = true
	return !r.ended
}

func (r *road) leave(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	_ = c.Close()
}

// cut lets nothing pass until heal. It returns how many connections there are to cut, both ends counted.
func (r *road) cut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = make(chan struct{})
	return len(r.conns)
}

// heal lets everything pass again. It may be called twice.
func (r *road) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.open:
	default:
		close(r.open)
	}
}

// close ends all connections and waits for them.
func (r *road) close() {
	_ = r.l.Close()
	r.heal()
	r.mu.Lock()
	r.ended = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// roads are those between all servers of the bus, by "FROM>TO".
type roads map[string]*road

// Ports of a server of the bus: that for other servers, and the ways to it.
const (
	serverPort = 6222
	roadPort   = 6300 // and those after it, one for each that comes
)

// newRoads makes a way from each server to each other one.
func newRoads(servers []string, addrs map[string]string) (roads, error) {
	all := roads{}
	for i, from := range servers {
		for _, to := range servers {
			if from == to {
				continue
			}
			r, err := newRoad(fmt.Sprintf("%s:%d", addrs[to], roadPort+i), fmt.Sprintf("%s:%d", addrs[to], serverPort))
			if err != nil {
				all.close()
				return nil, err
			}
			all[from+">"+to] = r
		}
	}
	return all, nil
}

// detours says where each server finds each other one.
func (all roads) detours() map[string]string {
	at := map[string]string{}
	for name, r := range all {
		at[name] = r.l.Addr().String()
	}
	return at
}

var errAround = errors.New("no connection to cut: the servers of the bus go another way")

// isolate cuts the ways between a server and the others. heal may be called twice.
func (all roads) isolate(name string, servers []string) (heal func(), err error) {
	var cut []*road
	n := 0
	for _, other := range servers {
		if other != name {
			cut = append(cut, all[name+">"+other], all[other+">"+name])
		}
	}
	for _, r := range cut {
		n += r.cut()
	}
	heal = func() {
		for _, r := range cut {
			r.heal()
		}
	}
	if n == 0 {
		heal()
		return heal, errAround
	}
	return heal, nil
}

func (all roads) close() {
	for _, r := range all {
		r.close()
	}
}
