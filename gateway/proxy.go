package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// behindProxy has next see the address of the caller where a trusted proxy says it (api-trusted-proxies), for the limit of failed
// logins, the audit and the log. From anybody else X-Forwarded-For is what a caller claims, and counts for nothing.
func behindProxy(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if caller, ok := forwardedFor(r, trusted); ok {
			r.RemoteAddr = net.JoinHostPort(caller.String(), "0") // nobody says the port
		}
		next.ServeHTTP(out, r)
	})
}

// forwardedFor is the caller that the trusted proxies of a request tell of: of the addresses that they have put down, each behind
// that of its own caller, the last that is no trusted proxy. What stands before it the caller may have written himself. ok is
// false when the request comes from no trusted proxy, or the proxies tell of nobody.
func forwardedFor(r *http.Request, trusted []netip.Prefix) (caller netip.Addr, ok bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !within(peer.Addr(), trusted) {
		return netip.Addr{}, false
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(said) {
		a, err := parseForwarded(text)
		if err != nil {
			break // a proxy that puts down no address hides who stands behind it
		}
		caller, ok = a, true
		if !within(a, trusted) {
			break
		}
	}
	return caller, ok
}

// parseForwarded reads one address; some proxies put down the port, too.
func parseForwarded(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap().WithZone(""), err
}

func within(a netip.Addr, networks []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}
