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

// ManifestType is the version of [Manifest].
const ManifestType = "drydock.v1.manifest"

// Manifest describes one backup. It stands as JSON beside the backup file, as FILE.manifest.json, and in
// drydock_catalog. Sizes are bytes, times UTC, hashes hex.
type Manifest struct {
	Type     string      `json:"type"`
	ID       string      `json:"id"` // the job's id: one backup per job
	Cluster  string      `json:"cluster"`
	Server   job.Server  `json:"server"`
	Task     string      `json:"task"`
	Attempt  int         `json:"attempt"`
	Trigger  job.Trigger `json:"trigger"`
	Tool     string      `json:"tool,omitempty"`
	Started  time.Time   `json:"started"` // the worker began
	Ended    time.Time   `json:"ended"`   // the stream ended
	Receiver string      `json:"receiver"`
	Path     string      `json:"path"` // on the receiver's machine
	Compress string      `json:"compress"`
	// Encrypted says that the file is encrypted with age, around the compression.
	Encrypted bool   `json:"encrypted,omitempty"`
	Size      int64  `json:"size"`   // as received from the tool
	Stored    int64  `json:"stored"` // on disk
	Algo      string `json:"algo"`   // of both hashes
	Hash      string `json:"hash"`   // of the received bytes
	// StoredHash is the hash of the file on disk; it equals Hash when nothing was compressed.
	StoredHash string `json:"stored_hash"`
	BinlogFile string `json:"binlog_file,omitempty"`
	BinlogPos  int64  `json:"binlog_pos,omitempty"`
	GTID       string `json:"gtid,omitempty"`
	// BinlogOf says whose binary log that position is in ([job.Said]): of a dump of a replica it may be the
	// replica's own or its source's.
	BinlogOf string      `json:"binlog_of,omitempty"`
	Checks   []job.Check `json:"checks"` // what made it a backup
	// Inventory is what the server held before and after the backup, and what a drill looks for; nil where that is not known.
	// In the catalogue it is without the names of tables.
	Inventory *job.Inventory `json:"inventory,omitempty"`
	// Point says that a receiver made it, of another backup and of binary logs; nil for what a server gave. Ended is then when the
	// last of its transactions was committed.
	Point *Point `json:"point,omitempty"`
	// Signature vouches for all of it but what follows, which is in the catalogue and in the [Notes] beside the file.
	Signature *Signature `json:"signature,omitempty"`
	// Archives are the copies in archives, oldest first. The manifest beside the backup, which is archived with it, stays as it
	// was written.
	Archives []Archive `json:"archives,omitempty"`
	// Drills are the last tries to restore it, oldest first.
	Drills []Drill `json:"drills,omitempty"`
	// Verifications are the last looks at its bytes, oldest first.
	Verifications []Verification `json:"verifications,omitempty"`
	// Unverified says that the last verification could not be done; nil when it was.
	Unverified *Unverified `json:"unverified,omitempty"`
	// Pin is an operator's last word about keeping it.
	Pin *Pin `json:"pin,omitempty"`
	// Removal says that its file goes, or is gone.
	Removal *Removal `json:"removal,omitempty"`
	// Restores are the last times its data were got back to a directory, oldest first. Those to servers are jobs.
	Restores []Restore `json:"restores,omitempty"`
}

// Point is how a backup was made that no server gave.
type Point struct {
	Base string    `json:"base"` // id of the backup that it began with
	To   string    `json:"to"`   // the point in time that was asked for, TIME or GTID
	Made time.Time `json:"made"`
	Job  string    `json:"job"` // id of the job that made it
}

// Restore says that the data of a backup were got back to a directory.
type Restore struct {
	Time      time.Time `json:"time"`
	By        string    `json:"by"`
	Host      string    `json:"host"`
	Directory string    `json:"directory"`
	Seconds   float64   `json:"seconds"`
	// To is the point in time, TIME or GTID, that was replayed to; empty for that of the backup.
	To string `json:"to,omitempty"`
}

// restoresKept bounds what is remembered of them.
const restoresKept = 10

// Drill is one try to restore a backup into a scratch server.
type Drill struct {
	Time    time.Time `json:"time"`              // when it ended
	By      string    `json:"by"`                // who asked for it
	Problem string    `json:"problem,omitempty"` // why the backup does not restore; empty when it does
	Restore float64   `json:"restore_s"`         // seconds until the server had all of it
	Check   float64   `json:"check_s"`           // seconds of looking through its tables
	Version string    `json:"version,omitempty"` // of the scratch server
	Tables  int       `json:"tables"`
	Rows    int64     `json:"rows"`
	// Compared are the tables that were looked for because the server had them before and after the backup; 0: not compared.
	Compared int `json:"compared,omitempty"`
	// Skipped are the tables that were not looked at, because the scratch server does not have their engines.
	Skipped Skipped `json:"skipped,omitzero"`
}

