package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
)

// Docs keeps small documents beside the projected states, under names that begin with `_`. Losing them is harmless:
// what they say is found out again.
type Docs struct{ c *bus.Conn }

// NewDocs uses the bucket drydock_serverstate.
func NewDocs(c *bus.Conn) *Docs { return &Docs{c} }

// The documents of a server.
const (
	DocScript   = "_script"   // [ScriptDoc]
	DocDispatch = "_dispatch" // [DispatchDoc]
	DocFacts    = "_facts"    // [Facts]
	DocTables   = "_tables"   // [Tables]; further parts are DocTables-2 and so on
	DocChecksum = "_checksum" // [Checksum], of a whole cluster: the zero server
	// DocInventory with -TASK is the list of tables before a backup ([Docs.PutListing]).
	DocInventory = "_inventory"
)

// ScriptDoc is what drydock knows of the script on a database host.
type ScriptDoc struct {
	SHA256  string    `json:"sha256"`  // of the script that host sent last
	Checked time.Time `json:"checked"` // when
	Version string    `json:"version,omitempty"`
	// Upgrade asks the host to take the new script (needs/jobs-upgrade).
	Upgrade bool `json:"upgrade"`
}

// DispatchDoc remembers what is set up on a database server, so that no DDL and no look for it is repeated.
type DispatchDoc struct {
	Mode  job.Mode `json:"mode"` // the mode the server was last set up for
	Table bool     `json:"table"`
}

// Get reads a document of a server into v; ok is false when there is none.
func (d *Docs) Get(ctx context.Context, cluster string, s job.Server, name string, v any) (ok bool, err error) {
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return false, err
	}
	e, err := kv.Get(ctx, bus.StateKey(cluster, s.Host, s.Port, name))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s of %s: %w", name, s, err)
	}
	if err := bus.Decode(e.Value(), v); err != nil {
		return false, fmt.Errorf("decode %s of %s: %w", name, s, err)
	}
	return true, nil
}

// Put writes a document of a server.
func (d *Docs) Put(ctx context.Context, cluster string, s job.Server, name string, v any) error {
	_, err := d.put(ctx, cluster, s, name, v)
	return err
}

// PutFacts writes what a server said about itself, and gives the revision ([FactsEntry]).
func (d *Docs) PutFacts(ctx context.Context, cluster string, s job.Server, f Facts) (revision uint64, err error) {
	return d.put(ctx, cluster, s, DocFacts, f)
}

func (d *Docs) put(ctx context.Context, cluster string, s job.Server, name string, v any) (revision uint64, err error) {
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return 0, err
	}
	data, err := bus.Encode(docType, v)
	if err != nil {
		return 0, fmt.Errorf("encode %s of %s: %w", name, s, err)
	}
	revision, err = kv.Put(ctx, bus.StateKey(cluster, s.Host, s.Port, name), data)
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", name, s, err)
	}
	return revision, nil
}

// Delete removes a document of a server, if it is there.
func (d *Docs) Delete(ctx context.Context, cluster string, s job.Server, name string) error {
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return err
	}
	if err := kv.Purge(ctx, bus.StateKey(cluster, s.Host, s.Port, name)); err != nil {
		return fmt.Errorf("delete %s of %s: %w", name, s, err)
	}
	return nil
}

// Scripts reads what is known of the script of every database host, by [bus.StateKey] with [DocScript].
func (d *Docs) Scripts(ctx context.Context) (map[string]ScriptDoc, error) {
	return every[ScriptDoc](ctx, d, DocScript)
}

// Facts reads what every server said about itself when it was asked last, by [bus.StateKey] with [DocFacts].
func (d *Docs) Facts(ctx context.Context) (map[string]Facts, error) {
	return every[Facts](ctx, d, DocFacts)
}

// FollowFacts gives what every server said last, and then what each says, by [bus.StateKey] with [DocFacts], until ctx ends (nil).
func (d *Docs) FollowFacts(ctx context.Context, take func(key string, f Facts)) error {
	stream, all := bus.BucketStream(bus.BucketState)
	prefix := strings.TrimSuffix(all, ">")
	return bus.Follow(ctx, d.c, stream, prefix+"*.*.*."+DocFacts, bus.From{LastPerSubject: true}, func(m bus.Meta, f Facts) error {
		take(strings.TrimPrefix(m.Subject, prefix), f)
		return nil
	}, nil)
}

// FactsEntry is a document [DocFacts] as it came, not decoded yet: of thousands of servers most answers are one's own.
type FactsEntry struct {
	Key      string // [bus.StateKey] with [DocFacts]
	Revision uint64
	value    []byte
}

// Facts decodes it.
func (e FactsEntry) Facts() (f Facts, err error) {
	if err := bus.Decode(e.value, &f); err != nil {
		return f, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	return f, nil
}

// HearFacts is [Docs.FollowFacts] for who decodes few of them. caughtUp is called once, when those were given that were there.
func (d *Docs) HearFacts(ctx context.Context, take func(FactsEntry), caughtUp func()) error {
	return d.c.FollowBucket(ctx, bus.BucketState, "*.*.*."+DocFacts, func(e bus.Entry) error {
		if !e.Gone {
			take(FactsEntry{e.Key, e.Revision, e.Value})
		}
		return nil
	}, caughtUp)
}

// Binlogs reads how the archiving of every cluster's binary log stands, by [bus.StateKey] with [DocBinlogs].
func (d *Docs) Binlogs(ctx context.Context) (map[string]BinlogStatus, error) {
	return every[BinlogStatus](ctx, d, DocBinlogs)
}

// every reads the documents of one name, by key.
func every[T any](ctx context.Context, d *Docs, name string) (map[string]T, error) {
	out := map[string]T{}
	err := d.c.Entries(ctx, bus.BucketState, "*.*.*."+name, func(e bus.Entry) error {
		var doc T
		if err := bus.Decode(e.Value, &doc); err != nil {
			return fmt.Errorf("decode %s: %w", e.Key, err)
		}
		out[e.Key] = doc
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
