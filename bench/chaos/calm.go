package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	calmWithin = 100 * time.Second // for everything to end after the storm
	wellWithin = 60 * time.Second
)

// calm switches the schedules off, waits until every job has ended, then asks for a job of each kind, which must succeed.
func calm(ctx context.Context, s *site, c *client, nc *nats.Conn, v *verdict) error {
	if err := s.writeConfig(false); err != nil {
		return err
	}
	if err := s.drydock.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	begun := time.Now()
	if err := until(ctx, calmWithin, func() (bool, error) { return settled(ctx, nc) }); err != nil {
		v.broken(promiseWell, "", nil, "not everything has ended %s after the storm: %v", calmWithin, err)
	}
	v.checked("everything had an end %.0f s after the storm", time.Since(begun).Seconds())
	for _, task := range []string{"errorlog", "mariabackup", "optimize", "analyze"} {
		if err := awaitSuccess(ctx, c, nc, task); err != nil {
			v.broken(promiseWell, "", nil, "%s after the storm: %v", task, err)
		}
	}
	return until(ctx, calmWithin, func() (bool, error) { return settled(ctx, nc) })
}

// settled reports whether all schedules are off and all jobs and ticks have an end.
func settled(ctx context.Context, nc *nats.Conn) (bool, error) {
	r, err := readBus(ctx, nc)
	if err != nil {
		return false, err
	}
	var v verdict
	v.checkTicks(r.Ticks, r.Jobs, schedule)
	v.checkJobs(r.Jobs, nil, nil)
	for _, x := range v.Violations {
		// What is wrong for good is for the verdict; these may still become right.
		if x.Promise == promiseJobs && strings.Contains(x.What, " is ") || x.Promise == promiseTicks {
			return false, errors.New(x.String())
		}
	}
	if r.PortsOut > 0 {
		return false, fmt.Errorf("%d ports in use", r.PortsOut)
	}
	return true, nil
}

// awaitSuccess asks for a task until a job of it succeeds: the first may still meet what the storm left.
func awaitSuccess(ctx context.Context, c *client, nc *nats.Conn, task string) error {
	var j askedJob
	return until(ctx, wellWithin, func() (ok bool, err error) {
		if j.ID == "" {
			if j, ok = c.ask(ctx, task); !ok {
				return false, errors.New("it was not promised")
			}
		}
		r, err := readBus(ctx, nc)
		if err != nil {
			return false, err
		}
		state, reason := "not begun", ""
		for _, e := range r.Jobs {
			if e.V.Job.ID == j.ID {
				state, reason = e.V.State, e.V.Reason
			}
		}
		if !live(state) && state != "success" {
			j = askedJob{}
		}
		return state == "success", fmt.Errorf("it is %s (%s)", state, reason)
	})
}

// until asks again and again; the error says what was so last.
func until(ctx context.Context, bound time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		yes, err := ok()
		if yes {
			return nil
		}
		if !pause(ctx, time.Second) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// checkRows looks for rows of the jobs table that still wait for somebody.
func (v *verdict) checkRows(ctx context.Context, s *site) {
	if s.mode != "sql" {
		return
	}
	db, err := s.db.DB()
	if err != nil {
		v.broken(promiseJobs, "", nil, "%v", err)
		return
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT id, task, state, done FROM replication_manager_schema.jobs")
	if err != nil {
		v.broken(promiseJobs, "", nil, "read the jobs table: %v", err)
		return
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id, state, done int
		var task string
		if err := rows.Scan(&id, &task, &state, &done); err != nil {
			v.broken(promiseJobs, "", nil, "read the jobs table: %v", err)
			return
		}
		if done == 0 && state < 3 {
			v.broken(promiseJobs, "", nil, "row %d of the jobs table (%s) is still offered or worked on: state %d", id, task, state)
		}
	}
	if err := rows.Err(); err != nil {
		v.broken(promiseJobs, "", nil, "read the jobs table: %v", err)
	}
	v.checked("%d rows of the jobs table", n)
}
