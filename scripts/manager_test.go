package scripts

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testCluster = "our cluster" // the space must survive the URL
	testHost    = "127.0.0.1"
)

// managerJob is a job the manager offers and what it learned of it.
type managerJob struct {
	task, id string
	attempt  int
	claimed  bool
	row      bool // offered as a row of the jobs table, not through needs
}

// stateReport is one job-state call.
type stateReport struct {
	Task, State string
	Identity    identity
	Lines       int // log lines that had arrived by then
}

type identity struct {
	Nonce   string `json:"nonce"`
	Server  string `json:"server"`
	Secret  string `json:"secret"`
	Time    int64  `json:"time"`
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
	Level   string `json:"level"`
	Log     string `json:"log"`
	Bytes   *int64 `json:"bytes"`
	SHA256  string `json:"sha256"`
	Exit    []int  `json:"exit"`
	Result  string `json:"result"`
}

// manager is the other end of the wire: it opens every envelope with Go's crypto, the script's with openssl's.
type manager struct {
	t        *testing.T
	password string
	port     int
	server   *httptest.Server

	mu       sync.Mutex
	mode     string
	level    string
	foreign  bool // does not know drydock's own routes
	jobs     []*managerJob
	address  string   // RECEIVER_ADDRESS, when the streams go elsewhere
	extra    []string // further lines of jobs-pending
	calls    []string
	lines    []string // "LEVEL text"
	reports  []stateReport
	results  map[string]string // job-result
	streams  map[string]*bytes.Buffer
	stall    map[string]bool // receivers that do not read
	closed   map[string]bool // receivers whose port is closed again at once
	stop     map[string]bool // tasks whose heartbeat is answered stop
	fail     func(path string) int
	hold     func(path string) // called before the answer, outside the lock
	changed  chan struct{}
	upgrade  []byte // sent on send-jobs-upgrade
	receiver int    // the script's listening port
	from     string // the script's host as the manager reaches it; 127.0.0.1 by default
	backup   []byte // sent when a restore is waiting
	cut      int    // bytes of it after which the connection is reset; 0 = sent whole
	vouched  string // hash that restore-info tells of what was sent; empty: of the backup
	primary  string // the one that a restored server is told of, HOST:PORT
	sent     bool
	silent   bool   // takes send-jobs-upgrade and does not come
	agent    string // of the last call
	newer    bool   // other versions of the script may call
	limit    int    // bytes of a body above which the answer is 413; 0 = none
	largest  int    // bytes of the largest body
	wg       sync.WaitGroup
	opened   []io.Closer
}

func newManager(t *testing.T, password string, port int, overTLS bool) *manager {
	m := &manager{
		t: t, password: password, port: port, mode: "api", level: "INFO",
		results: map[string]string{}, streams: map[string]*bytes.Buffer{}, stall: map[string]bool{}, stop: map[string]bool{},
		changed: make(chan struct{}, 1),
	}
	m.server = httptest.NewUnstartedServer(http.HandlerFunc(m.serve))
	m.server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of the tests
	if overTLS {
		m.server.StartTLS()
	} else {
		m.server.Start()
	}
	t.Cleanup(func() {
		m.release()
		m.server.Close()
		m.wg.Wait()
	})
	return m
}

// release closes every receiver.
func (m *manager) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.opened {
		_ = c.Close()
	}
}

func (m *manager) base() string {
	return fmt.Sprintf("/api/clusters/%s/servers/%s/%d/", testCluster, testHost, m.port)
}

func (m *manager) offer(task, id string, attempt int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = append(m.jobs, &managerJob{task: task, id: id, attempt: attempt})
}

