package restore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/job"
	"drydock/store"
)

// reachTime bounds the question to the primary.
const reachTime = 2 * time.Second

// Login is an account on the servers of a cluster.
type Login struct{ User, Password string }

// reaches refuses a backup that is older than what its own server, the primary, still has in its binary logs: a replica
// made from it could never catch up. A primary that does not answer, or a backup of another server, is not looked at:
// the script finds out, and puts the old data back.
func reaches(ctx context.Context, l Login, m store.Manifest, primary job.Server) error {
	if m.Server != primary || m.BinlogFile == "" || l.User == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	oldest, err := oldestBinlog(ctx, l, primary)
	if err != nil || !earlier(m.BinlogFile, oldest) {
		return nil
	}
	return refuse("backup %s goes up to %s, and the binary logs of %s begin with %s: a replica made from it cannot catch up",
		m.ID, m.BinlogFile, primary, oldest)
}

// oldestBinlog is the first binary log that a server still has.
func oldestBinlog(ctx context.Context, l Login, s job.Server) (string, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = l.User, l.Password, "tcp", s.Addr()
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = reachTime, reachTime, reachTime
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", s, err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return "", fmt.Errorf("ask %s for its binary logs: %w", s, err)
	}
	defer rows.Close()
	columns, err := rows.Columns() // two or three, by version
	if err != nil || !rows.Next() {
		return "", fmt.Errorf("ask %s for its binary logs: %w", s, rows.Err())
	}
	name, rest := "", make([]sql.RawBytes, max(0, len(columns)-1))
	into := []any{&name}
	for i := range rest {
		into = append(into, &rest[i])
	}
	return name, rows.Scan(into...)
}

// earlier compares two binary logs of one series by their numbers. What is no such pair is not earlier.
func earlier(a, b string) bool {
	nameA, numberA, okA := cutNumber(a)
	nameB, numberB, okB := cutNumber(b)
	return okA && okB && nameA == nameB && numberA < numberB
}

func cutNumber(file string) (name string, number uint64, ok bool) {
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return "", 0, false
	}
	number, err := strconv.ParseUint(file[i+1:], 10, 64)
	return file[:i], number, err == nil
}
