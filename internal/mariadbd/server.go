package mariadbd

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/internal/freeport"
)

const (
	startTimeout = 60 * time.Second // for a caller whose context has no deadline
	stopTimeout  = 30 * time.Second // from SIGTERM to SIGKILL
	pollInterval = 10 * time.Millisecond
	portTries    = 5   // another program may take a free port before mariadbd does
	maxSocket    = 107 // sun_path holds 108 bytes with the final NUL
)

// errPortTaken is why another port is tried when the caller did not ask for one.
var errPortTaken = errors.New("port is taken")

// Options describe one server. Only Dir is required.
type Options struct {
	// Dir receives the option file, the socket and the data folder. It is
	// created if missing; it must not hold a server already. The caller
	// removes it once the server has stopped.
	Dir string

	// User is the account created with all privileges, for connections over
	// TCP and over the socket. Defaults to "drydock".
	User string

	// Password is the account's password, any bytes. Empty means none.
	Password string

	// ServerID is the server_id of replication. Defaults to the port, which is
	// unique among the servers of one machine.
	ServerID uint32

	// GTIDDomain is the gtid_domain_id. Defaults to 0.
	GTIDDomain uint32

	// LogBin turns the binary log on, in row format and with log_slave_updates.
	LogBin bool

	// Port is the TCP port on 127.0.0.1. Defaults to a free one.
	Port int

	// Extra holds further lines for the [mariadbd] section; they override ours.
	Extra []string
}

// Server is one MariaDB server. Its methods may be called from several
// goroutines.
type Server struct {
	opts      Options
	port      int
	socket    string
	socketDir string // set when Dir is too long to hold the socket; removed on stop

	mu   sync.Mutex // serialises start, stop and kill
	proc *process
}

// Start creates a server in opts.Dir and returns when it answers. The context
// bounds the start alone, not the server's life; one without a deadline gets
// 60 seconds. A failed start leaves no process, and the error ends with what
// the server said last. Returns ErrNotInstalled if MariaDB is missing.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("start mariadbd: Options.Dir is empty")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start mariadbd: %w", err)
	}
	opts.Dir = dir
	if opts.User == "" {
		opts.User = "drydock"
	}
	ctx, cancel := withStartTimeout(ctx)
	defer cancel()
	s := &Server{opts: opts, port: opts.Port}
	if err := s.create(ctx); err != nil {
		return nil, fmt.Errorf("start mariadbd in %s: %w", dir, err)
	}
	return s, nil
}

func withStartTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, startTimeout)
}

// create lays out the folder and starts the server for the first time.
func (s *Server) create(ctx context.Context) error {
	if err := os.MkdirAll(s.path("tmp"), 0o700); err != nil {
		return err
	}
	if err := pristine.unpackTo(ctx, s.DataDir()); err != nil {
		return err
	}
	initFile := s.path("init.sql")
	if err := s.writeInit(initFile); err != nil {
		return err
	}
	defer func() { _ = os.Remove(initFile) }()

	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		err := s.launchOn(ctx, "--init-file="+initFile)
		if errors.Is(err, errPortTaken) && s.opts.Port == 0 && try < portTries {
			continue
		}
		if err != nil {
			s.removeSocketDir()
		}
		return err
	}
}

// launchOn picks a port if the caller left it open, and launches.
func (s *Server) launchOn(ctx context.Context, args ...string) (err error) {
	if s.opts.Port == 0 {
		if s.port, err = freeport.Find(); err != nil {
			return err
		}
	}
	return s.launch(ctx, args...)
}

