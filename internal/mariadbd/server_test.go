package mariadbd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

// parentEnv makes the test binary play a program that starts a server in the
// named folder and then hangs, to be killed.
const parentEnv = "MARIADBD_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		hangWithServer(dir)
	}
	goleak.VerifyTestMain(m)
}

func hangWithServer(dir string) {
	s, err := mariadbd.Start(context.Background(), mariadbd.Options{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.PID())
	<-s.Done()
	os.Exit(1)
}

// wait gives a test that could hang an end.
func wait(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func query(t *testing.T, s *mariadbd.Server, stmt string, args ...any) string {
	t.Helper()
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var v string
	if err := db.QueryRowContext(wait(t, 20*time.Second), stmt, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
	return v
}

func TestServerIsPrivateAndLogsToFiles(t *testing.T) {
	t.Parallel()
	s := mariadbdtest.Start(t, mariadbd.Options{
		Password: "x", ServerID: 77, GTIDDomain: 3, LogBin: true,
		Extra: []string{"long-query-time=0.01", "max-connections=33"},
	})
	for variable, want := range map[string]string{
		"bind_address": "127.0.0.1", "port": strconv.Itoa(s.Port()), "socket": s.Socket(),
		"datadir": s.DataDir() + "/", "server_id": "77", "gtid_domain_id": "3", "log_bin": "1",
		"skip_name_resolve": "1", "max_connections": "33", "slow_query_log_file": s.SlowLog(),
	} {
		if got := query(t, s, "SELECT @@global."+variable); got != want {
			t.Errorf("%s = %q, want %q", variable, got, want)
		}
	}
	if got := query(t, s, "SELECT @@gtid_binlog_pos"); got != "" {
		t.Errorf("creating the account was logged: position %q", got)
	}
	// The server logs a slow statement after its answer, but before the next one.
	run(t, s, "DO SLEEP(0.05)", "DO 1")
	for path, want := range map[string]string{s.SlowLog(): "SLEEP(0.05)", s.ErrorLog(): "ready for connections"} {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q (%v)", path, want, err)
		}
	}
}

func TestPasswordWithAnyCharacterLogsInAndIsNotInAnyFile(t *testing.T) {
	t.Parallel()
	var ascii strings.Builder
	for c := byte(1); c < 128; c++ {
		ascii.WriteByte(c)
	}
	password := ascii.String() + "; -- \n-- x\n# y;\n 'öß€漢' %s %% $HOME $(id) `id` \\0 \xff\xfe"
	s := mariadbdtest.Start(t, mariadbd.Options{User: `o'dd "us\er`, Password: password})
	if got := query(t, s, "SELECT CURRENT_USER()"); got != `o'dd "us\er@127.0.0.1` {
		t.Errorf("logged in as %q", got)
	}

	wrong := s.Config()
	wrong.Passwd = password[1:]
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := ping(t, wrong); err == nil {
		t.Error("a wrong password logs in")
	}
	assertNowhere(t, s.Dir(), "$(id)")
}

func assertNowhere(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), secret) {
			t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLongFolderStillGetsASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long ", 25))
	s := mariadbdtest.Start(t, mariadbd.Options{Dir: dir})
	cfg := s.Config()
	cfg.Net, cfg.Addr = "unix", s.Socket()
	if err := ping(t, cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(wait(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(s.Socket())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket folder is left behind: %v", err)
	}
}

func TestRestartAfterKillKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	s := mariadbdtest.Start(t, mariadbd.Options{Password: "p'w"})
	run(t, s, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB", "INSERT INTO d.t VALUES (42)")
	port := s.Port()
	for name, end := range map[string]func() error{
		"kill": s.Kill,
		"stop": func() error { return s.Stop(wait(t, 30*time.Second)) },
		"none": func() error { return nil },
	} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Restart(wait(t, 60*time.Second)); err != nil {
			t.Fatalf("restart after %s: %v", name, err)
		}
		if got := query(t, s, "SELECT a FROM d.t"); got != "42" || s.Port() != port {
			t.Fatalf("after %s: a = %s on port %d, want 42 on %d", name, got, s.Port(), port)
		}
	}
}

func TestTakenPortIsAnErrorAndLeavesNoProcess(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dir := t.TempDir()
	_, err = mariadbd.Start(t.Context(), mariadbd.Options{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "port is taken") {
		t.Fatalf("error = %v, want one that says the port is taken", err)
	}
	if pids := processesIn(t, dir); len(pids) > 0 {
		t.Errorf("processes left: %v", pids)
	}
}

func TestBadOptionShowsTheServersWords(t *testing.T) {
	t.Parallel()
	_, err := mariadbd.Start(t.Context(), mariadbd.Options{Dir: t.TempDir(), Extra: []string{"no-such-option=1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Fatalf("error = %v, want the server's complaint about no-such-option", err)
	}
}

func TestStartGivenUpLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mariadbd.Start(ctx, mariadbd.Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error = %v, want canceled", err)
	}
	if pids := processesIn(t, dir); len(pids) > 0 {
		t.Errorf("processes left: %v", pids)
	}
}

func TestKilledParentLeavesNoServer(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no pid from the parent: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	gone := watch(t, pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatalf("mariadbd %d outlives its parent", pid)
	}
}
