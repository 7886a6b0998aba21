// Package backuptest takes real backups of real servers for one test and stores them as a receiver would.
package backuptest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/receiver/recovery"
)

// Stored is a stream as it lies in the backup folder, of a physical backup until its format is changed.
func Stored(t testing.TB, stream []byte) recovery.Backup {
	t.Helper()
	sum := sha256.Sum256(stream)
	b := recovery.Backup{
		Path: filepath.Join(t.TempDir(), "backup"), Compress: "none", Algo: "sha256", Hash: hex.EncodeToString(sum[:]),
		Size: int64(len(stream)), Format: job.XBStream,
	}
	if err := os.WriteFile(b.Path, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// streamed stores what a tool writes, without having all of it in memory.
func streamed(t testing.TB, format job.Format, name string, args ...string) recovery.Backup {
	t.Helper()
	b := recovery.Backup{Path: filepath.Join(t.TempDir(), "backup"), Compress: "none", Algo: "sha256", Format: format}
	f, err := os.Create(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	var said bytes.Buffer
	cmd := exec.CommandContext(bustest.Context(t), name, args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(f, sum), &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	if b.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		t.Fatal(err)
	}
	b.Hash = hex.EncodeToString(sum.Sum(nil))
	return b
}

// Text is a dump of SQL text.
func Text(t testing.TB, sql string) recovery.Backup {
	t.Helper()
	b := Stored(t, []byte(sql))
	b.Format = job.SQLText
	return b
}

// Physical takes a backup with mariadb-backup.
func Physical(t testing.TB, m *mariadbd.Server) recovery.Backup {
	t.Helper()
	return streamed(t, job.XBStream, "mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(), "--target-dir="+t.TempDir())
}

// Dump takes a backup of all databases with mariadb-dump.
func Dump(t testing.TB, m *mariadbd.Server) recovery.Backup {
	t.Helper()
	return streamed(t, job.SQLText, "mariadb-dump", "--no-defaults", "--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(),
		"--single-transaction", "--events", "--all-databases")
}

// MyDumper fills an empty folder. Version 0.10 stands still at times, each thread waiting for the other: it is run again then, as drydock
// does.
func MyDumper(t testing.TB, dir string, args ...string) {
	t.Helper()
	const patient = `cd "$1"; shift
		for try in 1 2 3 4; do timeout 10 "$@" && exit; [ $? = 124 ] || exit; find . -mindepth 1 -delete; done; exec "$@"`
	output(t, "sh", append([]string{"-c", patient, "sh", dir, "mydumper", "--outputdir=" + dir}, args...)...)
}

// Folder takes a backup of the database shop with mydumper.
func Folder(t testing.TB, m *mariadbd.Server) recovery.Backup {
	t.Helper()
	dir := t.TempDir()
	MyDumper(t, dir, "--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(), "--database=shop", "--threads=1")
	b := Stored(t, output(t, "sh", "-c", `cd "$1" && tar -cf - *`, "sh", dir))
	b.Format = job.Tar
	return b
}

// Filled starts a server with 20,002 rows of its own.
func Filled(t testing.TB, o mariadbd.Options) *mariadbd.Server {
	t.Helper()
	o.Password = "secret"
	m := mariadbdtest.Start(t, o)
	Statements(t, m,
		"CREATE DATABASE shop", "CREATE TABLE shop.`odd ``name` (i INT PRIMARY KEY, t TEXT)",
		"INSERT INTO shop.`odd ``name` SELECT seq, REPEAT('x', 100) FROM shop.seq_1_to_20000",
		"CREATE TABLE shop.plain (i INT) ENGINE=MyISAM", "INSERT INTO shop.plain VALUES (1), (2)",
		// What must not come to life in a private server.
		"CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO DELETE FROM shop.plain",
	)
	return m
}

// Statements runs a list of statements on a server.
func Statements(t testing.TB, m *mariadbd.Server, list ...string) {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range list {
		if _, err := db.ExecContext(bustest.Context(t), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func output(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(bustest.Context(t), name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return out
}
