package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// allowance is how many failures in a row are taken, and how fast they are forgiven.
type allowance struct {
	burst float64
	every time.Duration // one is forgiven each
}

// The allowances. Only failures count: a fleet behind one address logs in as often as it likes. A whole fleet may also
// fail for a while, when somebody changed a database password: so the address of the hosts is allowed far more than the
// one server, whose script tries once a minute.
var (
	loginPerAddress  = allowance{50, 6 * time.Second}
	loginPerUser     = allowance{10, 30 * time.Second}
	secretPerAddress = allowance{1000, 200 * time.Millisecond}
	secretPerServer  = allowance{30, 10 * time.Second}
	refusalsInAudit  = allowance{200, 2 * time.Second} // of a gateway: acts that were refused
)

// limitEntries is how many counters of each age a limiter holds: what one address, user or server has failed, or that
// it got in. About 100 bytes each.
const limitEntries = 20_000

// limiter counts failed logins. Its memory is bounded: when the newer half is full, the older one is forgotten. Safe for
// concurrent use.
type limiter struct {
	now func() time.Time

	mu        sync.Mutex
	cur, old  map[string]bucket
	in, inOld map[string]struct{} // who got in from where
}

// bucket holds what is left of an allowance.
type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, cur: map[string]bucket{}, in: map[string]struct{}{}}
}

// counter is one allowance of one address, user or server.
type counter struct {
	key string
	allowance
}

// take takes one try off every counter. When one is used up it takes nothing and says how long that lasts.
func (l *limiter) take(counters ...counter) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, c := range counters {
		if b := l.bucket(c, now); b.left < 1 {
			wait = max(wait, time.Duration((1-b.left)*float64(c.every)))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, c := range counters {
		b := l.bucket(c, now)
		b.left--
		l.put(c.key, b)
	}
	return 0
}

// giveBack undoes a take: it was no failure.
func (l *limiter) giveBack(counters ...counter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, c := range counters {
		b := l.bucket(c, now)
		b.left = min(c.burst, b.left+1)
		if b.left == c.burst {
			delete(l.cur, c.key)
			delete(l.old, c.key)
			continue
		}
		l.put(c.key, b)
	}
}

func (l *limiter) bucket(c counter, now time.Time) bucket {
	b, ok := l.cur[c.key]
	if !ok {
		b, ok = l.old[c.key]
	}
	if !ok {
		return bucket{c.burst, now}
	}
	b.left, b.at = min(c.burst, b.left+float64(now.Sub(b.at))/float64(c.every)), now
	return b
}

func (l *limiter) put(key string, b bucket) {
	if len(l.cur) >= limitEntries {
		l.old, l.cur = l.cur, map[string]bucket{}
	}
	l.cur[key] = b
}

// cameIn remembers that somebody got in from an address.
func (l *limiter) cameIn(pair string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.in) >= limitEntries {
		l.inOld, l.in = l.in, map[string]struct{}{}
	}
	l.in[pair] = struct{}{}
}

func (l *limiter) known(pair string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, cur := l.in[pair]
	_, old := l.inOld[pair]
	return cur || old
}

// try is one login that is under way.
type try struct {
	g        *Gateway
	pair     string
	counters []counter
}

// tryUser begins the login of a user; it answers 429 by itself when too many have failed. An address from which the user
// got in before is not held up by what others try elsewhere.
func (g *Gateway) tryUser(c *gin.Context, user string) (try, bool) {
	address, user := callerAddress(c.Request), short(user)
	t := try{g: g, pair: "u " + address + " " + user, counters: []counter{{"la " + address, loginPerAddress}}}
	if !g.tries.known(t.pair) {
		t.counters = append(t.counters, counter{"lu " + user, loginPerUser})
	}
	return t, t.begin(c)
}

// maxKept is the longest name that counters hold as it is, bytes.
const maxKept = 64

// short stands for a name in a counter: what somebody types for one can be as long as a body, and 20,000 of those would take
// the memory.
func short(name string) string {
	if len(name) <= maxKept {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// trySecret begins the proof of a database password. A server that proved it from this address before is held up by
// its own failures only, not by those of its neighbours.
func (g *Gateway) trySecret(c *gin.Context) (try, bool) {
	k := callOf(c)
	address, server := callerAddress(c.Request), k.cluster.Name+" "+k.server.String()
	t := try{g: g, pair: "s " + address + " " + server}
	if g.tries.known(t.pair) {
		t.counters = []counter{{"sk " + address + " " + server, secretPerServer}}
	} else {
		t.counters = []counter{{"ss " + server, secretPerServer}, {"sa " + address, secretPerAddress}}
	}
	return t, t.begin(c)
}

func (t try) begin(c *gin.Context) bool {
	wait := t.g.tries.take(t.counters...)
	if wait == 0 {
		return true
	}
	c.Header("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	t.g.fail(c, errTooMany)
	return false
}

// worked says that the credentials were right.
func (t try) worked() {
	t.g.tries.giveBack(t.counters...)
	if !t.g.tries.known(t.pair) {
		t.g.tries.cameIn(t.pair)
	}
}

// undecided says that nobody looked at the credentials.
func (t try) undecided() { t.g.tries.giveBack(t.counters...) }

// callerAddress is where a request comes from: the IPv4 address, or the /64 of an IPv6 one, all of which is one host's.
func callerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	p, _ := ip.Prefix(64)
	return p.String()
}
