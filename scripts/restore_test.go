package scripts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/internal/freeport"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

// restoreInfo is called with the lock held.
func (m *manager) restoreInfo() string {
	out := fmt.Sprintf("drydock 1\njob J 1\nbackup B\nfrom 127.0.0.1:1\nprimary %s\nsize %d\n", m.primary, len(m.backup))
	sum := sha256.Sum256(m.backup)
	switch {
	case m.sent && m.vouched != "":
		out += "sha256 " + m.vouched + "\n"
	case m.sent && m.cut > 0:
		out += "failed the connection broke\n"
	case m.sent:
		out += "sha256 " + hex.EncodeToString(sum[:]) + "\n"
	}
	return out
}

// sendBackup connects to the script, as drydock does when it hears of `waiting`.
func (m *manager) sendBackup() {
	m.mu.Lock()
	addr, content, cut := net.JoinHostPort("127.0.0.1", strconv.Itoa(m.receiver)), m.backup, m.cut
	m.mu.Unlock()
	for range 400 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(50 * time.Millisecond) // the listener comes up after the call, as the protocol says
			continue
		}
		if cut > 0 {
			_, _ = conn.Write(content[:cut])
			_ = conn.(*net.TCPConn).SetLinger(0)
		} else {
			_, _ = conn.Write(content)
		}
		_ = conn.Close()
		m.set(func() { m.sent = true })
		return
	}
}

// restoreRun is a script beside a real server, and a manager that sends a real backup of it. In the backup the only row
// of life.t says "backup", in the server it says "now".
type restoreRun struct {
	*client
	db      *mariadbd.Server
	service *mariadbdtest.Service
	n       int
}

func newRestoreRun(t *testing.T) *restoreRun {
	t.Helper()
	db := mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, LogBin: true})
	m := newManager(t, oddPassword, db.Port(), false)
	r := &restoreRun{client: newClient(t, m), db: db, service: mariadbdtest.NewService(t, db, "mariadb")}
	m.receiver = freeport.Pick(t)
	r.env = append(slices.DeleteFunc(r.env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }),
		"PATH="+r.service.Path(), "DRYDOCK_DB_SERVICE=mariadb", "DRYDOCK_SERVICE_WAIT=60",
		"DRYDOCK_RECEIVER_PORT="+strconv.Itoa(m.receiver))
	r.exec("CREATE DATABASE life", "CREATE TABLE life.t (v VARCHAR(20))", "INSERT INTO life.t VALUES ('backup')")
	m.backup = takeBackup(t, db)
	r.exec("UPDATE life.t SET v='now'")
	return r
}

func (r *restoreRun) exec(statements ...string) {
	r.t.Helper()
	db, err := r.db.DB()
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(r.t.Context(), s); err != nil {
			r.t.Fatalf("%s: %v", s, err)
		}
	}
}

// row is what life.t says, or why the server does not.
func (r *restoreRun) row() (v string) {
	r.t.Helper()
	db, err := r.db.DB()
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(r.t.Context(), "SELECT v FROM life.t").Scan(&v); err != nil {
		return err.Error()
	}
	return v
}

func takeBackup(t *testing.T, db *mariadbd.Server) []byte {
	t.Helper()
	dir := t.TempDir()
	option := filepath.Join(dir, "client.cnf")
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(oddPassword)
	writeFile(t, option, fmt.Sprintf("[client]\nuser=drydock\npassword=\"%s\"\nhost=127.0.0.1\nport=%d\n", escaped, db.Port()))
	cmd := exec.CommandContext(t.Context(), "mariadb-backup", "--defaults-extra-file="+option, "--backup", "--stream=xbstream", "--target-dir="+dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, said.String())
	}
	return out
}

// restore offers a job and runs one cycle.
func (r *restoreRun) restore(task string) stateReport {
	r.t.Helper()
	r.n++
	r.m.offer(task, fmt.Sprintf("JOB%03d", r.n), 1)
	r.mustCycle()
	return r.m.last(task)
}

// settled runs cycles until nothing of a restore is left.
func (r *restoreRun) settled() {
	r.t.Helper()
	for range 5 {
		if left := r.left(); len(left) == 0 {
			return
		}
		r.mustCycle()
	}
	r.t.Fatalf("left behind: %v", r.left())
}

func (r *restoreRun) left() (found []string) {
	for _, p := range []string{
		filepath.Join(r.db.Dir(), ".data.drydock-restore"), filepath.Join(r.db.DataDir(), ".drydock-restore"), filepath.Join(r.folder(), "restore"),
	} {
		if exists(p) {
			found = append(found, p)
		}
	}
	return found
}

