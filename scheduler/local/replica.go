package local

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/job"
)

// side is one server of a comparison, with the connection that its snapshots are made on.
type side struct {
	server  job.Server
	session *session
	series  string // "MariaDB 10.11": checksums of two series may differ for the same rows
	id      string // server_id
	filters []filter
	from    string // server_id of its source
	channel string
	many    bool // it has several sources, and so tables that are not the primary's
	tables  map[table]shape
}

func (s *side) mariadb() bool { return strings.HasPrefix(s.series, "MariaDB") }

// openSide connects for a comparison. Its statements never wait long for a lock: others wait for the table meanwhile.
func openSide(ctx context.Context, c Cluster, s job.Server) (*side, error) {
	c.LockTimeout = time.Second
	conn, err := openSession(ctx, c, s)
	if err != nil {
		return nil, err
	}
	out := &side{server: s, session: conn}
	if err := out.prepare(ctx); err != nil {
		conn.close()
		return nil, err
	}
	return out, nil
}

func (s *side) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var version string
	if err := s.session.conn.QueryRowContext(ctx, "SELECT VERSION(), @@server_id").Scan(&version, &s.id); err != nil {
		return err
	}
	s.series = series(version)
	// A snapshot that is not repeatable is none; the connection may be idle for as long as a pause lasts.
	for _, set := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET SESSION wait_timeout=28800"} {
		if err := s.session.exec(ctx, set); err != nil {
			return err
		}
	}
	query := "SHOW REPLICA STATUS"
	if s.mariadb() {
		query = "SHOW ALL SLAVES STATUS"
	}
	rows, err := records(ctx, s.session.conn, query)
	if isNumber(err, erSyntax) {
		rows, err = records(ctx, s.session.conn, "SHOW SLAVE STATUS")
	}
	if err != nil {
		return fmt.Errorf("read the replication state: %w", err)
	}
	s.many = len(rows) > 1
	for _, row := range rows {
		s.from = firstOf(row, "Master_Server_Id", "Source_Server_Id")
		s.channel = firstOf(row, "Connection_name", "Channel_Name")
		s.filters = append(s.filters, filterOf(row, "Replicate_"))
	}
	return nil
}

func firstOf(row map[string]sql.NullString, names ...string) string {
	for _, n := range names {
		if v, ok := row[n]; ok && v.Valid {
			return v.String
		}
	}
	return ""
}

// series is vendor and release series of a version, "MariaDB 10.11" of "10.11.6-MariaDB-log".
func series(version string) string {
	vendor := "MySQL"
	if strings.Contains(version, "MariaDB") {
		vendor = "MariaDB"
		version = strings.TrimPrefix(version, "5.5.5-") // as old replication protocols want it
	}
	number, _, _ := strings.Cut(version, "-")
	parts := strings.SplitN(number, ".", 3)
	return vendor + " " + strings.Join(parts[:min(2, len(parts))], ".")
}

// filter is what a server does not replicate.
type filter struct {
	doDB, ignoreDB, doTable, ignoreTable, wildDo, wildIgnore []string
	rewritten                                                []string // schemas that have another name on the other side
}

// filterOf reads the filters out of a row of SHOW SLAVE STATUS or SHOW MASTER STATUS.
func filterOf(row map[string]sql.NullString, prefix string) filter {
	list := func(name string) (out []string) {
		for _, x := range strings.Split(firstOf(row, prefix+name), ",") {
			if x = strings.TrimSpace(x); x != "" {
				out = append(out, x)
			}
		}
		return out
	}
	f := filter{
		doDB: list("Do_DB"), ignoreDB: list("Ignore_DB"), doTable: list("Do_Table"), ignoreTable: list("Ignore_Table"),
		wildDo: list("Wild_Do_Table"), wildIgnore: list("Wild_Ignore_Table"),
	}
	for _, pair := range list("Rewrite_DB") { // a->b in MariaDB, (a,b) in MySQL
		for name := range strings.SplitSeq(pair, "->") {
			f.rewritten = append(f.rewritten, strings.Trim(name, "() "))
		}
	}
	return f
}

// excludes reports whether the filter keeps changes of the table away, by the server's order of the rules. With
// statements in the binary log the rules for schemas depend on the default schema of each statement; here the table's
// own schema counts, as it does for rows.
func (f filter) excludes(t table) bool {
	is := func(list []string, name string) bool {
		for _, x := range list {
			if strings.EqualFold(x, name) {
				return true
			}
		}
		return false
	}
	like := func(list []string) bool {
		for _, x := range list {
			if wild(x, t.String()) {
				return true
			}
		}
		return false
	}
	switch {
	case is(f.rewritten, t.schema):
		return true
	case len(f.doDB) > 0 && !is(f.doDB, t.schema), len(f.doDB) == 0 && is(f.ignoreDB, t.schema):
		return true
	case is(f.doTable, t.String()):
		return false
	case is(f.ignoreTable, t.String()):
		return true
	case like(f.wildDo):
		return false
	case like(f.wildIgnore):
		return true
	}
	return len(f.doTable)+len(f.wildDo) > 0
}

