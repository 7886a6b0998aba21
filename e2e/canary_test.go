package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

// spellings are the ways in which a secret may stand in a text that somebody reads.
func spellings(secret string) []string {
	quoted, _ := json.Marshal(secret)
	out := []string{
		secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // it may begin anywhere in what was encoded; only whole groups of it are the same everywhere
			whole := []byte(secret)[shift : shift+(len(secret)-shift)/3*3]
			out = append(out, enc.EncodeToString(whole))
		}
	}
	return out
}

// spelled keeps the spellings: they are asked for with every file and process.
var spelled sync.Map

// canaries are secrets by what they are.
type canaries map[string]string

// in says which canary sings in a text, and how it is spelled there; "" for none.
func (c canaries) in(text []byte) string {
	for what, secret := range c {
		list, ok := spelled.Load(secret)
		if !ok {
			list, _ = spelled.LoadOrStore(secret, spellings(secret))
		}
		for _, s := range list.([]string) {
			if bytes.Contains(text, []byte(s)) {
				return what + " as " + s
			}
		}
	}
	return ""
}

// argvWatch looks at what every process of the machine shows to everybody.
type argvWatch struct {
	rig  bool // drydock is what the process that the test started has started
	stop context.CancelFunc
	done sync.WaitGroup
	seen int
	bad  map[string]bool
}

// watchArgv looks until ended: at the arguments of every process, and at the environment of those that drydock started,
// which are handed secrets in files and pipes only.
func (s *site) watchArgv(c canaries) *argvWatch {
	ctx, stop := context.WithCancel(context.Background())
	w := &argvWatch{rig: s.rig != nil, stop: stop, bad: map[string]bool{}}
	drydock := s.proc.cmd.Process.Pid
	w.done.Go(func() {
		t := time.NewTicker(150 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				w.look(drydock, c)
			}
		}
	})
	s.t.Cleanup(func() { stop(); w.done.Wait() })
	return w
}

func (w *argvWatch) look(drydock int, c canaries) {
	parents := []int{drydock}
	if w.rig {
		parents = childrenOf(drydock)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		argv, err := os.ReadFile(file)
		if err != nil || len(argv) == 0 {
			continue
		}
		w.seen++
		if what := c.in(argv); what != "" {
			w.bad["arguments: "+what+": "+string(bytes.ReplaceAll(argv, []byte{0}, []byte(" ")))] = true
		}
		dir := filepath.Dir(file)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if _, parent := procStat(pid); slices.Contains(parents, parent) {
			env, _ := os.ReadFile(filepath.Join(dir, "environ"))
			if what := c.in(env); what != "" {
				w.bad["environment of "+string(argv)+": "+what] = true
			}
		}
	}
}

func (w *argvWatch) check(t *testing.T) {
	t.Helper()
	w.stop()
	w.done.Wait()
	if w.seen < 100 {
		t.Errorf("only %d processes were looked at", w.seen)
	}
	for what := range w.bad {
		t.Errorf("a secret is in the %s", what)
	}
}

// apiCall makes a call of the API and returns the whole answer, headers included.
func (s *site) apiCall(method, path, token string, body any) (status int, answer []byte) {
	s.t.Helper()
	data, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(bustest.Context(s.t), method, "https://127.0.0.1:"+itoa(s.api)+path, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "e2e")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	head := new(bytes.Buffer)
	_ = res.Header.Write(head)
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, append(head.Bytes(), text...)
}

func (s *site) apiToken(path, token string, body any) string {
	s.t.Helper()
	status, answer := s.apiCall("POST", path, token, body)
	var out struct{ Token string }
	if err := json.Unmarshal(answer[bytes.IndexByte(answer, '{'):], &out); err != nil || out.Token == "" {
		s.t.Fatalf("POST %s: %d %s", path, status, answer)
	}
	return out.Token
}

// release adds a user with a password and an API token that are found again if they are anywhere, and is all secrets.
func (s *site) release() canaries {
	s.t.Helper()
	c := canaries{"the database password": s.secret, "a user's password": `canary "& pass\word é` + s.dir}
	admin := s.apiToken("/api/login", "", map[string]string{"username": "admin", "password": "secret"})
	if status, answer := s.apiCall("POST", "/api/users", admin, map[string]any{
		"name": "canary", "password": c["a user's password"], "grants": []string{"db", "cluster"},
	}); status != 201 {
		s.t.Fatalf("add a user: %d %s", status, answer)
	}
	login := map[string]string{"username": "canary", "password": c["a user's password"]}
	c["a session"] = s.apiToken("/api/login", "", login)
	c["an API token"] = s.apiToken("/api/users/canary/tokens", c["a session"], map[string]string{"name": "bird"})
	if status, _ := s.apiCall("POST", "/api/login", "", map[string]string{"username": c["a user's password"], "password": "x"}); status != 401 {
		s.t.Errorf("a password typed as the name: %d", status)
	}
	c["the bus password"] = s.remote().Password
	return c
}