// Skipped counts tables and names the first of them.
type Skipped struct {
	Count int      `json:"count"`
	First []string `json:"first"`
}

// skippedNamed is how many of them have a name in the catalogue.
const skippedNamed = 5

// SkippedOf counts the tables of a list.
func SkippedOf(names []string) Skipped {
	if len(names) == 0 {
		return Skipped{}
	}
	return Skipped{len(names), slices.Clone(names[:min(len(names), skippedNamed)])}
}

// String is for people; empty for none.
func (s Skipped) String() string {
	if s.Count == 0 {
		return ""
	}
	text := fmt.Sprintf("not looked at, for want of their engines: %d tables, %s", s.Count, strings.Join(s.First, ", "))
	if s.Count > len(s.First) {
		text += ", ..."
	}
	return text
}

// drillsKept bounds what is remembered of a backup's drills: the last ones.
const drillsKept = 10

func lastDrills(list []Drill) []Drill { return list[max(0, len(list)-drillsKept):] }

// Restored is the newest drill, if it restored the backup and nothing has been found wrong with it since ([Manifest.Fault]).
func (m Manifest) Restored() (d Drill, ok bool) {
	if len(m.Drills) == 0 {
		return Drill{}, false
	}
	_, bad := m.Fault()
	return m.Drills[len(m.Drills)-1], !bad
}

// Archive is a copy of a backup and its manifest in a repository of restic. Without a snapshot it says that there was
// none: the backup was deleted before.
type Archive struct {
	Repository string    `json:"repository"` // without passwords
	Snapshot   string    `json:"snapshot"`
	Time       time.Time `json:"time"`
	Bytes      int64     `json:"bytes"` // of backup and manifest
	Added      int64     `json:"added"` // what the repository grew by
	// Gone is when the snapshot was found to be there no more: forgotten by the backup-keep keys, or by hand.
	Gone time.Time `json:"gone,omitzero"`
}

// Archived is the newest copy that is still there; ok is false when there is none.
func (m Manifest) Archived() (a Archive, ok bool) {
	for _, a := range slices.Backward(m.Archives) {
		if a.Gone.IsZero() {
			return a, true
		}
	}
	return Archive{}, false
}

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
	for range casTries {
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
		case !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch):
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

func (c *Catalog) list(ctx context.Context, cluster string, server job.Server, want func(Manifest) bool) ([]Manifest, error) {
	kv, err := c.c.Bucket(ctx, bus.BucketCatalog)
	if err != nil {
		return nil, err
	}
	keys := ">"
	if cluster != "" && server.Port != 0 {
		keys = bus.CatalogKey(cluster, server.Host, server.Port, "*")
	}
	w, err := kv.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", bus.BucketCatalog, err)
	}
	defer w.Stop()
	var out []Manifest
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-w.Updates():
			if !ok { // half a list is none: somebody may delete what only the missing half needs
				return nil, errors.New("read " + bus.BucketCatalog + ": the bus closed")
			}
			if e == nil {
				slices.SortFunc(out, func(a, b Manifest) int { return strings.Compare(b.ID, a.ID) })
				return out, nil
			}
			var m Manifest
			if err := bus.Decode(e.Value(), &m); err != nil {
				return nil, fmt.Errorf("decode manifest %s: %w", e.Key(), err)
			}
			if (cluster == "" || m.Cluster == cluster) && (server.Host == "" || m.Server == server) && want(m) {
				out = append(out, m)
			}
		}
	}
}

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
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return err
	}
	data, err := bus.Encode(docType, v)
	if err != nil {
		return fmt.Errorf("encode %s of %s: %w", name, s, err)
	}
	if _, err := kv.Put(ctx, bus.StateKey(cluster, s.Host, s.Port, name), data); err != nil {
		return fmt.Errorf("write %s of %s: %w", name, s, err)
	}
	return nil
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

// Binlogs reads how the archiving of every cluster's binary log stands, by [bus.StateKey] with [DocBinlogs].
func (d *Docs) Binlogs(ctx context.Context) (map[string]BinlogStatus, error) {
	return every[BinlogStatus](ctx, d, DocBinlogs)
}

// every reads the documents of one name, by key.
func every[T any](ctx context.Context, d *Docs, name string) (map[string]T, error) {
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return nil, err
	}
	w, err := kv.Watch(ctx, "*.*.*."+name, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read every %s: %w", name, err)
	}
	defer w.Stop()
	out := map[string]T{}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e := <-w.Updates():
			if e == nil {
				return out, nil
			}
			var doc T
			if err := bus.Decode(e.Value(), &doc); err != nil {
				return nil, fmt.Errorf("decode %s: %w", e.Key(), err)
			}
			out[e.Key()] = doc
		}
	}
}
