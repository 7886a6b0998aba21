package receiver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// peers decides who may connect for a server. Safe for concurrent use.
type peers struct {
	allow  []netip.Prefix
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	known map[string]resolved
}

// resolved is what a host name stood for at a time.
type resolved struct {
	addrs []netip.Addr
	err   error // of the last try; addrs are older then
	until time.Time
}

const (
	resolveTimeout = 3 * time.Second
	resolveKeep    = time.Minute
	resolveAgain   = 5 * time.Second // after a failure
)

func newPeers(allow []netip.Prefix) *peers {
	return &peers{
		allow: allow, known: map[string]resolved{},
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
}

// allowed says whether remote, which connected to our address local, may stream for the server at host. An error says
// that the name could not be resolved; the answer is then about the other rules.
func (p *peers) allowed(ctx context.Context, host string, remote, local netip.Addr) (bool, error) {
	remote, local = plain(remote), plain(local)
	for _, prefix := range p.allow {
		if prefix.Contains(remote) {
			return true, nil
		}
	}
	addrs, err := p.resolve(ctx, host)
	onThisMachine := false
	for _, a := range addrs {
		if a == remote {
			return true, nil
		}
		onThisMachine = onThisMachine || a.IsLoopback()
	}
	// A server reached over loopback runs here. Its connection comes from either loopback address (a name may stand for
	// one family only), or from the very address it connected to.
	return onThisMachine && (remote == local || remote == loopback4 || remote == netip.IPv6Loopback()), err
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// plain makes one spelling of an address: IPv4 in IPv6 is IPv4, and the zone of a link-local one does not count.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// resolve asks at most once a minute for a host. When the resolver fails, the last answer serves on: a name server that
// is down must not stop the night's backups.
func (p *peers) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	host = strings.Trim(host, "[]")
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{plain(a)}, nil
	}
	p.mu.Lock()
	last := p.known[host]
	p.mu.Unlock()
	if time.Now().Before(last.until) {
		return last.addrs, last.err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := p.lookup(ctx, host)
	for i := range found {
		found[i] = plain(found[i])
	}
	now := resolved{found, nil, time.Now().Add(resolveKeep)}
	if err != nil {
		now = resolved{last.addrs, err, time.Now().Add(resolveAgain)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[host] = now
	return now.addrs, now.err
}
