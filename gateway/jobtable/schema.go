package jobtable

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// create is the table as maintenance.txt section 6.1.2.1 has it.
const create = "CREATE TABLE IF NOT EXISTS " + table + ` (
  id      INT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
  task    VARCHAR(20),
  port    INT,
  server  VARCHAR(255),
  done    TINYINT      NOT NULL DEFAULT 0,
  state   TINYINT      NOT NULL DEFAULT 0,
  result  MEDIUMTEXT,
  payload MEDIUMTEXT,
  start   DATETIME,
  ` + "`end`" + `   DATETIME,
  KEY idx1 (task, done),
  KEY idx2 (result(1), task),
  KEY idx3 (task, state),
  UNIQUE  (task)
) ENGINE=InnoDB`

const createDatabase = "CREATE DATABASE IF NOT EXISTS " + Database

// columns are those an older table may lack, with their definitions.
var columns = []struct{ name, definition string }{
	{"task", "VARCHAR(20)"}, {"port", "INT"}, {"server", "VARCHAR(255)"},
	{"done", "TINYINT NOT NULL DEFAULT 0"}, {"state", "TINYINT NOT NULL DEFAULT 0"},
	{"result", "MEDIUMTEXT"}, {"payload", "MEDIUMTEXT"}, {"start", "DATETIME"}, {"end", "DATETIME"},
}

// keys are the plain indexes, as [layout] spells their columns.
var keys = []struct{ name, columns string }{
	{"idx1", "task,done"}, {"idx2", "result(1),task"}, {"idx3", "task,state"},
}

// layout is what a look at information_schema found.
type layout struct {
	database, table bool
	engine          string // lower case
	columns         map[string]column
	indexes         map[string]index
}

type column struct {
	kind   string // lower case data type
	length int64  // characters
}

type index struct {
	unique  bool
	columns string // "result(1),task"
}

// upgrade is what brings a table to today's layout, in this order.
type upgrade struct {
	reshape []string // clauses of ALTER TABLE: columns, and indexes that are in their way
	unique  bool     // UNIQUE(task) is missing: doubles must go first
	index   []string // clauses of ALTER TABLE
}

func (u upgrade) empty() bool { return len(u.reshape)+len(u.index) == 0 }

// plan compares a table with the layout it should have. It is pure.
func (l layout) plan() (u upgrade) {
	if l.engine != "innodb" {
		u.reshape = append(u.reshape, "ENGINE=InnoDB") // without transactions nothing is fenced
	}
	for _, c := range columns {
		have, ok := l.columns[c.name]
		switch {
		case !ok:
			u.reshape = append(u.reshape, fmt.Sprintf("ADD COLUMN `%s` %s", c.name, c.definition))
		case c.definition == "MEDIUMTEXT" && have.kind != "mediumtext" && have.kind != "longtext",
			c.name == "task" && have.length < 20:
			u.reshape = append(u.reshape, fmt.Sprintf("MODIFY COLUMN `%s` %s", c.name, c.definition))
		}
	}
	for _, k := range keys {
		have, ok := l.indexes[k.name]
		if ok && have.columns == k.columns && !have.unique {
			continue
		}
		if ok {
			u.reshape = append(u.reshape, "DROP INDEX "+k.name)
		}
		u.index = append(u.index, fmt.Sprintf("ADD KEY %s (%s)", k.name, k.columns))
	}
	if !l.uniqueTask() {
		u.unique = true
		u.index = append(u.index, "ADD UNIQUE (task)")
	}
	return u
}

func (l layout) uniqueTask() bool {
	for _, i := range l.indexes {
		if i.unique && i.columns == "task" {
			return true
		}
	}
	return false
}

// Setup makes the table what it should be. It looks first and issues no DDL when nothing is to do; call it once per
// process and server all the same. An older table is upgraded: its live rows stay, of finished rows the last of every
// task. Errors: [ErrLayout] when live rows share a task, and the driver's.
func (t *Table) Setup(ctx context.Context) error {
	l, err := t.look(ctx)
	if err == nil && !l.ready() {
		if err = t.apply(ctx, l); err != nil {
			// Somebody else may have done the same at the same time.
			if now, again := t.look(ctx); again == nil && now.ready() {
				err = nil
			}
		}
	}
	return t.wrap("set up "+table, err)
}

func (l layout) ready() bool { return l.database && l.table && l.plan().empty() }

