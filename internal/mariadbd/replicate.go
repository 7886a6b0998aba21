package mariadbd

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Replicate makes replica follow primary by GTID (MASTER_USE_GTID=slave_pos)
// and returns when both of its threads run. The primary needs
// Options.LogBin. Everything in the primary's binary log is replayed; wait for
// it with CatchUp.
//
// The replica logs in with an account of its own, so that neither the length
// nor the characters of the primary's password matter.
func Replicate(ctx context.Context, primary, replica *Server) error {
	user, password := fmt.Sprintf("replica_%d", replica.serverID()), rand.Text()
	if err := createReplicaUser(ctx, primary, user, password); err != nil {
		return fmt.Errorf("replicate: create account on %s: %w", primary.Addr(), err)
	}
	db, err := replica.DB()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, `CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=?, MASTER_USER=?,
		MASTER_PASSWORD=?, MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1`, primary.Port(), user, password)
	if err != nil {
		return fmt.Errorf("replicate: configure %s: %w", replica.Addr(), err)
	}
	if _, err := db.ExecContext(ctx, "START SLAVE"); err != nil {
		return fmt.Errorf("replicate: start threads on %s: %w", replica.Addr(), err)
	}
	if err := waitThreads(ctx, db); err != nil {
		return fmt.Errorf("replicate: %s from %s: %w", replica.Addr(), primary.Addr(), err)
	}
	return nil
}

// createReplicaUser keeps the account out of the binary log. One connection
// holds for all statements because sql_log_bin belongs to the session.
func createReplicaUser(ctx context.Context, primary *Server, user, password string) error {
	db, err := primary.DB()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	var logBin bool
	if err := conn.QueryRowContext(ctx, "SELECT @@log_bin").Scan(&logBin); err != nil {
		return err
	}
	if !logBin {
		return errors.New("binary log is off (Options.LogBin)")
	}
	account := quoteText(user) + "@'127.0.0.1'"
	for _, stmt := range []string{
		"SET sql_log_bin=0",
		"CREATE OR REPLACE USER " + account + " IDENTIFIED BY PASSWORD '" + passwordHash(password) + "'",
		"GRANT REPLICATION SLAVE ON *.* TO " + account,
	} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// waitThreads returns nil once the I/O thread is connected and the SQL thread
// runs, and the server's own words if one of them gives up.
func waitThreads(ctx context.Context, db *sql.DB) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		st, err := slaveStatus(ctx, db)
		if err != nil {
			return err
		}
		switch {
		case st["Slave_IO_Running"] == "Yes" && st["Slave_SQL_Running"] == "Yes":
			return nil
		case st["Last_SQL_Errno"] != "0":
			return fmt.Errorf("apply binary log: %s", st["Last_SQL_Error"])
		case st["Slave_IO_Running"] == "No" && st["Last_IO_Errno"] != "0":
			return fmt.Errorf("read binary log: %s", st["Last_IO_Error"])
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for threads: %w (last: %s)", ctx.Err(), st["Last_IO_Error"])
		case <-tick.C:
		}
	}
}

// slaveStatus returns SHOW SLAVE STATUS by column name. The columns differ
// between versions, so they are not scanned by position.
func slaveStatus(ctx context.Context, db *sql.DB) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	if !rows.Next() {
		return nil, errors.Join(errors.New("not a replica"), rows.Err())
	}
	values, targets := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	status := make(map[string]string, len(names))
	for i, name := range names {
		status[name] = values[i].String
	}
	return status, rows.Err()
}

// CatchUp waits until replica has applied everything that primary has logged
// so far, or ctx ends.
func CatchUp(ctx context.Context, primary, replica *Server) error {
	from, err := primary.DB()
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := replica.DB()
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()

	var pos string
	if err := from.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&pos); err != nil {
		return fmt.Errorf("catch up: read position of %s: %w", primary.Addr(), err)
	}
	for { // in steps, so that a stopped thread is reported and not waited for
		var result int
		if err := to.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, 1)", pos).Scan(&result); err != nil {
			return fmt.Errorf("catch up: wait on %s: %w", replica.Addr(), err)
		}
		if result == 0 {
			return nil
		}
		if err := waitThreads(ctx, to); err != nil {
			return fmt.Errorf("catch up: %s: %w", replica.Addr(), err)
		}
	}
}
