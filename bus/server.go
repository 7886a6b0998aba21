package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"drydock/durable"
)

// ServerConfig is what the embedded server needs. All fields are required unless said otherwise.
type ServerConfig struct {
	Dir      string      // store folder, made 0700; one process at a time
	Listen   string      // host:port for the nats CLI; port 0 picks a free one; empty: no listener at all
	User     string      // name for everyone, the process itself included
	Password string      // see [Password]
	TLS      *tls.Config // optional: TLS on the listener
	MaxStore int64       // bytes for all streams together
	Log      *slog.Logger
}

// Server is the embedded NATS server. It restarts its inner server in place when a full disk froze the streams, so
// connections should be made with [Connect], which survive that.
type Server struct {
	cfg  ServerConfig
	lock *os.File

	staging sync.Mutex // the links to the staging folder are made and removed by one at a time
	memory  *os.File   // the lock of that folder; nil without one

	mu      sync.Mutex
	inner   *server.Server
	readers readers
	sick    error // why the bus accepts nothing now; nil when well
}

// ErrStoreLocked is returned by [StartServer] when another process uses the store folder. NATS itself would let both
// write and lose half of it.
var ErrStoreLocked = errors.New("store folder is in use by another process")

// ErrStoreForeign is returned by [StartServer] for a store folder that a clustered server wrote.
var ErrStoreForeign = errors.New("store folder does not belong to a standalone server")

// MaxConnections is how many clients the embedded server takes: the process itself, commands, subscribers.
const MaxConnections = 1024

const (
	authSeconds   = 2 // that a client has to say who it is, once TLS stands
	readyTimeout  = 30 * time.Second
	healthEvery   = 5 * time.Second
	freeToRecover = 64 << 20 // bytes free before a frozen server is restarted
	openToRecover = 64       // files that can be opened before that: a stream that cannot be read at its start is left out
	modeFile      = "mode"
	modeAlone     = "standalone\n"
)

// StartServer locks the folder and starts the server; it returns when JetStream is usable.
// Errors: [ErrStoreLocked], [ErrStoreForeign], or why the server does not start. Call [Server.Run] to watch its health
// and [Server.Close] to stop it.
func StartServer(cfg ServerConfig) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create store folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, "drydock.lock"))
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock}
	if err := checkMode(cfg.Dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrStoreLocked, filepath.Dir(path))
	}
	return f, nil
}

// checkMode marks a new folder as standalone and refuses one that is marked otherwise: a standalone store opened by a
// clustered server, or the reverse, has its streams deleted by NATS.
func checkMode(dir string) error {
	path := filepath.Join(dir, modeFile)
	got, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return durable.Replace(path, []byte(modeAlone))
	case err != nil:
		return fmt.Errorf("read store mode: %w", err)
	case string(got) != modeAlone:
		return fmt.Errorf("%w: %s says %q", ErrStoreForeign, path, strings.TrimSpace(string(got)))
	}
	return nil
}

func (s *Server) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: "drydock", NoSigs: true, NoLog: false, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: s.cfg.Dir, SyncAlways: true,
		JetStreamMaxStore: s.cfg.MaxStore, JetStreamMaxMemory: 64 << 20,
		CustomClientAuthentication: s, MaxConn: MaxConnections, AuthTimeout: authSeconds,
	}
	if s.cfg.Listen == "" {
		o.DontListen = true
		return o, nil
	}
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("read nats-listen %q: %w", s.cfg.Listen, err)
	}
	if o.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("read nats-listen %q: %w", s.cfg.Listen, err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.Host = host
	if s.cfg.TLS != nil {
		o.TLSConfig, o.TLS, o.TLSTimeout = s.cfg.TLS, true, 5
	}
	return o, nil
}

func (s *Server) start() error {
	o, err := s.options()
	if err != nil {
		return err
	}
	inner, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("configure nats server: %w", err)
	}
	s.mu.Lock()
	s.readers.home = nil // the accounts were the last one's
	s.mu.Unlock()
	log := &serverLog{log: s.cfg.Log, fatal: make(chan string, 1)}
	inner.SetLoggerV2(log, false, false, false)
	go inner.Start() // ended by inner.Shutdown; WaitForShutdown waits for it
	if err := awaitReady(inner, log.fatal); err != nil {
		inner.Shutdown()
		return fmt.Errorf("start nats server on %q with store %s: %w", s.cfg.Listen, s.cfg.Dir, err)
	}
	if err := errors.Join(s.unstage(), s.stage()); err != nil { // what a killed server left there, the new one has completed
		s.cfg.Log.Warn("stage groups of messages on disk: they take longer", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inner = inner
	return s.open()
}

// awaitReady waits for the server, or for its last words: a port in use is only ever reported through the log.
func awaitReady(inner *server.Server, fatal <-chan string) error {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); {
		ready := inner.ReadyForConnections(50 * time.Millisecond)
		select {
		case why := <-fatal:
			return errors.New(why)
		default:
		}
		if ready && inner.JetStreamEnabled() {
			return nil
		}
	}
	return fmt.Errorf("not ready after %s", readyTimeout)
}

