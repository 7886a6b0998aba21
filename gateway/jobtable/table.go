package jobtable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/job"
)

// Where the table lives (maintenance.txt section 6.1.2.1).
const (
	Database = "replication_manager_schema"
	Name     = "jobs"
	table    = Database + "." + Name
)

const (
	dialTimeout  = 3 * time.Second
	lockSeconds  = "5"              // for metadata and row locks: DDL must not queue behind a backup lock, with everybody behind it
	readTimeout  = 10 * time.Second // longer than a lock wait, so that the server's own error is what is seen
	writeTimeout = 5 * time.Second
	maxConns     = 2
	idleTime     = time.Minute
)

// The server's error numbers that mean something here.
const (
	erBadDB        = 1049
	erDupEntry     = 1062
	erNoSuchTable  = 1146
	erLockDeadlock = 1213
)

// The errors of a [Table], beside the driver's.
var (
	// ErrNoTable is returned when the table or its database is not there. The caller runs [Table.Setup].
	ErrNoTable = errors.New("table " + table + " does not exist")
	// ErrLiveRow is returned by [Table.Insert] when a row of another run is available, processing or waiting. It is never
	// overwritten; the caller waits until it ends, or ends it with [Table.Abandon] when it knows that its job has.
	ErrLiveRow = errors.New("a live row is in the way")
	// ErrOld is returned by [Table.Insert] when the row belongs to a run whose name is newer. Either the caller is behind
	// the times, or its job was due earlier and was started later: it asks the log and calls [Table.Replace].
	ErrOld = errors.New("the row belongs to a newer run")
	// ErrLayout is returned by [Table.Setup] for an older table that cannot be upgraded now, with the reason.
	ErrLayout = errors.New("table " + table + " cannot be upgraded")
)

// Table is the jobs table of one server. Safe for concurrent use.
type Table struct {
	server job.Server
	db     *sql.DB
}

// Open prepares the access to the table of a server; it connects when needed, so it works while the server is down.
// The account needs the right to set sql_log_bin (BINLOG ADMIN, SUPER, or SESSION_VARIABLES_ADMIN): without it every
// call fails, because writing without it would replicate the rows.
func Open(server job.Server, user, password string) *Table {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", server.Addr()
	cfg.User, cfg.Passwd = user, password
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = dialTimeout, readTimeout, writeTimeout
	cfg.Logger = &mysql.NopLogger{} // what matters comes back as an error
	cfg.InterpolateParams = true    // one round trip per statement
	cfg.Params = map[string]string{
		"sql_log_bin":              "0",
		"autocommit":               "1",
		"lock_wait_timeout":        lockSeconds,
		"innodb_lock_wait_timeout": lockSeconds,
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'", // ours, whatever the server's is
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		panic("mysql configuration: " + err.Error()) // only for a TLS name or an address that this function set wrongly
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(idleTime)
	return &Table{server, db}
}

// Rest ends the connections that nobody uses, and keeps none from now on: each call makes its own.
func (t *Table) Rest() { t.db.SetMaxIdleConns(0) }

// Close ends the connections.
func (t *Table) Close() error { return t.db.Close() }

// wrap names what was tried and where, and turns the server's words for a missing table into [ErrNoTable].
func (t *Table) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if isNumber(err, erNoSuchTable, erBadDB) {
		err = ErrNoTable
	}
	return fmt.Errorf("%s on %s: %w", doing, t.server, err)
}

func isNumber(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}

// inTx runs f in a transaction and commits it. READ COMMITTED keeps two writers that both find no row from locking the
// same gap; the unique key decides between them.
func (t *Table) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// ignoreDone drops the error of rolling back what a lost connection or an ended context has rolled back.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, mysql.ErrInvalidConn) {
		return nil
	}
	return err
}
