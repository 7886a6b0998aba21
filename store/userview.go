package store

import (
	"context"
	"sync"

	"drydock/bus"
)

// UserView is this process's picture of the users of the bus, fed by the bucket: looking somebody up asks nobody. It
// lags by a few milliseconds. Safe for concurrent use.
type UserView struct {
	c     *bus.Conn
	ready chan struct{} // closed by Run when the picture is complete

	mu      sync.RWMutex
	users   map[string]seenUser
	tokens  map[string]owned // by Token.Hash
	changed chan struct{}    // closed and replaced with every change
}

type seenUser struct {
	user     User
	revision uint64
}

type owned struct {
	user string
	t    Token
}

// NewUserView is empty until [UserView.Run] fills it.
func NewUserView(c *bus.Conn) *UserView {
	return &UserView{c: c, ready: make(chan struct{}), users: map[string]seenUser{}, tokens: map[string]owned{}, changed: make(chan struct{})}
}

// Run follows the bucket until ctx ends.
func (v *UserView) Run(ctx context.Context) error {
	stream, subject := bus.BucketStream(bus.BucketUsers)
	return bus.Follow(ctx, v.c, stream, subject, bus.From{LastPerSubject: true}, func(m bus.Meta, u User) error {
		v.observe(u, m.Seq)
		return nil
	}, func() { close(v.ready) })
}

// Ready is closed when the view shows everything that was in the bucket at its start.
func (v *UserView) Ready() <-chan struct{} { return v.ready }

// Changed is closed when somebody is changed after the call.
func (v *UserView) Changed() <-chan struct{} {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.changed
}

// observe takes a document in, unless a newer one of the user is known.
func (v *UserView) observe(u User, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	was := v.users[u.Name]
	if was.revision >= revision {
		return
	}
	for _, t := range was.user.Tokens {
		delete(v.tokens, t.Hash)
	}
	for _, t := range u.Tokens {
		v.tokens[t.Hash] = owned{u.Name, t}
	}
	v.users[u.Name] = seenUser{u, revision}
	close(v.changed)
	v.changed = make(chan struct{})
}

// User is what the bus knows of a user.
func (v *UserView) User(name string) (User, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s, ok := v.users[name]
	return s.user, ok
}

// Token is the API token with this hash ([Token.Hash]) and whose it is.
func (v *UserView) Token(hash string) (user string, t Token, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	o, ok := v.tokens[hash]
	return o.user, o.t, ok
}

// All are the users, in any order.
func (v *UserView) All() []User {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]User, 0, len(v.users))
	for _, s := range v.users {
		out = append(out, s.user)
	}
	return out
}
