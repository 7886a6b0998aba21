package gateway

import (
	"net"
	"sync"
	"time"
)

const (
	// failWindow is how long failed logins count.
	failWindow = 5 * time.Minute
	// failsUser and failsAddress are how many are borne in that time, for one name and from one address. Several people may
	// come from one address.
	failsUser    = 10
	failsAddress = 50
	// failsKept bounds the memory that strangers can take.
	failsKept = 10_000
)

// logins counts failed logins. The zero value is ready. It is each gateway's own: several of them bear as many times more.
type logins struct {
	mu   sync.Mutex
	seen map[string]failed
}

type failed struct {
	count int
	since time.Time
}

// open says how long a login with this name from this address must wait; 0 when it may be tried now.
func (l *logins) open(user, remote string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var wait time.Duration
	for key, most := range keysOf(user, remote) {
		f := l.seen[key]
		if left := f.since.Add(failWindow).Sub(now); f.count >= most && left > wait {
			wait = left
		}
	}
	return wait
}

// failed counts a login that was refused.
func (l *logins) failed(user, remote string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string]failed{}
	}
	if len(l.seen) >= failsKept {
		for key, f := range l.seen {
			if now.Sub(f.since) >= failWindow {
				delete(l.seen, key)
			}
		}
		if len(l.seen) >= failsKept {
			clear(l.seen) // a flood: better that one is let in than that memory runs out
		}
	}
	for key := range keysOf(user, remote) {
		f := l.seen[key]
		if now.Sub(f.since) >= failWindow {
			f = failed{since: now}
		}
		f.count++
		l.seen[key] = f
	}
}

// passed forgets the failures of a name: its owner was there.
func (l *logins) passed(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, "user "+user)
}

// keysOf are what failures are counted by, and how many are borne.
func keysOf(user, remote string) map[string]int {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	return map[string]int{"user " + clip(user, 64): failsUser, "address " + host: failsAddress}
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
