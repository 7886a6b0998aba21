package drill

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"

	"drydock/receiver/recovery"
)

// check asks the scratch server about every table: is it well, and how many rows does it have.
func (d *drill) check(ctx context.Context, res *Result) error {
	if err := d.copy.DB().QueryRowContext(ctx, "SELECT VERSION()").Scan(&res.Version); err != nil {
		return d.broken(ctx, err)
	}
	tables, err := d.tables(ctx)
	if err != nil {
		return d.broken(ctx, fmt.Errorf("list the tables: %w", err))
	}
	found := finds{}
	for _, t := range tables {
		rows, err := d.inspect(ctx, t, res)
		if err != nil {
			return d.broken(ctx, fmt.Errorf("%s: %w", t, err))
		}
		found.add(t, rows)
	}
	lacks := found.lacks(d.cfg.Expect)
	res.Problems = append(res.Problems, lacks...)
	res.Compared = d.cfg.Expect.Count()
	switch {
	case res.Tables == 0:
		return fmt.Errorf("%w: there is no table in it", ErrBackup)
	case len(res.Problems) > 0:
		err = fmt.Errorf("%w: %d things are not well in %d tables: %s", ErrBackup, len(res.Problems), res.Tables, first(res.Problems))
	}
	if len(lacks) > 0 { // no key would bring them
		return err
	}
	return d.copy.Unkeyed(err)
}

// broken is the outcome when the server did not answer a question, which is no finding about a table.
func (d *drill) broken(ctx context.Context, err error) error {
	if answered(err) {
		return recovery.SpaceIn(err.Error(), err)
	}
	return d.copy.Unkeyed(d.copy.Outcome(ctx, err))
}

// answered tells an error that the server gave from one of the connection to it.
func answered(err error) bool {
	var answer *mysql.MySQLError
	return errors.As(err, &answer)
}

// first is the first few of a list, for people.
func first(list []string) string {
	const few = 3
	text := strings.Join(list[:min(len(list), few)], "; ")
	if len(list) > few {
		text += "; ..."
	}
	return text
}

// inspect looks at one table, and counts its rows; they are negative when that could not be. What it finds goes into res; an
// error is one of the looking.
func (d *drill) inspect(ctx context.Context, t name, res *Result) (rows int64, err error) {
	rows = -1
	problem, err := d.checkTable(ctx, t)
	if err == nil && problem == "" {
		if err = d.copy.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.String()).Scan(&rows); err == nil {
			res.Rows += rows
		}
	}
	if err != nil && (!answered(err) || recovery.NoSpace(err.Error())) {
		return rows, err
	}
	if err != nil {
		problem = err.Error()
	}
	switch {
	case noEngine.MatchString(problem):
		res.Skipped = append(res.Skipped, t.String())
		d.cfg.Line(t.String() + ": not looked at: " + problem)
		return rows, nil
	case problem != "":
		res.Problems = append(res.Problems, t.String()+": "+problem)
		d.cfg.Line(t.String() + ": " + problem)
	}
	res.Tables++
	return rows, nil
}

// noEngine is what a server says of a table whose engine is a plugin that it did not load: scratch servers load none.
var noEngine = regexp.MustCompile(`(?i)unknown storage engine|(plugin|engine) '[^']*' is not loaded`)

// tables lists all that hold rows, the server's own included: without mysql.* nobody could log in to what was restored.
func (d *drill) tables(ctx context.Context) (out []name, err error) {
	rows, err := d.copy.DB().QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
		WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') ORDER BY 1, 2`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t name
		if err := rows.Scan(&t.schema, &t.table); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// checkTable is what CHECK TABLE finds wrong, empty when nothing. An engine that cannot be asked is not wrong.
func (d *drill) checkTable(ctx context.Context, t name) (problem string, err error) {
	rows, err := d.copy.DB().QueryContext(ctx, "CHECK TABLE "+t.String())
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var name, op, kind, text string
		if err := rows.Scan(&name, &op, &kind, &text); err != nil {
			return "", err
		}
		switch kind = strings.ToLower(kind); {
		case kind == "error", kind == "status" && text != "OK" && text != "Table is already up to date" && !strings.Contains(text, "doesn't support"):
			if !noEngine.MatchString(problem) { // the first cause; "Corrupt" comes after it
				problem = text
			}
		}
	}
	return problem, rows.Err()
}
