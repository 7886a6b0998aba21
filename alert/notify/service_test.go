package notify

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
)

// mailServer takes mails on loopback. It refuses addresses that begin with "no", and hangs up at QUIT when told so.
type mailServer struct {
	addr   string
	hangUp bool
	mu     sync.Mutex
	mails  []string // recipient, line feed, message
	logins []string
}

func newMailServer(t *testing.T, hangUp bool) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{addr: l.Addr().String(), hangUp: hangUp}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { m.talk(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return m
}

func (m *mailServer) talk(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	in := textproto.NewReader(bufio.NewReader(c))
	say := func(s string) { fmt.Fprint(c, s+"\r\n") }
	say("220 test")
	to := ""
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); verb {
		case "EHLO":
			say("250-test\r\n250 AUTH PLAIN")
		case "AUTH":
			m.mu.Lock()
			m.logins = append(m.logins, line)
			m.mu.Unlock()
			say("235 ok")
		case "RCPT":
			if to = line[len("RCPT TO:<") : len(line)-1]; strings.HasPrefix(to, "no") {
				say("550 no such user")
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			data, err := in.ReadDotBytes()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.mails = append(m.mails, to+"\n"+string(data))
			m.mu.Unlock()
			say("250 taken")
		case "QUIT":
			if m.hangUp {
				return
			}
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (m *mailServer) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.mails...)
}

func TestMailsArriveOnceAlsoFromServersThatHangUpOrRefuseOneAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	polite, rude := newMailServer(t, false), newMailServer(t, true)
	d := r.desk(r.config("alert@a",
		Destination{Name: "polite", URL: "smtp://bob:pw@" + polite.addr + "/?from=d@x.test&to=a@x.test,b@x.test&auth=Plain"},
		Destination{Name: "rude", URL: "smtp://" + rude.addr + "/?from=d@x.test&to=a@x.test&auth=None"},
		Destination{Name: "partly", URL: "smtp://" + polite.addr + "/?from=d@x.test&to=c@x.test,nobody@x.test&auth=None"},
		Destination{Name: "refused", URL: "smtp://" + polite.addr + "/?from=d@x.test&to=nobody@x.test&auth=None"},
	))
	subject := bus.AlertSubject("prod", db1.Host, db1.Port, "DOCK0101-optimize")
	r.edge(subject, bus.Alert{
		State: bus.AlertOpened, Code: "DOCK0101", Severity: bus.SeverityError, Cluster: "prod", Server: db1, Task: "optimize",
		Text: "it failed:\r\nBcc: evil@x.test\r\n\r\nsecond line", Since: time.Now().UTC(),
	})
	d.look()
	r.advance(time.Hour)
	d.look()
	mails := polite.got()
	if len(mails) != 3 || len(rude.got()) != 1 {
		t.Fatalf("%d and %d mails came: %q", len(mails), len(rude.got()), mails)
	}
	if len(polite.logins) != 1 {
		t.Errorf("logged in %d times", len(polite.logins))
	}
	for _, mail := range mails {
		header, body, _ := strings.Cut(mail, "\n\n")
		if strings.Contains(header, "\nBcc:") || !strings.Contains(header, "Subject: drydock: new error prod 10.0.1.5:3306 DOCK0101: it failed:  Bcc: evil") || !strings.Contains(body, "drydock alerts ack prod.10_0_1_5.3306.DOCK0101-optimize") {
			t.Errorf("the mail is\n%s", mail)
		}
	}
	outcome := map[string]bus.Notification{}
	for _, n := range r.record() {
		outcome[n.Destination] = n
	}
	if n := outcome["partly"]; n.State != bus.TrySent || !strings.Contains(n.Error, `"nobody@x.test": error setting RCPT: 550`) {
		t.Errorf("partly: %+v", n)
	}
	if n := outcome["refused"]; n.State != bus.TryFailed || n.Try != 2 {
		t.Errorf("refused: %+v", n)
	}
}

func TestSlackAndNtfyGetWhatTheyExpect(t *testing.T) {
	t.Parallel()
	r, slack, ntfy := newRig(t), newHook(t), newHook(t)
	u, _ := url.Parse(ntfy.URL)
	d := r.desk(r.config("alert@a",
		Destination{Name: "slack", URL: "generic+" + slack.URL + "/services/T0/B0/xyz?template=json&messagekey=text"},
		Destination{Name: "ntfy", URL: "ntfy://" + u.Host + "/drydock?scheme=http"},
	))
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	d.look()
	var m struct{ Text string }
	slack.want(t, 1, "slack")
	if err := json.Unmarshal([]byte(slack.got()[0]), &m); err != nil || !strings.Contains(m.Text, "DOCK0501") || slack.paths[0] != "/services/T0/B0/xyz" {
		t.Errorf("slack got %s on %s", slack.got()[0], slack.paths[0])
	}
	ntfy.want(t, 1, "ntfy")
	if !strings.Contains(ntfy.got()[0], "DOCK0501 holds") {
		t.Errorf("ntfy got %s", ntfy.got()[0])
	}
}

