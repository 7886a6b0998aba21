package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/job"
)

const (
	dialTimeout  = 3 * time.Second
	openTimeout  = 5 * time.Second
	killTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
)

func sqlConfig(s job.Server, user, password string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", s.Addr()
	cfg.User, cfg.Passwd = user, password
	cfg.Timeout, cfg.WriteTimeout = dialTimeout, writeTimeout
	cfg.Logger = &mysql.NopLogger{} // what matters comes back as an error
	cfg.InterpolateParams = true
	return cfg
}

func connector(cfg *mysql.Config) driver.Connector {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		panic("mysql configuration: " + err.Error()) // only for a TLS name or an address that sqlConfig set wrongly
	}
	return c
}

// session is the one connection that a job works on. It has no read timeout: rebuilding a table takes as long as it
// takes. That the server is still there is seen by asking it over another connection ([Runner.pulse]); without an answer
// the job loses its lease, and that ends the wait here.
type session struct {
	db   *sql.DB
	conn *sql.Conn
	id   int64 // of the connection, on the server
}

// openSession connects, with the lock timeout in force for every statement.
func openSession(ctx context.Context, c Cluster, s job.Server) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	cfg := sqlConfig(s, c.User, c.Password)
	seconds := strconv.Itoa(max(1, int(c.LockTimeout.Round(time.Second).Seconds())))
	cfg.Params = map[string]string{"lock_wait_timeout": seconds, "innodb_lock_wait_timeout": seconds}
	db := sql.OpenDB(connector(cfg))
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	out := &session{db: db, conn: conn}
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&out.id); err != nil {
		out.close()
		return nil, err
	}
	// A limit for users' queries must not cut maintenance. MySQL has no such limit for these statements.
	if _, err := conn.ExecContext(ctx, "SET SESSION max_statement_time=0"); err != nil && !isNumber(err, erUnknownVariable) {
		out.close()
		return nil, err
	}
	return out, nil
}

const erUnknownVariable = 1193

// kill ends what the server may still be doing for this session after its context ended, and waits a moment for the end:
// the connection is closed then, but a server notices that only when the statement is over.
func (s *session) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if err := killConnection(ctx, s.db, s.id); err != nil {
		return err
	}
	for {
		var left int
		err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?", s.id).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		pause(ctx, endingGap)
	}
}

const erNoSuchThread = 1094

func (s *session) close() {
	_ = s.conn.Close() // both only give resources back; what was done was acknowledged before
	_ = s.db.Close()
}

func (s *session) exec(ctx context.Context, statement string) error {
	_, err := s.conn.ExecContext(ctx, statement)
	return err
}