// checkCanaries looks for the secrets in everything that drydock and the script wrote, sent or answered.
func (s *site) checkCanaries(h *host, c canaries) {
	s.t.Helper()
	s.checkWritten(h, c)
	for _, command := range [][]string{{"check", "-o", "json"}, {"users", "list", "-o", "json"}, {"audit", "-o", "json"}, {"jobs", "-o", "json"}, {"next"}} {
		out, _ := s.cli(command...) // check ends with its verdict
		if what := c.in([]byte(out)); what != "" || len(out) < 20 {
			s.t.Errorf("%s is in what drydock %s prints: %s", what, strings.Join(command, " "), out)
		}
	}
	s.checkAnswers(c)
	s.checkMessages(c)
}

// checkNoSecret looks for the database password in everything that was written.
func (s *site) checkNoSecret(h *host) { s.checkWritten(h, canaries{"the database password": s.secret}) }

func (s *site) checkWritten(h *host, c canaries) {
	s.t.Helper()
	if what := c.in([]byte(s.proc.log.text())); what != "" {
		s.t.Errorf("%s is in drydock's log", what)
	}
	kept := filepath.Join(s.dir, "data", "nats", "password") // the one place where it is
	files := 0
	for _, dir := range s.homes() {
		files += s.checkFiles(dir, c, func(path string) bool { return path == kept || strings.Contains(path, "/Backups/") })
	}
	if files < 3 {
		s.t.Errorf("only %d files in drydock's folder", files)
	}
	s.checkFiles(h.state, c, func(string) bool { return false }) // a script by hand keeps nothing there
}

// checkFiles looks for the secrets in the files of a folder and counts them.
func (s *site) checkFiles(dir string, c canaries, but func(path string) bool) (files int) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || but(path) {
			return nil // gone meanwhile
		}
		files++
		if b, err := os.ReadFile(path); err == nil {
			if what := c.in(b); what != "" {
				s.t.Errorf("%s is in %s", what, path)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	return files
}

// checkAnswers asks every GET route of the API's document.
func (s *site) checkAnswers(c canaries) {
	s.t.Helper()
	_, answer := s.apiCall("GET", "/api/openapi.json", "", nil)
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(answer[bytes.IndexByte(answer, '{'):], &doc); err != nil {
		s.t.Fatal(err)
	}
	j := s.await("mariabackup", "any", func(job.Job) bool { return true })
	fill := strings.NewReplacer("{cluster}", "lab", "{host}", "127.0.0.1", "{port}", itoa(s.servers[0].Port()), "{task}", "mariabackup",
		"{level}", "ERROR", "{state}", "done", "{name}", "canary", "{id}", j.ID)
	asked, good := 0, 0
	for path, item := range doc.Paths {
		// Two begin work of minutes; the archive of a container is where the database password is handed out, to db-config.
		if item["get"] == nil || strings.HasSuffix(path, "/send-jobs-upgrade") || strings.HasSuffix(path, "/receive-jobs-check") || strings.HasSuffix(path, "/config") {
			continue
		}
		status, answer := s.apiCall("GET", fill.Replace(path), c["an API token"], nil)
		asked++
		if status == 200 {
			good++
		}
		if what := c.in(answer); what != "" {
			s.t.Errorf("GET %s answers %s: %.300s", path, what, answer)
		}
	}
	if asked < 25 || good < 18 {
		s.t.Errorf("%d routes asked, %d answered 200", asked, good)
	}
}

// checkMessages reads every message of every stream, those behind the buckets as well. Only the keys of the gateways may
// hold secrets.
func (s *site) checkMessages(c canaries) {
	s.t.Helper()
	conn, ctx := s.bus(), bustest.Context(s.t)
	read := 0
	for info := range conn.JS.ListStreams(ctx).Info() {
		name := info.Config.Name
		keys, _ := bus.BucketStream(bus.BucketKeys)
		if name == keys {
			continue
		}
		stream, err := conn.JS.Stream(ctx, name)
		if err != nil {
			s.t.Fatal(err)
		}
		for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
			m, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				s.t.Fatal(err)
			}
			read++
			if what := c.in(fmt.Appendf(m.Data, " %s %v", m.Subject, m.Header)); what != "" {
				s.t.Errorf("%s is in message %d of %s: %s", what, seq, name, m.Data)
			}
		}
	}
	if read < 30 {
		s.t.Errorf("only %d messages were read", read)
	}
}

// checkModes: nobody else on the machine may read what drydock writes, wherever the data folder is.
func (s *site) checkModes() {
	s.t.Helper()
	seen := 0
	look := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := os.Stat(path) // of a link, as to where batches are staged, what it leads to
		if err != nil {
			return nil
		}
		seen++
		if info.Mode().Perm()&0o077 != 0 {
			s.t.Errorf("%s is %s", path, info.Mode())
		}
		return nil
	}
	for _, dir := range s.homes() {
		_ = filepath.WalkDir(dir, look)
	}
	if seen < 20 {
		s.t.Errorf("only %d files and folders", seen)
	}
}
