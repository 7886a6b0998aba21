package sshrun

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/internal/sshdtest"
	"drydock/job"
	"drydock/store"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// It is ours alone: the tests look at every process, and those of other packages have passwords as arguments.
const secret = `p'a"s s$w\o%r&d é#sshrun`

// rig is a cluster whose hosts run a script of the test over a real sshd.
type rig struct {
	t    *testing.T
	dir  string // where the script may write; DIR in its environment
	sshd *sshdtest.Server
	cfg  Config
	log  *logLines
	// secret is the database password, nobody else's on this machine: the argument lists of all processes are searched.
	secret string
}

func newRig(t *testing.T, script string, servers ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &logLines{}, secret: secret + rand.Text()}
	r.sshd = sshdtest.Start(t, map[string]string{"DIR": r.dir})
	file := filepath.Join(r.dir, "script")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:3306"}
	}
	cl := Cluster{
		Name: "lab", User: "drydock", Password: r.secret, ReceiverPorts: []int{4444}, Enabled: true, Spec: "* * * * * *",
		Zone: time.UTC, Timeout: time.Minute, Script: file,
		Login: Login{Port: r.sshd.Port, User: r.sshd.User, KeyFile: r.sshd.KeyFile, KnownHosts: r.sshd.KnownHosts},
	}
	for _, s := range servers {
		server, err := job.ParseServer(s)
		if err != nil {
			t.Fatal(err)
		}
		cl.Servers = append(cl.Servers, server)
	}
	r.cfg = Config{
		DataDir: t.TempDir(), APIHost: "127.0.0.1", APIPort: 10005, APIUser: "admin", APIPassword: "api-" + rand.Text(),
		Concurrency: 10, Clusters: []Cluster{cl},
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return r
}

// run starts a runner that ends with the test, or earlier by the function it returns.
func (r *rig) run(conn *bus.Conn, owner string) (stop func()) {
	r.t.Helper()
	runner, err := New(r.cfg, store.NewLeases(conn, owner, LeaseTerm))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// session runs the script once, without a clock.
func (r *rig) session() (result, error) {
	r.t.Helper()
	runner, err := New(r.cfg, store.NewLeases(bustest.Start(r.t), "scheduler@test", LeaseTerm))
	if err != nil {
		r.t.Fatal(err)
	}
	cl := &r.cfg.Clusters[0]
	return runner.leased(bustest.Context(r.t), target{cl, cl.Servers[0]})
}

func (r *rig) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(r.dir, name))
	return string(text)
}

func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	bustest.Until(r.t, 50*time.Second, what, ok) // on a busy machine sshd alone takes many
}

func TestSessionGivesTheScriptItsEnvironmentAndNothingInAnyArgumentList(t *testing.T) {
	t.Parallel()
	r := newRig(t, `printf '%s' "$REPLICATION_MANAGER_HOST_PASSWORD" >"$DIR/password"
printf '%s' "$1" >"$DIR/argument"
for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$f"; echo; done >"$DIR/processes" 2>/dev/null
echo "so far $MYSQL_ROOT_PASSWORD" >&2
exit 3`)
	res, err := r.session()
	if err != nil || res.exit != 3 {
		t.Fatalf("%+v: %v", res, err)
	}
	if res.output != "so far [secret]" {
		t.Errorf("printed %q", res.output)
	}
	if got := r.read("password"); got != r.secret {
		t.Errorf("the password came as %q", got)
	}
	if got := r.read("argument"); got != "--once" {
		t.Errorf("the argument is %q", got)
	}
	processes := r.read("processes")
	if !strings.Contains(processes, command) {
		t.Errorf("the shell is not among the processes:\n%s", processes)
	}
	for _, s := range []string{r.secret, r.cfg.APIPassword} {
		if strings.Contains(processes, s) {
			t.Errorf("%s stands in an argument list", s)
		}
	}
}

func TestUnknownHostIsRefusedUntilTheLineOfTheMessageIsRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, "exit 0")
	login := &r.cfg.Clusters[0].Login
	login.KnownHosts = filepath.Join(r.dir, "known")
	_, err := r.session()
	var hinted *Hinted
	if !errors.Is(err, ErrHostKey) || !errors.As(err, &hinted) || !strings.Contains(err.Error(), "SHA256:") {
		t.Fatalf("an unknown host: %v", err)
	}
	_, line, ok := strings.Cut(hinted.Hint, "then: ")
	if !ok {
		t.Fatalf("no line to run in %q", hinted.Hint)
	}
	if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	if res, err := r.session(); err != nil || res.exit != 0 {
		t.Errorf("after %s: %+v, %v", line, res, err)
	}
}

func TestChangedHostKeyIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, `touch "$DIR/ran"`)
	r.cfg.Clusters[0].Login.KnownHosts = r.sshd.WrongKnownHosts(t)
	_, err := r.session()
	if !errors.Is(err, ErrHostKey) || !strings.Contains(err.Error(), "somebody may be in between") || strings.Count(err.Error(), "SHA256:") != 2 {
		t.Errorf("a changed key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "ran")); err == nil {
		t.Error("the script was sent to it")
	}
}

func TestKeyThatIsNotLetInIsExplained(t *testing.T) {
	t.Parallel()
	r := newRig(t, "exit 0")
	other := filepath.Join(r.dir, "other")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.cfg.Clusters[0].Login.KeyFile = other
	if _, err := r.session(); err == nil || !strings.Contains(err.Error(), "authorized_keys") {
		t.Errorf("a key that is not let in: %v", err)
	}
	locked := filepath.Join(r.dir, "locked")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", locked).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.cfg.Clusters[0].Login.KeyFile = locked
	if _, err := r.session(); err == nil || !strings.Contains(err.Error(), "is protected by a passphrase") {
		t.Errorf("a key with a passphrase: %v", err)
	}
}

// TestNeverTwoSessionsOnOneHost has two servers on one host, a tick each second, and two schedulers on one bus.
func TestNeverTwoSessionsOnOneHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, `mkdir "$DIR/busy" || echo "two at once" >>"$DIR/overlap"
echo "$REPLICATION_MANAGER_HOST_PORT" >>"$DIR/runs"
sleep 0.3
rmdir "$DIR/busy"`, "127.0.0.1:3306", "127.0.0.1:3307")
	conn := bustest.Start(t)
	r.run(conn, "scheduler@a")
	r.run(conn, "scheduler@b")
	r.await("three sessions to each server", func() bool {
		runs := r.read("runs")
		return strings.Count(runs, "3306") >= 3 && strings.Count(runs, "3307") >= 3
	})
	if text := r.read("overlap"); text != "" {
		t.Errorf("%s", text)
	}
}

