package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"drydock/job"
)

// Role is what a database server is in its replication topology, as its own replication state tells.
type Role string

// The roles. Empty is unknown: the server is down, or the account may not see.
const (
	RolePrimary Role = "primary" // replicates from nobody
	RoleReplica Role = "replica"
)

// Facts is the document [DocFacts]: what a server said about itself when it was asked last.
type Facts struct {
	Up       bool      `json:"up"`
	Err      string    `json:"err,omitempty"` // why it is not up, or what it would not tell
	Role     Role      `json:"role,omitempty"`
	ReadOnly bool      `json:"read_only"`
	Version  string    `json:"version,omitempty"`
	Sources  []Source  `json:"sources,omitempty"` // what it replicates from
	Replicas int       `json:"replicas"`          // connected to it now
	Running  int       `json:"threads_running"`
	Threads  int       `json:"threads_connected"`
	Uptime   int64     `json:"uptime_s"`
	Time     time.Time `json:"time"` // when it was asked
	// Counted is when Replicas, Running, Threads and Uptime were asked for, if that was before Time: in a fleet of thousands that is done about
	// once a minute. Uptime was added to since.
	Counted time.Time `json:"counted,omitzero"`
	// Since is when it was first seen to be up or down, as it is now, without a change in between.
	Since time.Time `json:"since,omitzero"`
	Clock *Clock    `json:"clock,omitempty"` // nil: not known
	// Variables are a few global variables by name, as SHOW GLOBAL VARIABLES spells them.
	Variables map[string]string `json:"variables,omitempty"`
}

// Clock is how the clock of a database host stands against that of the scheduler that asked.
type Clock struct {
	Ahead float64 `json:"ahead_s"` // negative: behind
	Error float64 `json:"error_s"` // Ahead is exact to this much: half of the time that the question took
}

// FactsFresh is how old facts may be that something is decided on. Servers are asked every few seconds.
const FactsFresh = 2 * time.Minute

const (
	askEvery     = 10 * time.Second
	askedASecond = 300 // servers
	askAtMost    = 30 * time.Second
)

// AskedEvery is the time after which each of so many servers is asked about itself again, while nobody needs to know: ten seconds, or
// monitoring-ticker if that is longer. Of more than three thousand it is 300 a second, so that drydock's machine has something left for
// their jobs; of more than nine thousand each is asked about every half minute.
func AskedEvery(ticker time.Duration, servers int) time.Duration {
	return max(ticker, askEvery, min(time.Duration(servers)*time.Second/askedASecond, askAtMost))
}

// Primary is the only one of the servers that is up and replicates from nobody, as far as facts that are fresh tell; ok is false
// when there is none, or more than one. It is pure.
func Primary(servers []job.Server, facts map[job.Server]Facts, now time.Time) (found job.Server, ok bool) {
	for _, s := range servers {
		f := facts[s]
		if !f.Up || f.Role != RolePrimary || now.Sub(f.Time) > FactsFresh {
			continue
		}
		if ok {
			return job.Server{}, false
		}
		found, ok = s, true
	}
	return found, ok
}

// Source is one replication channel of a replica.
type Source struct {
	Name string `json:"name,omitempty"`
	From string `json:"from"` // host:port
	IO   string `json:"io"`   // Yes, No, Connecting, Preparing
	SQL  string `json:"sql"`
	ID   string `json:"server_id,omitempty"` // of the server it replicates from, once it was connected
	Lag  *int64 `json:"lag_s"`               // seconds; null while it cannot be told
	Err  string `json:"err,omitempty"`
	// Since is when the channel was first seen to run or not to run, as it is now, without a change in between.
	Since time.Time `json:"since,omitzero"`
}

// Follow brings into f since when it is as it is, from what was known before. The zero Facts stand for nothing known.
func (f *Facts) Follow(before Facts) {
	f.Since = f.Time
	if before.Up == f.Up && !before.Since.IsZero() {
		f.Since = before.Since
	}
	for i := range f.Sources {
		s := &f.Sources[i]
		s.Since = f.Time
		for _, was := range before.Sources {
			if was.Name == s.Name && was.From == s.From && (was.Stopped() == "") == (s.Stopped() == "") && !was.Since.IsZero() {
				s.Since = was.Since
			}
		}
	}
}

// CountedAt is when the counters were asked for.
func (f Facts) CountedAt() time.Time {
	if f.Counted.IsZero() {
		return f.Time
	}
	return f.Counted
}

