package receiver

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestOnlyTheServersOwnAddressesMayConnect(t *testing.T) {
	t.Parallel()
	names := map[string][]string{"db1": {"10.0.1.5", "2001:db8::5"}, "here": {"::1"}, "mapped": {"::ffff:10.0.1.9"}, "linklocal": {"fe80::5%eth0"}}
	p := newPeers([]netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8:1::/48")})
	p.lookup = func(_ context.Context, host string) (out []netip.Addr, err error) {
		for _, a := range names[host] {
			out = append(out, netip.MustParseAddr(a))
		}
		if out == nil {
			err = errors.New("no such host")
		}
		return out, err
	}
	for _, c := range []struct {
		host, remote, local string
		want                bool
	}{
		{"db1", "10.0.1.5", "10.0.0.1", true},
		{"db1", "::ffff:10.0.1.5", "::ffff:10.0.0.1", true}, // a dual-stack listener reports IPv4 like this
		{"db1", "2001:db8::5", "2001:db8::1", true},
		{"db1", "10.0.1.6", "10.0.0.1", false},
		{"db1", "127.0.0.1", "127.0.0.1", false}, // somebody on this machine is not the server
		{"db1", "10.0.0.1", "10.0.0.1", false},
		{"db1", "192.0.2.9", "192.0.2.1", true}, // receiver-allow-from
		{"db1", "::ffff:192.0.2.9", "192.0.2.1", true},
		{"db1", "2001:db8:1::7", "2001:db8::1", true},
		{"mapped", "10.0.1.9", "10.0.0.1", true},
		{"linklocal", "fe80::5%eth1", "fe80::1", true},
		{"here", "127.0.0.1", "127.0.0.1", true}, // the name knows one family, the script used the other
		{"here", "::1", "::1", true},
		{"here", "127.0.0.2", "127.0.0.1", false},
		{"here", "10.0.0.1", "10.0.0.1", true}, // to our own address from our own address: this machine
		{"here", "10.0.0.2", "10.0.0.1", false},
		{"127.0.0.1", "127.0.0.2", "127.0.0.1", false},
		{"10.0.1.5", "10.0.1.5", "10.0.0.1", true},
		{"[2001:db8::5]", "2001:db8::5", "2001:db8::1", true},
		{"unknown", "10.0.1.5", "10.0.0.1", false},
		{"unknown", "192.0.2.9", "10.0.0.1", true},
	} {
		got, _ := p.allowed(context.Background(), c.host, netip.MustParseAddr(c.remote), netip.MustParseAddr(c.local))
		if got != c.want {
			t.Errorf("%s from %s to %s: allowed %v", c.host, c.remote, c.local, got)
		}
	}
}

func TestNameServerThatIsDownDoesNotStopTheBackups(t *testing.T) {
	t.Parallel()
	calls, down := 0, false
	p := newPeers(nil)
	p.lookup = func(context.Context, string) ([]netip.Addr, error) {
		calls++
		if down {
			return nil, errors.New("timeout")
		}
		return []netip.Addr{netip.MustParseAddr("10.0.1.5")}, nil
	}
	addr := netip.MustParseAddr("10.0.1.5")
	for range 3 {
		if ok, err := p.allowed(context.Background(), "db1", addr, addr); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if calls != 1 {
		t.Errorf("asked %d times within a minute", calls)
	}
	down = true
	old := p.known["db1"]
	old.until = time.Now().Add(-time.Second)
	p.known["db1"] = old
	for range 3 {
		if ok, _ := p.allowed(context.Background(), "db1", addr, addr); !ok {
			t.Error("the last known address is not good any more")
		}
	}
	if calls != 2 {
		t.Errorf("a name server that is down was asked %d times", calls-1)
	}
}
