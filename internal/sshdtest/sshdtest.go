// Package sshdtest starts a real OpenSSH server for one test: on a private port, with keys of its own, for the user that
// runs the test.
package sshdtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/internal/freeport"
)

// Server is a running sshd. It listens on all of 127.0.0.0/8, so that a test can have several hosts.
type Server struct {
	Port       int
	User       string
	KeyFile    string // private key that is let in
	KnownHosts string // file that knows the server's key as that of 127.0.0.1 to 127.0.0.9

	log *logBuffer
}

const sshdPath = "/usr/sbin/sshd"

// Start runs a server whose sessions have env in their environment; no value may hold spaces. It ends with the test.
func Start(t testing.TB, env map[string]string) *Server {
	t.Helper()
	dir := t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Port: freeport.Pick(t), User: me.Username, KeyFile: filepath.Join(dir, "client"),
		KnownHosts: filepath.Join(dir, "known_hosts"), log: &logBuffer{},
	}
	hostKey := filepath.Join(dir, "host")
	keygen(t, "ed25519", s.KeyFile)
	keygen(t, "ed25519", hostKey)
	// One that clients may like better and nobody knows, as on hosts that were scanned for one kind only.
	keygen(t, "ecdsa", hostKey+"-other")
	s.writeKnownHosts(t, hostKey+".pub")
	config := fmt.Sprintf(`ListenAddress 0.0.0.0:%[1]d
HostKey %[2]s-other
HostKey %[2]s
AuthorizedKeysFile %[3]s.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 200
`, s.Port, hostKey, s.KeyFile)
	for name, value := range env {
		config += fmt.Sprintf("SetEnv %s=%s\n", name, value)
	}
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, file)
	return s
}

func (s *Server) start(t testing.TB, config string) {
	t.Helper()
	if os.Geteuid() == 0 { // where Debian's sshd puts away its rights; its service unit would make it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(sshdPath, "-D", "-e", "-f", config)
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}) // closed when sshd has ended
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if t.Failed() {
			t.Logf("sshd said:\n%s", s.log)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-done:
			t.Fatalf("sshd ended at start:\n%s", s.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd is not up:\n%s", s.log)
		}
	}
}

// writeKnownHosts trusts the key for several addresses of this machine.
func (s *Server) writeKnownHosts(t testing.TB, publicKey string) {
	t.Helper()
	text, err := os.ReadFile(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Join(strings.Fields(string(text))[:2], " ")
	var b strings.Builder
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "[127.0.0.%d]:%d %s\n", i, s.Port, key)
	}
	if err := os.WriteFile(s.KnownHosts, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// WrongKnownHosts is a file that expects another key of the server.
func (s *Server) WrongKnownHosts(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	other := &Server{Port: s.Port, KnownHosts: filepath.Join(dir, "known_hosts")}
	keygen(t, "ed25519", filepath.Join(dir, "other"))
	other.writeKnownHosts(t, filepath.Join(dir, "other.pub"))
	return other.KnownHosts
}

func keygen(t testing.TB, kind, file string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// logBuffer is a buffer that may be read while sshd writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
