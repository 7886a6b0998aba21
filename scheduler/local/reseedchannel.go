package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// channel is how a server replicates.
type channel struct {
	name  string        // of the connection, mostly empty
	known bool          // the server has it, with an account
	here  bool          // it leads to the present primary
	delay time.Duration // by which it is meant to be behind

	host, port string // where it leads
}

// nowhere is the host a server replicates from while it is reseeded. Threads that are only stopped would start again with
// the server; this name can never be resolved (RFC 2606).
const nowhere = "reseed-unfinished.invalid"

// findChannel reads how the server replicated before, and sees to it that there will be an account to replicate with.
func (r *reseed) findChannel(ctx context.Context) (channel, error) {
	rows, err := records(ctx, r.session.conn, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return channel{}, err
	}
	switch {
	case len(rows) > 1:
		return channel{}, fmt.Errorf("the server replicates from %d others; the data of one would drop that of the rest", len(rows))
	case len(rows) == 1 && rows[0]["Master_User"].String != "":
		row := rows[0]
		host, port := row["Master_Host"].String, row["Master_Port"].String
		c := channel{name: row["Connection_name"].String, known: true, host: host, port: port}
		// Replicas may know the primary by another name than drydock does.
		same := row["Master_Server_Id"].String == r.source.Variables["server_id"] || net.JoinHostPort(host, port) == r.primary.Addr()
		c.here = same && host != nowhere
		c.delay = time.Duration(number(row["SQL_Delay"].String)) * time.Second
		return c, nil
	case r.cluster.ReplicationUser == "":
		return channel{}, errors.New("the server did not replicate before, so there is no account to replicate with; set replication-credential")
	}
	c := channel{}
	if len(rows) == 1 {
		c.name = rows[0]["Connection_name"].String
	}
	return c, nil
}

// detach takes the server out of replication, restarts of it included.
func (r *reseed) detach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	// Every statement on replication from here on is about that channel, and literals are as [literal] makes them.
	for _, s := range []string{"SET SESSION sql_mode=''", "SET SESSION default_master_connection=" + literal(r.channel.name)} {
		if err := r.session.exec(ctx, s); err != nil {
			return err
		}
	}
	if r.channel.known {
		r.state = "the server's replication is stopped; its data is as it was"
	}
	if err := r.session.exec(ctx, "STOP SLAVE"); err != nil { // threads that look for that host, after an earlier reseed
		return err
	}
	// Also where there was no channel: a server that replicates from nobody would be taken for a primary, and backed up.
	return r.session.exec(ctx, "CHANGE MASTER TO MASTER_HOST="+literal(nowhere))
}

// unfinished refuses a dump of a server that a reseed left with half of its data.
func (w *work) unfinished(ctx context.Context) error {
	rows, err := records(ctx, w.session.conn, "SHOW ALL SLAVES STATUS")
	switch {
	case isNumber(err, erSyntax, erNotGranted):
		return nil // no MariaDB, or an account that could not have reseeded it
	case err != nil:
		return fmt.Errorf("look whether a reseed left the server half filled: %w", err)
	}
	for _, row := range rows {
		if row["Master_Host"].String == nowhere {
			return errors.New("a logical reseed of the server did not come to its end: its data is incomplete")
		}
	}
	return nil
}

// position empties the server's own binary log, which tells of the old data, and says what the new data is.
//
// The order matters: with its old log in place the server would refuse, or later disregard, a position older than its own
// last entry in the same domain; entries that nobody else has are the usual reason for a reseed.
func (r *reseed) position(ctx context.Context, gtid string) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	var logging bool
	if err := r.session.conn.QueryRowContext(ctx, "SELECT @@log_bin").Scan(&logging); err != nil {
		return err
	}
	if logging {
		if err := r.session.exec(ctx, "RESET MASTER"); err != nil {
			return fmt.Errorf("empty the server's own binary log: %w", err)
		}
	}
	if err := r.session.exec(ctx, "SET GLOBAL gtid_slave_pos="+literal(gtid)); err != nil {
		return fmt.Errorf("set gtid_slave_pos to %s: %w", gtid, err)
	}
	return nil
}

