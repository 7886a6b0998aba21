package local

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/dump"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

// taker is the receiver's part, played by the test: one port per request, and what came through it.
type taker struct {
	t  *testing.T
	wg sync.WaitGroup

	mu     sync.Mutex
	asked  []bus.OpenRequest
	full   bool // no port
	came   map[string][]byte
	broken map[string]error
}

func (r *rig) taker() *taker {
	r.t.Helper()
	k := &taker{t: r.t, came: map[string][]byte{}, broken: map[string]error{}}
	sub, err := r.conn.NC.Subscribe(bus.SubjectReceiverOpen, k.open)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = sub.Unsubscribe()
		k.wg.Wait()
	})
	return k
}

func (k *taker) open(m *nats.Msg) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var req bus.OpenRequest
	_ = json.Unmarshal(m.Data, &req)
	k.asked = append(k.asked, req)
	if k.full {
		answer := nats.NewMsg(m.Reply)
		answer.Header.Set("Nats-Service-Error-Code", bus.CodeExhausted)
		answer.Header.Set("Nats-Service-Error", "all are taken")
		_ = m.RespondMsg(answer)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Error(err)
		return
	}
	k.wg.Go(func() {
		defer l.Close()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		data, err := io.ReadAll(c)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.came[req.JobID], k.broken[req.JobID] = data, err
	})
	reply, _ := json.Marshal(bus.OpenReply{Receiver: "rcv", Address: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port})
	_ = m.Respond(reply)
}

// of is what came for a job.
func (k *taker) of(j job.Job) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.came[j.ID], k.broken[j.ID]
}

func (k *taker) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

var (
	sqlOptions    = []string{"--databases", "shop", "--single-transaction", "--quick", "--hex-blob"}
	folderOptions = []string{"--regex", `^(?!(mysql|sys)\.)`}
)

// dumping is a rig with a taker and a small schema.
func dumping(t *testing.T, servers ...*mariadbd.Server) (*rig, *taker) {
	t.Helper()
	r := newRig(t, servers...)
	r.cluster.Mysqldump.Options, r.cluster.Mydumper.Options, r.cluster.MydumperStall = sqlOptions, folderOptions, 10*time.Second
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT)", "INSERT INTO shop.a VALUES (1, 'one'), (2, 'two')")
	return r, r.taker()
}

// reader is a checker of package dump.
type reader interface {
	io.WriteCloser
	Position() dump.Position
}

// dumpedAt reads a dump to its end.
func dumpedAt(t *testing.T, task string, data []byte) dump.Position {
	t.Helper()
	var d reader = new(dump.SQL)
	if task == "mydumper" {
		d = dump.NewTar()
	}
	if _, err := d.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("%s: %v", task, err)
	}
	return d.Position()
}

func TestDumpOfAReplicaIsWholeAndSaysWhosePositionItHas(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	r, k := dumping(t, primary, replica)
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	r.start("scheduler@a")
	status, err := records(t.Context(), r.dbs[1], "SHOW MASTER STATUS")
	if err != nil || len(status) != 1 {
		t.Fatal(status, err)
	}
	file, gtid := status[0]["File"].String, r.value(1, "SELECT @@gtid_binlog_pos")
	for _, task := range []string{"mysqldump", "mydumper"} {
		j := r.do(1, task)
		data, err := k.of(j)
		if err != nil || j.Evidence.Sent == nil || *j.Evidence.Sent != int64(len(data)) || !slices.Equal(j.Evidence.Exit, []int{0}) || j.Dispatch.Receiver != "rcv" {
			t.Fatalf("%s: %d bytes, %v, %+v, %+v", task, len(data), err, j.Evidence, j.Dispatch)
		}
		if p := dumpedAt(t, task, data); p.File != file || p.Pos == 0 || p.GTID != gtid || p.Source {
			t.Errorf("%s: %+v, the replica's log is %s, %s", task, p, file, gtid)
		}
		if text := r.logged(j); !strings.Contains(text, "INFO due") || strings.Contains(text, password) {
			t.Errorf("the log of %s says %s", task, text)
		}
	}
	if from := k.asked[0].From; !slices.Contains(from, "127.0.0.1") {
		t.Errorf("the receiver was told %v", from)
	}
}

func TestDumpThatWasAskedForTheSourcesPositionSaysSo(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	r, k := dumping(t, primary, replica)
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	r.cluster.Mysqldump.Options = append(slices.Clone(sqlOptions), "--dump-slave=2")
	r.start("scheduler@a")
	data, _ := k.of(r.do(1, "mysqldump"))
	if p := dumpedAt(t, "mysqldump", data); p.File == "" || p.Pos == 0 || !p.Source {
		t.Errorf("%+v in\n%.3000s", p, data)
	}
}

