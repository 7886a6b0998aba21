package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/store"
)

// rest calls the API as the site's user and gives the status and the body.
func (s *site) rest(method, path, body string) (int, []byte) {
	s.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	call := func(method, path, token, body string) (int, []byte) {
		req, err := http.NewRequest(method, "https://127.0.0.1:"+itoa(s.api)+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		return res.StatusCode, data
	}
	var login struct{ Token string }
	if _, data := call("POST", "/api/login", "", `{"username":"admin","password":"secret"}`); json.Unmarshal(data, &login) != nil {
		s.t.Fatalf("login: %s", data)
	}
	return call(method, path, login.Token, body)
}

// reseedOver orders a logical reseed of the first server over REST and gives the job's id.
func (s *site) reseedOver(kind string) string {
	s.t.Helper()
	m := s.servers[0]
	path := "/api/clusters/lab/servers/127.0.0.1/" + itoa(m.Port()) + "/actions/reseed/" + kind
	var id string
	bustest.Until(s.t, 60*time.Second, "the reseed is taken", func() bool { // not before drydock knows every server
		status, data := s.rest("POST", path, `{"confirm":"`+m.Addr()+`"}`)
		var answer struct {
			Jobs []struct {
				ID string `json:"id"`
			} `json:"jobs"`
		}
		if status == http.StatusConflict && bytes.Contains(data, []byte("not known")) {
			return false
		}
		if err := json.Unmarshal(data, &answer); status != http.StatusAccepted || err != nil || len(answer.Jobs) != 1 {
			s.t.Fatalf("%d %s", status, data)
		}
		id = answer.Jobs[0].ID
		return true
	})
	return id
}

// strayPair is a site whose first server is a replica of the second, and has lost and gained rows.
func strayPair(t *testing.T, keys string) (s *site, primary *mariadbd.Server, want string) {
	t.Helper()
	primary, replica := mariadbdtest.Pair(t, mariadbd.Options{Password: password})
	fillShop(t, primary)
	if err := mariadbd.CatchUp(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	s = newSite(t, options{servers: []*mariadbd.Server{replica, primary}, keys: keys}).start()
	s.stray()
	return s, primary, shopSums(t, primary)
}

func (s *site) stray() {
	query(s.t, s.servers[0], "DELETE FROM shop.goods WHERE id < 100", "CREATE DATABASE IF NOT EXISTS stray_schema")
}

// checkReseeded compares the first server with what the primary had, and lets it replicate a change.
func (s *site) checkReseeded(primary *mariadbd.Server, want string) {
	s.t.Helper()
	if got := shopSums(s.t, s.servers[0]); got != want {
		s.t.Errorf("reseeded\n%s\nwant\n%s", got, want)
	}
	query(s.t, primary, "INSERT INTO shop.old VALUES (3)", "DELETE FROM shop.old WHERE i = 3")
	if err := mariadbd.CatchUp(s.t.Context(), primary, s.servers[0]); err != nil {
		s.t.Error(err)
	}
}

func TestLogicalReseedsOverREST(t *testing.T) {
	t.Parallel()
	s, primary, want := strayPair(t, "compress-backups = \"zstd\"\nbackup-mydumper-stall-timeout = \"10s\"\n")
	for _, tool := range []string{"mysqldump", "mydumper"} {
		out := s.mustCLI("run", "lab", tool, "--server", primary.Addr(), "--wait")
		backup := strings.Fields(out)[0]
		s.stray()
		j := s.awaitEnd(s.reseedOver("logicalbackup"), "reseedlogical")
		if j.State != job.Success || j.Args[job.ArgBackup] != backup || !strings.Contains(j.Evidence.Result, tool+" backup "+backup) {
			t.Fatalf("%s: %s (%s), %+v", tool, j.State, j.Reason, j.Evidence)
		}
		s.checkReseeded(primary, want)
	}
	s.stray()
	if j := s.awaitEnd(s.reseedOver("logicalmaster"), "reseedlogicalmaster"); j.State != job.Success {
		t.Fatalf("%s (%s)", j.State, j.Reason)
	}
	s.checkReseeded(primary, want)

	for name, c := range map[string]struct{ server, confirm string }{
		"the primary":         {itoa(primary.Port()), primary.Addr()},
		"without a confirm":   {itoa(s.servers[0].Port()), ""},
		"confirm of another":  {itoa(s.servers[0].Port()), primary.Addr()},
		"primary unconfirmed": {itoa(primary.Port()), ""},
	} {
		for _, kind := range []string{"logicalbackup", "logicalmaster"} {
			status, data := s.rest("POST", "/api/clusters/lab/servers/127.0.0.1/"+c.server+"/actions/reseed/"+kind, `{"confirm":"`+c.confirm+`"}`)
			if status != http.StatusConflict {
				t.Errorf("%s %s: %d %s", kind, name, status, data)
			}
		}
	}
	// Nobody gets around the confirmation by running the task, and an order that somebody writes into the ledger has none.
	if out, err := s.cli("run", "lab", "reseedlogicalmaster", "--server", s.servers[0].Addr(), "--confirm"); err == nil || !strings.Contains(out, "use drydock reseed") {
		t.Errorf("run: %v, %s", err, out)
	}
	if status, data := s.rest("POST", "/api/clusters/lab/servers/127.0.0.1/"+itoa(s.servers[0].Port())+"/jobs/reseedlogicalmaster?confirm=1", ""); status != http.StatusConflict {
		t.Errorf("run over REST: %d %s", status, data)
	}
	tick, err := store.NewLedger(s.bus(), "test").Run(bustest.Context(t), store.ByHand("lab", "reseedlogicalmaster", []job.Server{s.server()}, nil, "test", false))
	if err != nil {
		t.Fatal(err)
	}
	if j := s.await("reseedlogicalmaster", "ended", func(j job.Job) bool { return j.Tick == tick.ID && !j.State.Live() }); j.State != job.Halted || !strings.Contains(j.Reason, "nobody confirmed") {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	s.checkReseeded(primary, want)
	if strings.Contains(s.proc.log.text(), s.secret) {
		t.Error("the password is in drydock's log")
	}
}

func TestAReseedCutByKill9HoldsItsServerOutAndIsDoneAnew(t *testing.T) {
	t.Parallel()
	s, primary, want := strayPair(t, `scheduler-jobs-lease = "5s"`)
	lock := query(t, s.servers[0], "LOCK TABLES mysql.help_topic WRITE")
	id := s.reseedOver("logicalmaster")
	var pids []int
	bustest.Until(t, 60*time.Second, "dump and client are at work", func() bool {
		pids = s.tools("mariadb-dump", "mariadb")
		return len(pids) == 2
	})
	for _, pid := range pids {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
			if err != nil || bytes.Contains(text, []byte(s.secret)) {
				t.Errorf("the password is in the %s of %d, or it cannot be read: %v", file, pid, err)
			}
		}
	}
	waiting := "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for % metadata lock'"
	count := func() (n int) {
		if err := query(t, s.servers[0]).QueryRowContext(bustest.Context(t), waiting).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	bustest.Until(t, 30*time.Second, "the load waits", func() bool { return count() == 1 })
	s.killAndStart()
	bustest.Until(t, 10*time.Second, "the programs end with drydock", func() bool { return len(s.tools("mariadb-dump", "mariadb")) == 0 })
	if left := s.workLeft(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if j := s.awaitEnd(id, "reseedlogicalmaster"); j.State != job.Halted {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
	id = s.reseedOver("logicalmaster")
	bustest.Until(t, 60*time.Second, "the next client is at work", func() bool { return len(s.tools("mariadb")) == 1 })
	bustest.Until(t, 30*time.Second, "only the new load waits", func() bool { return count() == 1 })
	if _, err := lock.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if j := s.awaitEnd(id, "reseedlogicalmaster"); j.State != job.Success {
		t.Fatalf("%s (%s)", j.State, j.Reason)
	}
	s.checkReseeded(primary, want)
}
