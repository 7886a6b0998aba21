package mariadbd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

func TestReplicaCatchesUpAfterItsRestart(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: `a'b"c\d$e` + "`%ü and longer than what CHANGE MASTER would take as a password, that is 96 characters"})
	if got := query(t, primary, "SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'replica%'"); got != "1" {
		t.Errorf("%s replica accounts on the primary, want 1", got)
	}
	if err := replica.Stop(wait(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := mariadbd.Generate(wait(t, 60*time.Second), primary, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	if err := replica.Restart(wait(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := mariadbd.CatchUp(wait(t, 60*time.Second), primary, replica); err != nil {
		t.Fatal(err)
	}
	count := fmt.Sprintf("SELECT COUNT(*) FROM shop.`%s`", mariadbd.AwkwardTable)
	if p, r := query(t, primary, count), query(t, replica, count); p == "0" || p != r {
		t.Errorf("%s rows on the primary, %s on the replica", p, r)
	}
}

func TestReplicateWithoutBinaryLogSaysSo(t *testing.T) {
	t.Parallel()
	s := mariadbdtest.Start(t, mariadbd.Options{})
	if err := mariadbd.Replicate(wait(t, 20*time.Second), s, s); err == nil {
		t.Fatal("replicating from a server without binary log succeeds")
	}
}

func TestCatchUpReportsABrokenReplicaInsteadOfWaiting(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{})
	run(t, primary, "CREATE DATABASE d", "CREATE TABLE d.t (a INT)")
	if err := mariadbd.CatchUp(wait(t, 30*time.Second), primary, replica); err != nil {
		t.Fatal(err)
	}
	run(t, replica, "DROP TABLE d.t")
	run(t, primary, "INSERT INTO d.t VALUES (1)")
	if err := mariadbd.CatchUp(wait(t, 30*time.Second), primary, replica); err == nil {
		t.Fatal("a replica that cannot apply the log has caught up")
	}
}

func TestGenerateFillsEveryTableToAboutTheSize(t *testing.T) {
	t.Parallel()
	const want = 48 << 20
	s := mariadbdtest.Start(t, mariadbd.Options{})
	var last int64
	err := mariadbd.Generate(wait(t, 120*time.Second), s, want, func(done int64) {
		if done <= last {
			t.Errorf("progress goes from %d to %d", last, done)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if last < want-1024 || last > want {
		t.Errorf("progress ends at %d of %d", last, want)
	}
	for _, table := range []string{"orders", "order_lines", "customers", "audit_trail", mariadbd.AwkwardTable} {
		if got := query(t, s, "SELECT COUNT(*) > 100 FROM shop.`"+table+"`"); got != "1" {
			t.Errorf("table %s is nearly empty", table)
		}
	}
	if err := s.Stop(wait(t, 60*time.Second)); err != nil { // all pages in the files
		t.Fatal(err)
	}
	size := folderSize(t, filepath.Join(s.DataDir(), "shop"))
	if size < want*8/10 || size > want*18/10 { // a small table has free extents
		t.Errorf("%d bytes on disk, want about %d", size, want)
	}
	if _, err := os.Stat(filepath.Join(s.DataDir(), "shop", "audit_trail.MAD")); err != nil {
		t.Errorf("no Aria table: %v", err)
	}
}

func folderSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func BenchmarkStart(b *testing.B) {
	mariadbdtest.Start(b, mariadbd.Options{}) // pays for the template
	for b.Loop() {
		s, err := mariadbd.Start(b.Context(), mariadbd.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Kill(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkGenerate(b *testing.B) {
	const size = 256 << 20
	s := mariadbdtest.Start(b, mariadbd.Options{})
	b.SetBytes(size)
	for b.Loop() {
		if err := mariadbd.Generate(b.Context(), s, size, nil); err != nil {
			b.Fatal(err)
		}
	}
}
