package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
)

// ErrHeld is returned by [Leases.Take] while somebody else holds the lease.
var ErrHeld = errors.New("held by another process")

// ErrLost is returned by [Lease.Renew] when another process has taken the lease over.
var ErrLost = errors.New("lease was taken over by another process")

// Leases are exclusive rights that several processes ask each other for, kept in drydock_serverstate. A holder renews
// its lease; one that stands still for a whole term, by the clock of whoever watches it, may be taken over. No two
// clocks are compared, so it does not matter how far they are apart. Safe for concurrent use.
type Leases struct {
	c     *bus.Conn
	owner string
	term  time.Duration

	mu   sync.Mutex
	seen map[string]sighting // leases of others
}

// sighting is a revision of somebody else's lease and when it was seen first.
type sighting struct {
	revision uint64
	since    time.Time
}

// NewLeases takes leases as owner, which no other process may be called: a lease that an earlier run of the same owner
// left behind is taken over at once.
func NewLeases(c *bus.Conn, owner string, term time.Duration) *Leases {
	return &Leases{c: c, owner: owner, term: term, seen: map[string]sighting{}}
}

// Term is how long a lease holds without being renewed.
func (l *Leases) Term() time.Duration { return l.term }

// Lease is one lease that is held. Not safe for concurrent use.
type Lease struct {
	kv       jetstream.KeyValue
	key      string
	owner    string
	revision uint64
}

// leaseDoc is what a lease says in the bucket.
type leaseDoc struct {
	Owner string `json:"owner"`
}

func holder(owner string) []byte {
	data, _ := bus.Encode(docType, leaseDoc{owner}) // a struct of one string cannot fail
	return data
}

// holderOf is empty for a document that is no lease.
func holderOf(e jetstream.KeyValueEntry) string {
	var d leaseDoc
	_ = json.Unmarshal(e.Value(), &d)
	return d.Owner
}

// Take takes the lease of this name for a host. Errors: [ErrHeld].
func (l *Leases) Take(ctx context.Context, host string, port int, name string) (*Lease, error) {
	kv, err := l.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return nil, err
	}
	x := &Lease{kv: kv, key: bus.StateKey("_", host, port, name), owner: l.owner}
	x.revision, err = kv.Create(ctx, x.key, holder(l.owner))
	if err == nil {
		return x, nil
	}
	if !bus.Overtaken(err) {
		return nil, fmt.Errorf("take lease %s: %w", x.key, err)
	}
	e, err := kv.Get(ctx, x.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrHeld // given back just now: the next try will do
	}
	if err != nil {
		return nil, fmt.Errorf("read lease %s: %w", x.key, err)
	}
	if holderOf(e) != l.owner && !l.stoodStill(x.key, e.Revision()) {
		return nil, fmt.Errorf("%w: %s", ErrHeld, holderOf(e))
	}
	if x.revision, err = kv.Update(ctx, x.key, holder(l.owner), e.Revision()); bus.Overtaken(err) {
		return nil, ErrHeld // another one that waited was quicker
	} else if err != nil {
		return nil, fmt.Errorf("take over lease %s: %w", x.key, err)
	}
	return x, nil
}

// stoodStill says whether somebody else's lease has not been renewed for a term.
func (l *Leases) stoodStill(key string, revision uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, known := l.seen[key]
	if !known || s.revision != revision {
		l.seen[key] = sighting{revision, time.Now()}
		return false
	}
	return time.Since(s.since) >= l.term
}

// Renew keeps the lease for another term. Errors: [ErrLost]; after any other the lease still holds until its term ends.
func (x *Lease) Renew(ctx context.Context) error {
	revision, err := x.kv.Update(ctx, x.key, holder(x.owner), x.revision)
	if err == nil {
		x.revision = revision
		return nil
	}
	// An update whose answer was lost looks like a conflict: read back who it is.
	if e, getErr := x.kv.Get(ctx, x.key); getErr == nil {
		if holderOf(e) != x.owner {
			return ErrLost
		}
		x.revision = e.Revision()
		return nil
	} else if errors.Is(getErr, jetstream.ErrKeyNotFound) {
		return ErrLost
	}
	return fmt.Errorf("renew lease %s: %w", x.key, err)
}

// Release gives the lease back, unless it was lost meanwhile.
func (x *Lease) Release(ctx context.Context) error {
	if err := x.kv.Delete(ctx, x.key, jetstream.LastRevision(x.revision)); err != nil {
		return fmt.Errorf("release lease %s: %w", x.key, err)
	}
	return nil
}
