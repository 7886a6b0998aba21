package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
	"drydock/store/attempt"
)

// reseed makes a server a copy of what a feed gives, and a replica of the primary again. From the first change on until
// the end the server is left out of replication, so that nothing fills up what is half there.
type reseed struct {
	*work
	desk    string // folder for the files of client programs
	primary job.Server
	source  store.Facts // of the primary
	channel channel
	account account
	events  events
	ownJobs string // which table of script jobs the server had; see [reseed.jobsTable]
	state   string // of the server now, for the reason of a failure
}

// feed is where the SQL of a reseed comes from.
type feed interface {
	// open begins and returns when the first bytes are there. Until then nothing on the server is touched.
	open(ctx context.Context) error
	// load brings everything to the server and says at which GTID position it then stands. It has failed unless the
	// whole of it is proven to have come.
	load(ctx context.Context) (gtid string, err error)
	// close ends what is still at work.
	close()
	// name is what it is, for people.
	name() string
	// tool is the program that loads.
	tool() string
	// exit are the exit statuses of the programs that took part.
	exit() []int
}

// reseedTimeout bounds the statements that change the server around the load; each is short, but may wait for locks.
const reseedTimeout = 2 * time.Minute

// jobsSchema is where the script finds its jobs (maintenance.txt section 6.1.2.1). It belongs to one server.
const jobsSchema = "replication_manager_schema"

// reseedFrom does a reseed with the feed that make gives.
func (w *work) reseedFrom(ctx context.Context, make func(*reseed) (feed, error)) (out outcome, err error) {
	r := &reseed{work: w, state: "nothing on the server was touched"}
	if err := r.examine(ctx); err != nil {
		out.state = r.state
		return out, err
	}
	if r.desk, err = w.newDesk(); err != nil {
		return out, err
	}
	f, err := make(r)
	if err != nil {
		out.state = r.state
		return out, err
	}
	defer f.close()
	w.lines.Add(attempt.Info, "reseed from "+f.name()+", to replicate from "+r.primary.String())
	gtid, err := r.fill(ctx, f)
	f.close()
	out.tool, out.exit, out.gtid = f.tool(), f.exit(), gtid
	var lag time.Duration
	if err == nil {
		lag, err = r.follow(ctx)
	}
	if err != nil {
		out.state = r.state
		return out, err
	}
	out.result = fmt.Sprintf("%d bytes from %s, GTID %s; replicates from %s, %s behind", w.moved.Load(), f.name(), gtid, r.primary, lag)
	return out, nil
}

// examine decides whether the server may be reseeded, and how it will replicate then. It only reads.
func (r *reseed) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	if r.job.Args[job.ArgConfirm] != r.job.Server.String() {
		return fmt.Errorf("a reseed replaces all data of %s, and nobody confirmed that: ask for it with drydock reseed or POST .../actions/reseed", r.job.Server)
	}
	// The session has to outlive the load, during which nothing is said on it.
	if err := r.session.exec(ctx, "SET SESSION wait_timeout=2147483"); err != nil {
		return err
	}
	if err := r.allowed(ctx); err != nil {
		return err
	}
	if err := r.findPrimary(ctx); err != nil {
		return err
	}
	var err error
	if r.channel, err = r.findChannel(ctx); err != nil {
		return err
	}
	if r.account, err = readAccount(ctx, r.session); err != nil {
		return fmt.Errorf("read drydock's own account: %w", err)
	}
	return nil
}