// InProcessConn gives a connection to the current inner server; nats.go calls it again on every reconnect.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner == nil {
		return nil, errors.New("bus is restarting")
	}
	return s.inner.InProcessConn()
}

// Addr is where the nats CLI connects, empty without a listener.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner == nil || s.cfg.Listen == "" {
		return ""
	}
	if a := s.inner.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// Health is nil when the server accepts writes, else the reason that an operator should read.
func (s *Server) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sick
}

// Run watches the server until ctx ends. A full disk, or no file left to open, freezes JetStream streams until a restart, even
// when there is space again: Run says so, and restarts the inner server once there is room.
func (s *Server) Run(ctx context.Context) error {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.watch()
		}
	}
}

func (s *Server) watch() {
	s.mu.Lock()
	inner, before := s.inner, s.sick
	s.mu.Unlock()
	var sick error
	if inner != nil {
		if h := inner.Healthz(&server.HealthzOptions{}); h.Status != "ok" {
			sick = fmt.Errorf("nats server is not healthy: %s", h.Error)
		}
		if err := canOpen(s.cfg.Dir, 1); err != nil { // NATS reads folders to know how it is, and takes one that it cannot read for empty
			sick = fmt.Errorf("nats server has no file left: %w", err)
		}
	}
	if (sick == nil) != (before == nil) {
		if sick != nil {
			s.cfg.Log.Error("bus accepts no writes", "err", sick)
		} else {
			s.cfg.Log.Info("bus is healthy again")
		}
	}
	s.mu.Lock()
	s.sick = sick
	s.mu.Unlock()
	if err := s.stage(); err != nil { // somebody may have tidied up the memory
		s.cfg.Log.Debug("stage groups of messages in memory", "err", err)
	}
	if (sick != nil && strings.Contains(sick.Error(), "write error") || inner == nil) && roomIn(s.cfg.Dir) && canOpen(s.cfg.Dir, openToRecover) == nil {
		s.restart()
	}
}

// restart replaces the inner server; clients reconnect by themselves.
func (s *Server) restart() {
	s.mu.Lock()
	old := s.inner
	s.inner = nil
	s.mu.Unlock()
	if old != nil {
		s.cfg.Log.Warn("restarting the embedded nats server: there is room again after a write error")
		old.Shutdown()
		old.WaitForShutdown()
	}
	if err := s.start(); err != nil {
		s.cfg.Log.Error("restart embedded nats server", "err", err)
	}
}

func roomIn(dir string) bool {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return false
	}
	return int64(st.Bavail)*st.Bsize >= freeToRecover
}

// canOpen tries whether n more files can be open at once.
func canOpen(dir string, n int) error {
	for range n {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
	}
	return nil
}

// Close stops the server and releases the folder.
func (s *Server) Close() error {
	s.mu.Lock()
	inner := s.inner
	s.inner = nil
	s.mu.Unlock()
	if inner != nil {
		inner.Shutdown()
		inner.WaitForShutdown()
	}
	return errors.Join(s.unstage(), s.lock.Close())
}

// Password returns the configured bus password, or the one kept in dir, made on first use: 256 random bits, readable
// by the owner only. There is no default password.
func Password(dir, configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	path := filepath.Join(dir, "password")
	if b, err := os.ReadFile(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read bus password: %w", err)
	} else if kept := strings.TrimSpace(string(b)); kept != "" {
		return kept, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create store folder: %w", err)
	}
	raw := make([]byte, 32)
	rand.Read(raw)
	pw := base64.RawURLEncoding.EncodeToString(raw)
	if err := durable.Replace(path, []byte(pw+"\n")); err != nil {
		return "", fmt.Errorf("write bus password: %w", err)
	}
	return pw, nil
}

// serverLog hands the server's log to slog. NATS's own logger would end the process on Fatalf.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // the first fatal message; start reads it
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}
func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
	l.log.Error(fmt.Sprintf(format, v...))
}
