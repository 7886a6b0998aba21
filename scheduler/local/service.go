package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/scheduler/orchestrator"
	"drydock/store/attempt"
)

// stopService stops the server and sees that it no longer answers. Without an orchestrator it asks the server itself.
func (w *work) stopService(ctx context.Context) (outcome, error) {
	var err error
	switch {
	case w.cluster.Orchestrator != nil:
		err = w.cluster.Orchestrator.Stop(ctx, w.service())
	case errors.Is(w.cluster.NoOrchestrator, orchestrator.ErrNone):
		err = w.shutDown(ctx)
	default:
		err = w.cluster.NoOrchestrator
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{result: "stopped"}, w.await(ctx, "still answers", func(l life) bool { return !l.up })
}

// startService starts the server and sees that it answers.
func (w *work) startService(ctx context.Context) (outcome, error) {
	if w.cluster.Orchestrator == nil {
		return outcome{}, w.cluster.NoOrchestrator
	}
	if err := w.cluster.Orchestrator.Start(ctx, w.service()); err != nil {
		return outcome{}, err
	}
	return outcome{result: "started"}, w.await(ctx, "does not answer", func(l life) bool { return l.up })
}

// restartService sees that the server which answers afterwards is another process than before.
func (w *work) restartService(ctx context.Context) (outcome, error) {
	if w.cluster.Orchestrator == nil {
		return outcome{}, w.cluster.NoOrchestrator
	}
	before, began := w.alive(ctx), time.Now()
	if err := w.cluster.Orchestrator.Restart(ctx, w.service()); err != nil {
		return outcome{}, err
	}
	return outcome{result: "restarted"}, w.await(ctx, "does not answer as a new process", func(l life) bool {
		// Seconds cut off: the same process is never below this, and a new one soon is.
		return l.up && (!before.up || l.uptime >= 0 && l.uptime < before.uptime+int64(l.asked.Sub(began)/time.Second))
	})
}

// service is the server for the orchestrator, with the job's log for what is printed.
func (w *work) service() orchestrator.Target {
	return orchestrator.Target{
		Cluster: w.job.Cluster, Server: w.job.Server, Output: func(line string) { w.lines.Add(attempt.Info, line) },
	}
}

// shutDown stops the server over SQL. One that does not answer is stopped already.
func (w *work) shutDown(ctx context.Context) error {
	var refused *mysql.MySQLError
	s, err := openSession(ctx, w.cluster, w.job.Server)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &refused):
		return fmt.Errorf("log in to shut the server down: %s", sqlReason(err))
	case err != nil:
		w.lines.Add(attempt.Info, "the server does not answer: "+sqlReason(err))
		return nil
	}
	defer s.close()
	if err := s.exec(ctx, "SHUTDOWN"); errors.As(err, &refused) {
		return fmt.Errorf("shut the server down: %s; the account of db-servers-credential needs the privilege SHUTDOWN", sqlReason(err))
	}
	return nil // any other error is the connection, which the server closes
}

// life is whether a server answers.
type life struct {
	asked  time.Time // before the question
	up     bool
	uptime int64 // seconds, cut off; -1 when it will not say
	reason string
}

const (
	aliveTimeout = 5 * time.Second
	aliveEvery   = 200 * time.Millisecond
)

// alive asks the server, over a connection of its own. A server that refuses us answers.
func (w *work) alive(ctx context.Context) life {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	cfg := sqlConfig(w.job.Server, w.cluster.User, w.cluster.Password)
	cfg.ReadTimeout = aliveTimeout
	db := sql.OpenDB(connector(cfg))
	defer func() { _ = db.Close() }()
	l := life{asked: time.Now(), uptime: -1}
	var name string
	err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &l.uptime)
	var refused *mysql.MySQLError
	l.up = err == nil || errors.As(err, &refused)
	if err != nil {
		l.reason = sqlReason(err)
	}
	return l
}

// await asks the server until it is as wanted; otherwise is what it does instead, for the error.
func (w *work) await(ctx context.Context, otherwise string, wanted func(life) bool) error {
	began := time.Now()
	for {
		l := w.alive(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case wanted(l):
			return nil
		case time.Since(began) > w.cluster.ServiceWait:
			err := fmt.Errorf("the server %s after %s (prov-orchestrator-wait)", otherwise, w.cluster.ServiceWait)
			if l.reason != "" {
				err = fmt.Errorf("%w: %s", err, l.reason)
			}
			return err
		}
		pause(ctx, aliveEvery)
	}
}
