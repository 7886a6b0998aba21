package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"drydock/bus"
)

// Readers keeps the users of the embedded NATS server that can only look, in bucket drydock_keys, which they cannot see.
// Safe for concurrent use.
type Readers struct{ c *bus.Conn }

// NewReaders works over c.
func NewReaders(c *bus.Conn) *Readers { return &Readers{c} }

const keyReaders = "nats-readers"

// maxReaders bounds the accounts of the server.
const maxReaders = 100

// ErrReader is returned for a reader that cannot be, or is not there.
var ErrReader = errors.New("user of the bus not possible")

// readerDoc is by name.
type readerDoc map[string]bus.Reader

func (d readerDoc) list() []bus.Reader {
	return slices.SortedFunc(maps.Values(d), func(a, b bus.Reader) int { return strings.Compare(a.Name, b.Name) })
}

// NewReader is a reader with a password of its own, which is in no other place than the returned text.
func NewReader(name, by string) (r bus.Reader, password string, err error) {
	if err := CheckUserName(name); err != nil {
		return r, "", err
	}
	password = rand.Text()
	// The cheapest: a drawn password needs no slow hash, and on a busy host each login has two seconds for all of it.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return r, "", fmt.Errorf("hash the password: %w", err)
	}
	return bus.Reader{Name: name, Hash: string(hash), Created: time.Now().UTC(), By: by}, password, nil
}

// Add adds a reader; the server knows it a moment later. Errors: [ErrReader].
func (s *Readers) Add(ctx context.Context, r bus.Reader) error {
	return s.change(ctx, func(d readerDoc) error {
		if _, there := d[r.Name]; there {
			return fmt.Errorf("%w: %s is there already", ErrReader, r.Name)
		}
		if len(d) >= maxReaders {
			return fmt.Errorf("%w: %d are there already; remove some", ErrReader, maxReaders)
		}
		d[r.Name] = r
		return nil
	})
}

// Remove removes a reader; the server ends its connections a moment later. Errors: [ErrReader].
func (s *Readers) Remove(ctx context.Context, name string) error {
	return s.change(ctx, func(d readerDoc) error {
		if _, there := d[name]; !there {
			return fmt.Errorf("%w: there is no %q; `drydock nats user list` lists them", ErrReader, name)
		}
		delete(d, name)
		return nil
	})
}

func (s *Readers) change(ctx context.Context, edit func(readerDoc) error) error {
	kv, err := s.c.Bucket(ctx, bus.BucketKeys)
	if err != nil {
		return err
	}
	_, err = update(ctx, kv, keyReaders, func(d *readerDoc) (bool, error) {
		if *d == nil {
			*d = readerDoc{}
		}
		err := edit(*d)
		return err == nil, err
	})
	return err
}

// List reads the readers, by name.
func (s *Readers) List(ctx context.Context) ([]bus.Reader, error) {
	kv, err := s.c.Bucket(ctx, bus.BucketKeys)
	if err != nil {
		return nil, err
	}
	d, _, err := readControl[readerDoc](ctx, kv, keyReaders)
	return d.list(), err
}

// Follow gives the readers to tell, now and after every change, until ctx ends (nil).
func (s *Readers) Follow(ctx context.Context, tell func([]bus.Reader)) error {
	stream, _ := bus.BucketStream(bus.BucketKeys)
	subject := "$KV." + bus.BucketKeys + "." + keyReaders
	return bus.Follow(ctx, s.c, stream, subject, bus.From{LastPerSubject: true}, func(_ bus.Meta, d readerDoc) error {
		tell(d.list())
		return nil
	}, nil)
}