// wild matches a pattern of the server (% and _, \ before either) against a name.
func wild(pattern, name string) bool {
	var glob strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '%':
			glob.WriteByte('*')
		case c == '_':
			glob.WriteByte('?')
		case c == '\\' && i+1 < len(pattern):
			i++
			glob.WriteString(`\` + pattern[i:i+1])
		case strings.IndexByte(`*?[]\`, c) >= 0:
			glob.WriteString(`\` + string(c))
		default:
			glob.WriteByte(c)
		}
	}
	// path.Match lets * stop at a slash, which a table's name may hold.
	slash := strings.NewReplacer("/", "\x01")
	ok, err := path.Match(slash.Replace(strings.ToLower(glob.String())), slash.Replace(strings.ToLower(name)))
	return ok && err == nil
}

// position is a place in the primary's binary log.
type position struct {
	gtid    string
	mysql   bool // gtid is a set of MySQL's
	file    string
	offset  int64
	primary string // server_id, for file and offset
}

func (p position) String() string {
	if p.gtid != "" {
		return p.gtid
	}
	return fmt.Sprintf("%s:%d", p.file, p.offset)
}

var errNoPosition = errors.New("the primary tells no position: is its binary log on?")

// here is the position up to which everything committed on the primary stands in its binary log.
func (s *side) here(ctx context.Context, conn *sql.Conn) (position, error) {
	p := position{primary: s.id}
	switch {
	case s.mariadb():
		if err := conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&p.gtid); err != nil {
			return p, err
		}
	default:
		var mode, set string
		err := conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed").Scan(&mode, &set)
		if err != nil && !isNumber(err, erUnknownVariable) {
			return p, err
		}
		if strings.HasPrefix(mode, "ON") && mode == "ON" {
			p.gtid, p.mysql = strings.ReplaceAll(set, "\n", ""), true
		}
	}
	if p.gtid != "" {
		return p, nil
	}
	row, err := s.binlogState(ctx, conn)
	if err != nil {
		return p, err
	}
	p.file = firstOf(row, "File")
	p.offset, _ = strconv.ParseInt(firstOf(row, "Position"), 10, 64)
	if p.file == "" {
		return p, errNoPosition
	}
	return p, nil
}

// binlogState is the row of SHOW MASTER STATUS, empty without a binary log.
func (s *side) binlogState(ctx context.Context, conn *sql.Conn) (map[string]sql.NullString, error) {
	rows, err := records(ctx, conn, "SHOW MASTER STATUS")
	if isNumber(err, erSyntax) { // MySQL from 8.4
		rows, err = records(ctx, conn, "SHOW BINARY LOG STATUS")
	}
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// errLate is a replica that did not come to a position in time.
var errLate = errors.New("the replica did not catch up in time")

// reach waits until the replica has applied everything up to p, at most for patience.
func (s *side) reach(ctx context.Context, p position, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience+writeTimeout) // for one that does not answer at all
	defer cancel()
	whole := max(1, int64(patience.Seconds())) // 0 would be for ever
	var query string
	var args []any
	switch {
	case p.gtid != "" && p.mysql:
		query, args = "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)", []any{p.gtid, whole}
	case p.gtid != "":
		query, args = "SELECT MASTER_GTID_WAIT(?, ?)", []any{p.gtid, patience.Seconds()}
	case s.from != p.primary:
		return fmt.Errorf("without GTID only a replica of the primary itself can be compared: %w", errLate)
	case s.mariadb():
		query, args = "SELECT MASTER_POS_WAIT(?, ?, ?, ?)", []any{p.file, p.offset, whole, s.channel}
	default:
		query, args = "SELECT SOURCE_POS_WAIT(?, ?, ?, ?)", []any{p.file, p.offset, whole, s.channel}
	}
	var result sql.NullInt64
	err := s.session.conn.QueryRowContext(ctx, query, args...).Scan(&result)
	if isNumber(err, erNoFunction) { // MySQL before 8.0.26
		query = strings.Replace(query, "SOURCE_POS_WAIT", "MASTER_POS_WAIT", 1)
		err = s.session.conn.QueryRowContext(ctx, query, args...).Scan(&result)
	}
	switch {
	case err != nil:
		return err
	case !result.Valid:
		return fmt.Errorf("its SQL thread does not run: %w", errLate)
	case result.Int64 < 0 || p.gtid != "" && result.Int64 != 0:
		return errLate
	}
	return nil
}

const erNoFunction = 1305

// shape is what makes the checksums of two tables comparable.
type shape struct{ engine, format, columns string }

// snapshots reports whether a transaction sees the table as it was when it began.
func (s shape) snapshots() bool { return s.engine == "INNODB" || s.engine == "ROCKSDB" }

// list reads the tables of the server, one schema after the other.
func (s *side) list(ctx context.Context) error {
	s.tables = map[table]shape{}
	schemas, err := s.rows(ctx, "SELECT SCHEMA_NAME, '', '', '' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ("+notOurs+")")
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		sums := map[string]hash.Hash{}
		columns, err := s.rows(ctx, `SELECT TABLE_NAME, CONCAT_WS('|', COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE), COALESCE(COLLATION_NAME, ''), ''
			FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schema[0])
		if err != nil {
			return err
		}
		for _, c := range columns {
			if sums[c[0]] == nil {
				sums[c[0]] = sha256.New()
			}
			fmt.Fprintf(sums[c[0]], "%s\x00%s\x00", c[1], c[2])
		}
		tables, err := s.rows(ctx, `SELECT TABLE_NAME, UPPER(COALESCE(ENGINE, '')), COALESCE(ROW_FORMAT, ''), '' FROM information_schema.TABLES
			WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`, schema[0])
		if err != nil {
			return err
		}
		for _, t := range tables {
			sh := shape{engine: t[1], format: t[2]}
			if sum := sums[t[0]]; sum != nil {
				sh.columns = hex.EncodeToString(sum.Sum(nil)[:8])
			}
			s.tables[table{schema[0], t[0]}] = sh
		}
	}
	return nil
}

func (s *side) rows(ctx context.Context, query string, args ...any) (out [][4]string, err error) {
	rows, err := s.session.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r [4]string
		if err := rows.Scan(&r[0], &r[1], &r[2], &r[3]); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// names are the tables of the server in order.
func (s *side) names() (out []table) {
	for t := range s.tables {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b table) int { return strings.Compare(a.String(), b.String()) })
	return out
}
