package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/store"
	"drydock/store/attempt"
)

// readSchema reads which tables the server has into the document _tables, and reports what changed since the last time.
// The report comes first: after a crash between the two it comes again, and is not lost.
func (w *work) readSchema(ctx context.Context) (outcome, error) {
	before, known, err := w.docs.Tables(ctx, w.job.Cluster, w.job.Server)
	if err != nil {
		return outcome{}, err
	}
	now, err := w.schema(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("read information_schema: %w", err)
	}
	out := outcome{result: fmt.Sprintf("%d tables, %d MiB", now.Count, now.Bytes>>20)}
	if !known {
		out.result += "; nothing to compare with yet"
	} else {
		changes := compare(before.Tables, now.Tables)
		for _, c := range changes.lines {
			w.lines.Add(attempt.Info, c)
		}
		w.lines.Flush()
		out.result += fmt.Sprintf("; %d added, %d removed, %d changed", changes.added, changes.removed, changes.changed)
	}
	return out, w.docs.PutTables(ctx, w.job.Cluster, w.job.Server, now)
}

// schema reads one schema after the other: each look at information_schema opens the tables it tells of.
func (w *work) schema(ctx context.Context) (store.Tables, error) {
	out := store.Tables{Taken: time.Now().UTC(), Tables: map[string]store.Table{}}
	schemas, err := w.strings(ctx, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ("+notOurs+") ORDER BY 1")
	if err != nil {
		return out, err
	}
	for _, s := range schemas {
		if err := w.yield(ctx); err != nil {
			return out, err
		}
		columns, err := w.fingerprints(ctx, s)
		if err != nil {
			return out, err
		}
		if err := w.readTables(ctx, s, columns, &out); err != nil {
			return out, err
		}
	}
	out.Count = len(out.Tables)
	return out, nil
}

func (w *work) readTables(ctx context.Context, schema string, columns map[string]string, out *store.Tables) error {
	rows, err := w.session.conn.QueryContext(ctx, `SELECT TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(ROW_FORMAT, ''),
		COALESCE(TABLE_COLLATION, ''), COALESCE(CREATE_OPTIONS, ''), COALESCE(TABLE_ROWS, 0), COALESCE(DATA_LENGTH, 0),
		COALESCE(INDEX_LENGTH, 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE <> 'TEMPORARY'`, schema)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		var t store.Table
		if err := rows.Scan(&name, &t.Type, &t.Engine, &t.Format, &t.Collation, &t.Options, &t.Rows, &t.Data, &t.Index); err != nil {
			return err
		}
		if t.Type == "BASE TABLE" {
			t.Type = ""
		}
		t.Columns = columns[name]
		out.Bytes += t.Data + t.Index
		out.Tables[table{schema, name}.String()] = t
	}
	return rows.Err()
}

// fingerprints sums up the columns of every table of a schema, in their order.
func (w *work) fingerprints(ctx context.Context, schema string) (map[string]string, error) {
	rows, err := w.session.conn.QueryContext(ctx, `SELECT TABLE_NAME, CONCAT_WS('|', COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE,
		COALESCE(COLUMN_DEFAULT, '(none)'), COALESCE(COLLATION_NAME, ''), EXTRA) FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schema)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	sums := map[string]hash.Hash{}
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			return nil, err
		}
		if sums[name] == nil {
			sums[name] = sha256.New()
		}
		fmt.Fprintf(sums[name], "%s\x00", column)
	}
	out := map[string]string{}
	for name, sum := range sums {
		out[name] = hex.EncodeToString(sum.Sum(nil)[:8])
	}
	return out, rows.Err()
}

func (w *work) strings(ctx context.Context, query string) (out []string, err error) {
	rows, err := w.session.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// changes is the difference between two table dictionaries, a line for each table.
type changes struct {
	added, removed, changed int
	lines                   []string
}

// compare says what became of the tables. It is pure. How full they are is no change.
func compare(before, now map[string]store.Table) (c changes) {
	names := slices.Collect(maps.Keys(before))
	for name := range now {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, had := before[name]
		is, has := now[name]
		switch {
		case !had:
			c.added++
			c.lines = append(c.lines, "added "+name+" ("+strings.ToLower(is.Type+is.Engine)+")")
		case !has:
			c.removed++
			c.lines = append(c.lines, "removed "+name)
		default:
			if what := differences(was, is); len(what) > 0 {
				c.changed++
				c.lines = append(c.lines, "changed "+name+": "+strings.Join(what, ", "))
			}
		}
	}
	return c
}

func differences(was, is store.Table) (out []string) {
	for _, f := range []struct{ name, was, is string }{
		{"engine", was.Engine, is.Engine},
		{"type", was.Type, is.Type},
		{"row format", was.Format, is.Format},
		{"collation", was.Collation, is.Collation},
		{"options", was.Options, is.Options},
	} {
		if f.was != f.is {
			out = append(out, fmt.Sprintf("%s %q -> %q", f.name, f.was, f.is))
		}
	}
	if was.Columns != is.Columns {
		out = append(out, "columns")
	}
	return out
}
