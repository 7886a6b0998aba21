package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/store/attempt"
)

// notOurs are the schemas that no task here works on: the server's own.
const notOurs = "'information_schema', 'performance_schema', 'sys', 'mysql'"

// unfit are engines that keep no table on this server, or nothing to analyze or optimize.
var unfit = []string{"", "CSV", "BLACKHOLE", "MEMORY", "FEDERATED", "CONNECT", "SPIDER", "MRG_MYISAM", "PERFORMANCE_SCHEMA", "SEQUENCE", "OQGRAPH", "SPHINX"}

// table is the name of one table.
type table struct{ schema, name string }

func (t table) String() string { return t.schema + "." + t.name }

// quoted is the name for a statement.
func (t table) quoted() string { return quote(t.schema) + "." + quote(t.name) }

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

const (
	errorsKept    = 10
	slowStatement = time.Second // a table that took longer is worth a line

	erLockWait     = 1205
	erNoSuchTable  = 1146
	erBadDB        = 1049
	erReadOnlyHere = 1290
	lockWaitText   = "Lock wait timeout exceeded"
)

// eachTable gives ANALYZE or OPTIMIZE to every table of the users, one at a time, with a pause before each while the
// limits ask for it. It is NO_WRITE_TO_BINLOG: every server has its own schedule, and a replica must not be held up by
// what its primary rebuilds. Tables that could not be locked are tried once more at the end.
func (w *work) eachTable(ctx context.Context, verb string) (outcome, error) {
	all, left, err := w.tables(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("list the tables: %w", err)
	}
	w.lines.Add(attempt.Info, fmt.Sprintf("%s: %d tables, %d left out for their engine", strings.ToLower(verb), len(all), left))
	var out outcome
	done, failed := 0, 0
	var locked []table
	for round := range 2 {
		for _, t := range all {
			if err := w.yield(ctx); err != nil {
				return out.counted(verb, done, failed), err
			}
			began := time.Now()
			err := w.tend(ctx, verb, t)
			switch {
			case err == nil:
				done++
				if took := time.Since(began); took >= slowStatement {
					w.lines.Add(attempt.Info, fmt.Sprintf("%s: %s", t, took.Round(100*time.Millisecond)))
				}
			case fatal(ctx, err):
				return out.counted(verb, done, failed), fmt.Errorf("%s: %w", t, err)
			case errors.Is(err, errLocked) && round == 0:
				locked = append(locked, t)
				w.lines.Add(attempt.Warn, fmt.Sprintf("%s: %v; tried again at the end", t, err))
			default:
				failed++
				text := fmt.Sprintf("%s: %v", t, err)
				w.lines.Add(attempt.Error, text)
				if len(out.errors) < errorsKept {
					out.errors = append(out.errors, text)
				}
			}
		}
		all = locked
	}
	out = out.counted(verb, done, failed)
	if failed > 0 {
		return out, fmt.Errorf("%d of %d tables failed: %s", failed, done+failed, out.errors[0])
	}
	return out, nil
}

func (o outcome) counted(verb string, done, failed int) outcome {
	o.result = fmt.Sprintf("%s: %d tables done, %d failed", strings.ToLower(verb), done, failed)
	return o
}

// fatal tells errors after which the next table would not fare better.
func fatal(ctx context.Context, err error) bool {
	var refused *mysql.MySQLError
	answered := errors.As(err, &refused) || errors.Is(err, errLocked) || errors.Is(err, errTable)
	return ctx.Err() != nil || !answered || isNumber(err, erReadOnlyHere)
}

// tables lists the tables to work on, and counts those that are left out for their engine.
func (w *work) tables(ctx context.Context) (out []table, left int, err error) {
	rows, err := w.session.conn.QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(ENGINE, '') FROM information_schema.TABLES
		WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN (`+notOurs+`) ORDER BY 1, 2`)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var t table
		var engine string
		if err := rows.Scan(&t.schema, &t.name, &engine); err != nil {
			return nil, 0, err
		}
		if slices.Contains(unfit, strings.ToUpper(engine)) {
			left++
			continue
		}
		out = append(out, t)
	}
	return out, left, rows.Err()
}

var (
	// errLocked is a table whose metadata lock could not be had in maintenance-lock-timeout.
	errLocked = errors.New("locked by others for longer than maintenance-lock-timeout")
	// errTable is what the server says about a table in the result of a statement that did not fail itself.
	errTable = errors.New("the server reports")
)

// tend gives the statement to one table and reads what the server says in its result: the statement itself does not fail
// when the table does. A table that was dropped meanwhile needs no care.
func (w *work) tend(ctx context.Context, verb string, t table) error {
	rows, err := w.session.conn.QueryContext(ctx, verb+" NO_WRITE_TO_BINLOG TABLE "+t.quoted()+mark(w.job))
	if err != nil {
		return lockedOr(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, op, kind, text string
		if err := rows.Scan(&name, &op, &kind, &text); err != nil {
			return err
		}
		switch strings.ToLower(kind) {
		case "error":
			if gone(text) {
				return nil
			}
			if strings.Contains(text, lockWaitText) {
				return errLocked
			}
			return fmt.Errorf("%w: %s", errTable, text)
		case "warning":
			w.lines.Add(attempt.Warn, fmt.Sprintf("%s: %s", t, text))
		}
	}
	return lockedOr(rows.Err())
}

func lockedOr(err error) error {
	switch {
	case isNumber(err, erLockWait):
		return errLocked
	case isNumber(err, erNoSuchTable, erBadDB):
		return nil
	}
	return err
}

func gone(text string) bool {
	return strings.HasPrefix(text, "Table ") && strings.HasSuffix(text, "doesn't exist") || strings.HasPrefix(text, "Unknown database")
}
