package local

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"drydock/job"
)

const (
	listTimeout  = 5 * time.Second
	probeTimeout = 2 * time.Second // for all of them
	probed       = 100             // tables that are looked into
)

// List asks a server for its tables, as far as a backup of it is to be compared with them: base tables of users, of engines
// that every backup takes. look has it look whether large ones really have a row: estimates may be old. A server that is
// known to be down is not waited for.
func (r *Runner) List(ctx context.Context, cluster string, server job.Server, look bool) (list []job.Listed, err error) {
	db, leave, err := r.facts.pool(ctx, cluster, server)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", server, err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if !r.facts.Answers(ctx, cluster, server, time.Minute) {
		return nil, fmt.Errorf("list the tables of %s: it does not answer", server)
	}
	rows, err := db.QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, COALESCE(CREATE_TIME, ''), COALESCE(UPDATE_TIME, ''), COALESCE(TABLE_ROWS, 0)
		FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IN ('InnoDB', 'MyISAM', 'Aria')
		AND TABLE_SCHEMA NOT IN (`+notOurs+`) AND TABLE_SCHEMA NOT LIKE '#mysql50#%' AND TABLE_NAME NOT LIKE '#%'`)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %s", server, sqlReason(err))
	}
	defer rows.Close()
	for rows.Next() {
		var l job.Listed
		if err := rows.Scan(&l.Schema, &l.Name, &l.Engine, &l.Made, &l.Changed, &l.Rows); err != nil {
			return nil, fmt.Errorf("list the tables of %s: %w", server, err)
		}
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the tables of %s: %s", server, sqlReason(err))
	}
	if look {
		probe(ctx, db, list)
	}
	return list, nil
}

// probe looks for a row in tables of many. One that does not answer in time, or not to us, stays without.
func probe(ctx context.Context, db *sql.DB, list []job.Listed) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	left := probed
	for i := range list {
		l := &list[i]
		if l.Counts() || !l.Many() {
			continue
		}
		if left--; left < 0 || ctx.Err() != nil {
			return
		}
		var one int
		l.Any = db.QueryRowContext(ctx, "SELECT 1 FROM "+table{l.Schema, l.Name}.quoted()+" LIMIT 1").Scan(&one) == nil
	}
}
