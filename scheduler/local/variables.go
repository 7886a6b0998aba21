package local

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"drydock/store"
)

// askedVariables are what the facts have of a server's global variables, as far as it knows them.
var askedVariables = []string{
	"version", "version_comment", "server_id", "read_only", "super_read_only", "log_bin", "binlog_format", "gtid_domain_id", "gtid_binlog_pos",
	"gtid_current_pos", "gtid_slave_pos", "gtid_mode", "character_set_server", "collation_server", "datadir", "innodb_buffer_pool_size",
	"max_connections", "lower_case_table_names", "general_log", "slow_query_log", "log_output",
}

const erNotGlobal = 1238

// variables reads askedVariables of one server. SHOW GLOBAL VARIABLES has the server make a table of the hundreds it has, most of what all of our
// questions cost it. So that is asked once, and says which of them there are; then they are read by name.
type variables struct {
	version string // of the server that the rest was learned of
	names   []string
	spelled []spelling // of each name
}

// spelling is how SHOW GLOBAL VARIABLES writes what SELECT gives.
type spelling struct{ zero, one string }

var (
	asSelected = spelling{"0", "1"}
	asSwitch   = spelling{"OFF", "ON"}
)

// read gives them by name, as SHOW GLOBAL VARIABLES spells them, and the server's clock, nil when it cannot be told.
func (v *variables) read(ctx context.Context, db querier) (map[string]string, *store.Clock, error) {
	if len(v.names) > 0 {
		values, clock, err := v.byName(ctx, db)
		if err == nil && values["version"] == v.version || err != nil && !isNumber(err, erUnknownVariable, erNotGlobal) {
			return values, clock, err
		}
	}
	values, err := pairs(ctx, db, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(askedVariables, "','")+"')")
	if err != nil {
		return nil, nil, err
	}
	v.learn(values)
	_, clock, err := (&variables{}).byName(ctx, db)
	if err != nil {
		clock = nil
	}
	return values, clock, nil
}

// learn takes in what SHOW GLOBAL VARIABLES said.
func (v *variables) learn(values map[string]string) {
	*v = variables{version: values["version"]}
	for _, name := range askedVariables {
		value, there := values[name]
		if !there {
			continue
		}
		spelled := asSelected
		if value == asSwitch.zero || value == asSwitch.one {
			spelled = asSwitch
		}
		v.names, v.spelled = append(v.names, name), append(v.spelled, spelled)
	}
}

// byName reads the clock and those that were learned.
func (v *variables) byName(ctx context.Context, db querier) (values map[string]string, clock *store.Clock, err error) {
	query := "SELECT UTC_TIMESTAMP(6)"
	for _, name := range v.names {
		query += ", @@GLOBAL." + name
	}
	asked := time.Now()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	cells, targets := make([]sql.NullString, 1+len(v.names)), make([]any, 1+len(v.names))
	for i := range cells {
		targets[i] = &cells[i]
	}
	for rows.Next() { // once
		if err := rows.Scan(targets...); err != nil {
			return nil, nil, err
		}
		clock = clockOf(cells[0].String, asked, time.Now())
	}
	values = map[string]string{}
	for i, name := range v.names {
		values[name] = v.spelled[i].of(cells[1+i].String)
	}
	return values, clock, rows.Err()
}

func (s spelling) of(value string) string {
	switch value {
	case asSelected.zero:
		return s.zero
	case asSelected.one:
		return s.one
	}
	return value
}

// clockOf compares the server's clock with ours; nil when it cannot be told. The answer was given somewhere between the moments of asking and of
// hearing it.
func clockOf(text string, asked, heard time.Time) *store.Clock {
	theirs, err := time.ParseInLocation("2006-01-02 15:04:05.999999", text, time.UTC)
	if err != nil {
		return nil
	}
	took := heard.Sub(asked)
	return &store.Clock{Ahead: theirs.Sub(asked.Add(took / 2)).Seconds(), Error: (took / 2).Seconds()}
}
