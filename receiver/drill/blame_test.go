package drill

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"drydock/internal/backuptest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

// signalServer lets a drill's private server have a signal when the drill begins a phase.
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

// The kernel kills the private server for want of memory: the client's lost connection is no finding about the dump.
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
		_, err := Run(patient(t), b.cfg, backuptest.Text(t, sql))
		if err == nil || errors.Is(err, ErrBackup) == c.spared || strings.Contains(err.Error(), "was killed") != c.spared {
			t.Errorf("%s, %s: %v", c.phase, c.signal, err)
		}
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
			text, err := os.ReadFile(filepath.Join(b.cfg.Folder, "server.cnf"))
			if err != nil {
				t.Error(err)
			}
			options = string(text)
		}
	}
	if _, err := Run(patient(t), b.cfg, backuptest.Physical(t, m)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(options, "log_file_size") || !strings.Contains(options, "innodb-log-file-size=100663296") {
		t.Errorf("%s", options)
	}
}

func TestATableOfAnotherEngineIsSkippedAndNoProblem(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	backuptest.Statements(t, m, "INSTALL SONAME 'ha_archive'", "CREATE DATABASE shop", "CREATE TABLE shop.old (i INT) ENGINE=ARCHIVE", "INSERT INTO shop.old VALUES (1)")
	res, err := Run(patient(t), newBench(t).cfg, backuptest.Physical(t, m))
	if err != nil || !slices.Equal(res.Skipped, []string{"`shop`.`old`"}) || res.Tables < 20 {
		t.Errorf("%+v, %v", res, err)
	}
}

// myloader drops tables: it must never reach the server that the machine's own option files name.
func TestOptionFilesOfTheMachineLeadNoToolElsewhere(t *testing.T) {
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret"})
	backuptest.Statements(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT PRIMARY KEY)", "INSERT INTO shop.a SELECT seq FROM shop.seq_1_to_1000")
	dumps := []Backup{backuptest.Folder(t, m), backuptest.Text(t, "CREATE DATABASE shop; CREATE TABLE shop.a AS SELECT seq FROM mysql.seq_1_to_1000;")}
	home := t.TempDir()
	wrong := "[client]\nhost=127.0.0.1\nport=1\nprotocol=tcp\npassword=wrong\nsocket=/nowhere\n"
	if err := os.WriteFile(filepath.Join(home, ".my.cnf"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "MYSQL_HOST": "127.0.0.1", "MYSQL_PWD": "wrong", "MYSQL_UNIX_PORT": "/nowhere", "MARIADB_HOME": home} {
		t.Setenv(name, value)
	}
	for _, dump := range dumps {
		if res, err := Run(patient(t), newBench(t).cfg, dump); err != nil || res.Rows < 1000 {
			t.Errorf("%s: %+v, %v", dump.Format, res, err)
		}
	}
}

// A socket that cannot lie in a deep scratch folder lies in /tmp: there, too, nothing stays.
func TestADrillInADeepFolderLeavesNoSocket(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Folder = filepath.Join(t.TempDir(), strings.Repeat("deep", 25))
	ctx, cancel := context.WithCancelCause(patient(t))
	defer cancel(nil)
	reason := errors.New("the job has ended")
	var socket string
	b.cfg.Step = func(what string) {
		if what == "load the dump" {
			note, err := os.ReadFile(filepath.Join(b.cfg.Folder, "socket-folder"))
			if err != nil {
				t.Error(err)
			}
			socket = string(note)
			if !exists(filepath.Join(socket, "s")) {
				t.Errorf("no socket in %q", socket)
			}
			cancel(reason)
		}
	}
	if _, err := Run(ctx, b.cfg, backuptest.Text(t, "CREATE DATABASE shop;")); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if exists(socket) {
		t.Errorf("%s is left", socket)
	}
}
