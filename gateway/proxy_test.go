package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// Who can choose the address that his failed logins count for is not limited by them, and can lock somebody else out: only what
// trusted proxies have put down counts.
func TestOnlyATrustedProxySaysWhoTheCallerIs(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer string
		said []string
		want string
	}{
		"nobody is between":              {"192.0.2.9:4711", nil, "192.0.2.9:4711"},
		"a stranger claims":              {"192.0.2.9:4711", []string{"198.51.100.1"}, "192.0.2.9:4711"},
		"a proxy tells":                  {"10.0.0.1:4711", []string{"198.51.100.1"}, "198.51.100.1:0"},
		"the caller wrote some himself":  {"10.0.0.1:4711", []string{"127.0.0.1, 10.9.9.9, 198.51.100.1"}, "198.51.100.1:0"},
		"in two headers":                 {"10.0.0.1:4711", []string{"127.0.0.1", "198.51.100.1, 10.0.0.2"}, "198.51.100.1:0"},
		"two proxies":                    {"10.0.0.1:4711", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1:0"},
		"a proxy is the caller":          {"10.0.0.1:4711", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		"a proxy that tells nothing":     {"10.0.0.1:4711", nil, "10.0.0.1:4711"},
		"nonsense":                       {"10.0.0.1:4711", []string{"198.51.100.1, unknown"}, "10.0.0.1:4711"},
		"nonsense before":                {"10.0.0.1:4711", []string{"<b>, 198.51.100.1"}, "198.51.100.1:0"},
		"a port, as some write":          {"10.0.0.1:4711", []string{"198.51.100.1:99"}, "198.51.100.1:0"},
		"IPv6":                           {"[fd00::1]:4711", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		"IPv6 with a port":               {"[fd00::1]:4711", []string{"[2001:db8::7]:99"}, "[2001:db8::7]:0"},
		"IPv4 in IPv6":                   {"[::ffff:10.0.0.1]:4711", []string{"::ffff:198.51.100.1"}, "198.51.100.1:0"},
		"a stranger of a trusted prefix": {"11.0.0.1:4711", []string{"198.51.100.1"}, "11.0.0.1:4711"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.said
		var got string
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })
		behindProxy(trusted, h).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		r.RemoteAddr = c.peer
		behindProxy(nil, h).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.peer {
			t.Errorf("%s: without trusted proxies %s", name, got)
		}
	}
}