func TestServerWithoutABinaryLogIsDumpedWithoutAPosition(t *testing.T) {
	t.Parallel()
	r, k := dumping(t, mariadbdtest.Start(t, mariadbd.Options{Password: password}))
	r.start("scheduler@a")
	for _, task := range []string{"mysqldump", "mydumper"} {
		j := r.do(0, task)
		data, _ := k.of(j)
		if p := dumpedAt(t, task, data); !p.IsZero() {
			t.Errorf("%s: %+v", task, p)
		}
		if text := r.logged(j); task == "mysqldump" && !strings.Contains(text, "log_bin is OFF") {
			t.Errorf("the log says %s", text)
		}
	}
}

func TestDumpOfAReplicaWhoseLogLacksWhatItReplicatedGoesByItsSource(t *testing.T) {
	t.Parallel()
	primary := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true})
	replica := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true, Extra: []string{"log-slave-updates=0"}})
	r, k := dumping(t, primary, replica)
	r.sql(1, "CREATE DATABASE its_own")
	if err := errors.Join(mariadbd.Replicate(t.Context(), primary, replica), mariadbd.CatchUp(t.Context(), primary, replica)); err != nil {
		t.Fatal(err)
	}
	r.start("scheduler@a")
	want := r.value(1, "SELECT @@gtid_slave_pos")
	for task, fits := range map[string]func(dump.Position) bool{
		"mysqldump": dump.Position.IsZero,
		"mydumper":  func(p dump.Position) bool { return p.Source && p.GTID == want },
	} {
		j := r.do(1, task)
		data, _ := k.of(j)
		if p := dumpedAt(t, task, data); !fits(p) {
			t.Errorf("%s: %+v, the data are at %s", task, p, want)
		}
		if text := r.logged(j); task == "mysqldump" && !strings.Contains(text, "log_slave_updates is OFF") {
			t.Errorf("the log says %s", text)
		}
	}
}

func TestDumpWaitsForAPort(t *testing.T) {
	t.Parallel()
	r, k := dumping(t, server(t))
	k.full = true
	r.start("scheduler@a")
	j := r.queue(0, "mysqldump", job.Local)
	r.await(j, "waiting for a port", func(j job.Job) bool { return j.State == job.Processing && j.Reason == job.ReasonNoPort })
	k.set(func() { k.full = false })
	if j = r.awaitState(j, job.Finished); j.Reason != "" {
		t.Errorf("the reason stayed: %s", j.Reason)
	}
}

func TestFailedToolIsAHaltWithItsLastWordsAndAStreamThatBreaks(t *testing.T) {
	t.Parallel()
	r, k := dumping(t, server(t))
	r.cluster.Mysqldump.Options = []string{"--databases", "shop", "nowhere"}
	r.cluster.Mydumper.Options = []string{"--database=shop", "--threads=none"}
	r.start("scheduler@a")
	j := r.awaitState(r.queue(0, "mysqldump", job.Local), job.Halted)
	if !strings.Contains(j.Reason, "Unknown database 'nowhere'") || !slices.Equal(j.Evidence.Exit, []int{2}) {
		t.Errorf("%s, %+v", j.Reason, j.Evidence)
	}
	bustest.Until(t, 10*time.Second, "the stream breaks", func() bool {
		_, err := k.of(j)
		return errors.Is(err, syscall.ECONNRESET)
	})
	j = r.awaitState(r.queue(0, "mydumper", job.Local), job.Halted)
	if data, _ := k.of(j); !strings.Contains(j.Reason, "none") || len(data) != 0 {
		t.Errorf("%s; %d bytes were sent", j.Reason, len(data))
	}
	bustest.Until(t, 10*time.Second, "nothing is left of the dumps", func() bool {
		left, _ := filepath.Glob(filepath.Join(r.workDir, "runner-*", "[^.]*"))
		return len(left) == 0
	})
}

func TestToolThatIsNotThereIsNamedWithItsKey(t *testing.T) {
	t.Parallel()
	r, _ := dumping(t, server(t))
	r.cluster.Mysqldump.Path = "/nowhere/mysqldump"
	r.start("scheduler@a")
	if j := r.awaitState(r.queue(0, "mysqldump", job.Local), job.Halted); !strings.Contains(j.Reason, "/nowhere/mysqldump") || !strings.Contains(j.Reason, "backup-mysqldump-path") {
		t.Errorf("%s", j.Reason)
	}
}