// allowed refuses a server whose loss others would feel, and one that cannot be filled without them.
func (r *reseed) allowed(ctx context.Context) error {
	vars, err := pairs(ctx, r.session.conn, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'wsrep_on')`)
	if err != nil {
		return err
	}
	status, err := pairs(ctx, r.session.conn, "SHOW GLOBAL STATUS LIKE 'Slaves_connected'")
	if err != nil {
		return err
	}
	switch {
	case !strings.Contains(vars["version"], "MariaDB"):
		return fmt.Errorf("the server is %s: logical reseeds are for MariaDB", vars["version"])
	case vars["wsrep_on"] == "ON":
		return errors.New("the server is part of a Galera cluster, which would drop its data with it")
	case number(status["Slaves_connected"]) > 0:
		return fmt.Errorf("the server has %s replicas, which would lose what they replicate from; move them first", status["Slaves_connected"])
	}
	return nil
}

// findPrimary resolves the primary among the other servers of the cluster by what they say now. A server that is to be
// reseeded may look like a primary itself, when its replication was reset.
func (r *reseed) findPrimary(ctx context.Context) error {
	var primaries []job.Server
	all := map[job.Server]store.Facts{}
	var own string // others may know it by another name
	if err := r.session.conn.QueryRowContext(ctx, "SELECT @@server_id").Scan(&own); err != nil {
		return fmt.Errorf("ask the server for its id: %w", err)
	}
	for _, s := range r.cluster.Servers {
		if s == r.job.Server {
			continue
		}
		f, err := r.facts.Of(ctx, r.job.Cluster, s, 0)
		if err != nil {
			return err
		}
		all[s] = f
		if f.Up && f.Role == store.RolePrimary {
			primaries = append(primaries, s)
		}
		for _, source := range f.Sources {
			if source.From == r.job.Server.Addr() || source.ID != "" && source.ID == own {
				return fmt.Errorf("%s is configured to replicate from this server; move it first", s)
			}
		}
	}
	if leading := slices.DeleteFunc(slices.Clone(primaries), func(s job.Server) bool { return all[s].Replicas == 0 }); len(leading) > 0 {
		primaries = leading // one without replicas beside it is another that fell out
	}
	if len(primaries) != 1 {
		return fmt.Errorf("%d servers of the cluster look like its primary, not one: %v", len(primaries), primaries)
	}
	r.primary, r.source = primaries[0], all[primaries[0]]
	return r.fitPrimary(ctx)
}

// fitPrimary checks that the primary can give a copy that this server can take.
func (r *reseed) fitPrimary(ctx context.Context) error {
	var version string
	if err := r.session.conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	switch {
	case r.source.Variables["log_bin"] != "ON":
		return fmt.Errorf("the primary %s has no binary log to replicate from", r.primary)
	case series(r.source.Version) != series(version):
		return fmt.Errorf("the primary %s is version %s and this server %s: the system tables of one do not fit the other", r.primary, r.source.Version, version)
	}
	live, err := r.jobs.LiveHeavy(ctx, r.job.Cluster, r.primary)
	if err != nil {
		return err
	}
	for _, j := range live {
		if t, err := job.TaskByName(j.Task); err == nil && t.Kind == job.KindRestore && j.State != job.Queued {
			return fmt.Errorf("the primary %s is being worked on by %s %s", r.primary, j.Task, j.ID)
		}
	}
	return nil
}

// fill replaces the server's data by what the feed gives and sets the position from where it can replicate.
func (r *reseed) fill(ctx context.Context, f feed) (gtid string, err error) {
	if err := r.endLoaders(ctx); err != nil {
		return "", fmt.Errorf("end what an earlier reseed left at work: %w", err)
	}
	if err := f.open(ctx); err != nil {
		return "", err
	}
	if err := r.allowed(ctx); err != nil { // what came may have taken hours
		return "", err
	}
	if err := r.detach(ctx); err != nil {
		return "", fmt.Errorf("take the server out of replication: %w", err)
	}
	r.state = "the server is left out of replication with incomplete data: reseed it again"
	if err := r.dropSchemas(ctx); err != nil {
		return "", fmt.Errorf("drop the old data: %w", err)
	}
	if err := r.events.stop(ctx, r.session); err != nil {
		return "", fmt.Errorf("stop the event scheduler: %w", err)
	}
	gtid, err = f.load(ctx)
	if err != nil {
		r.giveUp(ctx)
		return "", err
	}
	if err := r.settle(ctx, gtid); err != nil {
		return "", err
	}
	r.state = "the data is complete up to GTID " + gtid + ", but the server is left out of replication"
	return gtid, nil
}

// giveUp ends what a failed load left at work on the server. It has a time of its own: the job may have been canceled.
func (r *reseed) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reseedTimeout)
	defer cancel()
	if err := r.endLoaders(ctx); err != nil {
		r.lines.Add(attempt.Warn, "end the sessions of the load: "+err.Error())
	}
	if r.events.stopped {
		r.lines.Add(attempt.Warn, "the event scheduler of the server is left OFF; it was ON")
	}
}

// dropSchemas empties the server of the users' data, so that nothing is left that the feed does not have.
func (r *reseed) dropSchemas(ctx context.Context) error {
	for _, s := range []string{"SET SESSION sql_log_bin=0", "SET SESSION foreign_key_checks=0", "SET SESSION lock_wait_timeout=60"} {
		if err := r.session.exec(ctx, s); err != nil {
			return err
		}
	}
	var err error
	if r.ownJobs, err = r.jobsTable(ctx); err != nil {
		return err
	}
	rows, err := records(ctx, r.session.conn, "SELECT SCHEMA_NAME AS s FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ("+notOurs+", '"+jobsSchema+"')")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := r.session.exec(ctx, "DROP DATABASE "+quote(row["s"].String)); err != nil {
			return fmt.Errorf("schema %s: %w", row["s"].String, err)
		}
	}
	r.lines.Add(attempt.Info, fmt.Sprintf("%d schemas dropped", len(rows)))
	return nil
}

// settle makes the loaded data this server's own: accounts in force, no event that only the primary may run, no jobs of
// another server's script, an empty binary log, and the position of the data.
func (r *reseed) settle(ctx context.Context, gtid string) error {
	if err := r.account.ensure(ctx, r.cluster, r.job.Server, r.session, r.lines.Add); err != nil {
		return fmt.Errorf("keep drydock's own account: %w", err)
	}
	if err := r.events.resume(ctx, r.session); err != nil {
		return fmt.Errorf("keep events to the primary: %w", err)
	}
	if err := r.dropForeignJobs(ctx); err != nil {
		return fmt.Errorf("drop the jobs of another server's script: %w", err)
	}
	return r.position(ctx, gtid)
}

// jobsTable tells one table of script jobs from another that took its place: the number that the server gave it, empty for
// none.
func (r *reseed) jobsTable(ctx context.Context) (string, error) {
	rows, err := records(ctx, r.session.conn, "SELECT TABLE_ID AS id FROM information_schema.INNODB_SYS_TABLES WHERE NAME = '"+jobsSchema+"/jobs'")
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0]["id"].String, nil
}

// dropForeignJobs empties the table of script jobs if the load has brought it: what is in it are jobs of another server.
func (r *reseed) dropForeignJobs(ctx context.Context) error {
	now, err := r.jobsTable(ctx)
	if err != nil || now == "" || now == r.ownJobs {
		return err
	}
	return r.session.exec(ctx, "DELETE FROM "+jobsSchema+".jobs")
}

// The sessions that load hold a named lock each, by which they are known from any other: nothing else tells whose
// connection one is.
const (
	loaderLock = "drydock.reseed."
	loaderSeek = "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE IS_USED_LOCK(CONCAT('" + loaderLock + "', ID)) = ID"
	// loaderInit is the first statement of a session that loads.
	loaderInit = "SET SESSION sql_log_bin=0, SESSION foreign_key_checks=0, SESSION unique_checks=0, SESSION max_statement_time=0, " +
		"SESSION wait_timeout=2147483, SESSION lock_wait_timeout=600, @drydock=GET_LOCK(CONCAT('" + loaderLock + "', CONNECTION_ID()), 0)"
)

// endLoaders ends the sessions of a load that is over: a server notices that its client has gone only when the statement
// is done.
func (r *reseed) endLoaders(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	for {
		rows, err := records(ctx, r.session.db, loaderSeek)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if _, err := r.session.db.ExecContext(ctx, "KILL "+row["id"].String); err != nil && !isNumber(err, erNoSuchThread) {
				return err
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
}
