package app

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/receiver/sink"
	"drydock/store"
)

// archiving keeps the binary log of a server in the shelf's folder until it is ended, which is when all of it is there.
func archiving(t *testing.T, s *shelf, conn *bus.Conn, m *mariadbd.Server) (end func()) {
	t.Helper()
	server := job.Server{Host: "127.0.0.1", Port: m.Port()}
	facts := store.Facts{Up: true, Role: store.RolePrimary, Time: time.Now().Add(time.Hour)}
	if err := store.NewDocs(conn).Put(bustest.Context(t), "prod", server, store.DocFacts, facts); err != nil {
		t.Fatal(err)
	}
	service := binlog.New(binlog.Config{
		Name: "one", Actor: "receiver@one", Dir: s.folder, Sign: s.signer.SignSegment, Log: bustest.Log(t),
		Clusters: []binlog.Cluster{{
			Name: "prod", On: true, Servers: []job.Server{server}, User: m.User(), Password: m.Password(), Flush: 50 * time.Millisecond, Compress: sink.Zstd,
		}},
	}, conn)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := service.Run(ctx); err != nil {
			t.Errorf("archive: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); work.Wait() })
	t.Cleanup(stop)
	return func() {
		want := position(t, m)
		bustest.Until(t, time.Minute, "all is archived", func() bool {
			list, err := store.NewBinlogs(conn).List(bustest.Context(t), "prod")
			return err == nil && slices.ContainsFunc(list, func(s store.Segment) bool { return s.After == want })
		})
		stop()
	}
}

func position(t *testing.T, m *mariadbd.Server) (gtid string) {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(bustest.Context(t), "SELECT @@gtid_binlog_pos").Scan(&gtid); err != nil {
		t.Fatal(err)
	}
	return gtid
}

// Somebody drops a table: what is restored must have all that was written before, and not the drop; and a point that the archive
// does not lead to is refused before anything is touched.
func TestDataAreRestoredToTheLastTransactionBeforeAMistake(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	signer, err := store.NewSigner(bustest.Context(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{t, t.TempDir(), signer}
	m := backuptest.Filled(t, mariadbd.Options{LogBin: true})
	early := position(t, m)
	backuptest.Statements(t, m, "INSERT INTO shop.plain VALUES (3)")
	end := archiving(t, s, conn, m)
	base := position(t, m)
	physical := s.lay(store.Manifest{ID: "P", Task: "mariabackup", GTID: base, Ended: time.Now()}, sink.Spec{Compress: sink.Zstd}, content(t, backuptest.Physical(t, m)))
	dump := s.lay(store.Manifest{ID: "D", Task: "mysqldump", GTID: base, Ended: time.Now()}, sink.Spec{}, content(t, backuptest.Dump(t, m)))
	backuptest.Statements(t, m, "INSERT INTO shop.plain VALUES (4), (5)", "CREATE USER later@localhost", "GRANT SELECT ON shop.* TO later@localhost",
		"CREATE TABLE shop.late (t TEXT)", "INSERT INTO shop.late VALUES ('written before')")
	before := position(t, m)
	backuptest.Statements(t, m, "DROP TABLE shop.plain", "INSERT INTO shop.late VALUES ('written after')")
	end()

	ask := func(found Found, to Point, load bool) RestoreOptions {
		o := s.restoring(found)
		o.Folder, o.Keys, o.To, o.Load = s.folder, []store.PublicKey{s.signer.Public()}, to, load
		return o
	}
	for name, o := range map[string]RestoreOptions{
		"beyond the archive":     ask(physical, Point{GTID: "0-1-99999"}, false),
		"after the archive":      ask(physical, Point{Time: time.Now().Add(time.Hour)}, false),
		"before the backup":      ask(physical, Point{GTID: early}, false),
		"before it by the clock": ask(physical, Point{Time: physical.Manifest.Ended.Add(-time.Hour)}, false),
		"the file of a dump":     ask(dump, Point{GTID: before}, false),
		"no binary logs": func() RestoreOptions {
			o := ask(physical, Point{GTID: before}, false)
			o.Folder = t.TempDir()
			return o
		}(),
		"another installation's logs": func() RestoreOptions { o := ask(physical, Point{GTID: before}, false); o.Keys = nil; return o }(),
	} {
		p, err := PlanRestore(patient(t), o, Known{})
		if err != nil || !strings.Contains(strings.Join(verdicts(p), "\n"), "refused point in time") {
			t.Errorf("%s: %v, %v", name, verdicts(p), err)
		}
		if _, err := Restore(patient(t), o); err == nil {
			t.Errorf("%s: restored", name)
		}
		checkPlace(t, o, false)
	}
	if f, err := LatestBackup(s.folder, "prod", physical.Manifest.Server, Point{GTID: early}, []store.PublicKey{s.signer.Public()}, Known{}); err == nil {
		t.Errorf("%s is the base for what was before it", f.Manifest.ID)
	}

	for _, found := range []Found{physical, dump} {
		o := ask(found, Point{GTID: before}, found.Manifest.ID == "D")
		o.By = "test"
		p, err := PlanRestore(patient(t), o, Known{})
		if err != nil || p.Refused() || p.Point == nil || p.Point.Transactions != 5 || p.Point.GTID != before {
			t.Fatalf("%+v, %v, %v", p.Point, verdicts(p), err)
		}
		o.Replay = p.Replay
		note, err := Restore(patient(t), o)
		if err != nil || note.GTID != before || note.To != before {
			t.Fatalf("%+v, %v", note, err)
		}
		checkPlace(t, o, true)
		if text, err := os.ReadFile(filepath.Join(o.Place.Path(), restoreNote)); err != nil || !json.Valid(text) {
			t.Errorf("%s, %v", text, err)
		}
		startOn(t, m, o.Place.Path())
		plain, late, odd := count(t, m, "shop.plain"), count(t, m, "shop.late"), count(t, m, "shop.`odd ``name`")
		if plain != 5 || late != 1 || odd != 20_000 || count(t, m, "mysql.user WHERE user='later'") != 1 {
			t.Errorf("%s: %d, %d and %d rows", found.Manifest.ID, plain, late, odd)
		}
	}
}
