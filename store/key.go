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
)

// SigningKey is the key that signs API tokens: 256 random bits, made by whichever gateway comes first and shared over
// the bus, so that a token of one gateway serves at every other and after a restart.
func SigningKey(ctx context.Context, c *bus.Conn) ([]byte, error) { return sharedKey(ctx, c, tokenKey) }

// sharedKey is 256 random bits that all of an installation share: whoever asks first makes them.
func sharedKey(ctx context.Context, c *bus.Conn, name string) ([]byte, error) {
	kv, err := c.Bucket(ctx, bus.BucketKeys)
	if err != nil {
		return nil, err
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	if _, err := kv.Create(ctx, name, fresh); err == nil {
		return fresh, nil
	} else if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("make the key %q: %w", name, err)
	}
	e, err := kv.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read the key %q: %w", name, err)
	}
	return e.Value(), nil
}
