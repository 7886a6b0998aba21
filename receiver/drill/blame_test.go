package drill

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

// A tool that crashes has met something in the backup; one that was killed has not.
func TestOnlyASignalFromOutsideSparesTheBackup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := &drill{cfg: b.cfg}
	for signal, spared := range map[string]bool{
		"KILL": true, "TERM": true, "INT": true, "HUP": true, "QUIT": true,
		"ABRT": false, "SEGV": false, "BUS": false, "ILL": false, "FPE": false,
	} {
		err := blame(d.tool(bustest.Context(t), nil, "", "sh", "-c", "ulimit -c 0; kill -"+signal+" $$"))
		if err == nil || errors.Is(err, ErrBackup) == spared {
			t.Errorf("%s: %v", signal, err)
		}
	}
}

// text is a dump of SQL text.
func text(t *testing.T, sql string) Backup {
	t.Helper()
	b := stored(t, []byte(sql))
	b.Format = job.SQLText
	return b
}

// signalServer lets a drill's scratch server have a signal when the drill begins a phase.
func signalServer(t *testing.T, b *bench, phase string, signal syscall.Signal) {
	b.cfg.Step = func(what string) {
		if what != phase {
			return
		}
		pid, err := os.ReadFile(filepath.Join(b.cfg.Folder, "pid"))
		if err != nil {
			t.Error(err)
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err == nil {
			err = syscall.Kill(n, signal)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// The kernel kills the scratch server for want of memory: the client's lost connection is no finding about the dump.
func TestAServerThatIsKilledBlamesNoBackup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase  string
		signal syscall.Signal
		spared bool
	}{
		{"load the dump", syscall.SIGKILL, true},
		{"load the dump", syscall.SIGTERM, true},
		{"load the dump", syscall.SIGABRT, false},
		{"check every table", syscall.SIGKILL, true},
	} {
		sql := "CREATE DATABASE shop; CREATE TABLE shop.a (i INT);"
		if c.phase == "load the dump" {
			sql += "SELECT SLEEP(60);" // it is in the middle of it when the signal comes
		}
		b := newBench(t)
		signalServer(t, b, c.phase, c.signal)
		_, err := Run(bustest.Context(t), b.cfg, text(t, sql))
		if err == nil || errors.Is(err, ErrBackup) == c.spared || errors.Is(err, errKilled) != c.spared {
			t.Errorf("%s, %s: %v", c.phase, c.signal, err)
		}
	}
}

func TestWantOfSpaceIsReadFromWhatWasSaid(t *testing.T) {
	t.Parallel()
	for _, said := range []string{
		"ERROR 1114 (HY000) at line 7: The table 'a' is full", "mbstream: Can't write (No space left on device)", "write failed (Errcode: 28)",
		`Got error 28 "No space" from storage engine`, "InnoDB: Error number 28 means", "[ERROR] mariadbd: Disk is full writing './a'",
	} {
		err := spaceIn(said, blame(errors.New("exit status 1")))
		if !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", said, err)
		}
	}
	for _, said := range []string{"ERROR 1045 (28000): Access denied", "ERROR 1064 near 'the pool is full'", "error 280", "page is corrupt"} {
		if err := spaceIn(said, blame(errors.New("exit status 1"))); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", said, err)
		}
	}
	if needs(job.SQLText, 1<<40) < 2<<40 || needs(job.Tar, 1<<40) < 3<<40 {
		t.Error("a dump needs more than its size")
	}
}

