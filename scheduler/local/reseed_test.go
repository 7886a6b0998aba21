package local

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/receiver"
	"drydock/store"
)

// fleet is a primary with two replicas, the first of which has gone astray: other rows, other schemas, entries of its own
// in its binary log.
func fleet(t *testing.T, rows int) (r *rig, primary, astray *mariadbd.Server) {
	t.Helper()
	primary, astray = mariadbdtest.Pair(t, mariadbd.Options{Password: password, Extra: []string{"gtid_strict_mode=1"}})
	second := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true})
	if err := mariadbd.Replicate(t.Context(), primary, second); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, primary, astray, second)
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT, b BLOB)",
		`INSERT INTO shop.a SELECT seq, CONCAT('é\n-- Dump completed\n', seq), UNHEX(SHA2(seq, 512)) FROM shop.seq_1_to_`+strconv.Itoa(rows),
		"CREATE TABLE shop.`o``dd na.me` (i INT) ENGINE=Aria", "INSERT INTO shop.`o``dd na.me` VALUES (1)", "CREATE VIEW shop.v AS SELECT i FROM shop.a",
		"CREATE PROCEDURE shop.p() SELECT 1", "CREATE TRIGGER shop.g BEFORE INSERT ON shop.a FOR EACH ROW SET NEW.t = CONCAT('by trigger ', NEW.t)",
		"CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.fired VALUES (NOW())", "CREATE TABLE shop.fired (t DATETIME)",
		"CREATE USER reader@'%' IDENTIFIED BY 'secret'", "GRANT SELECT ON shop.* TO reader@'%'",
		"SET sql_log_bin=0", "CREATE DATABASE replication_manager_schema", "CREATE TABLE replication_manager_schema.jobs (task TEXT)",
		"INSERT INTO replication_manager_schema.jobs VALUES ('of the primary')")
	if err := mariadbd.CatchUp(t.Context(), primary, astray); err != nil {
		t.Fatal(err)
	}
	r.sql(1, "SET GLOBAL event_scheduler=ON", "DELETE FROM shop.a WHERE i < 100", "UPDATE shop.a SET t='wrong' WHERE i > 2900", "CREATE DATABASE extra", "CREATE TABLE extra.t (i INT)",
		"CREATE TABLE shop.left_over (i INT)", "CREATE USER stray@'%'",
		"SET sql_log_bin=0", "CREATE DATABASE replication_manager_schema", "CREATE TABLE replication_manager_schema.jobs (task TEXT)",
		"INSERT INTO replication_manager_schema.jobs VALUES ('of the replica')")
	return r, primary, astray
}

// sameAsPrimary compares server i with the primary, now and after the next change on the primary.
func (r *rig) sameAsPrimary(primary, copied *mariadbd.Server, i int, further ...string) {
	r.t.Helper()
	compare := append([]string{
		"SELECT GROUP_CONCAT(SCHEMA_NAME ORDER BY 1) FROM information_schema.SCHEMATA",
		"SELECT GROUP_CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, ' ', TABLE_TYPE ORDER BY 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA='shop'",
		"SELECT GROUP_CONCAT(ROUTINE_NAME) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='shop'",
		"SELECT GROUP_CONCAT(TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='shop'",
		"SELECT COUNT(*) FROM shop.a", "SELECT COUNT(*) FROM shop.v",
	}, further...)
	for range 2 {
		for _, q := range compare {
			if want, got := r.value(0, q), r.value(i, q); got != want {
				r.t.Errorf("%s\n the primary has %s\n the copy      %s", q, want, got)
			}
		}
		for _, row := range must(records(r.t.Context(), r.dbs[0], "SELECT TABLE_NAME AS t FROM information_schema.TABLES WHERE TABLE_SCHEMA='shop' AND TABLE_TYPE='BASE TABLE'")) {
			table := table{"shop", row["t"].String}.quoted()
			want, got := r.tableSums(0, table), r.tableSums(i, table)
			if want != got {
				r.t.Errorf("checksum of %s is %s, and %s on the primary", table, got, want)
			}
		}
		r.sql(0, "INSERT INTO shop.a VALUES ((SELECT MAX(i)+1 FROM shop.a x), 'after the reseed', '')", "CREATE USER IF NOT EXISTS later@'%'")
		if err := mariadbd.CatchUp(r.t.Context(), primary, copied); err != nil {
			r.t.Fatal(err)
		}
	}
	if s := r.value(i, "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME='e'"); s != "SLAVESIDE_DISABLED" {
		r.t.Errorf("the event is %s", s)
	}
	if n := r.value(i, "SELECT COUNT(*) FROM shop.fired"); n != "0" {
		r.t.Errorf("the event fired %s times on the replica", n)
	}
	if s := r.value(i, "SELECT task FROM replication_manager_schema.jobs"); s != "of the replica" {
		r.t.Errorf("the script of the server would do the job %q", s)
	}
}

