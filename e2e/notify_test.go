package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
)

// inbox is a web server that takes notifications.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	in := &inbox{}
	in.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		in.mu.Lock()
		defer in.mu.Unlock()
		in.bodies = append(in.bodies, string(body))
	}))
	t.Cleanup(in.Close)
	return in
}

// about counts the messages that name a text.
func (in *inbox) about(text string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, b := range in.bodies {
		if strings.Contains(b, text) {
			n++
		}
	}
	return n
}

// until waits for what takes a while on a busy machine.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience(60 * time.Second)); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in time: %s\n%s", what, s.mustCLI("alerts", "sent"))
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestConditionsAreNotifiedOnceOverAKillAndNoSecretGetsOut(t *testing.T) {
	t.Parallel()
	const canary = "c4nary-s3cret"
	in := newInbox(t)
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\ncat >> "+tool+".in; echo >> "+tool+".in\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(secret, []byte("generic+"+in.URL+"/"+canary+"?template=json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	global := fmt.Sprintf(`alert-destinations = "chat:file:%s, broken:ntfy://u:%s@127.0.0.1:1/x?scheme=http"
alert-script = %q
alert-routes = "chat: warn; broken: error; script: error @lab"
alert-group-wait = "1s"
nats-notifications-max-bytes = "16MiB"`, secret, canary, tool)
	s := newSite(t, options{mode: "api", global: global, keys: `backup-max-age = "1h"`}).start()
	s.until("the chat is told", func() bool { return in.about("DOCK0201") == 1 && in.about("WARN0101") == 1 })
	s.until("the script is told", func() bool {
		data, _ := os.ReadFile(tool + ".in")
		return strings.Contains(string(data), `"code":"DOCK0201"`) && !strings.Contains(string(data), "WARN0101")
	})
	s.until("it is recorded", func() bool {
		var sent []bus.Notification
		if err := json.Unmarshal([]byte(s.mustCLI("alerts", "sent", "-o", "json", "--destination", "chat")), &sent); err != nil {
			t.Fatal(err)
		}
		return len(sent) > 0 && sent[0].State == bus.TrySent
	})
	s.killAndStart()
	var out string
	var err error
	s.until("it notifies again", func() bool { // the gateway answers first
		out, err = s.cli("alerts", "test", "chat")
		return err == nil || !strings.Contains(out, "no process with the role alert")
	})
	if err != nil || !strings.Contains(out, "took the test message") {
		t.Errorf("the test says %v, %s", err, out)
	}
	out, err = s.cli("alerts", "test", "broken")
	if err == nil || !strings.Contains(out, "connection refused") {
		t.Errorf("the test of a broken destination says %v, %s", err, out)
	}
	s.mustCLI("alerts", "ack", "lab._.DOCK0201", "--reason", "known", "--until", "8h")
	if list := s.mustCLI("alerts"); !strings.Contains(list, "lab._.DOCK0201") || !strings.Contains(list, " until ") {
		t.Errorf("the list says\n%s", list)
	}
	if in.about("DOCK0201") != 1 || in.about("test message") != 1 {
		t.Errorf("after the kill it was told again: %q", in.bodies)
	}
	check, _ := s.cli("check")
	texts := check + out + s.mustCLI("alerts", "sent", "-o", "json") + s.mustCLI("alerts", "--all", "-o", "json") + s.proc.log.last(1<<20)
	if strings.Contains(texts, canary) {
		t.Error("a secret of a destination gets out")
	}
	if !strings.Contains(check, "gets error and above of lab") {
		t.Errorf("the check says\n%s", check)
	}
	s.checkAckOverREST()
}

// checkAckOverREST takes the acknowledgement of the CLI back and gives another one.
func (s *site) checkAckOverREST() {
	s.t.Helper()
	call := func(method, path, body string) (int, string) {
		code, data := s.rest(method, path, body)
		return code, string(data)
	}
	const path = "/api/alerts/lab._.DOCK0201/ack"
	if code, body := call("DELETE", path, ""); code != http.StatusOK || strings.Contains(body, `"ack"`) {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := call("POST", path, `{"reason":"r","until":"2001-01-01T00:00:00Z"}`); code != http.StatusBadRequest {
		s.t.Errorf("in the past: %d %s", code, body)
	}
	if code, body := call("POST", path, `{"reason":"on it"}`); code != http.StatusOK || !strings.Contains(body, `"by":"admin"`) {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := call("GET", "/api/alerts", ""); code != http.StatusOK || !strings.Contains(body, `"reason":"on it"`) {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := call("POST", "/api/alerts/lab._.NOSUCH/ack", `{}`); code != http.StatusNotFound || !strings.Contains(body, "unknown_condition") {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := call("GET", "/api/notifications?destination=chat", ""); code != http.StatusOK || !strings.Contains(body, `"state":"sent"`) {
		s.t.Errorf("%d %s", code, body)
	}
}

// The documents promise that what is printed there works.
func TestTheSubscribersOfTheDocumentsWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/subscribe.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../docs/examples/subscriber/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "package main")
	if !strings.Contains(string(page), "package main"+body) {
		t.Error("docs/subscribe.md shows another program than docs/examples/subscriber/main.go")
	}
	dir := t.TempDir()
	subscriber := filepath.Join(dir, "subscriber")
	if out, err := exec.Command("go", "build", "-o", subscriber, "drydock/docs/examples/subscriber").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path, err := exec.Command("../build/natscli").Output()
	if err != nil {
		t.Fatalf("build/natscli: %v", err)
	}
	line := regexp.MustCompile(`(?m)^    nats (--context drydock sub .*)$`).FindStringSubmatch(string(page))
	if line == nil {
		t.Fatal("docs/subscribe.md has no line for the nats CLI")
	}

	s := newSite(t, options{mode: "api", keys: `backup-max-age = "1h"`}).start()
	s.awaitAlert("DOCK0201", true)
	remote := s.remote()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, ".config"), "NATS_URL="+remote.URL, "NATS_PASSWORD="+remote.Password)
	if s.rig != nil {
		env = append(env, "SSL_CERT_FILE="+s.rig.CA())
	}
	save := exec.Command(binary, "nats", "--save", "--config", s.toml)
	save.Env = env
	if out, err := save.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cli := follow(t, env, "/bin/sh", "-c", `exec "$0" `+line[1], strings.TrimSpace(string(path)))
	cli.await(t, `"code":"DOCK0201"`)

	first := follow(t, env, subscriber)
	first.await(t, "drydock.alert.lab._.DOCK0201 {")
	first.await(t, "drydock.alert.lab._.WARN0101 {")
	first.kill()
	id := s.run("optimize") // while it is down
	s.awaitAlert("WARN0072", true)
	cli.await(t, `"code":"WARN0072"`)
	second := follow(t, env, subscriber)
	second.await(t, "WARN0072 {")
	s.mustCLI("cancel", id)
	second.await(t, `{"state":"closed","code":"WARN0072"`)
	if strings.Contains(second.said(), "WARN0101 {") {
		t.Errorf("what was acknowledged came again:\n%s", second.said())
	}
}

// follower is a program whose lines are read.
type follower struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	mu   sync.Mutex
	text strings.Builder
}

func follow(t *testing.T, env []string, argv ...string) *follower {
	t.Helper()
	f := &follower{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	f.cmd.Env = env
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stderr = os.Stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f.mu.Lock()
			f.text.WriteString(lines.Text() + "\n")
			f.mu.Unlock()
		}
		_ = f.cmd.Wait()
	}()
	t.Cleanup(f.kill)
	return f
}

func (f *follower) kill() {
	_ = f.cmd.Process.Kill()
	<-f.done
}

func (f *follower) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

func (f *follower) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience(60 * time.Second)); !strings.Contains(f.said(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not say %s:\n%s", f.cmd.Path, text, f.said())
		}
		select {
		case <-f.done:
			t.Fatalf("%s ended:\n%s", f.cmd.Path, f.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