func (m *manager) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path, ours := strings.CutPrefix(r.URL.Path, m.base())
	if !ours {
		path = strings.TrimPrefix(r.URL.Path, "/api/clusters/"+testCluster+"/")
	}
	m.mu.Lock()
	m.calls = append(m.calls, path)
	m.agent, m.largest = r.Header.Get("User-Agent"), max(m.largest, len(body))
	tooLarge := m.limit > 0 && len(body) > m.limit
	fail, hold := m.fail, m.hold
	m.mu.Unlock()
	if hold != nil {
		hold(path)
	}
	status, text := 0, ""
	if fail != nil {
		status = fail(path)
	}
	if tooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	if status == 0 {
		status, text = m.answer(path, r, body)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *manager) answer(path string, r *http.Request, body []byte) (int, string) {
	if agent := r.Header.Get("User-Agent"); agent != "drydock-dbjobs/"+Version && !view(m, func() bool { return m.newer }) {
		m.t.Errorf("user agent %q", agent)
	}
	if path == "secret-login" {
		if _, err := m.open(body); err != nil {
			return http.StatusUnauthorized, ""
		}
		return http.StatusOK, `{"token":"tok.en-1_"}`
	}
	if r.Header.Get("Authorization") != "Bearer tok.en-1_" {
		return http.StatusUnauthorized, ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	verb, rest, _ := strings.Cut(path, "/")
	switch verb {
	case "jobs-pending":
		return m.pending()
	case "needs":
		return m.needs(rest)
	case "write-log":
		return m.writeLog(rest, body)
	case "jobs-log-level":
		return http.StatusOK, "true"
	case "actions":
		return m.action(rest, body)
	}
	return http.StatusNotFound, "404 page not found"
}

func (m *manager) pending() (int, string) {
	if m.foreign {
		return http.StatusNotFound, "404 page not found"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "drydock 1\nmode %s\nbatch 5\nlog-level %s\nheartbeat 1\nfuture-thing 7\n", m.mode, m.level)
	for _, j := range m.jobs {
		if !j.claimed && !j.row {
			fmt.Fprintf(&b, "task %s %s %d\n", j.task, j.id, j.attempt)
		}
	}
	for _, line := range m.extra {
		b.WriteString(line + "\n")
	}
	return http.StatusOK, b.String()
}

func (m *manager) needs(task string) (int, string) {
	for _, j := range m.jobs {
		if j.task == task && !j.claimed {
			j.claimed = true
			return http.StatusOK, "true"
		}
	}
	return http.StatusInternalServerError, "false"
}

func (m *manager) writeLog(_ string, body []byte) (int, string) {
	id, err := m.open(body)
	if err != nil {
		m.t.Errorf("write-log: %v", err)
		return http.StatusUnauthorized, ""
	}
	for line := range strings.SplitSeq(id.Log, "\n") {
		m.lines = append(m.lines, id.Level+" "+line)
	}
	return http.StatusOK, ""
}

func (m *manager) action(path string, body []byte) (int, string) {
	verb, task, _ := strings.Cut(path, "/")
	if own := []string{"heartbeat", "job-result", "restore-info"}; m.foreign && slices.Contains(own, verb) {
		return http.StatusNotFound, "404 page not found"
	}
	switch verb {
	case "receive-task":
		if task == "optimize" || strings.HasPrefix(task, "reseed") || strings.HasPrefix(task, "flashback") {
			return http.StatusOK, "NO_RECEIVER_NEEDED"
		}
		answer := fmt.Sprintf("RECEIVER_PORT=%d", m.receive(task))
		if m.address != "" {
			answer += "\nRECEIVER_ADDRESS=" + m.address
		}
		return http.StatusOK, answer
	case "receive-jobs-check":
		return http.StatusOK, fmt.Sprintf("RECEIVER_PORT=%d", m.receive("jobs-check"))
	case "send-jobs-upgrade":
		if !m.silent {
			m.wg.Go(m.sendUpgrade)
		}
		return http.StatusOK, ""
	case "job-state":
		return m.jobState(task, body)
	case "heartbeat":
		if m.stop[task] {
			return http.StatusOK, "stop"
		}
		return http.StatusOK, "go on"
	case "restore-info":
		return http.StatusOK, m.restoreInfo()
	case "job-result":
		if state, ok := m.results[task]; ok {
			return http.StatusOK, state
		}
		return http.StatusNotFound, "unknown job"
	}
	return http.StatusNotFound, "404 page not found"
}

func (m *manager) jobState(path string, body []byte) (int, string) {
	id, err := m.open(body)
	if err != nil {
		m.t.Errorf("job-state %s: %v", path, err)
		return http.StatusUnauthorized, ""
	}
	task, state, _ := strings.Cut(path, "/")
	m.reports = append(m.reports, stateReport{task, state, id, len(m.lines)})
	if state == "waiting" && m.backup != nil {
		m.sent = false
		m.wg.Go(m.sendBackup)
	}
	return http.StatusOK, ""
}

// receive opens a port for one stream. Called with the lock held.
func (m *manager) receive(task string) int {
	l, err := net.Listen("tcp", cmp.Or(m.address, "127.0.0.1")+":0")
	if err != nil {
		m.t.Errorf("listen: %v", err)
		return 0
	}
	m.opened = append(m.opened, l)
	if m.closed[task] {
		_ = l.Close()
	}
	stall := m.stall[task]
	m.wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.opened = append(m.opened, conn)
		m.mu.Unlock()
		if stall {
			return
		}
		defer conn.Close()
		buf := &bytes.Buffer{}
		_, _ = io.Copy(buf, conn)
		m.mu.Lock()
		m.streams[task] = buf
		m.mu.Unlock()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func (m *manager) sendUpgrade() {
	m.mu.Lock()
	addr, script := net.JoinHostPort(cmp.Or(m.from, "127.0.0.1"), strconv.Itoa(m.receiver)), m.upgrade
	m.mu.Unlock()
	for range 100 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(50 * time.Millisecond) // the listener comes up after the call, as the protocol says
			continue
		}
		_, _ = conn.Write(script)
		_ = conn.Close()
		return
	}
}

