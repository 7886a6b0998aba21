package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/receiver/sink"
	"drydock/store"
)

// begin is the base of a server that began empty.
func beginning(s *mariadbd.Server) Base {
	return Base{Server: serverOf(s), File: "binlog.000001", Pos: 4}
}

// TestArchiveOfServersInUse goes through the life of a cluster: servers and receivers are killed and restarted, the primary changes,
// logs are purged and reset. The archive must have every byte once, or say what it lacks; and what is replayed must be what was there.
func TestArchiveOfServersInUse(t *testing.T) {
	a, b := mariadbdtest.Pair(t, mariadbd.Options{Password: password, Extra: []string{"max_binlog_size=256K"}})
	g := newRig(t, a, b)
	g.primary(a)
	w := &life{rig: g, a: a, b: b, one: g.start("one")}
	t.Run("receiver killed under load", w.killed)
	t.Run("server restarted", w.restarted)
	t.Run("primary changed and receiver taken over", w.switched)
	t.Run("replay", w.replayed)
	t.Run("damage is refused", w.damaged)
	t.Run("purged while nobody archived", w.purged)
	t.Run("log reset", w.reset)
	t.Run("pruned with its base", w.pruned)
}

// life is what the steps hand on.
type life struct {
	*rig
	a, b *mariadbd.Server
	one  *runner
	rows int

	mid     string // the GTID after midRows
	midRows int
	at      time.Time // the moment after atRows, a whole second
	atRows  int
	now     Base // of the last step: what a backup of the primary would say
}

// insert adds rows, each in a transaction of its own.
func (w *life) insert(t *testing.T, s *mariadbd.Server, n int) {
	t.Helper()
	db := open(t, s)
	defer db.Close()
	for range n {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO shop.t VALUES (?, REPEAT('x', 2000))", w.rows); err != nil {
			t.Fatal(err)
		}
		w.rows++
	}
}

// base is what a backup of the server would say of itself now.
func (w *life) base(t *testing.T, s *mariadbd.Server) Base {
	return Base{GTID: one(t, s, "SELECT @@gtid_binlog_pos"), Server: serverOf(s), Time: time.Now()}
}

// killed: kill -9 of the archiving process at any moment loses nothing and doubles nothing, in the middle of a large transaction too.
func (w *life) killed(t *testing.T) {
	run(t, w.a, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v LONGTEXT) ENGINE=InnoDB")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		w.insert(t, w.a, 300)
		w.mid, w.midRows = one(t, w.a, "SELECT @@gtid_binlog_pos"), w.rows
		w.insert(t, w.a, 300)
		db := open(t, w.a)
		defer db.Close()
		tx, err := db.Begin()
		if err != nil {
			t.Error(err)
			return
		}
		for range 8 { // several frames
			if _, err := tx.Exec("INSERT INTO shop.t VALUES (?, REPEAT(UUID(), 30000))", w.rows); err != nil {
				t.Error(err)
			}
			w.rows++
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	})
	for kills := 0; ctx.Err() == nil || kills < 3; kills++ {
		before := len(w.segments())
		bustest.Until(t, soon, "the archive grows", func() bool { return len(w.segments()) > before || ctx.Err() != nil })
		w.one.kill()
		w.one = w.start("one")
	}
	wg.Wait()
	w.archived(w.a)
	w.same(t, w.a)
	w.noGap(t)
}