// accounts are compared after a reseed that brings the system tables.
const accounts = "SELECT GROUP_CONCAT(User, '@', Host ORDER BY 1) FROM mysql.global_priv"

func (r *rig) tableSums(i int, table string) string {
	r.t.Helper()
	var name, sum string
	if err := r.dbs[i].QueryRowContext(bustest.Context(r.t), "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
		r.t.Fatal(err)
	}
	return sum
}

func TestAStrayReplicaIsReseededFromThePrimary(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t, 3000)
	left, other := r.sql(1, loaderInit), r.sql(1, "SELECT 1") // sessions of a reseed that was cut, and of somebody
	r.start("scheduler@a")
	j := r.queue(1, "reseedlogicalmaster", job.Local)
	j = r.awaitState(j, job.Finished)
	if v := job.Judge(must(job.TaskByName(j.Task)), j, true); v.Event != job.Pass {
		t.Errorf("judged %+v", v)
	}
	if !strings.Contains(j.Evidence.Result, "replicates from "+r.cluster.Servers[0].String()) || j.Evidence.GTID == "" {
		t.Errorf("%+v", j.Evidence)
	}
	if err := left.PingContext(t.Context()); err == nil {
		t.Error("what a reseed left at work goes on")
	}
	if err := other.PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	r.sameAsPrimary(primary, astray, 1, accounts)
	if s := r.value(1, "SELECT @@gtid_binlog_pos"); s != r.value(0, "SELECT @@gtid_binlog_pos") {
		t.Errorf("the copy's binary log is at %s", s)
	}
}

// stuck queues a reseed of server 1 and returns when its load waits for a lock, with most of the dump still to come.
// release lets it go on.
func (r *rig) stuck() (j job.Job, release func()) {
	r.t.Helper()
	lock := r.sql(1, "LOCK TABLES mysql.help_topic WRITE")
	j = r.queue(1, "reseedlogicalmaster", job.Local)
	bustest.Until(r.t, 30e9, "the load waits", func() bool { return r.value(1, loading) == "1" })
	return j, func() {
		if _, err := lock.ExecContext(r.t.Context(), "UNLOCK TABLES"); err != nil {
			r.t.Error(err)
		}
	}
}

const (
	loading    = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for % metadata lock'"
	incomplete = "; the server is left out of replication with incomplete data: reseed it again"
)

// leftOut checks that server i does not replicate, and would not after a restart either.
func (r *rig) leftOut(i int, s *mariadbd.Server) {
	r.t.Helper()
	if err := s.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	rows, err := records(r.t.Context(), r.dbs[i], "SHOW ALL SLAVES STATUS")
	if err != nil || len(rows) != 1 || rows[0]["Master_Host"].String != nowhere || rows[0]["Slave_IO_Running"].String == "Yes" {
		r.t.Errorf("after a restart: %v, %v", rows, err)
	}
	bustest.Until(r.t, 10e9, "the job's files are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(r.workDir, "*", "[^.]*")) // beside the lock
		return err == nil && len(left) == 0
	})
}

func TestAReseedWhosePrimaryDiesLeavesTheServerOutOfReplicationAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t, 60_000)
	r.start("scheduler@a")
	j, release := r.stuck()
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	release()
	j = r.awaitState(j, job.Halted)
	if !strings.HasPrefix(j.Reason, "mariadb-dump ended with exit status ") || !strings.HasSuffix(j.Reason, incomplete) {
		t.Errorf("%s", j.Reason)
	}
	r.leftOut(1, astray)

	if err := primary.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.awaitState(r.queue(1, "reseedlogicalmaster", job.Local), job.Finished)
	r.sql(1, "SET GLOBAL event_scheduler=ON")
	r.sameAsPrimary(primary, astray, 1, accounts)
}

