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
	for _, t := range tables {
		if err := d.inspect(ctx, t, res); err != nil {
			return d.broken(ctx, fmt.Errorf("%s: %w", t, err))
		}
	}
	switch {
	case res.Tables == 0:
		return fmt.Errorf("%w: there is no table in it", ErrBackup)
	case len(res.Problems) > 0:
		return fmt.Errorf("%w: %d of %d tables are not well: %s", ErrBackup, len(res.Problems), res.Tables, res.Problems[0])
	}
	return nil
}

// broken is the outcome when the server did not answer a question, which is no finding about a table.
func (d *drill) broken(ctx context.Context, err error) error {
	if answered(err) {
		return recovery.SpaceIn(err.Error(), err)
	}
	return d.copy.Outcome(ctx, err)
}

// answered tells an error that the server gave from one of the connection to it.
func answered(err error) bool {
	var answer *mysql.MySQLError
	return errors.As(err, &answer)
}

// inspect looks at one table. What it finds goes into res; an error is one of the looking.
func (d *drill) inspect(ctx context.Context, t string, res *Result) error {
	problem, err := d.checkTable(ctx, t)
	if err == nil && problem == "" {
		var rows int64
		if err = d.copy.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t).Scan(&rows); err == nil {
			res.Rows += rows
		}
	}
	if err != nil && (!answered(err) || recovery.NoSpace(err.Error())) {
		return err
	}
	if err != nil {
		problem = err.Error()
	}
	switch {
	case noEngine.MatchString(problem):
		res.Skipped = append(res.Skipped, t)
		d.cfg.Line(t + ": not looked at: " + problem)
		return nil
	case problem != "":
		res.Problems = append(res.Problems, t+": "+problem)
		d.cfg.Line(t + ": " + problem)
	}
	res.Tables++
	return nil
}

// noEngine is what a server says of a table whose engine is a plugin that it did not load: scratch servers load none.
var noEngine = regexp.MustCompile(`(?i)unknown storage engine|(plugin|engine) '[^']*' is not loaded`)

// tables lists all that hold rows, the server's own included: without mysql.* nobody could log in to what was restored.
func (d *drill) tables(ctx context.Context) (out []string, err error) {
	rows, err := d.copy.DB().QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
		WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') ORDER BY 1, 2`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var schema, name string
		if err := rows.Scan(&schema, &name); err != nil {
			return nil, err
		}
		out = append(out, ident(schema)+"."+ident(name))
	}
	return out, rows.Err()
}

func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// checkTable is what CHECK TABLE finds wrong, empty when nothing. An engine that cannot be asked is not wrong.
func (d *drill) checkTable(ctx context.Context, t string) (problem string, err error) {
	rows, err := d.copy.DB().QueryContext(ctx, "CHECK TABLE "+t)
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
