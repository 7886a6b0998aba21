package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

// bootstrap makes the server of a stand-in for systemd anew, as a site's own program would: a new data folder, and
// drydock's account in it. It is filled with the folder of the data, the settings, the socket, systemctl, and its diary.
const bootstrap = `[[ ! -e %[1]q ]] || { echo 'there are data still' >&2; exit 1; }
root=()
((EUID)) || root=(--user=root)
%[6]q --defaults-file=%[2]q --datadir=%[1]q --rpm --skip-name-resolve --skip-test-db "${root[@]}" >%[5]q/install 2>&1
%[4]q start db
shopt -u patsub_replacement 2>/dev/null
back=$'\x5c' mark="'"
password=${REPLICATION_MANAGER_HOST_PASSWORD//"$back"/$back$back}
password=${password//"$mark"/$mark$mark}
account="'$REPLICATION_MANAGER_HOST_USER'@'$REPLICATION_MANAGER_HOST_NAME'"
printf '%%s\n' "SET sql_log_bin=0; CREATE OR REPLACE USER $account IDENTIFIED BY '$password'; GRANT ALL ON *.* TO $account WITH GRANT OPTION;" |
	mariadb --no-defaults --default-character-set=utf8mb4 --socket=%[3]q -uroot
echo "$DRYDOCK_ACTION $REPLICATION_MANAGER_HOST_NAME:$REPLICATION_MANAGER_HOST_PORT" >>%[5]q/ran`

// The drydock that fills the server is killed once meanwhile.
func TestAReplicaIsMadeAnewByTheSitesProgramsAndFilledFromThePrimary(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	fillShop(t, primary)
	query(t, primary, "CREATE USER repl@127.0.0.1 IDENTIFIED BY 'of replicas'", "GRANT REPLICATION SLAVE ON *.* TO repl@127.0.0.1")
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	query(t, replica, "SET sql_log_bin=0", "CREATE DATABASE stray")
	install, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		t.Fatal(err)
	}
	service, diary := mariadbdtest.NewService(t, replica, "db"), t.TempDir()
	cleanup := writeScript(t, fmt.Sprintf("set -e\n%q stop db\nrm -r -- %q\necho \"$DRYDOCK_ACTION $port\" >>%q/ran", service.Systemctl(), replica.DataDir(), diary))
	s := newSite(t, options{servers: []*mariadbd.Server{primary, replica}, keys: fmt.Sprintf(
		"prov-orchestrator = 'script'\nprov-db-cleanup-script = %q\nprov-db-bootstrap-script = %q\nreplication-credential = 'repl:of replicas'\nrolling-gate-timeout = '2m'\nscheduler-jobs-lease = '5s'\n", cleanup,
		writeScript(t, "set -e\n"+fmt.Sprintf(bootstrap, replica.DataDir(), replica.ConfigFile(), replica.Socket(), service.Systemctl(), diary, install)))}).start()

	if out, err := s.cli("run", "lab", "rollingreprov"); err == nil || !strings.Contains(out, "--confirm does it anyway") {
		t.Errorf("run without --confirm: %v, %s", err, out)
	}
	lock := query(t, primary, "LOCK TABLES shop.goods WRITE")
	id := strings.Fields(s.mustCLI("run", "lab", "rollingreprov", "--confirm"))[0]
	bustest.Until(t, time.Minute, "the dump waits", func() bool {
		var n int
		err := lock.QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for % metadata lock'").Scan(&n)
		return err == nil && n > 0
	})
	s.killAndStart()
	if _, err := lock.ExecContext(bustest.Context(t), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	jobs := store.NewJobs(s.bus(), "test", nil)
	var j job.Job
	bustest.Until(t, 3*time.Minute, "the operation has ended", func() bool {
		j, _, err = jobs.Last(bustest.Context(t), job.Key{Cluster: "lab", Task: "rollingreprov"})
		return err == nil && j.ID == id && !j.State.Live()
	})
	if j.State != job.Success {
		t.Fatalf("%s (%s), plan %+v, said %q", j.State, j.Reason, j.Plan, service.Said(t))
	}

	ran, err := os.ReadFile(filepath.Join(diary, "ran"))
	if want := fmt.Sprintf("cleanup %d\nreprovision %s\n", replica.Port(), replica.Addr()); err != nil || string(ran) != want {
		t.Errorf("the programs ran as %q, %v; want %q", ran, err, want)
	}
	i := slices.IndexFunc(j.Plan.Stages, func(st job.Stage) bool { return st.Server.Port == replica.Port() })
	st := j.Plan.Stages[i]
	if st.State != job.StageDone || st.After == nil || len(st.After.Channels) != 1 || st.After.Lag == nil {
		t.Errorf("the replica's turn: %+v", st)
	}
	if p := j.Plan.Stages[1-i]; p.State != job.StageSkipped {
		t.Errorf("the primary's turn: %+v", p)
	}
	seed, _, err := jobs.Last(bustest.Context(t), job.Key{Cluster: "lab", Server: st.Server, Task: "reseedlogicalmaster"})
	if err != nil || seed.ID != st.Job || seed.State != job.Success || seed.Trigger != (job.Trigger{Kind: job.Rolling, By: id}) {
		t.Errorf("the seed: %+v, %v", seed, err)
	}
	if got, want := shopSums(t, replica), shopSums(t, primary); got != want {
		t.Errorf("filled with\n%s\nwant\n%s", got, want)
	}
	var stray sql.NullString
	err = query(t, replica).QueryRowContext(bustest.Context(t), "SELECT MAX(SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'stray'").Scan(&stray)
	if err != nil || stray.Valid {
		t.Errorf("what only the old server had is there: %v, %v", stray, err)
	}
	query(t, primary, "INSERT INTO shop.old VALUES (3)")
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Error(err)
	}
	if text := s.proc.log.text(); strings.Contains(text, s.secret) || strings.Contains(text, "of replicas") {
		t.Error("a password is in drydock's log")
	}
}
