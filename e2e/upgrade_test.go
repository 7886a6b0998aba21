package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/gateway/envelope"
	"drydock/internal/bustest"
	"drydock/internal/freeport"
	"drydock/job"
	"drydock/scripts"
)

// installed lays an earlier version of our script on a host, where it may be replaced, and gives that host a port of its
// own for it. The versions in testdata are `git show COMMIT:scripts/dbjobs`: the first one, of 98d4e0d, and 5548182, the
// first whose loop goes on as the new script.
func (h *host) installed(version string, port int) *host {
	h.s.t.Helper()
	f, err := os.Open(filepath.Join("testdata", version+".gz"))
	if err != nil {
		h.s.t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		h.s.t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		h.s.t.Fatal(err)
	}
	h.script = filepath.Join(h.s.t.TempDir(), "dbjobs")
	if err := os.WriteFile(h.script, text, 0o700); err != nil {
		h.s.t.Fatal(err)
	}
	h.env = append(h.env, "DRYDOCK_RECEIVER_PORT="+itoa(port))
	return h
}

// isPresent reports whether the host's script is the one of this version.
func (h *host) isPresent() bool {
	text, _ := os.ReadFile(h.script)
	return bytes.Equal(text, scripts.Script())
}

func TestOldScriptInALoopIsReplacedAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			port := freeport.Pick(t)
			s := newSite(t, options{mode: mode, keys: fmt.Sprintf("scheduler-db-servers-receiver-ports = %d", port)}).start()
			h := s.host(0).installed("dbjobs-before-containers", port)
			var err error
			if h.stderr, err = os.Create(filepath.Join(t.TempDir(), "stderr")); err != nil {
				t.Fatal(err)
			}
			defer h.stderr.Close()
			loop := h.background("--loop", "1")
			bustest.Until(t, 60*time.Second, "the script is replaced", h.isPresent)
			bustest.Until(t, 60*time.Second, "the loop goes on as the new one", func() bool {
				said, _ := os.ReadFile(h.stderr.Name())
				return bytes.Contains(said, []byte("was replaced: going on with it"))
			})
			for _, task := range []string{"errorlog", "mariabackup"} {
				if j := s.awaitEnd(s.run(task), task); j.State != job.Success {
					t.Errorf("%s is %s (%s); evidence %+v", task, j.State, j.Reason, j.Evidence)
				}
			}
			if err := syscall.Kill(loop.Process.Pid, 0); err != nil {
				t.Errorf("the loop has ended: %v", err)
			}
		})
	}
}

func TestFirstScriptThereWasIsReplacedBetweenTwoCycles(t *testing.T) {
	t.Parallel()
	port := freeport.Pick(t)
	s := newSite(t, options{mode: "api", keys: fmt.Sprintf("scheduler-db-servers-receiver-ports = %d", port)}).start()
	h := s.host(0).installed("dbjobs-first", port)
	id := s.run("errorlog")
	s.awaitState(id, "errorlog", job.Available)
	bustest.Until(t, 2*time.Minute, "the script is replaced", func() bool { h.cycle(); return h.isPresent() })
	if j := s.awaitEnd(id, "errorlog"); j.State != job.Success { // by the old one
		t.Errorf("errorlog is %s (%s)", j.State, j.Reason)
	}
	// The new one goes on with what the old one kept: the log from where it was, the token.
	id = s.run("errorlog")
	s.awaitState(id, "errorlog", job.Available)
	h.cycle()
	if j := s.awaitEnd(id, "errorlog"); j.State != job.Success || j.Stream.Bytes != 0 {
		t.Errorf("errorlog is %s (%s), stream %+v", j.State, j.Reason, j.Stream)
	}
}

// Scripts for replication-manager know neither our end line nor who drydock is: they are asked, sent, and left alone.
func TestForeignScriptWithoutTheEndLineIsOfferedOursOnce(t *testing.T) {
	t.Parallel()
	port := freeport.Pick(t)
	s := newSite(t, options{keys: fmt.Sprintf("scheduler-db-servers-receiver-ports = %d", port)}).start()
	cipher := envelope.New(s.secret)
	call := func(rest string) string {
		t.Helper()
		body := cipher.Seal(fmt.Appendf(nil, `{"server":"%s","secret":%q}`, s.server(), s.secret))
		url := "https://127.0.0.1:" + itoa(s.api) + "/api/clusters/lab/servers/" + strings.Replace(s.server().String(), ":", "/", 1) + rest
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: 30 * time.Second}
		res, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := call("/needs/jobs-check"); got != "true" {
		t.Fatalf("needs/jobs-check: %s", got)
	}
	to, _, _ := strings.Cut(strings.TrimPrefix(call("/actions/receive-jobs-check"), "RECEIVER_PORT="), "\n")
	send := exec.Command("socat", "-u", "-", "TCP:127.0.0.1:"+to)
	send.Stdin = strings.NewReader("#!/bin/bash\necho a script of replication-manager\n")
	if out, err := send.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bustest.Until(t, 30*time.Second, "the upgrade waits", func() bool { return call("/needs/jobs-upgrade") == "true" })
	l, err := net.Listen("tcp", "127.0.0.1:"+itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := call("/actions/send-jobs-upgrade"); got != "true" {
		t.Errorf("send-jobs-upgrade: %s", got)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience(30 * time.Second))); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience(30 * time.Second))); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || !bytes.Equal(text, scripts.Script()) || !bytes.HasSuffix(text, []byte("\n# EOF\n")) {
		t.Errorf("%d bytes came, %v", len(text), err)
	}
	// Whether it takes the new one or refuses it, it is not asked before the next check.
	bustest.Until(t, 30*time.Second, "it is left alone", func() bool { return call("/needs/jobs-upgrade") == "false" })
	if got := call("/needs/jobs-check"); got != "false" {
		t.Errorf("needs/jobs-check: %s", got)
	}
}