func TestAScriptGetsJSONAndItsWholeGroupEndsInTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good, dir := script(t, "cat > in; env > env; echo took it; [ ! -e fail ] || { echo cannot >&2; exit 7; }\n")
	slow, slowDir := script(t, "sleep 1000 & echo $! > child; sleep 1000\n")
	deaf, _ := script(t, "exit 0\n")
	d := r.desk(r.config("alert@a", Destination{Name: "script", Program: good}, Destination{Name: "slow", Program: slow, Timeout: time.Second}, Destination{Name: "deaf", Program: deaf}))
	for i := range 900 { // more than fits into a pipe that nobody reads
		s := db1
		s.Port = 1000 + i
		r.begin("prod", s, "DOCK0501", bus.SeverityError)
	}
	d.look()
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var m Message
	if err := json.Unmarshal([]byte(read(filepath.Join(dir, "in"))), &m); err != nil || len(m.Conditions) != 900 || m.Conditions[0].Server.Host != db1.Host || m.Conditions[0].Kind != bus.ToldOpened {
		t.Errorf("%v: %d conditions", err, len(m.Conditions))
	}
	if env := read(filepath.Join(dir, "env")); !strings.Contains(env, "DRYDOCK_NOTIFICATION="+m.ID+"\n") || strings.Contains(env, "GOCACHE") {
		t.Errorf("its environment is\n%s", env)
	}
	if !strings.Contains(r.log.String(), "took it") {
		t.Error("what it said is not logged")
	}
	outcome := map[string]bus.Notification{}
	for _, n := range r.record() {
		outcome[n.Destination] = n
	}
	if n := outcome["slow"]; n.State != bus.TryFailed || n.Error != "no answer within 1s" {
		t.Errorf("slow: %+v", n.Error)
	}
	if n := outcome["deaf"]; n.State != bus.TrySent {
		t.Errorf("deaf: %s %s", n.State, n.Error)
	}
	child, err := strconv.Atoi(strings.TrimSpace(read(filepath.Join(slowDir, "child"))))
	if err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, soon, "its child has ended", func() bool { return !alive(child) })

	if err := os.WriteFile(filepath.Join(dir, "fail"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.begin("prod", db2, "DOCK0501", bus.SeverityError)
	d.look()
	for _, n := range r.record() {
		outcome[n.Destination] = n
	}
	if n := outcome["script"]; n.State != bus.TryFailed || n.Error != "exit status 7: took it cannot" {
		t.Errorf("script: %s %q", n.State, n.Error)
	}
}

// alive reports whether a process runs; one that only waits to be collected does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// URLs of services hold passwords, and libraries put URLs into errors.
func TestNoSecretOfADestinationGetsOut(t *testing.T) {
	t.Parallel()
	const canary = "c4nary-s3cret"
	r, refusing, other := newRig(t), newHook(t), newHook(t)
	refusing.answer(http.StatusUnauthorized)
	u, _ := url.Parse(refusing.URL)
	mail := newMailServer(t, false)
	urls := []string{
		"generic+" + refusing.URL + "/" + canary + "?template=json",
		"generic+http://127.0.0.1:1/" + canary,
		"generic+http://127.0.0.1:1/x?token=" + canary,
		"generic+http://user:" + canary + "@no-such-host.invalid/",
		"ntfy://user:" + canary + "@" + u.Host + "/" + canary + "?scheme=http",
		"smtp://u:" + canary + "@127.0.0.1:1/?from=a@x.test&to=b@x.test",
		"smtp://u:" + canary + "@" + mail.addr + "/?from=a@x.test&to=nobody@x.test",
		"gotify://" + u.Host + "/" + canary + "?disabletls=yes",
		"slack://hook:" + canary + "-" + canary + "@webhook", // does not parse
		"telegram://" + canary + "@telegram?chats=1",
		"nosuch://" + canary,
		"generic+http://%zz" + canary,
		"bark://:" + canary + "@" + u.Host + "/?scheme=http",
	}
	var to []Destination
	for i, s := range urls {
		to = append(to, Destination{Name: fmt.Sprintf("d%d", i), URL: s})
	}
	leak, _ := script(t, "echo "+urls[0]+"; exit 1\n")
	to = append(to, Destination{Name: "script", Program: leak}, Destination{Name: "other", URL: other.url()})
	d := r.desk(r.config("alert@a", to...))
	r.begin("prod", db1, "DOCK0501", bus.SeverityError)
	for range 3 {
		d.look()
		r.advance(time.Hour)
	}
	d.look() // tells the other one what fails
	failed := map[string]bool{}
	for _, n := range r.record() {
		if n.State == bus.TryFailed {
			failed[n.Destination] = true
			if n.Error == "" {
				t.Errorf("%s failed without a reason", n.Destination)
			}
		}
	}
	if len(failed) != len(urls)+1 {
		t.Errorf("only %d destinations failed, so less is tested than it seems", len(failed))
	}
	texts := map[string]string{"the log": r.log.String(), "what another destination got": strings.Join(other.got(), "\n")}
	for stream, subject := range map[string]string{bus.StreamNotifications: bus.AllNotifications, bus.StreamAlerts: bus.AllAlerts} {
		var all strings.Builder
		err := bus.Read(bustest.Context(t), r.conn, stream, subject, bus.From{}, func(_ bus.Meta, raw json.RawMessage) error {
			all.Write(raw)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		texts[stream] = all.String()
	}
	for _, s := range urls {
		if err := CheckURL(s); err != nil {
			texts["the check"] += err.Error() + "\n"
		}
	}
	for where, text := range texts {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		for _, secret := range []string{canary, "c4nary", url.QueryEscape(canary)} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s has a secret: %s", where, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

func TestWhatIsNoURLOfAServiceIsFoundBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	for raw, good := range map[string]bool{
		"smtp://u:p@mail.test:587/?from=a@x.test&to=b@x.test": true,
		"smtp://mail.test/":                      false, // to nobody
		"ntfy://ntfy.sh/topic":                   true,
		"generic+https://x.test/hook":            true,
		"matrix://u:p@host/":                     true,
		"slack://hook:a-b@webhook":               false,
		"https://hooks.slack.com/services/a/b/c": false,
		"logger://":                              false,
		"":                                       false,
	} {
		if err := CheckURL(raw); (err == nil) != good {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
