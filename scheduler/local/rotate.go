package local

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"drydock/store/attempt"
)

// logTables are the tables that the server logs to with log_output = TABLE.
var logTables = []string{"general_log", "slow_log"}

// rotateLogTables sets the filled log tables aside as NAME_1 (the newest) to NAME_N, N being
// scheduler-db-servers-logs-table-keep, or empties them when that is 0. A table that holds nothing stays: a server that
// logs to files would push its old copies out otherwise. Each server has its own log tables, so nothing of this may get
// into the binary log.
func (w *work) rotateLogTables(ctx context.Context) (outcome, error) {
	var out outcome
	if err := w.session.exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		return out, fmt.Errorf("keep the rotation out of the binary log: %w", err)
	}
	var said []string
	for _, name := range logTables {
		text, err := w.rotate(ctx, name, w.cluster.LogsTableKeep)
		if err != nil {
			out.result = strings.Join(said, "; ")
			return out, fmt.Errorf("rotate mysql.%s: %w", name, err)
		}
		said = append(said, name+": "+text)
		w.lines.Add(attempt.Info, name+": "+text)
	}
	out.result = strings.Join(said, "; ")
	return out, nil
}

func (w *work) rotate(ctx context.Context, name string, keep int) (string, error) {
	have, err := w.copies(ctx, name)
	if err != nil {
		return "", err
	}
	// Before the look whether the log is empty: a smaller number of copies counts at once.
	for n := range have {
		if n > keep {
			if err := w.session.exec(ctx, "DROP TABLE IF EXISTS "+logCopy(name, n)); err != nil {
				return "", err
			}
			delete(have, n)
		}
	}
	filled, err := w.exists(ctx, "SELECT 1 FROM "+logTable(name)+" LIMIT 1")
	switch {
	case err != nil:
		return "", err
	case !filled:
		return "empty, left as it is", nil
	case keep == 0:
		return "emptied", w.session.exec(ctx, "TRUNCATE TABLE "+logTable(name))
	}
	// What an interrupted rotation left is empty: it was never swapped in.
	fresh := quote("mysql") + "." + quote(name+"_new")
	for _, statement := range []string{
		"DROP TABLE IF EXISTS " + fresh,
		"CREATE TABLE " + fresh + " LIKE " + logTable(name),
		"DROP TABLE IF EXISTS " + logCopy(name, keep),
		renames(name, fresh, have, keep),
	} {
		if err := w.session.exec(ctx, statement); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("rotated, %d copies kept", min(len(have)+1, keep)), nil
}

// renames is one statement, which happens as a whole or not at all. While logging is on the server only lets a log table
// go if another one takes its place in the same statement.
func renames(name, fresh string, have map[int]bool, keep int) string {
	var parts []string
	for n := keep - 1; n >= 1; n-- {
		if have[n] {
			parts = append(parts, logCopy(name, n)+" TO "+logCopy(name, n+1))
		}
	}
	parts = append(parts, logTable(name)+" TO "+logCopy(name, 1), fresh+" TO "+logTable(name))
	return "RENAME TABLE " + strings.Join(parts, ", ")
}

func logTable(name string) string       { return table{"mysql", name}.quoted() }
func logCopy(name string, n int) string { return table{"mysql", name + "_" + strconv.Itoa(n)}.quoted() }

// copies are the numbers of the rotated copies that are there.
func (w *work) copies(ctx context.Context, name string) (map[int]bool, error) {
	rows, err := w.session.conn.QueryContext(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql'")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	have := map[int]bool{}
	for rows.Next() {
		var found string
		if err := rows.Scan(&found); err != nil {
			return nil, err
		}
		tail, ok := strings.CutPrefix(found, name+"_")
		// Only names as we write them: another's general_log_007 is not ours to drop.
		if n, err := strconv.Atoi(tail); ok && err == nil && n >= 1 && strconv.Itoa(n) == tail {
			have[n] = true
		}
	}
	return have, rows.Err()
}

func (w *work) exists(ctx context.Context, query string) (bool, error) {
	rows, err := w.session.conn.QueryContext(ctx, query)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }()
	return rows.Next(), rows.Err()
}
