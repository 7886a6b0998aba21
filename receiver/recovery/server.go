package recovery

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/job"
)

// server is the private server.
type server struct {
	*process
	db        *sql.DB
	socketDir string
	login     Login
}

// Login is how a client gets into the private server.
type Login struct{ Socket, User, Password string }

const (
	startTimeout = 10 * time.Minute // recovery of a large backup is done by then; its log tells
	startPoll    = 50 * time.Millisecond
	endTimeout   = 5 * time.Second // within which a server has ended that broke its connections
	logSize      = 96 << 20        // bytes of the redo log, the server's own default
	longestWait  = "31536000"      // seconds, the most that servers take
)

// start runs a server on the restored files.
func (c *Copy) start(ctx context.Context) error { return c.startAs(ctx, Login{User: "root"}) }

// startAs runs a server on the restored files, which knows an account that the caller made.
func (c *Copy) startAs(ctx context.Context, login Login, further ...string) error {
	path, err := Look("mariadbd")
	if err != nil && c.backup.XtraTool {
		path, err = Look("mysqld")
	}
	if err != nil {
		return err
	}
	dir, err := socketFolder(c.cfg.Folder)
	if err != nil {
		return err
	}
	s := &server{socketDir: dir, login: login}
	s.login.Socket = s.socket()
	c.server = s
	conf := filepath.Join(c.cfg.Folder, "server.cnf")
	if err := os.WriteFile(conf, []byte(c.settings(s.socket(), further...)), 0o600); err != nil {
		return fmt.Errorf("write the private server's options: %w", err)
	}
	args := []string{"--defaults-file=" + conf}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // its folder is ours alone
	}
	if s.process, err = spawn(c.command(path, args...), c.cfg.Line); err != nil {
		return err
	}
	if s.db, err = s.open(); err != nil {
		return err
	}
	return c.Unkeyed(s.await(ctx))
}

func (s *server) socket() string { return filepath.Join(s.socketDir, socketName) }

func (s *server) open() (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "unix", s.socket(), s.login.User, s.login.Password
	cfg.Timeout, cfg.Logger = 5*time.Second, &mysql.NopLogger{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	// One connection from beginning to end: a dump may bring other accounts.
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// await returns when the server answers. That it ends instead is the backup's fault: its options are ours and the backup's own.
func (s *server) await(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		if s.db.PingContext(patience) == nil {
			return nil
		}
		select {
		case <-patience.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return SpaceIn(s.said(), fmt.Errorf("the private server did not answer within %s: %s", startTimeout, s.said()))
		case <-s.done:
			return blame(s.failed("the private server"))
		case <-tick.C:
		}
	}
}

// settings are the private server's options: nothing of it is reached from outside, and nothing in the data begins to act.
func (c *Copy) settings(socket string, further ...string) string {
	lines := []string{
		"[mysqld]", // both servers read it
		"datadir=" + quoted(c.Data()), "tmpdir=" + quoted(c.tmp()),
		"socket=" + quoted(socket), "pid-file=" + quoted(filepath.Join(c.cfg.Folder, "pid")),
		"skip-networking", "loose-mysqlx=OFF", "skip-log-bin", "skip-slave-start", "event-scheduler=OFF",
		"loose-symbolic-links=0",      // else the DATA DIRECTORY of a table would be used, where the origin has its own
		"wait-timeout=" + longestWait, // a load may take days, and the one connection that was made before it is needed after it
		"general-log=0", "slow-query-log=0", "performance-schema=0", "init-file=",
		fmt.Sprintf("innodb-buffer-pool-size=%d", max(c.cfg.Memory, 16<<20)),
		// Its own size: that of a large server would fill the folder. A prepared backup needs none of its old log.
		fmt.Sprintf("innodb-log-file-size=%d", logSize),
		"innodb-buffer-pool-load-at-startup=0", "innodb-buffer-pool-dump-at-shutdown=0", "innodb-use-native-aio=0",
	}
	if c.backup.Format == job.XBStream && len(further) == 0 {
		lines = append(lines, "skip-grant-tables") // its accounts are not ours
	}
	return strings.Join(slices.Concat(lines, c.layout(), further), "\n") + "\n"
}

// Layout are the options that a server needs to read the data, one a line as in an option file: those of the server that the
// backup was taken of, as far as the backup tells.
func (c *Copy) Layout() (lines []string) {
	for _, line := range c.layout() {
		lines = append(lines, strings.TrimPrefix(line, "loose-"))
	}
	return lines
}

// layoutOptions decide how the files are read; backup tools write them into backup-my.cnf.
var layoutOptions = regexp.MustCompile(`^(innodb_(checksum_algorithm|data_file_path|page_size|undo_tablespaces|log_block_size|fast_checksum)|lower_case_table_names)$`)

// layout takes from the backup's own options what says how its files are to be read.
func (c *Copy) layout() (lines []string) {
	f, err := os.Open(filepath.Join(c.Data(), "backup-my.cnf"))
	if err != nil {
		return nil // the defaults then
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, value, ok := strings.Cut(sc.Text(), "=")
		name = strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
		value = strings.TrimSpace(value)
		// A path would lead out of the folder, to the files of the origin: a backup has all of them in itself.
		if ok && layoutOptions.MatchString(name) && !strings.HasPrefix(value, "/") && !strings.Contains(value, ";/") {
			lines = append(lines, "loose-"+name+"="+value)
		}
	}
	return lines
}

// quoted makes any path safe as a value in an option file.
func quoted(v string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"` }

// DB asks the private server, over one connection from its start to its end.
func (c *Copy) DB() *sql.DB { return c.server.db }

// Shutdown ends the private server in good order: all of its data are in its files then. Errors: [ErrBackup]; the context's
// cause, which leaves it to [Copy.Close].
func (c *Copy) Shutdown(ctx context.Context) error {
	s := c.server
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("leave the private server: %w", err)
	}
	_ = syscall.Kill(s.cmd.Process.Pid, syscall.SIGTERM) // one that is gone already is told by its end
	select {
	case <-s.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.err != nil {
		return blame(s.failed("the private server"))
	}
	c.server = nil
	return RemoveSocket(c.cfg.Folder)
}

// Close ends the private server, if it still runs, the hard way, and leaves the folder to the caller.
func (c *Copy) Close() error {
	s := c.server
	if s == nil {
		return nil
	}
	c.server = nil
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if s.process != nil {
		s.kill()
	}
	return errors.Join(err, RemoveSocket(c.cfg.Folder))
}

// Outcome is what became of work that failed with the private server: when that ended, or had no room, the rest only follows.
func (c *Copy) Outcome(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := c.server
	patience := time.NewTimer(endTimeout)
	defer patience.Stop()
	select {
	case <-s.done:
		return fmt.Errorf("%w; then: %s", blame(s.failed("the private server")), err.Error()) // without its blame
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-patience.C:
		return SpaceIn(s.said(), err)
	}
}