// same compares the archive of a server with its files, byte for byte.
func (w *life) same(t *testing.T, s *mariadbd.Server) {
	t.Helper()
	logs, last := map[string][]byte{}, ""
	for _, l := range store.BinlogChain(w.segments()) {
		if l.Server != serverOf(s) {
			continue
		}
		last = l.File
		if l.Start == 0 {
			logs[l.File] = []byte(magic)
		}
		err := readSegment(t.Context(), l.Segment, []age.Identity{w.id}, func(e event, end int64) error {
			switch begin := end - int64(len(e)); {
			case begin == int64(len(logs[l.File])):
				logs[l.File] = append(logs[l.File], e...)
			case begin > int64(len(logs[l.File])):
				return fmt.Errorf("%s: nothing from %d to %d", l.File, len(logs[l.File]), begin)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, have := range logs {
		want, err := os.ReadFile(filepath.Join(s.DataDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if have[len(magic)+17] != want[len(magic)+17] { // the mark that the log is in use
			want[len(magic)+17] &^= 1
		}
		if name == last && len(want) > len(have) { // a server that is no longer the primary logs what it replicates
			want = want[:len(have)]
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s of %s has %d bytes, the archive has other ones: %d", name, s.Addr(), len(want), len(have))
		}
	}
	if len(logs) == 0 {
		t.Error("nothing was compared")
	}
}

// noGap: false gaps make people blind for real ones.
func (w *life) noGap(t *testing.T) {
	t.Helper()
	for _, g := range store.BinlogGaps(w.segments()) {
		t.Errorf("a gap that is none: %+v", g)
	}
}

// restarted: the log ends with an event of its own, and another one begins, which is no gap. Nor is an empty log.
func (w *life) restarted(t *testing.T) {
	if err := w.a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.insert(t, w.a, 20)
	if err := w.a.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, w.a, "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
	w.insert(t, w.a, 20)
	w.archived(w.a)
	w.same(t, w.a)
	w.noGap(t)
}

// switched: the new primary has logs of the same names, and the receiver that archived dies.
func (w *life) switched(t *testing.T) {
	w.at, w.atRows = nextSecond(t, w.a), w.rows
	w.insert(t, w.a, 50)
	if err := mariadbd.CatchUp(t.Context(), w.a, w.b); err != nil {
		t.Fatal(err)
	}
	two := w.start("two")
	run(t, w.b, "STOP SLAVE", "RESET SLAVE ALL")
	w.primary(w.b)
	w.one.kill()
	w.insert(t, w.b, 100)
	if err := mariadbd.Replicate(t.Context(), w.b, w.a); err != nil {
		t.Fatal(err)
	}
	w.archived(w.b)
	w.noGap(t)
	w.same(t, w.b)
	w.same(t, w.a)
	names := map[string]map[string]bool{}
	for _, s := range w.segments() {
		if names[s.File] == nil {
			names[s.File] = map[string]bool{}
		}
		names[s.File][s.Server.String()] = true
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(names)), func(of map[string]bool) bool { return len(of) == 2 }) {
		t.Errorf("the servers have no log of the same name in the archive: %v", names)
	}
	w.one = two
}

// nextSecond is the beginning of a second of the server's clock in which nothing was logged yet.
func nextSecond(t *testing.T, s *mariadbd.Server) time.Time {
	t.Helper()
	read := func() int64 {
		n, err := strconv.ParseInt(one(t, s, "SELECT UNIX_TIMESTAMP()"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := read()
	now := before
	bustest.Until(t, soon, "a second passes", func() bool { now = read(); return now > before })
	return time.Unix(now, 0)
}

// replayed: to a GTID, to a time, and to the end, over the change of the primary; from a position and from a GTID.
func (w *life) replayed(t *testing.T) {
	s, to := w.target()
	count := func() int {
		n, err := strconv.Atoi(one(t, s, "SELECT COUNT(*) FROM shop.t"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p := w.replay(beginning(w.a), Until{GTID: w.mid}, to)
	if count() != w.midRows || p.GTID != w.mid {
		t.Errorf("a replay to %s came to %d rows and %s, want %d", w.mid, count(), p.GTID, w.midRows)
	}
	// What was restored is a base like any other.
	p = w.replay(Base{GTID: w.mid}, Until{Time: w.at}, to)
	if count() != w.atRows || !p.Last.Before(w.at) {
		t.Errorf("a replay to %s came to %d rows, the last one of %s, want %d", w.at, count(), p.Last, w.atRows)
	}
	p = w.replay(Base{GTID: p.GTID}, Until{}, to)
	if count() != w.rows || p.GTID != one(t, w.b, "SELECT @@gtid_binlog_pos") {
		t.Errorf("a replay of all came to %d rows and %s, want %d", count(), p.GTID, w.rows)
	}
	if sum, want := checksum(t, s), checksum(t, w.b); sum != want {
		t.Errorf("the rows differ: %s, want %s", sum, want)
	}
	if p, err := Prepare(t.Context(), w.request(Base{GTID: p.GTID}, Until{})); err != nil || p.Transactions != 0 {
		t.Errorf("nothing is left to replay, and yet: %v %v", p, err)
	}
	for name, until := range map[string]Until{
		"a GTID to come":         {GTID: "0-1-999999"},
		"a time to come":         {Time: time.Now().Add(time.Hour)},
		"a GTID that never was":  {GTID: strings.Join([]string{"0", "4711", strings.Split(w.mid, "-")[2]}, "-")},
		"two ends":               {GTID: w.mid, Time: w.at},
		"a time before the base": {Time: time.Now().Add(-time.Hour)},
	} {
		base := beginning(w.a)
		base.Time = time.Now().Add(-time.Minute)
		if name == "a GTID that never was" || name == "two ends" {
			base.Time = time.Time{}
		}
		if _, err := Prepare(t.Context(), w.request(base, until)); err == nil {
			t.Errorf("%s was planned", name)
		} else if name != "two ends" && !errors.Is(err, ErrReach) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Plan{}).Run(t.Context(), to, t.TempDir()); err != nil {
		t.Error(err)
	}
	bad := to
	bad.Password = "wrong"
	p, err := Prepare(t.Context(), w.request(beginning(w.a), Until{GTID: w.mid}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Run(t.Context(), bad, t.TempDir()); err == nil || strings.Contains(err.Error(), "wrong") || !strings.Contains(err.Error(), "Access denied") {
		t.Errorf("a client that may not log in: %v", err)
	}
	if err := p.Run(t.Context(), to, t.TempDir()); err == nil || !strings.Contains(err.Error(), "exist") {
		t.Errorf("a replay on data that have it already: %v", err)
	}
}

func checksum(t *testing.T, s *mariadbd.Server) (sum string) {
	t.Helper()
	return one(t, s, "SELECT SUM(CRC32(CONCAT(id, v))) FROM shop.t")
}

// damaged: nothing is touched when the archive is not whole, and the reason is told.
func (w *life) damaged(t *testing.T) {
	copied := func(edit func(dir string, s store.Segment)) Request {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(w.root)); err != nil {
			t.Fatal(err)
		}
		r := w.request(beginning(w.a), Until{})
		r.Where = func(s store.Segment) string {
			rel, err := filepath.Rel(w.root, s.Path)
			if err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, rel)
		}
		edit(dir, store.BinlogChain(r.Segments)[2].Segment)
		return r
	}
	refused := func(name string, r Request, want error) {
		t.Helper()
		if _, err := Prepare(t.Context(), r); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var r Request
	r = copied(func(string, store.Segment) {})
	if p, err := Prepare(t.Context(), r); err != nil {
		t.Fatalf("a copy: %v", err)
	} else {
		p.Close()
	}
	var victim store.Segment
	r = copied(func(_ string, s store.Segment) { victim = s })
	flip(t, r.Where(victim), victim.Stored/2)
	refused("a flipped bit", r, ErrDamaged)
	if found := verify(t.Context(), r.Where(victim), r.Keys, r.Identities); found.Problem == "" {
		t.Error("verify passes over a flipped bit")
	}
	if found := verify(t.Context(), r.Where(victim), r.Keys, nil); found.Problem == "" {
		t.Error("verify without a key passes over a flipped bit")
	}
	r = copied(func(_ string, s store.Segment) { victim = s })
	if err := os.Truncate(r.Where(victim), victim.Stored-1); err != nil {
		t.Fatal(err)
	}
	refused("a cut segment", r, ErrDamaged)
	r = copied(func(_ string, s store.Segment) { victim = s })
	if err := os.Remove(r.Where(victim)); err != nil {
		t.Fatal(err)
	}
	refused("a missing file", r, os.ErrNotExist)
	r = copied(func(string, store.Segment) {})
	for i := range r.Segments {
		if r.Segments[i].ID() == victim.ID() {
			r.Segments[i].Lost = "the file is missing"
		}
	}
	// The archive ends there, which is as far as a replay leads.
	r.Until = Until{GTID: one(t, w.b, "SELECT @@gtid_binlog_pos")}
	refused("a missing segment", r, ErrReach)
	r = copied(func(string, store.Segment) {})
	r.Segments[2].After = "0-1-1"
	refused("a forged manifest", r, store.ErrSignature)
	r = copied(func(string, store.Segment) {})
	r.Identities = nil
	refused("no key", r, sink.ErrIdentity)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// purged: what the server threw away before it was archived is a gap that is known, and archiving goes on behind it.
func (w *life) purged(t *testing.T) {
	before := w.base(t, w.b)
	w.one.stop()
	w.insert(t, w.b, 10)
	run(t, w.b, "FLUSH BINARY LOGS")
	w.insert(t, w.b, 10)
	run(t, w.b, "FLUSH BINARY LOGS")
	last := one(t, w.b, "SELECT @@gtid_binlog_pos")
	files := binlogs(t, w.b)
	name := files[len(files)-1]
	bustest.Until(t, soon, "the logs before "+name+" are purged", func() bool { // the server spares those that it thinks are read
		run(t, w.b, "PURGE BINARY LOGS TO '"+name+"'")
		return binlogs(t, w.b)[0] == name
	})
	w.one = w.start("two")
	w.insert(t, w.b, 10)
	w.archived(w.b)
	gaps := store.BinlogGaps(w.segments())
	if len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "purged") || gaps[0].Before != before.GTID || gaps[0].After != last {
		t.Fatalf("the gaps are %+v, want one from %s to %s", gaps, before.GTID, last)
	}
	span, err := Coverage(w.segments(), before)
	if err != nil || span.Gap == nil || span.GTID != before.GTID {
		t.Errorf("from before the gap the archive leads to %s %v %v", span.GTID, span.Gap, err)
	}
	_, err = Prepare(t.Context(), w.request(before, Until{GTID: one(t, w.b, "SELECT @@gtid_binlog_pos")}))
	if !errors.Is(err, ErrReach) || !strings.Contains(fmt.Sprint(err), "purged") {
		t.Errorf("a replay over the gap: %v", err)
	}
	after := w.base(t, w.b)
	w.insert(t, w.b, 5)
	w.archived(w.b)
	p, err := Prepare(t.Context(), w.request(after, Until{}))
	if err != nil || p.Transactions != 5 {
		t.Fatalf("from behind the gap: %+v %v", p, err)
	}
	p.Close()
	w.now = after
}

// binlogs are the names of a server's logs, oldest first.
func binlogs(t *testing.T, s *mariadbd.Server) (names []string) {
	t.Helper()
	db := open(t, s)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// reset: after RESET MASTER the same names come again with other content, which must not replace what is archived.
func (w *life) reset(t *testing.T) {
	run(t, w.b, "RESET MASTER")
	w.insert(t, w.b, 5)
	w.archived(w.b)
	gaps := store.BinlogGaps(w.segments())
	if len(gaps) != 2 || !strings.Contains(gaps[1].Reason, "reset") {
		t.Fatalf("the gaps are %+v", gaps)
	}
	p, err := Prepare(t.Context(), w.request(w.now, Until{}))
	if err != nil || p.Transactions != 5 {
		t.Fatalf("what was archived before the reset: %+v %v", p, err)
	}
	p.Close()
	after := w.base(t, w.b)
	w.insert(t, w.b, 7)
	w.archived(w.b)
	if p, err = Prepare(t.Context(), w.request(after, Until{})); err != nil || p.Transactions != 7 {
		t.Fatalf("from behind the reset: %+v %v", p, err)
	}
	p.Close()
	w.now = after
	if n := len(store.BinlogGaps(w.segments())); n != 2 {
		t.Errorf("%d gaps: a gap is found once", n)
	}
}

// pruned: logs that no backup needs go with their backup, never those that a replay reads.
func (w *life) pruned(t *testing.T) {
	logs, two := store.NewBinlogs(w.conn), Owner{Receiver: "two", Dir: filepath.Join(w.root, "two")}
	if gone, err := Prune(t.Context(), logs, two, "prod", nil); err != nil || len(gone) > 0 {
		t.Fatalf("without a backup nothing is needless: %d %v", len(gone), err)
	}
	p, err := Prepare(t.Context(), w.request(w.now, Until{}))
	if err != nil {
		t.Fatal(err)
	}
	all := len(w.segments())
	if gone, err := Prune(t.Context(), logs, two, "prod", []Base{w.now}); err != nil || len(gone) > 0 {
		t.Fatalf("segments that are read were deleted: %d %v", len(gone), err)
	}
	p.Close()
	gone, err := Prune(t.Context(), logs, two, "prod", []Base{w.now})
	if err != nil || len(gone) == 0 {
		t.Fatalf("%d segments were deleted: %v", len(gone), err)
	}
	for _, s := range gone {
		if _, err := os.Stat(s.Path); !errors.Is(err, os.ErrNotExist) || s.Receiver != "two" {
			t.Errorf("%s of %s: %v", s.Path, s.Receiver, err)
		}
	}
	if n := len(w.segments()); n != all-len(gone) {
		t.Errorf("the catalogue has %d segments of %d, %d are gone", n, all, len(gone))
	}
	if p, err = Prepare(t.Context(), w.request(w.now, Until{})); err != nil || p.Transactions != 7 {
		t.Fatalf("what the backup needs: %+v %v", p, err)
	}
	p.Close()
	w.one.stop()
}