// untouched checks that a failed restore left the server as it was.
func (r *restoreRun) untouched(got stateReport, why string) {
	r.t.Helper()
	if got.State != "error" || !strings.Contains(got.Identity.Result, why) {
		r.t.Errorf("reported %s: %s\nwant an error with %q", got.State, got.Identity.Result, why)
	}
	if v := r.row(); v != "now" {
		r.t.Errorf("the server says %q", v)
	}
	if left := r.left(); len(left) > 0 {
		r.t.Errorf("left behind: %v", left)
	}
}

func TestServerIsRestoredFromARealBackup(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"rename", "contents", "xtrabackup"} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			r := newRestoreRun(t)
			if layout == "contents" {
				r.fakeTool("mountpoint", "exit 0\n") // the data folder is one
			}
			tool := "mariabackup"
			if layout == "xtrabackup" { // the stand-ins check what they are asked for, and the MariaDB tools do it
				tool = layout
				r.fakeTool("xbstream", "[[ $# == 3 && $1 == -x && $2 == -C ]] || exit 64\nexec mbstream \"$@\"\n")
				r.fakeTool("xtrabackup", "[[ $# == 2 && $1 == --prepare && $2 == --target-dir=/* ]] || exit 64\nexec mariadb-backup \"$@\"\n")
			}
			for _, task := range []string{"reseed" + tool, "flashback" + tool} {
				r.exec("UPDATE life.t SET v='now'")
				got := r.restore(task)
				if got.State != "done" || got.Identity.Bytes == nil || *got.Identity.Bytes != int64(len(r.m.backup)) {
					t.Fatalf("%s: %s\n%s", task, got.State, strings.Join(r.m.logLines(), "\n"))
				}
				if v := r.row(); v != "backup" {
					t.Errorf("%s: the server says %q", task, v)
				}
				if left := r.left(); len(left) > 0 {
					t.Errorf("%s left behind: %v", task, left)
				}
			}
		})
	}
}

func TestWhateverFailsTheOldDataAreBack(t *testing.T) {
	t.Parallel()
	r := newRestoreRun(t)
	whole := r.m.backup
	const task = "reseedmariabackup"
	env := slices.Clone(r.env)

	r.m.set(func() { r.m.cut = len(whole) / 2 })
	r.untouched(r.restore(task), "")
	r.m.set(func() { r.m.cut, r.m.vouched = 0, strings.Repeat("ab", 32) })
	r.untouched(r.restore(task), "is not the one that was sent")
	r.m.set(func() { r.m.vouched, r.m.backup = "", []byte("no xbstream at all") })
	r.untouched(r.restore(task), "did not come whole")
	r.m.set(func() { r.m.backup = whole })

	r.fakeTool("df", "echo head; echo 'dev 1000 1 10 1% /'\n")
	r.untouched(r.restore(task), "no room for the restore")
	r.env = slices.Clone(env)
	r.fakeTool("mariadb-backup", "echo 'prepare went wrong' >&2; exit 1\n")
	r.untouched(r.restore(task), "preparing the backup failed")
	r.env = slices.Clone(env)

	r.fakeTool("mariadb-backup", corruptingTool)
	r.untouched(r.restore(task), "could not be started")
	r.env = slices.Clone(env)

	r.env = append(r.env, "DRYDOCK_SERVICE_WAIT=2")
	r.service.Fail(t, "stop", true)
	r.untouched(r.restore(task), "the server did not stop")
	r.service.Fail(t, "stop", false)
	r.env = slices.Clone(env)

	// A replica that cannot reach its primary is not better than before.
	r.exec("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='x', MASTER_PASSWORD='it''s \\\\ secret'")
	r.fakeTool("sleep", "exec "+lookPath(t, "sleep")+" 0.1\n")
	r.untouched(r.restore(task), "replication does not run")
	r.env = append(r.env, "DRYDOCK_RESTORE_REPLICATION=optional")
	if got := r.restore(task); got.State != "done" || r.row() != "backup" {
		t.Errorf("%s: %s, row %s", got.State, got.Identity.Result, r.row())
	}
	info, err := os.ReadFile(filepath.Join(r.db.DataDir(), "master.info"))
	if err != nil || !strings.Contains(string(info), "\nit's \\ secret\n") {
		t.Errorf("replication is set up with %q, %v", info, err)
	}
	// After a logical reseed that failed no address is there any more, but the account is. Then a server without either.
	r.m.set(func() { r.m.primary = "127.0.0.1:2" })
	for want, statements := range map[string][]string{
		"\n127.0.0.1\nx\nit's \\ secret\n2\n":            {"STOP SLAVE", "CHANGE MASTER TO MASTER_HOST='reseed-unfinished.invalid', MASTER_USER='x', MASTER_PASSWORD='it''s \\\\ secret'"},
		"\n127.0.0.1\ndrydock\n" + oddPassword + "\n2\n": {"STOP SLAVE", "RESET SLAVE ALL"},
	} {
		r.exec(statements...)
		if got := r.restore(task); got.State != "done" {
			t.Errorf("%s: %s", got.State, got.Identity.Result)
		}
		info, err = os.ReadFile(filepath.Join(r.db.DataDir(), "master.info"))
		if err != nil || !strings.Contains(string(info), want) {
			t.Errorf("replication is set up with %q, %v; want %q", info, err, want)
		}
	}
	if log := strings.Join(r.m.logLines(), "\n"); strings.Contains(log, "secret") {
		t.Errorf("a password in the log:\n%s", log)
	}
}

