package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

// shopData is a schema with what a dump may lose: views, routines, events, triggers, bytes that are no text, an empty table.
var shopData = []string{
	"CREATE DATABASE shop",
	"CREATE TABLE shop.goods (id INT PRIMARY KEY AUTO_INCREMENT, name TEXT, raw BLOB)",
	`INSERT INTO shop.goods (name, raw) SELECT CONCAT('it''s "a" \\ line\nbreak -- Dump completed ', seq), UNHEX(SHA2(seq, 512)) FROM shop_seq.s`,
	"CREATE TABLE shop.nothing (i INT)",
	"CREATE TABLE shop.old (i INT) ENGINE=MyISAM",
	"INSERT INTO shop.old VALUES (1), (2)",
	"CREATE VIEW shop.cheap AS SELECT id FROM shop.goods WHERE id < 10",
	"CREATE PROCEDURE shop.count_goods() SELECT COUNT(*) FROM shop.goods",
	"CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.nothing",
	"CREATE TRIGGER shop.named BEFORE INSERT ON shop.nothing FOR EACH ROW SET NEW.i = NEW.i + 1",
}

func fillShop(t *testing.T, m *mariadbd.Server) {
	t.Helper()
	query(t, m, "CREATE DATABASE shop_seq", "CREATE TABLE shop_seq.s (seq INT)",
		"INSERT INTO shop_seq.s WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 900) SELECT n FROM r")
	query(t, m, shopData...)
}

// shopSums are the number of rows and the checksum of every table, and the names of all that is not a table.
func shopSums(t *testing.T, m *mariadbd.Server) string {
	t.Helper()
	conn := query(t, m)
	var out []string
	for _, name := range []string{"shop.goods", "shop.nothing", "shop.old", "shop_seq.s"} {
		var table string
		var sum sql.NullInt64
		var rows int
		if err := conn.QueryRowContext(bustest.Context(t), "CHECKSUM TABLE "+name).Scan(&table, &sum); err != nil || !sum.Valid {
			t.Fatalf("checksum of %s: %v, %v", name, sum, err)
		}
		if err := conn.QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM "+name).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d %d", table, rows, sum.Int64))
	}
	var others string
	if err := conn.QueryRowContext(bustest.Context(t), `SELECT GROUP_CONCAT(n ORDER BY n) FROM (
		SELECT TABLE_NAME n FROM information_schema.VIEWS WHERE TABLE_SCHEMA='shop' UNION SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='shop'
		UNION SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA='shop' UNION SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='shop') x`).Scan(&others); err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(out, others), "\n")
}

// manifest is the only backup of a task.
func (s *site) manifest(task string) store.Manifest {
	s.t.Helper()
	all, err := store.NewCatalog(s.bus()).List(bustest.Context(s.t), "lab", job.Server{})
	if err != nil {
		s.t.Fatal(err)
	}
	var of []store.Manifest
	for _, m := range all {
		if m.Task == task {
			of = append(of, m)
		}
	}
	if len(of) != 1 {
		s.t.Fatalf("%d backups of %s: %+v", len(of), task, of)
	}
	return of[0]
}

// pathOf is the file of a backup.
func (s *site) pathOf(id string) string {
	s.t.Helper()
	all, err := store.NewCatalog(s.bus()).List(bustest.Context(s.t), "lab", job.Server{})
	if err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(m store.Manifest) bool { return m.ID == id })
	if i < 0 {
		s.t.Fatalf("backup %s is not in the catalogue", id)
	}
	return all[i].Path
}

// restore brings a dump into a fresh server, as a person would.
func restore(t *testing.T, m store.Manifest) *mariadbd.Server {
	t.Helper()
	scratch := mariadbdtest.Start(t, mariadbd.Options{Password: password})
	data := unpacked(t, m)
	login := filepath.Join(t.TempDir(), "client.cnf")
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(password)
	text := fmt.Sprintf("[client]\nuser=drydock\npassword=\"%s\"\nhost=127.0.0.1\nport=%d\nprotocol=tcp\n", escaped, scratch.Port())
	if err := os.WriteFile(login, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mariadb", "--defaults-extra-file="+login)
	cmd.Stdin = bytes.NewReader(data)
	if strings.Contains(filepath.Base(m.Path), ".tar") {
		dir := t.TempDir()
		untar(t, data, dir)
		cmd = exec.Command("myloader", "--defaults-file="+login, "--directory="+dir, "--overwrite-tables")
	}
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("CRITICAL")) {
		t.Fatalf("%s: %v\n%s", cmd.Args[0], err, out)
	}
	return scratch
}