// Count takes over the counters of an earlier answer, since which the server has not been restarted.
func (f *Facts) Count(before Facts) {
	f.Replicas, f.Running, f.Threads, f.Counted = before.Replicas, before.Running, before.Threads, before.CountedAt()
	since := func(t time.Time) int64 { return int64(t.Sub(f.Counted).Round(time.Second) / time.Second) } // from there, so that no rounding adds up
	f.Uptime = max(before.Uptime, before.Uptime+since(f.Time)-since(before.Time))
}

// Stopped says for people which thread of the channel does not run, with the server's error; empty when both run.
func (s Source) Stopped() string {
	thread := ""
	switch {
	case s.IO != "Yes" && s.SQL != "Yes":
		thread = "neither replication thread runs"
	case s.IO != "Yes":
		thread = "the IO thread does not run (" + s.IO + ")"
	case s.SQL != "Yes":
		thread = "the SQL thread does not run"
	default:
		return ""
	}
	if s.Err != "" {
		thread += ": " + s.Err
	}
	return thread
}

// Tables is the document [DocTables]: the tables of a server when they were read last (the table dictionary of
// maintenance.txt section 6.1.8.6). A long list goes on in DocTables-2 and so on, or DocTables-b2 and so on, Parts in all.
type Tables struct {
	Taken  time.Time        `json:"taken"`
	Count  int              `json:"count"`
	Bytes  int64            `json:"bytes"` // data and indexes of all
	Parts  int              `json:"parts"`
	Other  bool             `json:"other,omitempty"` // the further parts are the ones with a b
	Tables map[string]Table `json:"tables"`          // by `schema.table`
}

// Table is one entry of [Tables].
type Table struct {
	Engine    string `json:"engine,omitempty"`
	Type      string `json:"type,omitempty"` // when it is no plain table: VIEW, SEQUENCE, SYSTEM VERSIONED
	Format    string `json:"format,omitempty"`
	Collation string `json:"collation,omitempty"`
	Options   string `json:"options,omitempty"`
	Columns   string `json:"columns,omitempty"` // fingerprint of names, types, defaults and order
	Rows      int64  `json:"rows"`              // estimate
	Data      int64  `json:"data"`              // bytes
	Index     int64  `json:"index"`             // bytes
}

// maxPart bounds the JSON of the tables of one part; the bus takes 1 MiB in all.
const maxPart = 600 << 10

// PutTables writes the table dictionary of a server. Until the first part is written, which is the last to be, the old
// dictionary stands whole: the further parts of two that follow each other have different names.
func (d *Docs) PutTables(ctx context.Context, cluster string, s job.Server, t Tables) error {
	var old Tables
	if _, err := d.Get(ctx, cluster, s, DocTables, &old); err != nil {
		return err
	}
	parts, size := []map[string]Table{{}}, 0
	for name, table := range t.Tables {
		text, err := json.Marshal(map[string]Table{name: table})
		if err != nil {
			return fmt.Errorf("encode table %s: %w", name, err)
		}
		if size += len(text); size > maxPart {
			parts, size = append(parts, map[string]Table{}), len(text)
		}
		parts[len(parts)-1][name] = table
	}
	t.Parts, t.Other = len(parts), !old.Other
	for i := len(parts) - 1; i >= 0; i-- {
		t.Tables = parts[i]
		if err := d.Put(ctx, cluster, s, t.part(i), t); err != nil {
			return err
		}
	}
	for i := 1; i < old.Parts; i++ {
		if err := d.Delete(ctx, cluster, s, old.part(i)); err != nil {
			return err
		}
	}
	return nil
}

// Tables reads the table dictionary of a server; ok is false when there is none, or not all of it.
func (d *Docs) Tables(ctx context.Context, cluster string, s job.Server) (t Tables, ok bool, err error) {
	if ok, err = d.Get(ctx, cluster, s, DocTables, &t); err != nil || !ok {
		return t, false, err
	}
	for i := 1; i < t.Parts; i++ {
		var part Tables
		if ok, err = d.Get(ctx, cluster, s, t.part(i), &part); err != nil || !ok || !part.Taken.Equal(t.Taken) {
			return t, false, err
		}
		for name, table := range part.Tables {
			t.Tables[name] = table
		}
	}
	return t, true, nil
}

// part is the name of the document with part i, from 0.
func (t Tables) part(i int) string {
	switch {
	case i == 0:
		return DocTables
	case t.Other:
		return fmt.Sprintf("%s-b%d", DocTables, i+1)
	}
	return fmt.Sprintf("%s-%d", DocTables, i+1)
}