func (t *Table) apply(ctx context.Context, l layout) error {
	if !l.database {
		if _, err := t.db.ExecContext(ctx, createDatabase); err != nil {
			return err
		}
	}
	if !l.table {
		_, err := t.db.ExecContext(ctx, create)
		return err
	}
	u := l.plan()
	if err := t.alter(ctx, u.reshape); err != nil {
		return err
	}
	if u.unique {
		if err := t.dropDoubles(ctx); err != nil {
			return err
		}
	}
	return t.alter(ctx, u.index)
}

func (t *Table) alter(ctx context.Context, clauses []string) error {
	if len(clauses) == 0 {
		return nil
	}
	_, err := t.db.ExecContext(ctx, "ALTER TABLE "+table+" "+strings.Join(clauses, ", "))
	return err
}

// live is the condition of a row that still stands for work (wire.md section 4: state 5 with done 0 has ended).
const live = "done = 0 AND COALESCE(state, 0) IN (0, 1, 2)"

// dropDoubles deletes finished rows until every task has one row: the live one, or the last.
func (t *Table) dropDoubles(ctx context.Context) error {
	_, err := t.db.ExecContext(ctx, `DELETE FROM `+table+` WHERE task IS NOT NULL AND NOT (`+live+`) AND id NOT IN (
		SELECT keep FROM (SELECT COALESCE(MAX(CASE WHEN `+live+` THEN id END), MAX(id)) AS keep
			FROM `+table+` WHERE task IS NOT NULL GROUP BY task) kept)`)
	if err != nil {
		return err
	}
	var task string
	var n int
	err = t.db.QueryRowContext(ctx, `SELECT task, COUNT(*) FROM `+table+
		` WHERE task IS NOT NULL GROUP BY task HAVING COUNT(*) > 1 LIMIT 1`).Scan(&task, &n)
	if err == sql.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: it has %d live rows of task %s, and UNIQUE(task) allows one", ErrLayout, n, task)
}

// look reads the layout and changes nothing.
func (t *Table) look(ctx context.Context) (l layout, err error) {
	l.columns, l.indexes = map[string]column{}, map[string]index{}
	var n int
	err = t.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?`, Database).Scan(&n)
	if l.database = n > 0; err != nil || !l.database {
		return l, err
	}
	err = t.db.QueryRowContext(ctx, `SELECT LOWER(COALESCE(engine, '')) FROM information_schema.tables
		WHERE table_schema = ? AND table_name = ?`, Database, Name).Scan(&l.engine)
	if err == sql.ErrNoRows {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	l.table = true
	if err := t.lookColumns(ctx, l.columns); err != nil {
		return l, err
	}
	return l, t.lookIndexes(ctx, l.indexes)
}

func (t *Table) lookColumns(ctx context.Context, into map[string]column) error {
	rows, err := t.db.QueryContext(ctx, `SELECT column_name, data_type, COALESCE(character_maximum_length, 0)
		FROM information_schema.columns WHERE table_schema = ? AND table_name = ?`, Database, Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var c column
		if err := rows.Scan(&name, &c.kind, &c.length); err != nil {
			return err
		}
		c.kind = strings.ToLower(c.kind)
		into[strings.ToLower(name)] = c
	}
	return rows.Err()
}

func (t *Table) lookIndexes(ctx context.Context, into map[string]index) error {
	rows, err := t.db.QueryContext(ctx, `SELECT index_name, non_unique, COALESCE(column_name, ''), COALESCE(sub_part, 0)
		FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? ORDER BY index_name, seq_in_index`, Database, Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, col string
		var nonUnique, part int
		if err := rows.Scan(&name, &nonUnique, &col, &part); err != nil {
			return err
		}
		if col = strings.ToLower(col); part > 0 {
			col = fmt.Sprintf("%s(%d)", col, part)
		}
		if have := into[name].columns; have != "" {
			col = have + "," + col
		}
		into[name] = index{nonUnique == 0, col}
	}
	return rows.Err()
}

// Drop removes the table and keeps the database, creating it when it is missing: other features of the protocol use it
// (maintenance.txt section 6.1.8.2). It looks first; when there is nothing to do no DDL is issued.
func (t *Table) Drop(ctx context.Context) error {
	l, err := t.look(ctx)
	if err == nil && l.table {
		_, err = t.db.ExecContext(ctx, "DROP TABLE IF EXISTS "+table)
	}
	if err == nil && !l.database {
		_, err = t.db.ExecContext(ctx, createDatabase)
	}
	return t.wrap("drop "+table, err)
}