// launch starts the process and waits until it answers. s.mu is held.
func (s *Server) launch(ctx context.Context, args ...string) error {
	bin, err := lookTool("mariadbd")
	if err != nil {
		return err
	}
	if err := s.placeSocket(); err != nil {
		return err
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	logStart := fileSize(s.ErrorLog())
	args = append([]string{"--defaults-file=" + s.ConfigFile()}, append(userArgs(), args...)...)
	proc, err := spawn(bin, args, s.path("mariadbd.out"))
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.waitReady(ctx, proc); err != nil {
		_ = proc.kill()
		return s.explain(err, logStart)
	}
	return nil
}

// placeSocket settles where the socket lies: in Dir, or in a short temporary
// folder when the path would be longer than a socket address can be.
func (s *Server) placeSocket() error {
	s.socket = s.path("mariadbd.sock")
	if len(s.socket) <= maxSocket {
		return nil
	}
	if s.socketDir == "" {
		dir, err := os.MkdirTemp("/tmp", "drydock-")
		if err != nil {
			return fmt.Errorf("make socket folder: %w", err)
		}
		s.socketDir = dir
	}
	s.socket = filepath.Join(s.socketDir, "mariadbd.sock")
	return nil
}

// waitReady returns nil once the account can log in over the socket, which
// nobody but this server can be listening on. The TCP port is bound by then.
func (s *Server) waitReady(ctx context.Context, proc *process) error {
	cfg := s.Config()
	cfg.Net, cfg.Addr = "unix", s.socket
	cfg.Logger = &mysql.NopLogger{}
	db, err := open(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		pingErr := db.PingContext(ctx)
		if pingErr == nil {
			return nil
		}
		select {
		case <-proc.done:
			return fmt.Errorf("mariadbd ended at once: %w", exitError(proc.err))
		case <-ctx.Done():
			return fmt.Errorf("wait for mariadbd: %w (last: %w)", ctx.Err(), pingErr)
		case <-tick.C:
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// explain adds what the server wrote to its log since logStart.
func (s *Server) explain(err error, logStart int64) error {
	text, readErr := os.ReadFile(s.ErrorLog())
	if readErr != nil || int64(len(text)) <= logStart {
		text, _ = os.ReadFile(s.path("mariadbd.out")) // died before the log was open
		logStart = 0
	}
	text = text[logStart:]
	if bytes.Contains(text, []byte("Bind on TCP/IP port")) {
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return fmt.Errorf("%w: %s", err, lastLines(text, 6))
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Stop asks the server to shut down and waits for it. When ctx ends first, or
// after 30 seconds, the server is killed and an error says so. Stopping a
// stopped server does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx)
}

func (s *Server) stop(ctx context.Context) error {
	defer s.removeSocketDir()
	if !s.proc.running() {
		return nil
	}
	if err := s.proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-s.proc.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop mariadbd on port %d: killed: %w", s.port, ctx.Err()), s.proc.kill())
	}
}

// Kill ends the server as a crash would (SIGKILL) and waits until it is gone.
// Killing a stopped server does nothing.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.removeSocketDir()
	return s.proc.kill()
}

func (s *Server) removeSocketDir() {
	if s.socketDir != "" {
		_ = os.RemoveAll(s.socketDir)
		s.socketDir = ""
	}
}

// Restart stops the server if it runs and starts it again with the same data
// on the same port; after Stop or Kill it is the way back. It returns when the
// server answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(ctx); err != nil {
		return err
	}
	ctx, cancel := withStartTimeout(ctx)
	defer cancel()
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("restart mariadbd on port %d: %w", s.port, err)
	}
	return nil
}

// Done is closed when the server process has ended, for whatever reason. After
// Restart there is a new channel.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.done
}

// PID returns the process id of the server, running or ended.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.os.Pid
}

// Port returns the TCP port on 127.0.0.1. It stays the same over Restart.
func (s *Server) Port() int { return s.port }

// Addr returns host and port, "127.0.0.1:20123".
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket returns the path of the unix socket.
func (s *Server) Socket() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket
}

// Dir returns the absolute path of Options.Dir.
func (s *Server) Dir() string { return s.opts.Dir }

// DataDir returns the server's datadir.
func (s *Server) DataDir() string { return s.path("data") }

// ConfigFile returns the option file, fit for --defaults-file of mariadb-backup.
func (s *Server) ConfigFile() string { return s.path("my.cnf") }

// ErrorLog returns the path of the error log.
func (s *Server) ErrorLog() string { return filepath.Join(s.DataDir(), "error.log") }

// SlowLog returns the path of the slow query log; queries of one second and
// more go there.
func (s *Server) SlowLog() string { return filepath.Join(s.DataDir(), "slow.log") }

// User returns the name of the account that Start created.
func (s *Server) User() string { return s.opts.User }

// Password returns the password of that account. Keep it out of logs.
func (s *Server) Password() string { return s.opts.Password }

func (s *Server) path(name string) string { return filepath.Join(s.opts.Dir, name) }

func (s *Server) serverID() uint32 {
	if s.opts.ServerID != 0 {
		return s.opts.ServerID
	}
	return uint32(s.port)
}

// Config returns a fresh driver configuration for the account over TCP, for
// callers that want another user, schema or option.
func (s *Server) Config() *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", s.Addr()
	cfg.User, cfg.Passwd = s.opts.User, s.opts.Password
	cfg.Timeout = 5 * time.Second
	cfg.ParseTime = true
	cfg.InterpolateParams = true // statements like CHANGE MASTER take no parameters otherwise
	return cfg
}

// DB opens a connection pool for the account over TCP. The caller closes it.
// It does not connect yet, so it works while the server is down.
func (s *Server) DB() (*sql.DB, error) { return open(s.Config()) }

func open(cfg *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure connection: %w", err)
	}
	return sql.OpenDB(connector), nil
}