func TestMydumperThatStandsStillIsRunAgain(t *testing.T) {
	t.Parallel()
	r, k := dumping(t, server(t))
	dir := t.TempDir()
	stuck, tool := filepath.Join(dir, "stuck"), filepath.Join(dir, "mydumper")
	// The first run only makes its folder busy for a moment, as the real one does before its threads wait for each other.
	text := "#!/bin/bash\n[[ -e " + stuck + " ]] && exec mydumper \"$@\"\n: >" + stuck + "\nexec sleep 1000\n"
	if err := os.WriteFile(tool, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r.cluster.Mydumper.Path, r.cluster.MydumperStall = tool, 3*time.Second
	r.start("scheduler@a")
	j := r.do(0, "mydumper")
	data, _ := k.of(j)
	dumpedAt(t, "mydumper", data)
	if text := r.logged(j); !strings.Contains(text, "WARN mydumper stood still for 3s and was ended (try 1 of 3)") {
		t.Errorf("the log says %s", text)
	}
}

func TestWorkspaceRemovesWhatKilledRunnersLeftAndNothingOfLivingOnes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	living, err := openWorkspace(root)
	if err != nil {
		t.Fatal(err)
	}
	dir, remove, err := living.folder("RUN-01")
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(root, "runner-killed", "RUN-02")
	if err := errors.Join(os.MkdirAll(killed, 0o700), os.WriteFile(filepath.Join(killed, optionFile), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	next, err := openWorkspace(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(killed)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed runner left: %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of a living runner: %v, %v", info, err)
	}
	if err := errors.Join(remove(), living.close(), next.close()); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "[^.]*")); len(left) != 0 {
		t.Errorf("left behind %v", left)
	}
}

func TestPositionOptionsFitTheTool(t *testing.T) {
	t.Parallel()
	const maria, mysql = "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu", "mysqldump  Ver 8.0.40 for Linux on x86_64"
	for _, c := range []struct {
		client, server string
		options        []string
		want           string
	}{
		{maria, "10.11.19-MariaDB-log", nil, "--master-data=2 --gtid"},
		{maria, "8.0.40", nil, "--master-data=2"},
		{mysql, "8.0.40", nil, "--source-data=2"},
		{"mysqldump  Ver 8.0.25 for Linux", "8.0.25", nil, "--master-data=2"},
		{"mysqldump  Ver 10.13 Distrib 5.7.44, for Linux", "5.7.44", nil, "--master-data=2"},
		{"mysqldump  Ver 8.4.3 for Linux", "8.4.3", nil, "--source-data=2"},
		{maria, "10.11.19-MariaDB", []string{"--quick", "--dump_slave=2"}, ""},
		{maria, "10.11.19-MariaDB", []string{"--master-data"}, ""},
	} {
		if got := strings.Join(dumpPosition(c.client, c.server, c.options), " "); got != c.want {
			t.Errorf("%s of %s with %v: %q, want %q", c.client, c.server, c.options, got, c.want)
		}
	}
}

func TestOptionFileRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), optionFile)
	if err := writeOptionFile(path, "localhost", 3306, "u", "line\nbreak"); err == nil {
		t.Error("a line break was written")
	}
	if err := writeOptionFile(path, "localhost", 3306, "u", `a"b\c`); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := "[client]\nuser=\"u\"\npassword=\"a\\\"b\\\\c\"\nhost=\"127.0.0.1\"\nport=3306\nprotocol=tcp\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
}

// A question that was not answered must not count as "no reseed left it half filled": the dump would be called a good backup.
func TestADumpAsksWhetherTheServerIsHalfFilledAndTakesNoSilenceForNo(t *testing.T) {
	t.Parallel()
	r, _ := dumping(t, server(t))
	s := &session{conn: r.sql(0)}
	w := &work{session: s}
	if err := w.unfinished(bustest.Context(t)); err != nil {
		t.Errorf("a server that is whole: %v", err)
	}
	r.sql(0, "CREATE USER reader IDENTIFIED BY 'r'")
	db := sql.OpenDB(connector(sqlConfig(r.cluster.Servers[0], "reader", "r")))
	defer func() { _ = db.Close() }()
	poor, err := db.Conn(bustest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = poor.Close() }()
	if err := (&work{session: &session{conn: poor}}).unfinished(bustest.Context(t)); err != nil {
		t.Errorf("an account that could not have reseeded it: %v", err)
	}
	gone, cancel := context.WithCancel(bustest.Context(t))
	cancel()
	if err := w.unfinished(gone); err == nil {
		t.Error("no answer counts as no")
	}
	if _, err := s.conn.ExecContext(bustest.Context(t), "CHANGE MASTER TO MASTER_HOST="+literal(nowhere)); err != nil {
		t.Fatal(err)
	}
	if err := w.unfinished(bustest.Context(t)); err == nil {
		t.Error("a half filled server is dumped")
	}
}
