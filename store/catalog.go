package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
)

// Catalog lists the backups. Safe for concurrent use.
type Catalog struct{ c *bus.Conn }

// NewCatalog uses the bucket drydock_catalog.
func NewCatalog(c *bus.Conn) *Catalog { return &Catalog{c} }

// Put records a manifest; repeating it changes nothing, and keeps what is known beyond it.
func (c *Catalog) Put(ctx context.Context, m Manifest) error {
	m.Inventory = m.Inventory.Brief() // the catalogue is read as a whole
	return c.update(ctx, m, func(now Manifest, _ bool) (Manifest, bool) {
		if len(m.Archives) == 0 {
			m.Archives = now.Archives
		}
		if len(m.Drills) == 0 {
			m.Drills = now.Drills
		}
		if len(m.Verifications) == 0 {
			m.Verifications = now.Verifications
		}
		m.Pin, m.Removal, m.Unverified = now.Pin, now.Removal, now.Unverified
		if len(m.Restores) == 0 {
			m.Restores = now.Restores
		}
		return m, true
	})
}

// SetArchives changes what is recorded of the archives of a backup, unless the catalogue has it no more. edit may run
// several times; it must not change what it is given in place.
func (c *Catalog) SetArchives(ctx context.Context, m Manifest, edit func([]Archive) []Archive) error {
	return c.update(ctx, m, func(now Manifest, exists bool) (Manifest, bool) {
		now.Archives = edit(now.Archives)
		return now, exists
	})
}

// AddDrill records a drill of a backup, unless the catalogue has it no more.
func (c *Catalog) AddDrill(ctx context.Context, m Manifest, d Drill) error {
	return c.update(ctx, m, func(now Manifest, exists bool) (Manifest, bool) {
		now.Drills = lastDrills(append(slices.Clone(now.Drills), d))
		return now, exists
	})
}

// AddRestore records that the data of a backup were got back. Errors: [ErrNoBackup] when the catalogue does not have it.
func (c *Catalog) AddRestore(ctx context.Context, m Manifest, r Restore) error {
	known := false
	err := c.update(ctx, m, func(now Manifest, exists bool) (Manifest, bool) {
		known = exists
		now.Restores = append(slices.Clone(now.Restores), r)
		now.Restores = now.Restores[max(0, len(now.Restores)-restoresKept):]
		return now, exists
	})
	if err == nil && !known {
		err = fmt.Errorf("%w: %q of %s in cluster %s", ErrNoBackup, m.ID, m.Server, m.Cluster)
	}
	return err
}

// update writes what edit makes of the entry of m, compare-and-swap, unless it answers false.
func (c *Catalog) update(ctx context.Context, m Manifest, edit func(now Manifest, exists bool) (Manifest, bool)) error {
	kv, err := c.c.Bucket(ctx, bus.BucketCatalog)
	if err != nil {
		return err
	}
	key := bus.CatalogKey(m.Cluster, m.Server.Host, m.Server.Port, m.ID)
	for range tries(ctx) {
		var now Manifest
		var revision uint64 // 0: there is none
		e, err := kv.Get(ctx, key)
		switch {
		case err == nil:
			revision, err = e.Revision(), bus.Decode(e.Value(), &now)
		case errors.Is(err, jetstream.ErrKeyNotFound):
			err = nil
		}
		if err != nil {
			return fmt.Errorf("read manifest %s: %w", m.ID, err)
		}
		next, ok := edit(now, revision > 0)
		if !ok {
			return nil
		}
		data, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encode manifest %s: %w", m.ID, err)
		}
		if revision == 0 {
			_, err = kv.Create(ctx, key, data)
		} else {
			_, err = kv.Update(ctx, key, data, revision)
		}
		switch {
		case err == nil:
			return nil
		case !bus.Overtaken(err):
			return fmt.Errorf("record manifest %s: %w", m.ID, err)
		}
	}
	return fmt.Errorf("record manifest %s: %w", m.ID, ErrBusy)
}

// Made is when the catalogue was made, by the clock of the bus. What is older was in one that is lost, and this one
// may not know all of it again.
func (c *Catalog) Made(ctx context.Context) (time.Time, error) {
	s, err := c.c.JS.Stream(ctx, bus.StreamCatalog)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when %s was made: %w", bus.BucketCatalog, err)
	}
	return s.CachedInfo().Created, nil
}

// ErrNoBackup is returned for a backup that is not in the catalogue.
var ErrNoBackup = errors.New("no such backup")

// Get reads the manifest of one backup. One whose files are deleted, or about to be, is none. Errors: [ErrNoBackup].
func (c *Catalog) Get(ctx context.Context, cluster string, s job.Server, id string) (m Manifest, err error) {
	m, _, err = c.entry(ctx, cluster, s, id)
	if err == nil && !m.Listed() {
		err = fmt.Errorf("%w: %q of %s in cluster %s: its file was deleted (%s)", ErrNoBackup, id, s, cluster, m.Removal.Why)
	}
	return m, err
}

// entry reads an entry and its revision. Errors: [ErrNoBackup].
func (c *Catalog) entry(ctx context.Context, cluster string, s job.Server, id string) (m Manifest, revision uint64, err error) {
	kv, err := c.c.Bucket(ctx, bus.BucketCatalog)
	if err != nil {
		return m, 0, err
	}
	e, err := kv.Get(ctx, bus.CatalogKey(cluster, s.Host, s.Port, id))
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return m, 0, fmt.Errorf("%w: %q of %s in cluster %s", ErrNoBackup, id, s, cluster)
	}
	if err != nil {
		return m, 0, fmt.Errorf("read manifest %s: %w", id, err)
	}
	if err := bus.Decode(e.Value(), &m); err != nil {
		return m, 0, fmt.Errorf("decode manifest %s: %w", id, err)
	}
	return m, e.Revision(), nil
}

// List reads the manifests of a cluster and a server, newest first; an empty cluster or host means all. Backups whose files are
// deleted, or about to be, are left out.
func (c *Catalog) List(ctx context.Context, cluster string, server job.Server) ([]Manifest, error) {
	return c.list(ctx, cluster, server, Manifest.Listed)
}

func (c *Catalog) list(ctx context.Context, cluster string, server job.Server, want func(Manifest) bool) (out []Manifest, err error) {
	keys := ">"
	if cluster != "" && server.Port != 0 {
		keys = bus.CatalogKey(cluster, server.Host, server.Port, "*")
	}
	// Half a list is none: somebody may delete what only the missing half needs.
	err = c.c.Entries(ctx, bus.BucketCatalog, keys, func(e bus.Entry) error {
		var m Manifest
		if err := bus.Decode(e.Value, &m); err != nil {
			return fmt.Errorf("decode manifest %s: %w", e.Key, err)
		}
		if (cluster == "" || m.Cluster == cluster) && (server.Host == "" || m.Server == server) && want(m) {
			out = append(out, m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Manifest) int { return strings.Compare(b.ID, a.ID) })
	return out, nil
}
