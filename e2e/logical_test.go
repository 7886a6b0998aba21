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
	"strings"
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
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		s.t.Log(h.cycle())
		j := s.await(task, "there", func(j job.Job) bool { return j.ID == id })
		if j.State != job.Available {
			return
		}
	}
}