func TestAReseedWhosePrimaryHangsEnds(t *testing.T) {
	t.Parallel()
	r, primary, _ := fleet(t, 60_000)
	r.cluster.Lease = 3e9
	r.start("scheduler@a")
	j, release := r.stuck()
	if err := syscall.Kill(primary.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	release()
	j = r.awaitState(j, job.Halted)
	if !strings.HasSuffix(j.Reason, "sent nothing for 3s"+incomplete) {
		t.Errorf("%s", j.Reason)
	}
}

func TestACanceledOrStoppedReseedLeavesNothingAtWork(t *testing.T) {
	t.Parallel()
	r, _, astray := fleet(t, 60_000)
	stop := r.start("scheduler@a")
	j, release := r.stuck()
	r.apply(j, job.Cancel)
	bustest.Until(t, 30e9, "the statement of the canceled load is gone", func() bool { return r.value(1, loading) == "0" })
	release()
	bustest.Until(t, 60e9, "the log tells what is left", func() bool { return strings.Contains(r.logged(j), "ERROR ended: the job has ended"+incomplete) })
	if j = r.last(j); j.State != job.Canceled {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	r.leftOut(1, astray)

	j, release = r.stuck()
	stop()
	if n := r.value(1, loading); n != "0" {
		t.Errorf("%s statements go on after the stop", n)
	}
	release()
	if j = r.last(j); j.State != job.Halted || j.Reason != "drydock was stopped while it worked"+incomplete {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	r.leftOut(1, astray)
}

func TestAReseedThatMustNotBeTouchesNothing(t *testing.T) {
	t.Parallel()
	r, _, _ := fleet(t, 10)
	r.start("scheduler@a")
	refused := func(i int, want string) {
		t.Helper()
		j := r.awaitState(r.queue(i, "reseedlogicalmaster", job.Local), job.Halted)
		if !strings.Contains(j.Reason, want) || !strings.HasSuffix(j.Reason, "; nothing on the server was touched") {
			t.Errorf("server %d: %s", i, j.Reason)
		}
	}
	refused(0, "the server has 2 replicas")
	r.args = map[string]string{}
	refused(1, "nobody confirmed")
	r.args = nil
	r.sql(2, "STOP SLAVE", "RESET SLAVE ALL")
	refused(2, "set replication-credential")
	if n := r.value(1, "SELECT COUNT(*) FROM extra.t"); n != "0" {
		t.Errorf("%s", n)
	}
	if rows, err := records(t.Context(), r.dbs[1], "SHOW ALL SLAVES STATUS"); err != nil || len(rows) != 1 || rows[0]["Master_Host"].String != "127.0.0.1" {
		t.Errorf("%v %v", rows, err)
	}
}

func TestAServerThatNeverReplicatedTakesTheConfiguredAccount(t *testing.T) {
	t.Parallel()
	r, primary, _ := fleet(t, 10)
	fresh := server(t)
	r.sql(0, "CREATE USER repl@'%' IDENTIFIED BY '"+strings.ReplaceAll(strings.ReplaceAll(password, `\`, `\\`), "'", "''")+"'", "GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
	r.add(fresh)
	r.cluster.ReplicationUser, r.cluster.ReplicationPassword = "repl", password
	m := r.backups().put(0, "mysqldump", r.value(0, "SELECT @@gtid_binlog_pos"), []byte("no dump"), nil)
	r.start("scheduler@a")
	r.args = map[string]string{job.ArgConfirm: r.cluster.Servers[3].String(), job.ArgBackup: m.ID, job.ArgFrom: m.Server.Addr()}
	if j := r.awaitState(r.queue(3, "reseedlogical", job.Local), job.Halted); !strings.HasSuffix(j.Reason, incomplete) {
		t.Error(j.Reason)
	}
	r.leftOut(3, fresh) // it is no second primary meanwhile
	r.args = nil
	r.awaitState(r.queue(3, "reseedlogicalmaster", job.Local), job.Finished)
	if err := mariadbd.CatchUp(t.Context(), primary, fresh); err != nil {
		t.Fatal(err)
	}
	if want, got := r.tableSums(0, "shop.a"), r.tableSums(3, "shop.a"); got != want {
		t.Errorf("%s and %s", want, got)
	}
}

func TestAnAccountThatThePrimaryDoesNotHaveComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, server(t))
	s, err := openSession(t.Context(), r.cluster, r.cluster.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	a, err := readAccount(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET sql_log_bin=0", "DELETE FROM mysql.global_priv WHERE User='drydock'"} {
		if err := s.exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	var text string
	if err := a.ensure(t.Context(), r.cluster, r.cluster.Servers[0], s, func(_, line string) { text += line + "\n" }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "keep drydock out") || strings.Contains(text, "*") {
		t.Errorf("the log says %s", text)
	}
	r.sql(0, "SHOW ALL SLAVES STATUS", "CREATE DATABASE rights")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// backups is a receiver with what a test puts into its folder and the catalogue.
type backups struct {
	r   *rig
	dir string
}

func (r *rig) backups() *backups {
	r.t.Helper()
	b := &backups{r, r.t.TempDir()}
	view := store.NewView(r.conn)
	signer, err := store.NewSigner(bustest.Context(r.t), r.conn)
	if err != nil {
		r.t.Fatal(err)
	}
	pool, err := receiver.New(receiver.Config{
		Name: "vault", DataDir: b.dir, Bind: "127.0.0.1", Address: "127.0.0.1", Log: bustest.Log(r.t), Sign: signer.Sign,
		Clusters: map[string]receiver.Cluster{"lab": {Servers: r.cluster.Servers}},
	}, r.conn, store.NewJobs(r.conn, "receiver@vault", view), view, store.NewCatalog(r.conn))
	if err != nil {
		r.t.Fatal(err)
	}
	bustest.Run(r.t, view.Run, pool.Run)
	return b
}

// put makes a backup of server i out of content.
func (b *backups) put(i int, task, gtid string, content []byte, edit func(*store.Manifest)) store.Manifest {
	t, s := b.r.t, b.r.cluster.Servers[i]
	t.Helper()
	b.r.ticks++
	due := time.Now().UTC().Add(time.Duration(b.r.ticks) * time.Millisecond)
	sum := blake3.Sum256(content)
	m := store.Manifest{
		Type: store.ManifestType, ID: job.NewID(due, "b", job.Key{Cluster: "lab", Server: s, Task: task}), Cluster: "lab", Server: s,
		Task: task, Attempt: 1, Started: due, Ended: due, Receiver: "vault", Compress: "none", Size: int64(len(content)), Stored: int64(len(content)),
		Algo: "blake3", Hash: hex.EncodeToString(sum[:]), GTID: gtid,
	}
	folder := filepath.Join(b.dir, "Backups", "lab", s.Host+"_"+strconv.Itoa(s.Port))
	m.Path = filepath.Join(folder, task+"-"+m.ID)
	if edit != nil {
		edit(&m)
	}
	err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(m.Path, content, 0o600), store.NewCatalog(b.r.conn).Put(bustest.Context(t), m))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// login is an option file with which a tool connects to server i.
func (r *rig) login(i int) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "dump.cnf")
	if err := writeOptionFile(file, r.cluster.Servers[i].Host, r.cluster.Servers[i].Port, "drydock", password); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// dumped is what a client program made of server i, with the rig's account.
func (r *rig) dumped(i int, name string, args ...string) []byte {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), name, append([]string{"--defaults-file=" + r.login(i)}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return out
}

var backupOptions = []string{"--all-databases", "--single-transaction", "--hex-blob", "--routines", "--events", "--triggers", "--master-data=2", "--gtid"}

func TestAStrayReplicaIsReseededFromABackup(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t, 3000)
	b := r.backups()
	b.put(2, "mysqldump", "0-1-1", []byte("of the cluster, and older"), nil)
	gtid := r.value(0, "SELECT @@gtid_binlog_pos")
	m := b.put(1, "mysqldump", gtid, r.dumped(0, "mariadb-dump", backupOptions...), nil)
	b.put(1, "mariabackup", "", []byte("physical, and newer"), nil)
	r.sql(0, "INSERT INTO shop.a VALUES (100000, 'after the backup', '')", "CREATE USER stray@'%'") // of which the stray one has its own
	r.start("scheduler@a")
	j := r.awaitState(r.queue(1, "reseedlogical", job.Local), job.Finished)
	if v := job.Judge(must(job.TaskByName(j.Task)), j, true); v.Event != job.Pass || j.Evidence.GTID != gtid || !strings.Contains(j.Evidence.Result, m.ID) {
		t.Errorf("judged %+v, evidence %+v", v, j.Evidence)
	}
	// The dump has the table of the primary's script.
	if n := r.value(1, "SELECT COUNT(*) FROM replication_manager_schema.jobs"); n != "0" {
		t.Errorf("the script of the server would do %s jobs of the primary", n)
	}
	r.sql(1, "SET sql_log_bin=0", "INSERT INTO replication_manager_schema.jobs VALUES ('of the replica')")
	r.sameAsPrimary(primary, astray, 1, accounts)
}

func TestADamagedOrUselessBackupIsNoReseed(t *testing.T) {
	t.Parallel()
	r, _, astray := fleet(t, 10)
	b := r.backups()
	r.start("scheduler@a")
	text := r.dumped(0, "mariadb-dump", backupOptions...)
	gtid := r.value(0, "SELECT @@gtid_binlog_pos")
	refused := func(m store.Manifest, want, state string) {
		t.Helper()
		r.args = map[string]string{job.ArgConfirm: r.cluster.Servers[1].String(), job.ArgBackup: m.ID, job.ArgFrom: m.Server.Addr()}
		j := r.awaitState(r.queue(1, "reseedlogical", job.Local), job.Halted)
		if !strings.Contains(j.Reason, want) || !strings.HasSuffix(j.Reason, state) {
			t.Errorf("%s", j.Reason)
		}
	}
	const untouched = "; nothing on the server was touched"
	refused(store.Manifest{ID: "00000000000000000000000000", Server: r.cluster.Servers[0]}, "no such backup", untouched)
	refused(b.put(0, "mariabackup", gtid, text, nil), "is no logical backup", untouched)
	refused(b.put(0, "mysqldump", "", text, nil), "no GTID position", untouched)
	refused(b.put(0, "mysqldump", "0-1-4000000", text, nil), "is ahead of the primary", untouched)
	refused(b.put(0, "mysqldump", gtid, text, func(m *store.Manifest) { m.Receiver = "elsewhere" }), "receiver elsewhere", untouched)
	refused(b.put(0, "mysqldump", gtid, []byte(strings.Replace(string(text), "Server version\t10.", "Server version\t9.", 1)), nil), "do not fit", untouched)
	refused(b.put(0, "mydumper", gtid, []byte("no archive"), nil), "unpack the backup", untouched)
	refused(b.put(0, "mysqldump", gtid, text, func(m *store.Manifest) { m.Hash = strings.Repeat("0", 64) }), "the stream of backup", incomplete)
	refused(b.put(0, "mysqldump", gtid, text[:len(text)-100], nil), "dump is truncated", incomplete)
	r.leftOut(1, astray)
	for _, task := range []string{"mysqldump", "mydumper"} {
		if j := r.awaitState(r.queue(1, task, job.Local), job.Halted); !strings.Contains(j.Reason, "its data is incomplete") {
			t.Errorf("%s of what was left: %s", task, j.Reason)
		}
	}
}

func TestAPositionCoversAnother(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		gtid, other string
		want        bool
	}{
		{"0-1-10", "", true},
		{"0-1-10", "0-2-10", true},
		{"0-1-9", "0-2-10", false},
		{"0-1-9,5-1-3", "0-2-9", true},
		{"0-1-9", "0-2-9,5-1-3", false},
		{"", "0-1-1", false},
	} {
		if got := covers(c.gtid, c.other); got != c.want {
			t.Errorf("%q covers %q: %v", c.gtid, c.other, got)
		}
	}
	for _, c := range []struct {
		gtid, other string
		want        bool
	}{{"0-1-10", "0-2-10", false}, {"0-1-11", "0-2-10", true}, {"0-1-10,5-1-3", "0-2-10", false}, {"0-1-10,5-1-3", "0-2-10,5-1-2", true}, {"", "0-1-1", false}} {
		if got := ahead(c.gtid, c.other); got != c.want {
			t.Errorf("%q is ahead of %q: %v", c.gtid, c.other, got)
		}
	}
}

func TestABackupWhoseBinaryLogIsPurgedIsNoReseed(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t, 10)
	b := r.backups()
	r.start("scheduler@a")
	old := b.put(0, "mysqldump", r.value(0, "SELECT @@gtid_binlog_pos"), r.dumped(0, "mariadb-dump", backupOptions...), nil)
	r.sql(0, "CREATE TABLE shop.z (i INT)", "FLUSH BINARY LOGS")
	at := b.put(0, "mysqldump", r.value(0, "SELECT @@gtid_binlog_pos"), r.dumped(0, "mariadb-dump", backupOptions...), nil)
	r.sql(0, "FLUSH BINARY LOGS", "INSERT INTO shop.z VALUES (1)")
	var first string
	for _, row := range must(records(t.Context(), r.dbs[0], "SHOW BINARY LOGS")) {
		first = row["Log_name"].String
	}
	bustest.Until(t, 20e9, "no replica needs the old logs", func() bool {
		r.sql(0, "PURGE BINARY LOGS TO '"+first+"'")
		return len(must(records(t.Context(), r.dbs[0], "SHOW BINARY LOGS"))) == 1
	})
	args := func(m store.Manifest) map[string]string {
		return map[string]string{job.ArgConfirm: r.cluster.Servers[1].String(), job.ArgBackup: m.ID, job.ArgFrom: m.Server.Addr()}
	}
	r.args = args(old)
	j := r.awaitState(r.queue(1, "reseedlogical", job.Local), job.Halted)
	if !strings.Contains(j.Reason, "is not in the binary logs of the primary") || !strings.HasSuffix(j.Reason, "; nothing on the server was touched") {
		t.Errorf("%s", j.Reason)
	}
	r.args = args(at)
	r.awaitState(r.queue(1, "reseedlogical", job.Local), job.Finished)
	r.sql(1, "SET sql_log_bin=0", "INSERT INTO replication_manager_schema.jobs VALUES ('of the replica')")
	r.sameAsPrimary(primary, astray, 1, accounts)
}

// tarOf is a folder as drydock stores it: its files without any folder in their names.
func tarOf(t *testing.T, folder string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `cd "$1" && tar -cf - *`, "sh", folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAStrayReplicaIsReseededFromAFolderOfMydumper(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t, 3000)
	b := r.backups()
	folder := t.TempDir()
	r.sql(0, "DROP TABLE shop.`o``dd na.me`") // on which this mydumper hangs
	backuptest.MyDumper(t, folder, "--defaults-file="+r.login(0), "--triggers", "--events", "--routines", "--build-empty-files", "--regex", `^(?!(mysql|sys)\.)`)
	gtid := r.value(0, "SELECT @@gtid_binlog_pos")
	m := b.put(0, "mydumper", gtid, tarOf(t, folder), nil)
	r.sql(0, "INSERT INTO shop.a VALUES (100000, 'after the backup', '')")
	r.sql(1, "SET GLOBAL log_output='TABLE'", "SET GLOBAL general_log=1")
	r.start("scheduler@a")
	j := r.awaitState(r.queue(1, "reseedlogical", job.Local), job.Finished)
	if v := job.Judge(must(job.TaskByName(j.Task)), j, true); v.Event != job.Pass || j.Evidence.GTID != gtid || !strings.Contains(j.Evidence.Result, m.ID) {
		t.Errorf("judged %+v, evidence %+v", v, j.Evidence)
	}
	if n := r.value(1, "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'SET SESSION sql_log_bin=0%GET_LOCK%'"); n == "0" {
		t.Error("the sessions of myloader do not tell that they are ours")
	}
	r.sameAsPrimary(primary, astray, 1)
}
