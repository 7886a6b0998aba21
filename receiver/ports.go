package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// errExhausted is returned by [ports.listen] when no port of the pool can be had now; its text says who holds them.
var errExhausted = errors.New("no free port in the pool")

// ports hands out the ports of the pool, one per stream, and never one outside it. Safe for concurrent use.
type ports struct {
	bind     string
	pool     []int // empty: any free port
	reserved []int

	mu    sync.Mutex
	held  map[int]string // port: who holds it, for messages
	after int            // index in pool where the next search begins
}

// newPorts refuses a pool that cannot work: every mistake is named with its port and key.
func newPorts(bind string, pool, reserved []int) (*ports, error) {
	p := &ports{bind: bind, pool: slices.Clone(pool), reserved: reserved, held: map[int]string{}}
	var errs []error
	for i, port := range pool {
		if err := p.try(port, slices.Contains(pool[:i], port)); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: port %d %w", ErrConfig, portsKey, port, err))
		}
	}
	return p, errors.Join(errs...)
}

func (p *ports) try(port int, twice bool) error {
	switch {
	case port < 1 || port > 65535:
		return errors.New("is not a port number")
	case twice:
		return errors.New("is listed twice")
	case slices.Contains(p.reserved, port):
		return errors.New("is one of drydock's own ports")
	}
	ln, err := p.listenTCP(port)
	switch {
	case errors.Is(err, syscall.EACCES):
		return errors.New("is below 1024, which needs root or the capability CAP_NET_BIND_SERVICE")
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New("is in use by another program")
	case err != nil:
		return fmt.Errorf("cannot be bound: %w", err)
	}
	return ln.Close()
}

// listenTCP does without Multipath TCP, Go's default for listeners: a stream is cut by a reset here, and that must mean
// the one connection there is.
func (p *ports) listenTCP(port int) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(p.bind, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// listen takes a free port for holder. Ports are taken in turn: whoever comes late to a port that was given up meets
// nobody there for as long as possible. Errors: [errExhausted].
func (p *ports) listen(holder string) (*net.TCPListener, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pool) == 0 {
		return p.listenAny(holder)
	}
	var busy []string
	for i := range p.pool {
		at := (p.after + i) % len(p.pool)
		port := p.pool[at]
		if by, ok := p.held[port]; ok {
			busy = append(busy, fmt.Sprintf("%d by %s", port, by))
			continue
		}
		ln, err := p.listenTCP(port)
		if err != nil {
			busy = append(busy, fmt.Sprintf("%d: %v", port, errno(err)))
			continue
		}
		p.held[port], p.after = holder, (at+1)%len(p.pool)
		return ln, port, nil
	}
	slices.Sort(busy)
	return nil, 0, fmt.Errorf("%w %s, in use: %s", errExhausted, portsKey, strings.Join(busy, ", "))
}

const anyTries = 20

// MostPorts is how many streams may have a port at the same time where the pool names none. Each is a file that is open from the offer on, also when
// its host is dead.
const MostPorts = 4096

func (p *ports) listenAny(holder string) (*net.TCPListener, int, error) {
	if len(p.held) >= MostPorts {
		return nil, 0, fmt.Errorf("%w: %d streams have one, which is the most", errExhausted, MostPorts)
	}
	for range anyTries {
		ln, err := p.listenTCP(0)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: bind any port: %w", errExhausted, err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		if !slices.Contains(p.reserved, port) && p.held[port] == "" {
			p.held[port] = holder
			return ln, port, nil
		}
		ln.Close()
	}
	return nil, 0, fmt.Errorf("%w: the system gave only reserved ports", errExhausted)
}

// listenOn takes this port again, for what was promised before a restart.
func (p *ports) listenOn(port int, holder string) (*net.TCPListener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if by, ok := p.held[port]; ok {
		return nil, fmt.Errorf("port %d is held by %s", port, by)
	}
	if len(p.pool) > 0 && !slices.Contains(p.pool, port) || slices.Contains(p.reserved, port) {
		return nil, fmt.Errorf("port %d is no longer in the pool %s", port, portsKey)
	}
	ln, err := p.listenTCP(port)
	if err != nil {
		return nil, fmt.Errorf("port %d cannot be bound again: %w", port, errno(err))
	}
	p.held[port] = holder
	return ln, nil
}

func (p *ports) release(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, port)
}

// count is how many ports are in use, and of how many; 0 when any may be taken.
func (p *ports) count() (inUse, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held), len(p.pool)
}

// String is for people: the pool as configured.
func (p *ports) String() string {
	if len(p.pool) == 0 {
		return "any"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(p.pool), " ", ","), "[]")
}

// errno reduces an error to what the system said, when it said something: the rest of its text is known from the context.
func errno(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
