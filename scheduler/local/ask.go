package local

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/store"
)

// Beside the variables and the time of day this is the whole question. None of it writes, or reads a table of the server.
const askStatus = `SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_running', 'Threads_connected', 'Uptime', 'Slaves_connected')`

const (
	erSyntax     = 1064
	erNotGranted = 1227 // the account lacks a privilege
)

// ask reads the facts. It gives no error: what could not be read says so itself. The counters are taken from counted, an answer of the same
// server, unless that is nil: to tell them a server adds up those of all of its connections, which is most of what a question costs one that has
// hundreds.
func ask(ctx context.Context, db querier, v *variables, counted *store.Facts) store.Facts {
	f := store.Facts{Time: time.Now().UTC()}
	values, clock, err := v.read(ctx, db)
	if err != nil {
		f.Err = sqlReason(err)
		return f
	}
	if counted != nil {
		f.Count(*counted)
	} else if err := count(ctx, db, &f); err != nil {
		f.Err = sqlReason(err)
		return f
	}
	f.Up, f.Version, f.Variables, f.Clock = true, values["version"], values, clock
	f.ReadOnly = values["read_only"] != "OFF" && values["read_only"] != ""
	if f.Sources, err = sources(ctx, db, strings.Contains(f.Version, "MariaDB")); err != nil {
		f.Err = "replication state: " + sqlReason(err)
		return f
	}
	f.Role = store.RolePrimary
	if len(f.Sources) > 0 {
		f.Role = store.RoleReplica
	}
	return f
}

// count reads the counters.
func count(ctx context.Context, db querier, f *store.Facts) error {
	status, err := pairs(ctx, db, askStatus)
	if err != nil {
		return err
	}
	f.Running, f.Threads, f.Replicas = number(status["Threads_running"]), number(status["Threads_connected"]), number(status["Slaves_connected"])
	f.Uptime = int64(number(status["Uptime"]))
	return nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // what this server does not have is 0
	return n
}

// sources reads the replication channels, none on a server that replicates from nobody.
func sources(ctx context.Context, db querier, mariadb bool) ([]store.Source, error) {
	query := "SHOW REPLICA STATUS"
	if mariadb {
		query = "SHOW ALL SLAVES STATUS"
	}
	rows, err := records(ctx, db, query)
	if isNumber(err, erSyntax) { // MySQL before 8.0.22
		rows, err = records(ctx, db, "SHOW SLAVE STATUS")
	}
	if err != nil {
		return nil, err
	}
	var out []store.Source
	for _, row := range rows {
		// The two spellings of every column, whichever the server has.
		col := func(names ...string) (v string) {
			for _, n := range names {
				if c, ok := row[n]; ok && c.Valid {
					return c.String
				}
			}
			return ""
		}
		s := store.Source{
			Name: col("Connection_name", "Channel_Name"),
			From: net.JoinHostPort(col("Master_Host", "Source_Host"), col("Master_Port", "Source_Port")),
			ID:   col("Master_Server_Id", "Source_Server_Id"),
			IO:   col("Slave_IO_Running", "Replica_IO_Running"), SQL: col("Slave_SQL_Running", "Replica_SQL_Running"),
			Err: strings.TrimSpace(col("Last_IO_Error") + " " + col("Last_SQL_Error")),
		}
		if lag, err := strconv.ParseInt(col("Seconds_Behind_Master", "Seconds_Behind_Source"), 10, 64); err == nil {
			s.Lag = &lag
		}
		out = append(out, s)
	}
	return out, nil
}

// querier is a pool of connections, or one of them.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// pairs reads a result of two columns.
func pairs(ctx context.Context, db querier, query string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[string]string{}
	for rows.Next() {
		var name string
		var value sql.NullString
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		out[name] = value.String
	}
	return out, rows.Err()
}

// records reads a result by column name: the columns of these statements differ between versions.
func records(ctx context.Context, db querier, query string) ([]map[string]sql.NullString, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out []map[string]sql.NullString
	for rows.Next() {
		values, targets := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		row := map[string]sql.NullString{}
		for i, n := range names {
			row[n] = values[i]
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

func isNumber(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}

// sqlReason is a failure for people, without what differs from one try to the next: a new reason is a new entry in the
// job's log.
func sqlReason(err error) string {
	var refused *mysql.MySQLError
	var network *net.OpError
	switch {
	case errors.As(err, &refused):
		return refused.Message + " (error " + strconv.Itoa(int(refused.Number)) + ")"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &network) && network.Addr != nil:
		return network.Op + " " + network.Addr.String() + ": " + network.Err.Error()
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}
