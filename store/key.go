package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
)

// The keys of bus.BucketKeys.
const (
	tokenKey    = "jwt"
	manifestKey = "manifest"
	secretKey   = "secret" // after a cluster
)

// SigningKey is the key that signs API tokens: 256 random bits, made by whichever gateway comes first and shared over
// the bus, so that a token of one gateway serves at every other and after a restart.
func SigningKey(ctx context.Context, c *bus.Conn) ([]byte, error) { return sharedKey(ctx, c, tokenKey) }

// sharedKey is 256 random bits that all of an installation share: whoever asks first makes them.
func sharedKey(ctx context.Context, c *bus.Conn, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	return recorded(ctx, c, name, fresh)
}

// recorded is what stands under a name, which is fresh when nothing did.
func recorded(ctx context.Context, c *bus.Conn, name string, fresh []byte) ([]byte, error) {
	kv, err := c.Bucket(ctx, bus.BucketKeys)
	if err != nil {
		return nil, err
	}
	e, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if _, err = kv.Create(ctx, name, fresh); err == nil {
			return fresh, nil
		}
		if bus.Overtaken(err) { // another one was quicker
			e, err = kv.Get(ctx, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read or make the key %q: %w", name, err)
	}
	return e.Value(), nil
}

// FirstSecret is the digest of a cluster's database password that was recorded first, which is this one when none was.
func FirstSecret(ctx context.Context, c *bus.Conn, cluster, digest string) (string, error) {
	first, err := recorded(ctx, c, bus.ControlKey(cluster, secretKey), []byte(digest))
	return string(first), err
}
