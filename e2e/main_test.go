package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
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

var modes = []string{"sql", "api"}

// fill gives a server enough data that a backup takes a moment.
func fill(t *testing.T, m *mariadbd.Server, size int64) {
	t.Helper()
	if err := mariadbd.Generate(t.Context(), m, size, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEveryTaskOfTheMainJobReachesSuccessInBothModes(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			secret := password + "canary" + mode
			db := mariadbdtest.Start(t, mariadbd.Options{Password: secret, LogBin: true, Extra: []string{
				"plugin-load-add=server_audit", "plugin-load-add=sql_errlog", "plugin-maturity=unknown", "server_audit_logging=1",
			}})
			s := newSite(t, options{mode: mode, secret: secret, servers: []*mariadbd.Server{db}, keys: `compress-backups = "zstd"` + "\n" + `backup-hash = "sha256"`}).start()
			secrets := s.release()
			watch := s.watchArgv(secrets)
			fill(t, s.servers[0], 20<<20)
			h := s.host(0)
			tasks := []string{"errorlog", "slowquery", "auditlog", "sqlerrorlog", "mariabackup", "optimize"}
			ids := map[string]string{}
			for _, task := range tasks {
				ids[task] = s.run(task)
			}
			h.background("--loop", "1")
			for _, task := range tasks {
				if j := s.awaitEnd(ids[task], task); j.State != job.Success {
					t.Errorf("%s is %s (%s); evidence %+v", task, j.State, j.Reason, j.Evidence)
				}
			}
			s.checkNoOverlap(ids["mariabackup"], ids["optimize"])
			s.checkBackup(ids["mariabackup"], mode == "api")
			s.checkCollectedLog()
			watch.check(t)
			s.checkCanaries(h, secrets)
			s.checkModes()
		})
	}
}

// checkNoOverlap: an optimize under a backup once made a backup that ended well and did not restore.
func (s *site) checkNoOverlap(a, b string) {
	s.t.Helper()
	first, second := s.awaitState(a, "mariabackup", job.Success), s.awaitState(b, "optimize", job.Success)
	if first.Started().After(second.Started()) {
		first, second = second, first
	}
	if second.Started().Before(first.Ended()) {
		s.t.Errorf("%s ran from %s to %s, %s began at %s", first.Task, first.Started(), first.Ended(), second.Task, second.Started())
	}
}

// checkBackup proves the backup without drydock: hash, zstd, mbstream, prepare. Then drydock proves it, by commands or by jobs.
func (s *site) checkBackup(id string, queued bool) {
	s.t.Helper()
	j := s.awaitState(id, "mariabackup", job.Success)
	text, err := os.ReadFile(j.Stream.Path + ".manifest.json")
	if err != nil {
		s.t.Fatal(err)
	}
	var m store.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		s.t.Fatal(err)
	}
	file, err := os.ReadFile(m.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(file)
	if got := hex.EncodeToString(sum[:]); got != m.StoredHash {
		s.t.Errorf("the file on disk hashes to %s, the manifest says %s", got, m.StoredHash)
	}
	if m.GTID == "" || m.BinlogFile == "" || m.BinlogPos == 0 || m.ID != id || m.Size == 0 {
		s.t.Errorf("the manifest lacks facts: %+v", m)
	}
	if !slices.Contains(m.Checks, job.Check{Name: "format", Held: true, Note: job.FormatGood}) {
		s.t.Errorf("the stream's format was not checked: %+v", m.Checks)
	}
	dir := s.t.TempDir()
	if out, err := exec.Command("sh", "-c", `zstd -dqc "$1" | mbstream -x -C "$2" && mariabackup --prepare --target-dir="$2"`, "sh", m.Path, dir).CombinedOutput(); err != nil {
		s.t.Errorf("the backup does not prepare: %v\n%s", err, out)
	}
	s.besides(m.Path)
	if list := s.mustCLI("backups", "-o", "json"); !strings.Contains(list, id) {
		s.t.Errorf("the catalogue does not list it: %s", list)
	}
	verify, good, drill, restored := []string{"backups", "verify", id}, "OK", []string{"drill", "run", "--quiet", id}, "yes"
	if queued {
		verify, good = append(verify, "--queue", "--wait"), "success"
		drill, restored = append(drill, "--queue", "--wait"), "success"
	}
	if out := s.mustCLI(verify...); !strings.Contains(out, good) || strings.TrimSpace(s.mustCLI("backups", "key")) == "" {
		s.t.Errorf("drydock does not verify it: %s", out)
	}
	if out := s.mustCLI(drill...); !strings.Contains(out, restored) {
		s.t.Errorf("the drill says: %s", out)
	}
	if list := s.mustCLI("backups"); !strings.Contains(list, "restored 20") {
		s.t.Errorf("the listing does not say that it was restored: %s", list)
	}
}

// checkCollectedLog compares what was collected with the server's own error log.
func (s *site) checkCollectedLog() {
	s.t.Helper()
	got := s.collected()
	whole, err := os.ReadFile(s.servers[0].ErrorLog())
	if err != nil {
		s.t.Fatal(err)
	}
	if got == "" || !strings.HasPrefix(string(whole), got) {
		s.t.Errorf("collected %d bytes that are not the beginning of the server's error log (%d bytes)", len(got), len(whole))
	}
}