// TestAServerThatHasReplicasByNowIsLeftAlone: the job may have waited while the server became a primary.
func TestAServerThatHasReplicasByNowIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRestoreRun(t)
	replica := mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, LogBin: true})
	if err := mariadbd.Replicate(t.Context(), r.db, replica); err != nil {
		t.Fatal(err)
	}
	r.untouched(r.restore("reseedmariabackup"), "replicas are connected")
	if said := r.service.Said(t); said != "" {
		t.Errorf("the service was told: %s", said)
	}
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// corruptingTool prepares a backup that no server starts on.
const corruptingTool = `/usr/bin/mariadb-backup "$@" || exit
for a in "$@"; do [[ $a != --target-dir=* ]] || dir=${a#*=}; done
dd if=/dev/zero of="$dir/ibdata1" bs=64k count=16 conv=notrunc status=none
`

// killer is an mv that kills the script with the call number N of those that concern the restore: after the move ("after"),
// or when half of the files are moved ("half").
const killer = `if [[ "$*" == *drydock-restore* ]]; then
	n=$(($(cat %[1]q/count 2>/dev/null) + 1))
	echo "$n" >%[1]q/count
	if ((n == $(<%[1]q/at))); then
		args=("$@")
		if [[ $(<%[1]q/how) == half && $1 == -t ]]; then args=("${@:1:3}" "${@:4:($# - 3) / 2}"); fi
		/usr/bin/mv "${args[@]}"
		p=$PPID
		until [[ $(<"/proc/$p/comm") == bash && $(tr '\0' ' ' <"/proc/$p/cmdline") == *dbjobs* ]]; do
			p=$(awk '/^PPid:/ { print $2 }' "/proc/$p/status")
		done
		kill -9 "$p"
		echo "$*" >%[1]q/killed
		exit 1
	fi
fi
exec /usr/bin/mv "$@"
`

func TestKilledAnywhereTheOldDataAreBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		layout, how string
		corrupt     bool // the new server does not start: the kill falls into the undoing
		from, to    int
		ends        int // from this call on the restore is a success; 0: never
	}{
		{"rename", "after", false, 1, 7, 7},
		{"rename", "after", true, 7, 9, 0},
		{"contents", "half", false, 4, 8, 8},
		{"contents", "half", true, 8, 11, 0},
	} {
		t.Run(fmt.Sprintf("%s, start fails %t", c.layout, c.corrupt), func(t *testing.T) {
			t.Parallel()
			r := newRestoreRun(t)
			dir := t.TempDir()
			if c.layout == "contents" {
				r.fakeTool("mountpoint", "exit 0\n")
			}
			if c.corrupt {
				r.fakeTool("mariadb-backup", corruptingTool)
			}
			r.fakeTool("mv", fmt.Sprintf(killer, dir))
			for at := c.from; at <= c.to; at++ {
				r.exec("UPDATE life.t SET v='now'")
				writeFile(t, filepath.Join(dir, "at"), strconv.Itoa(at))
				writeFile(t, filepath.Join(dir, "how"), c.how)
				writeFile(t, filepath.Join(dir, "count"), "0")
				_ = os.Remove(filepath.Join(dir, "killed"))
				r.restore("reseedmariabackup")
				killed, err := os.ReadFile(filepath.Join(dir, "killed"))
				if err != nil {
					t.Fatalf("call %d: nothing was killed", at)
				}
				writeFile(t, filepath.Join(dir, "at"), "0")
				r.settled()
				r.mustCycle() // reports
				want, state := "now", "error"
				if c.ends > 0 && at >= c.ends {
					want, state = "backup", "done"
				}
				got := r.m.last("reseedmariabackup")
				if v := r.row(); v != want || got.State != state {
					t.Fatalf("killed in call %d (%s): the server says %q, reported %s; want %q, %s", at, bytes.TrimSpace(killed), v, got.State, want, state)
				}
			}
		})
	}
}