// The redo log of a large server would fill the scratch disk, and its backup would be blamed.
func TestTheOriginsLogSizeIsNotTaken(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret", Extra: []string{"innodb_log_file_size=32M"}})
	b := newBench(t)
	var options string
	line := b.cfg.Step
	b.cfg.Step = func(what string) {
		line(what)
		if what == "check every table" {
			text, err := os.ReadFile(filepath.Join(b.cfg.Folder, "scratch.cnf"))
			if err != nil {
				t.Error(err)
			}
			options = string(text)
		}
	}
	if _, err := Run(bustest.Context(t), b.cfg, physical(t, m)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(options, "log_file_size") || !strings.Contains(options, "innodb-log-file-size=100663296") {
		t.Errorf("%s", options)
	}
}

func TestATableOfAnotherEngineIsSkippedAndNoProblem(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	statements(t, m, "INSTALL SONAME 'ha_archive'", "CREATE DATABASE shop", "CREATE TABLE shop.old (i INT) ENGINE=ARCHIVE", "INSERT INTO shop.old VALUES (1)")
	res, err := Run(bustest.Context(t), newBench(t).cfg, physical(t, m))
	if err != nil || !slices.Equal(res.Skipped, []string{"`shop`.`old`"}) || res.Tables < 20 {
		t.Errorf("%+v, %v", res, err)
	}
}

// myloader drops tables: it must never reach the server that the machine's own option files name.
func TestOptionFilesOfTheMachineLeadNoToolElsewhere(t *testing.T) {
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	statements(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a SELECT seq FROM shop.seq_1_to_1000")
	dumps := []Backup{folderDump(t, m), text(t, "CREATE DATABASE shop; CREATE TABLE shop.a AS SELECT seq FROM mysql.seq_1_to_1000;")}
	home := t.TempDir()
	wrong := "[client]\nhost=127.0.0.1\nport=1\nprotocol=tcp\npassword=wrong\nsocket=/nowhere\n"
	if err := os.WriteFile(filepath.Join(home, ".my.cnf"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "MYSQL_HOST": "127.0.0.1", "MYSQL_PWD": "wrong", "MYSQL_UNIX_PORT": "/nowhere", "MARIADB_HOME": home} {
		t.Setenv(name, value)
	}
	for _, dump := range dumps {
		if res, err := Run(bustest.Context(t), newBench(t).cfg, dump); err != nil || res.Rows < 1000 {
			t.Errorf("%s: %+v, %v", dump.Format, res, err)
		}
	}
}

// folderDump takes a dump of mydumper.
func folderDump(t *testing.T, m *mariadbd.Server) Backup {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) []byte {
		cmd := exec.CommandContext(bustest.Context(t), name, args...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return out
	}
	run("mydumper", "--socket="+m.Socket(), "--user="+m.User(), "--password="+m.Password(), "--database=shop", "--threads=1", "--outputdir="+dir)
	b := stored(t, run("sh", "-c", `cd "$1" && tar -cf - *`, "sh", dir))
	b.Format = job.Tar
	return b
}

// A socket that cannot lie in a deep scratch folder lies in /tmp: there, too, nothing stays.
func TestADrillInADeepFolderLeavesNoSocket(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Folder = filepath.Join(t.TempDir(), strings.Repeat("deep", 25))
	ctx, cancel := context.WithCancelCause(bustest.Context(t))
	defer cancel(nil)
	reason := errors.New("the job has ended")
	var socket string
	b.cfg.Step = func(what string) {
		if what == "load the dump" {
			note, err := os.ReadFile(filepath.Join(b.cfg.Folder, socketNote))
			if err != nil {
				t.Error(err)
			}
			socket = string(note)
			if !exists(filepath.Join(socket, socketName)) {
				t.Errorf("no socket in %q", socket)
			}
			cancel(reason)
		}
	}
	if _, err := Run(ctx, b.cfg, text(t, "CREATE DATABASE shop;")); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if exists(socket) {
		t.Errorf("%s is left", socket)
	}
}

// The tables of a dump outgrow the disk: the server tells the client so, and the dump is as good as it was.
func TestADiskFilledByALoadBlamesNoDump(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dump := text(t, "CREATE DATABASE shop; CREATE TABLE shop.a ENGINE=InnoDB AS SELECT REPEAT(SHA1(seq), 100) FROM mysql.seq_1_to_100000;")
	d := &drill{cfg: b.cfg, backup: dump}
	mkdir(t, b.cfg.Folder)
	if err := unix.Mount("tmpfs", b.cfg.Folder, "tmpfs", 0, "size=220m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.stop(), unix.Unmount(b.cfg.Folder, 0), os.Remove(b.cfg.Folder)); err != nil {
			t.Error(err)
		}
	})
	mkdir(t, filepath.Join(b.cfg.Folder, "tmp"))
	ctx := bustest.Context(t)
	if err := errors.Join(d.install(ctx), d.start(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := d.loadText(ctx); !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
		t.Errorf("%v", err)
	}
}