func (m *manager) open(body []byte) (identity, error) {
	return openEnvelope(body, m.password, fmt.Sprintf("%s:%d", testHost, m.port))
}

// openEnvelope is the protocol's decryption written with Go's crypto.
func openEnvelope(body []byte, password, server string) (id identity, err error) {
	plain, err := decrypt(body, password)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(plain, &id); err != nil {
		return id, fmt.Errorf("parse %q: %w", plain, err)
	}
	if id.Server != server || id.Secret != password {
		return id, fmt.Errorf("identity is %q with secret %q", id.Server, id.Secret)
	}
	if len(id.Nonce) < 16 || id.Time == 0 {
		return id, errors.New("no nonce or time")
	}
	return id, nil
}

func decrypt(body []byte, password string) ([]byte, error) {
	var wrapped struct {
		Data string `json:"data"`
	}
	if err := json.Unmarshal(body, &wrapped); err != nil {
		return nil, fmt.Errorf("parse %q: %w", body, err)
	}
	sealed, err := base64.StdEncoding.DecodeString(wrapped.Data)
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%d bytes are no blocks", len(sealed))
	}
	key, iv := sha256.Sum256([]byte(password)), md5.Sum([]byte(password))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	cipher.NewCBCDecrypter(block, iv[:]).CryptBlocks(sealed, sealed)
	pad := int(sealed[len(sealed)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(sealed[len(sealed)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("padding")
	}
	return sealed[:len(sealed)-pad], nil
}

// set changes the manager's behaviour.
func (m *manager) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// failing sets the status of calls; 0 is the usual answer.
func (m *manager) failing(f func(path string) int) { m.set(func() { m.fail = f }) }

// holding sets what happens before an answer.
func (m *manager) holding(f func(path string)) { m.set(func() { m.hold = f }) }

// seen returns the calls so far.
func (m *manager) seen() []string {
	return view(m, func() []string { return slices.Clone(m.calls) })
}

// view runs f with the manager's lock held.
func view[T any](m *manager, f func() T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f()
}

func (m *manager) countCalls(prefix string) int {
	return view(m, func() (n int) {
		for _, c := range m.calls {
			if strings.HasPrefix(c, prefix) {
				n++
			}
		}
		return n
	})
}

// last returns the newest report of a task.
func (m *manager) last(task string) stateReport {
	return view(m, func() stateReport {
		for _, r := range slices.Backward(m.reports) {
			if r.Task == task {
				return r
			}
		}
		return stateReport{}
	})
}

func (m *manager) stream(task string) string {
	return view(m, func() string {
		if b := m.streams[task]; b != nil {
			return b.String()
		}
		return "(no stream)"
	})
}

func (m *manager) logLines() []string {
	return view(m, func() []string { return slices.Clone(m.lines) })
}