func TestSessionEndsWhenAnotherSchedulerTookTheHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, `touch "$DIR/began"
until [[ -e $DIR/go || ! -d $DIR ]]; do sleep 0.05; done`)
	conn := bustest.Start(t)
	const term = 4 * time.Second // on a busy machine a shorter one ends before it is taken
	runner, err := New(r.cfg, store.NewLeases(conn, "scheduler@a", term))
	if err != nil {
		t.Fatal(err)
	}
	ctx := bustest.Context(t)
	cl := &r.cfg.Clusters[0]
	ended := make(chan error, 1)
	go func() {
		_, err := runner.leased(ctx, target{cl, cl.Servers[0]})
		ended <- err
	}()
	r.await("the script runs", func() bool { _, err := os.Stat(filepath.Join(r.dir, "began")); return err == nil })
	other := store.NewLeases(conn, "scheduler@b", 0) // impatient: anything it sees twice stands still
	r.await("the lease is taken over", func() bool {
		_, err := other.Take(ctx, "127.0.0.1", r.sshd.Port, leaseName)
		return err == nil
	})
	if err := <-ended; !errors.Is(err, store.ErrLost) {
		t.Errorf("the session ended with %v", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A context tells its children of its end one after the other. When the connection hears of it long before the session does,
// the session must still say why it ended, not that the host broke off.
func TestSessionSaysWhyItEndedHoweverLateItHears(t *testing.T) {
	t.Parallel()
	r := newRig(t, `touch "$DIR/began"
until [[ -e $DIR/go || ! -d $DIR ]]; do sleep 0.05; done`)
	runner, err := New(r.cfg, store.NewLeases(bustest.Start(t), "scheduler@test", LeaseTerm))
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("the reason")
	for range 5 { // whom it tells first is chance
		ctx, end := context.WithCancelCause(bustest.Context(t))
		for range 50_000 { // they keep it busy with telling
			_, forget := context.WithCancel(ctx)
			defer forget()
		}
		ended := make(chan error, 1)
		go func() {
			_, err := runner.session(ctx, target{&r.cfg.Clusters[0], r.cfg.Clusters[0].Servers[0]})
			ended <- err
		}()
		began := filepath.Join(r.dir, "began")
		r.await("the script runs", func() bool { return os.Remove(began) == nil })
		end(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("the session ended with %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsOfTheFleetAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, `me=$DIR/busy.$REPLICATION_MANAGER_HOST_NAME
touch "$me"
for ((i = 0; i < 100; i++)); do
  set -- "$DIR"/busy.*
  (($# >= 2)) && break
  sleep 0.05
done
echo $# >>"$DIR/counts"
sleep 0.3
rm "$me"`, "127.0.0.1:3306", "127.0.0.2:3306", "127.0.0.3:3306", "127.0.0.4:3306", "127.0.0.5:3306")
	r.cfg.Concurrency = 2
	r.run(bustest.Start(t), "scheduler@a")
	r.await("six sessions", func() bool { return strings.Count(r.read("counts"), "\n") >= 6 })
	most := 0
	for _, line := range strings.Fields(r.read("counts")) {
		var n int
		if _, err := fmt.Sscan(line, &n); err == nil {
			most = max(most, n)
		}
	}
	if most != 2 {
		t.Errorf("%d at once, want 2", most)
	}
}

func TestSessionThatHangsIsAskedToStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, `trap 'echo asked; touch "$DIR/asked"; exit 0' TERM
while :; do sleep 0.1; done`)
	r.cfg.Clusters[0].Timeout = 5 * time.Second // the script must have begun by then, on a busy machine, too
	res, err := r.session()
	if !errors.Is(err, errTimeout) || res.output != "asked" {
		t.Errorf("%+v: %v", res, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "asked")); err != nil {
		t.Error("the script was not asked")
	}
}

func TestScriptOutlivesDrydock(t *testing.T) {
	t.Parallel()
	r := newRig(t, `touch "$DIR/began"
until [[ -e $DIR/go || ! -d $DIR ]]; do sleep 0.05; done
echo "nobody reads this"
echo "nor this" >&2
touch "$DIR/finished"`)
	stop := r.run(bustest.Start(t), "scheduler@a")
	r.await("the script runs", func() bool { _, err := os.Stat(filepath.Join(r.dir, "began")); return err == nil })
	stop()
	if err := os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.await("the script ends by itself", func() bool { _, err := os.Stat(filepath.Join(r.dir, "finished")); return err == nil })
	if !strings.Contains(r.log.text(), "scripts that still run go on") {
		t.Errorf("the log does not say so:\n%s", r.log.text())
	}
}

func TestReloadSwitchesSessionsOnAndOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, `echo x >>"$DIR/runs"`)
	off := r.cfg
	off.Clusters = []Cluster{r.cfg.Clusters[0]}
	off.Clusters[0].Enabled = false
	runner, err := New(off, store.NewLeases(bustest.Start(t), "scheduler@test", LeaseTerm))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	bad := r.cfg
	bad.APIPort = 0
	if runner.Reload(bad) == nil {
		t.Error("a configuration without an API was taken")
	}
	if err := runner.Reload(r.cfg); err != nil {
		t.Fatal(err)
	}
	r.await("a session", func() bool { return r.read("runs") != "" })
	if _, err := os.Stat(LaidScript(r.cfg.DataDir, "lab", r.cfg.Clusters[0].Servers[0])); err != nil {
		t.Error(err)
	}
}

func TestHostThatIsDownIsOneWarning(t *testing.T) {
	t.Parallel()
	r := newRig(t, `exit 0`)
	login := r.cfg.Clusters[0].Login
	r.cfg.Clusters[0].Login.Port = 1 // nobody listens there
	runner, err := New(r.cfg, store.NewLeases(bustest.Start(t), "scheduler@test", LeaseTerm))
	if err != nil {
		t.Fatal(err)
	}
	ctx := bustest.Context(t)
	down := &r.cfg.Clusters[0]
	for range 3 {
		runner.visit(ctx, target{down, down.Servers[0]})
	}
	up := *down
	up.Login = login
	runner.visit(ctx, target{&up, up.Servers[0]})
	text := r.log.text()
	if strings.Count(text, "level=WARN") != 1 || strings.Count(text, "ssh session failed") != 3 || !strings.Contains(text, "works again") || !strings.Contains(text, "failed=3") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestProbeFindsWhatKeepsTheScriptFromRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, "exit 0")
	cl := r.cfg.Clusters[0]
	cl.Script = ""
	if err := Probe(bustest.Context(t), cl, cl.Servers[0]); err != nil {
		t.Errorf("all is well: %v", err)
	}
	if got := missingTools("Welcome!\nmissing socat\nmissing flock\n"); strings.Join(got, " ") != "socat flock" {
		t.Errorf("missing %v", got)
	}
	cl.Script = filepath.Join(r.dir, "absent")
	if err := Probe(bustest.Context(t), cl, cl.Servers[0]); err == nil || !strings.Contains(err.Error(), "onpremise-ssh-db-job-script") {
		t.Errorf("an absent script: %v", err)
	}
}

// logLines is a log that may be read while it is written.
type logLines struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
