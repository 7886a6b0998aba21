package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"drydock/bus"
)

// ErrUsed is returned for a body that was taken before, by whichever gateway.
var ErrUsed = errors.New("this body was used before")

// Logins remembers which sealed identities were taken, for all gateways of a bus (bucket drydock_logins). What it
// acknowledged is on disk. Safe for concurrent use.
type Logins struct{ c *bus.Conn }

// NewLogins works on c.
func NewLogins(c *bus.Conn) *Logins { return &Logins{c} }

// Take notes the nonce of a server's identity. It stays for [bus.LoginsAge]. Of two who take one at the same time, also at
// two gateways, one gets [ErrUsed]; other errors mean that nobody knows, and the caller must not go on.
func (l *Logins) Take(ctx context.Context, server, nonce string) error {
	kv, err := l.c.Bucket(ctx, bus.BucketLogins)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s,%s", len(server), server, nonce))
	_, err = kv.Create(ctx, hex.EncodeToString(sum[:16]), nil)
	switch {
	case bus.Overtaken(err):
		return ErrUsed
	case err != nil:
		return fmt.Errorf("note a login: %w", err)
	}
	return nil
}