// unpacked is a backup as the tool wrote it.
func unpacked(t *testing.T, m store.Manifest) []byte {
	t.Helper()
	cmd := exec.Command("cat", m.Path)
	switch m.Compress {
	case "gzip":
		cmd = exec.Command("gzip", "-dc", m.Path)
	case "zstd":
		cmd = exec.Command("zstd", "-dc", m.Path)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func untar(t *testing.T, data []byte, dir string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(head.Name) != head.Name {
			t.Fatalf("entry %q is not in the folder itself", head.Name)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, head.Name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogicalBackupsRestoreWholeFromBothToolsAndBothPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ place, task, mode, compress string }{
		{"here", "mysqldump", "sql", "gzip"},
		{"here", "mydumper", "api", "none"},
		{"remote", "mysqldump", "api", "none"},
		{"remote", "mydumper", "sql", "zstd"},
	} {
		t.Run(c.place+" "+c.task, func(t *testing.T) {
			t.Parallel()
			keys := fmt.Sprintf("compress-backups = %q\nbackup-mydumper-stall-timeout = \"10s\"\n", c.compress)
			if c.place == "remote" {
				keys += `scheduler-jobs-exec-remote = "mysqldump,mydumper"` + "\n"
			}
			s := newSite(t, options{mode: c.mode, keys: keys}).start()
			fillShop(t, s.servers[0])
			id := s.run(c.task)
			mode := job.Local
			if c.place == "remote" {
				mode = job.Mode(c.mode)
				s.cycleUntilTaken(id, c.task)
			}
			j := s.awaitEnd(id, c.task)
			if j.State != job.Success || j.Mode != mode {
				t.Fatalf("%s in mode %s: %s, %+v", j.State, j.Mode, j.Reason, j.Evidence)
			}
			m := s.manifest(c.task)
			suffix := map[string]string{"mysqldump": ".sql", "mydumper": ".tar"}[c.task] + map[string]string{"gzip": ".gz", "zstd": ".zst"}[c.compress]
			if name := filepath.Base(m.Path); !strings.HasPrefix(name, c.task+"-") || !strings.HasSuffix(name, "-"+id+suffix) {
				t.Errorf("the file is called %s", name)
			}
			if m.BinlogFile == "" || m.BinlogPos == 0 || m.GTID == "" || m.BinlogOf != job.BinlogOwn || m.Tool == "" {
				t.Errorf("the manifest knows no position: %+v", m)
			}
			if n := m.Inventory.Count(); (n > 0) != (c.place == "here") { // of a dump by the script nobody knows what it shall hold
				t.Errorf("the manifest names %d tables that must be in it", n)
			}
			scratch := restore(t, m)
			if want, got := shopSums(t, s.servers[0]), shopSums(t, scratch); want != got {
				t.Errorf("restored\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// cycleUntilTaken runs the script until it has done the job.
func (s *site) cycleUntilTaken(id, task string) {
	s.t.Helper()
	s.await(task, "offered", func(j job.Job) bool { return j.ID == id && j.State == job.Available })
	h := s.host(0)
	h.env = append(h.env, "DRYDOCK_STALL=10")
	ctx, cancel := context.WithTimeout(s.t.Context(), patience(time.Minute))
	defer cancel()
	for ctx.Err() == nil {
		s.t.Log(h.cycle())
		j := s.await(task, "there", func(j job.Job) bool { return j.ID == id })
		if j.State != job.Available {
			return
		}
	}
}

// gated is the real mysqldump behind a gate: after its first 20,000 bytes it waits until the test lets it go on. The status
// is the tool's.
type gated struct{ path, on, reached, fifo string }

func newGated(t *testing.T) gated {
	t.Helper()
	dir := t.TempDir()
	g := gated{filepath.Join(dir, "mysqldump"), filepath.Join(dir, "on"), filepath.Join(dir, "reached"), filepath.Join(dir, "fifo")}
	text := fmt.Sprintf(`#!/bin/bash
[[ $* != *--version* && -e %q ]] || exec mariadb-dump "$@"
mariadb-dump "$@" | { head -c 20000; : >%q; read -r _ <%q; cat; }
exit "${PIPESTATUS[0]}"
`, g.on, g.reached, g.fifo)
	if err := os.WriteFile(g.path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(g.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// shut has the next dump wait in its middle.
func (g gated) shut(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(g.on, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g gated) await(t *testing.T) {
	t.Helper()
	bustest.Until(t, 60*time.Second, "the dump is in its middle", func() bool {
		_, err := os.Stat(g.reached)
		return err == nil
	})
}

// release lets the dump go on, if somebody waits.
func (g gated) release() {
	if f, err := os.OpenFile(g.fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		_, _ = f.WriteString("go\n")
		_ = f.Close()
	}
}

// tools are the processes that have something of this site in their arguments and their command's name in names.
func (s *site) tools(names ...string) (pids []int) {
	s.t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, _ := os.ReadFile(f)
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "comm"))
		ours := slices.ContainsFunc(s.homes(), func(dir string) bool { return bytes.Contains(line, []byte(dir+"/work/")) })
		if ours && slices.Contains(names, strings.TrimSpace(string(name))) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// workLeft are the files below the work folder, without the locks.
func (s *site) workLeft() (left []string) {
	for _, dir := range s.homes() {
		_ = filepath.WalkDir(filepath.Join(dir, "work"), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != ".lock" {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}

func TestDumpThatDidNotComeToItsEndLeavesTheLastGoodOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm   func(s *site, g gated, id string)
		state  job.State
		reason string
	}{
		"the tool is killed": {func(s *site, g gated, _ string) {
			for _, pid := range s.tools("mariadb-dump") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			g.release()
		}, job.Halted, "signal 9"},
		"a table vanishes": {func(s *site, g gated, _ string) {
			query(s.t, s.servers[0], "DROP TABLE shop.old")
			g.release()
		}, job.Halted, "doesn't exist"},
		"it is canceled": {func(s *site, _ gated, id string) {
			s.mustCLI("cancel", id)
		}, job.Canceled, "canceled by"},
		"drydock stops": {func(s *site, _ gated, _ string) {
			s.stop(syscall.SIGTERM)
			s.start()
		}, job.Halted, "drydock was stopped"},
		"drydock is killed": {func(s *site, _ gated, _ string) {
			s.killAndStart()
		}, job.Halted, "stream cut"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGated(t)
			s := newSite(t, options{keys: fmt.Sprintf("backup-mysqldump-path = %q\nbackup-mysqldump-options = \"--databases shop --single-transaction --quick --hex-blob\"\n", g.path)}).start()
			t.Cleanup(g.release)
			fillShop(t, s.servers[0])
			good := s.run("mysqldump")
			if j := s.awaitEnd(good, "mysqldump"); j.State != job.Success {
				t.Fatalf("%s: %s", j.State, j.Reason)
			}
			before := s.manifest("mysqldump")

			seen := watchArguments(t, password)
			g.shut(t)
			id := s.run("mysqldump")
			g.await(t)
			left := s.workLeft()
			if len(left) != 1 || filepath.Base(left[0]) != "client.cnf" {
				t.Errorf("the work folder holds %v", left)
			} else if info, err := os.Stat(left[0]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the option file: %v, %v", info, err)
			}
			c.harm(s, g, id)
			j := s.awaitEnd(id, "mysqldump")
			if j.State != c.state || !strings.Contains(j.Reason, c.reason) {
				t.Errorf("%s: %s; want %s, %s", j.State, j.Reason, c.state, c.reason)
			}
			bustest.Until(t, 30*time.Second, "the tool has ended and nothing is left of it", func() bool {
				g.release() // a shell of ours that waits at the gate
				return len(s.tools("mysqldump", "mariadb-dump")) == 0 && len(s.workLeft()) == 0
			})
			_ = seen()
			if after := s.manifest("mysqldump"); after.ID != before.ID {
				t.Errorf("the backup is now %s", after.ID)
			}
			files, _ := filepath.Glob(filepath.Join(filepath.Dir(before.Path), "*"))
			hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(before.Path), ".*.part"))
			if len(files) != 2 || len(hidden) != 0 {
				t.Errorf("beside the good backup there are %v %v", files, hidden)
			}
			var rows int
			if err := query(t, restore(t, before)).QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM shop.goods").Scan(&rows); err != nil || rows != 900 {
				t.Errorf("the good backup restores to %d rows, %v", rows, err)
			}
		})
	}
}

func TestLogicalBackupIsTakenFromTheReplicaByScheduleAndByHand(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: []*mariadbd.Server{primary, replica}, keys: `
backup-mysqldump-options = "--databases shop --single-transaction --quick --hex-blob"
backup-mydumper-stall-timeout = "10s"
maintenance-max-lag = "10m"
monitoring-scheduler = true
scheduler-db-servers-logical-backup = true
scheduler-db-servers-logical-backup-cron = "*/2 * * * * *"
`}).start()
	fillShop(t, primary)
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	from := job.Server{Host: "127.0.0.1", Port: replica.Port()}
	catalog := store.NewCatalog(s.bus())
	bustest.Until(t, 60*time.Second, "a backup by schedule", func() bool {
		all, err := catalog.List(bustest.Context(t), "lab", from)
		return err == nil && len(all) > 0 && all[0].Task == "mysqldump" && all[0].Trigger.Kind == job.Cron && all[0].BinlogOf == job.BinlogOwn
	})
	if all, err := catalog.List(bustest.Context(t), "lab", s.server()); err != nil || len(all) != 0 {
		t.Errorf("backups of the primary: %+v, %v", all, err)
	}
	if out := s.mustCLI("run", "lab", "mydumper", "--wait"); !strings.Contains(out, "mydumper on "+from.String()) {
		t.Errorf("run by hand: %s", out)
	}
	ticks := s.mustCLI("ticks")
	if !strings.Contains(ticks, "healthy replica with the least lag") {
		t.Errorf("the ledger does not say why:\n%s", ticks)
	}
}
