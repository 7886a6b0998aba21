package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/freeport"
	"drydock/job"
)

// failingTool puts a mariadb-backup in the script's PATH that says why and fails, until the file `go` appears.
func (h *host) failingTool(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	tool := `#!/bin/bash
real=$(PATH=${PATH#*:} command -v mariadb-backup)
case " $* " in *" --backup "*) [ -e ` + dir + `/go ] || { echo "mariabackup: cannot read the log" >&2; exit 7; } ;; esac
exec "$real" "$@"
`
	for _, name := range []string{"mariadb-backup", "mariabackup"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "PATH="+dir+":"+os.Getenv("PATH"))
	return dir
}

// alerts lists what the CLI says.
func (s *site) alerts(args ...string) (out []bus.Alert) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.mustCLI(append([]string{"alerts", "-o", "json"}, args...)...)), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) isOpen(code string) bool {
	s.t.Helper()
	return slices.ContainsFunc(s.alerts(), func(a bus.Alert) bool { return a.Code == code })
}

// awaitAlert waits until a condition is open, or not.
func (s *site) awaitAlert(code string, open bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience(30 * time.Second)); s.isOpen(code) != open; {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: open is still %v\n%s", code, !open, s.mustCLI("alerts", "--all"))
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// edgesOf lists the edges of a code, oldest first.
func (s *site) edgesOf(code string) (out []string) {
	s.t.Helper()
	for _, a := range s.alerts("--all", "--limit", "1000") {
		if a.Code == code {
			out = append(out, string(a.State))
		}
	}
	slices.Reverse(out)
	return out
}

func TestAFailedBackupIsAConditionUntilOneSucceedsOverAKillAndWithTwoEvaluators(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api", keys: `backup-max-age = "1h"`}).start()
	h := s.host(0)
	dir := h.failingTool(t)
	s.awaitAlert("WARN0101", true)
	s.awaitAlert("DOCK0201", true)

	id := s.run("mariabackup")
	s.awaitAlert("WARN0073", true)
	s.awaitState(id, "mariabackup", job.Available)
	h.cycle()
	if j := s.awaitEnd(id, "mariabackup"); j.State == job.Success {
		t.Fatalf("the broken backup is a success")
	}
	s.awaitAlert("DOCK0101", true)
	s.awaitAlert("WARN0073", false)
	failed := s.alerts("--task", "mariabackup")
	if len(failed) != 1 || failed[0].JobID != id || failed[0].Server != s.server() || failed[0].Severity != bus.SeverityError {
		t.Errorf("the condition says %+v", failed)
	}
	if list := s.mustCLI("alerts"); !strings.Contains(list, "DOCK0101") || !strings.Contains(list, id) {
		t.Errorf("the table says\n%s", list)
	}

	s.killAndStart()
	second := s.another("alert")
	touch(t, filepath.Join(dir, "go"))
	good := s.run("mariabackup")
	s.awaitState(good, "mariabackup", job.Available)
	s.awaitAlert("WARN0073", true)
	h.cycle()
	s.awaitState(good, "mariabackup", job.Success)
	for _, code := range []string{"DOCK0101", "DOCK0201", "WARN0101", "WARN0073"} {
		s.awaitAlert(code, false)
	}
	second.stop(syscall.SIGTERM)
	for code, want := range map[string][]string{
		"DOCK0101": {"opened", "closed"}, "DOCK0201": {"opened", "closed"}, "WARN0101": {"opened", "closed"},
		"WARN0073": {"opened", "closed", "opened", "closed"},
	} {
		if got := s.edgesOf(code); !slices.Equal(got, want) {
			t.Errorf("%s: edges %v, want %v", code, got, want)
		}
	}
	s.checkAlertsOverREST()
}

func TestWhatJobsWaitForIsAConditionAsLongAsTheyWait(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{global: "scheduler-db-servers-sender-ports = " + itoa(freeport.Pick(t))}).start()
	streams := []string{"errorlog", "auditlog", "slowquery"}[:1+len(s.receivers())] // one more than there are ports
	var asked []string
	for i, task := range streams {
		asked = append(asked, s.run(task))
		if i < len(s.receivers()) {
			s.awaitState(asked[i], task, job.Available)
		}
	}
	s.awaitAlert("DOCK0301", true)
	optimize := s.run("optimize")
	s.awaitState(optimize, "optimize", job.Available)
	backup := s.run("mariabackup")
	s.awaitAlert("WARN0110", true)
	s.awaitAlert("WARN0072", true)
	for _, id := range append(asked, optimize, backup) {
		s.mustCLI("cancel", id)
	}
	for _, code := range []string{"DOCK0301", "WARN0110", "WARN0072", "WARN0073"} {
		s.awaitAlert(code, false)
	}
	if s.isOpen("DOCK0101") {
		t.Error("what an operator canceled is called failed")
	}
}

// checkAlertsOverREST compares the API with the CLI.
func (s *site) checkAlertsOverREST() {
	s.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	call := func(method, path, token, body string) []byte {
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
		if err != nil || res.StatusCode != http.StatusOK {
			s.t.Fatalf("%s: %d %s %v", path, res.StatusCode, data, err)
		}
		return data
	}
	var login struct{ Token string }
	if err := json.Unmarshal(call("POST", "/api/login", "", `{"username":"admin","password":"secret"}`), &login); err != nil {
		s.t.Fatal(err)
	}
	var open, all struct{ Alerts []bus.Alert }
	if err := json.Unmarshal(call("GET", "/api/alerts", login.Token, ""), &open); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(call("GET", "/api/alerts?all=1&since=1h", login.Token, ""), &all); err != nil {
		s.t.Fatal(err)
	}
	if cli := s.alerts("--all", "--limit", "1000"); len(all.Alerts) != len(cli) || len(open.Alerts) != len(s.alerts()) {
		s.t.Errorf("the API lists %d open and %d edges, the CLI %d and %d", len(open.Alerts), len(all.Alerts), len(s.alerts()), len(cli))
	}
}