// follow starts replication and waits until the server has come close to the primary.
func (r *reseed) follow(ctx context.Context) (lag time.Duration, err error) {
	host, port := r.primary.Host, strconv.Itoa(r.primary.Port)
	if r.channel.here {
		host, port = r.channel.host, r.channel.port
	}
	change := "CHANGE MASTER TO MASTER_HOST=" + literal(host) + ", MASTER_PORT=" + port + ", MASTER_USE_GTID=slave_pos"
	if !r.channel.known {
		change += ", MASTER_USER=" + literal(r.cluster.ReplicationUser) + ", MASTER_PASSWORD=" + literal(r.cluster.ReplicationPassword)
	}
	for _, s := range []string{change, "START SLAVE"} {
		if err := r.session.exec(ctx, s); err != nil {
			return 0, fmt.Errorf("start replication: %s", r.unsaid(sqlReason(err)))
		}
	}
	lag, err = r.catchUp(ctx)
	if errors.Is(err, errBehind) || ctx.Err() != nil {
		r.state = "the data is complete and the server replicates"
		return 0, err
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		if stopErr := r.session.exec(ctx, "STOP SLAVE"); stopErr != nil {
			r.state += "; its threads could not be stopped: " + stopErr.Error()
		}
	}
	return lag, err
}

// unsaid keeps the password of the replication account out of what the server says about a statement with it.
func (r *reseed) unsaid(text string) string {
	if r.cluster.ReplicationPassword == "" {
		return text
	}
	return strings.ReplaceAll(text, r.cluster.ReplicationPassword, "***")
}

// errBehind is replication that works and is not fast enough.
var errBehind = errors.New("the server lags too much")

// threadsTimeout is how long the threads of a replica may take to run.
const threadsTimeout = time.Minute

// catchUp waits until the threads run, everything is applied that the primary had logged before, and the lag is in
// bounds. The lag alone does not tell: it is 0 while nothing has come yet.
func (r *reseed) catchUp(ctx context.Context) (time.Duration, error) {
	primary, err := r.facts.Of(ctx, r.job.Cluster, r.primary, 0)
	if err != nil {
		return 0, err
	}
	goal := primary.Variables["gtid_binlog_pos"]
	limit := r.cluster.MaxPause
	if limit == 0 {
		limit = 24 * time.Hour
	}
	began := time.Now()
	for {
		row, err := r.replication(ctx)
		if err != nil {
			return 0, err
		}
		var at string
		if err := r.session.conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_slave_pos").Scan(&at); err != nil {
			return 0, fmt.Errorf("read the position of replication: %w", err)
		}
		seconds, lagErr := strconv.Atoi(row["Seconds_Behind_Master"].String)
		lag := time.Duration(seconds) * time.Second
		running := row["Slave_IO_Running"].String == "Yes" && row["Slave_SQL_Running"].String == "Yes"
		failed := strings.TrimSpace(row["Last_IO_Error"].String + " " + row["Last_SQL_Error"].String)
		switch {
		case running && lagErr == nil && (r.channel.delay > 0 || covers(at, goal)) && (r.cluster.MaxLag == 0 || lag <= r.cluster.MaxLag+r.channel.delay):
			return lag, nil
		case row["Slave_SQL_Running"].String == "No" || row["Slave_IO_Running"].String == "No":
			return 0, fmt.Errorf("replication stopped: %s", failed)
		case !running && time.Since(began) > threadsTimeout:
			return 0, fmt.Errorf("replication did not start in %s: %s", threadsTimeout, failed)
		case running && time.Since(began) > limit:
			return 0, fmt.Errorf("%w: %s behind after %s", errBehind, lag, limit)
		}
		if pause(ctx, minPause); ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// replication is the state of the server's one channel.
func (r *reseed) replication(ctx context.Context) (map[string]sql.NullString, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	rows, err := records(ctx, r.session.conn, "SHOW SLAVE STATUS")
	if err != nil {
		return nil, fmt.Errorf("read the state of replication: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("read the state of replication: the server says it has none")
	}
	return rows[0], nil
}

// literal is a text for a statement of a session whose sql_mode is empty.
func literal(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\x00", `\0`).Replace(v) + "'"
}
