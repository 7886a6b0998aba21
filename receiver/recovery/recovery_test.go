package recovery_test

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/job"
	"drydock/receiver/recovery"
)

// onSmallDisk is a copy whose folder is a disk of this size.
func onSmallDisk(t *testing.T, size string, b recovery.Backup) *recovery.Copy {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	said := func(string) {}
	c := recovery.New(recovery.Config{Folder: dir, Memory: 64 << 20, Step: said, Line: said}, b)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), unix.Unmount(dir, 0), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := c.Open(0); err != nil {
		t.Fatal(err)
	}
	return c
}

// A disk that fills up under the work is no fault of the backup's: it must not lose its good name for it.
func TestAFullDiskBlamesNoBackup(t *testing.T) {
	t.Parallel()
	c := onSmallDisk(t, "4m", backuptest.Physical(t, backuptest.Filled(t, mariadbd.Options{})))
	if err := c.Run(bustest.Context(t), c.Preparing()...); !errors.Is(err, recovery.ErrSpace) || errors.Is(err, recovery.ErrBackup) {
		t.Errorf("%v", err)
	}
}

// The tables of a dump outgrow the disk: the server tells the client so, and the dump is as good as it was.
func TestADiskFilledByALoadBlamesNoDump(t *testing.T) {
	t.Parallel()
	c := onSmallDisk(t, "220m", backuptest.Text(t, "CREATE DATABASE shop; CREATE TABLE shop.a ENGINE=InnoDB AS SELECT REPEAT(SHA1(seq), 100) FROM mysql.seq_1_to_100000;"))
	if err := c.Run(bustest.Context(t), c.Restoring()...); !errors.Is(err, recovery.ErrSpace) || errors.Is(err, recovery.ErrBackup) {
		t.Errorf("%v", err)
	}
}

// The archive is signed, but what signed it took it from a script on a database host.
func TestAnArchiveThatClimbsOrHidesIsNotUnpacked(t *testing.T) {
	t.Parallel()
	for _, entry := range []tar.Header{
		{Name: "../outside", Typeflag: tar.TypeReg, Mode: 0o600}, {Name: "/etc/outside", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "sub/file", Typeflag: tar.TypeReg, Mode: 0o600}, {Name: "..", Typeflag: tar.TypeReg},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := errors.Join(w.WriteHeader(&entry), w.Close()); err != nil {
			t.Fatal(err)
		}
		b := backuptest.Stored(t, archive.Bytes())
		b.Format = job.Tar
		dir, said := t.TempDir(), func(string) {}
		c := recovery.New(recovery.Config{Folder: filepath.Join(dir, "copy"), Step: said, Line: said}, b)
		if err := errors.Join(c.Open(0), c.Run(bustest.Context(t), c.Restoring()[0])); !errors.Is(err, recovery.ErrBackup) {
			t.Errorf("%s: %v", entry.Name, err)
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("%s left %v, %v", entry.Name, left, err)
		}
	}
}

// What was logged about accounts and grants is replayed too, and a server that knows none refuses it. Nothing of the replay's own
// account may stay in the data.
func TestAReplayMayChangeAccountsAndLeavesNoneOfItsOwn(t *testing.T) {
	t.Parallel()
	m := backuptest.Filled(t, mariadbd.Options{})
	dir, said := t.TempDir(), func(string) {}
	c := recovery.New(recovery.Config{Folder: filepath.Join(dir, "copy"), Memory: 64 << 20, Step: said, Line: said}, backuptest.Physical(t, m))
	ctx := bustest.Context(t)
	replay := func(ctx context.Context, l recovery.Login, _ string) error {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "unix", l.Socket, l.User, l.Password
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return err
		}
		db := sql.OpenDB(connector)
		defer db.Close()
		for _, s := range []string{"CREATE USER later@localhost", "GRANT SELECT ON shop.* TO later@localhost", "FLUSH PRIVILEGES", "DELETE FROM shop.plain WHERE i=1"} {
			if _, err := db.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	}
	if err := errors.Join(c.Open(0), c.Run(ctx, append(c.Preparing(), c.Replaying(replay)...)...), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Stop(ctx), os.RemoveAll(m.DataDir()), os.Rename(c.Data(), m.DataDir()), m.Restart(ctx)); err != nil {
		t.Fatal(err)
	}
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var accounts string
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT GROUP_CONCAT(user ORDER BY user), (SELECT COUNT(*) FROM shop.plain) FROM mysql.user WHERE user IN ('later', 'drydock-replay')").Scan(&accounts, &rows); err != nil || accounts != "later" || rows != 1 {
		t.Errorf("accounts %s, %d rows, %v", accounts, rows, err)
	}
}
