package mariadbd_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"drydock/internal/mariadbd"
)

// ping logs in once.
func ping(t *testing.T, cfg *mysql.Config) error {
	t.Helper()
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	return db.PingContext(wait(t, 10*time.Second))
}

// run executes statements on one connection.
func run(t *testing.T, s *mariadbd.Server, stmts ...string) {
	t.Helper()
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	for _, stmt := range stmts {
		if _, err := db.ExecContext(wait(t, 20*time.Second), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

// watch returns a channel that is closed when the process has ended. It must
// be called while the process runs; a process id taken over by another program
// does not confuse it.
func watch(t *testing.T, pid int) <-chan struct{} {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("watch process %d: %v", pid, err)
	}
	gone := make(chan struct{})
	go func() {
		defer func() { _ = unix.Close(fd) }()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				close(gone)
				return
			}
		}
	}()
	return gone
}

// processesIn lists the processes that have the folder on their command line.
func processesIn(t *testing.T, dir string) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte(dir)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