// collected is what the receivers have of the error log, the last piece of it last.
func (s *site) collected() (all string) {
	s.t.Helper()
	var last time.Time
	for _, file := range s.glob("lab", "127.0.0.1_"+itoa(s.servers[0].Port()), "log_error.log") {
		info, err := os.Stat(file)
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		if info.ModTime().Before(last) {
			all = string(text) + all
			continue
		}
		last, all = info.ModTime(), all+string(text)
	}
	return all
}

func (s *site) backups() []string {
	s.t.Helper()
	all := s.glob("Backups", "lab", "127.0.0.1_"+itoa(s.servers[0].Port()), "*.xbstream*")
	return slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, ".json") })
}

func TestCronTickStartsTheJobAndTheLedgerSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", keys: `
monitoring-scheduler = true
scheduler-db-servers-optimize = true
scheduler-db-servers-optimize-cron = "* * * * * *"
`}).start()
	h := s.host(0)
	h.background("--loop", "1")
	s.await("optimize", "a success by cron", func(j job.Job) bool {
		return j.State == job.Success && j.Trigger.Kind == job.Cron
	})
	ledger := s.mustCLI("ticks", "-o", "json")
	for _, want := range []string{`"armed"`, `"fired"`} {
		if !strings.Contains(ledger, want) {
			t.Errorf("the ledger does not say %s:\n%s", want, ledger)
		}
	}
	if next := s.mustCLI("next"); !strings.Contains(next, "optimize") || !strings.Contains(next, "scheduler-db-servers-logs is false") {
		t.Errorf("next says:\n%s", next)
	}
}

func TestLogIsCollectedWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api"}).start()
	h := s.host(0)
	first := s.run("errorlog")
	s.awaitState(first, "errorlog", job.Available)
	h.cycle() // the script learns where the log is
	s.awaitState(first, "errorlog", job.Success)
	if err := s.servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	const crash = "2026-11-22 12:00:00 0 [ERROR] mysqld got signal 11 ;\n"
	f, err := os.OpenFile(s.servers[0].ErrorLog(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(crash)
	f.Close()
	id := s.run("errorlog")
	s.awaitState(id, "errorlog", job.Available)
	out := h.cycle()
	if j := s.awaitEnd(id, "errorlog"); j.State != job.Success {
		t.Fatalf("errorlog is %s (%s)\n%s", j.State, j.Reason, out)
	}
	got := s.collected()
	if !strings.HasSuffix(got, crash) || strings.Count(got, "ready for connections") == 0 {
		t.Errorf("the crash log did not come: %q", got)
	}
}

func TestStreamsOfSeveralServersGoToTheirOwnFolders(t *testing.T) {
	t.Parallel()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	s := newSite(t, options{servers: []*mariadbd.Server{primary, replica}, keys: `
backup-keep-last = 1
backup-keep-daily = 0
backup-keep-weekly = 0
backup-keep-monthly = 0
`}).start()
	out := s.mustCLI("run", "lab", "mariabackup")
	if n := strings.Count(out, "mariabackup on"); n != 2 {
		t.Fatalf("%d jobs for two servers:\n%s", n, out)
	}
	for i := range s.servers {
		s.host(i).background("--loop", "1") // both, whichever is offered first
	}
	s.await("mariabackup", "success on both", func(job.Job) bool {
		return strings.Count(s.mustCLI("jobs", "--state", "success", "-o", "json"), `"task": "mariabackup"`) == 2
	})
	if _, err := s.cli("run", "lab", "mariabackup", "--server", "127.0.0.1:1"); err == nil {
		t.Error("a server outside the cluster was accepted")
	}
	if n := len(s.backups()); n != 1 {
		t.Errorf("%d backups in the primary's folder", n)
	}
	if list := s.mustCLI("backups"); strings.Count(list, "mariabackup-") != 2 {
		t.Errorf("the catalogue:\n%s", list)
	}
	s.checkPrune()
}

// checkPrune has the first server backed up twice more. Of three backups one at least is older than another of its receiver, also
// where there are two: whichever has the job must have that one deleted, and what is the newest of a receiver left.
func (s *site) checkPrune() {
	s.t.Helper()
	for range 2 {
		s.mustSucceed(s.run("mariabackup"), "mariabackup")
	}
	catalog := store.NewCatalog(s.bus())
	all, err := catalog.List(bustest.Context(s.t), "lab", job.Server{})
	if err != nil {
		s.t.Fatal(err)
	}
	var want []string
	seen := map[string]bool{}
	for _, m := range all { // newest first
		if of := m.Receiver + " " + m.Server.String(); !seen[of] {
			seen[of], want = true, append(want, m.Path)
		}
	}
	if len(all) != 4 || len(want) > 3 {
		s.t.Fatalf("%d backups, %d of them to be kept", len(all), len(want))
	}
	s.mustCLI("backups", "prune", "lab", "--confirm", "lab", "--wait")
	left := slices.DeleteFunc(s.glob("Backups", "lab", "*", "*.xbstream*"), func(f string) bool { return strings.HasSuffix(f, ".json") })
	slices.Sort(want)
	slices.Sort(left)
	if !slices.Equal(left, want) {
		s.t.Errorf("a prune left %v, want %v", left, want)
	}
	if all, err = catalog.List(bustest.Context(s.t), "lab", job.Server{}); err != nil || len(all) != len(want) {
		s.t.Errorf("the catalogue lists %d backups: %v", len(all), err)
	}
}
