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

// What is waited for must come before nothing has happened on the bus for so long, and before so long in all: a loaded
// machine may be slow, and a job that is tried again for ever has no end either.
const (
	calmWithin = 100 * time.Second
	calmAtMost = 10 * time.Minute
)

// calm switches the schedules off, waits until every job has ended, then asks for a job of each kind, which must succeed.
func calm(ctx context.Context, s *site, c *client, nc *nats.Conn, v *verdict) error {
	if err := s.writeConfig(false); err != nil {
		return err
	}
	for _, name := range s.drydocks() {
		if err := s.parts[name].cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return fmt.Errorf("have %s read its configuration: %w", name, err)
		}
	}
	begun := time.Now()
	if err := until(ctx, nc, s, func(r record) error { return settled(r, s.pace.schedule) }); err != nil {
		v.broken(promiseWell, "", nil, "not everything has ended %.0f s after the storm: %v", time.Since(begun).Seconds(), err)
	}
	v.checked("everything had an end %.0f s after the storm", time.Since(begun).Seconds())
	asked := map[string]askedJob{}
	if err := until(ctx, nc, s, func(r record) error { return succeeded(ctx, c, asked, r) }); err != nil {
		v.broken(promiseWell, "", nil, "asked for after the storm, %v", err)
	}
	return until(ctx, nc, s, func(r record) error { return settled(r, s.pace.schedule) })
}

// settled reports whether all schedules are off and all jobs and ticks have an end.
func settled(r record, schedule map[string]int) error {
	var v verdict
	v.checkTicks(r.Ticks, r.Jobs, schedule)
	v.checkJobs(r.Jobs, nil, nil)
	for _, x := range v.Violations {
		// What is wrong for good is for the verdict; these may still become right.
		if x.Promise == promiseJobs && strings.Contains(x.What, " is ") || x.Promise == promiseTicks {
			return errors.New(x.String())
		}
	}
	if r.PortsOut > 0 {
		return fmt.Errorf("%d ports in use", r.PortsOut)
	}
	return nil
}

// succeeded asks for a job of each kind, and again when one failed: the first may still meet what the storm left.
func succeeded(ctx context.Context, c *client, asked map[string]askedJob, r record) (err error) {
	for _, task := range []string{"errorlog", "mariabackup", "optimize", "analyze"} {
		if asked[task].ID == "" {
			asked[task], _ = c.ask(ctx, task)
		}
		state, reason := "not promised or not begun", ""
		for _, e := range r.Jobs {
			if e.V.Job.ID == asked[task].ID {
				state, reason = e.V.State, e.V.Reason
			}
		}
		switch state {
		case "success":
			continue
		case "halted", "failed", "canceled", "expired", "skipped":
			asked[task] = askedJob{}
		}
		for _, e := range r.Ticks {
			if tick, _, ok := skipOf(e.V); ok && tick == asked[task].Tick {
				asked[task] = askedJob{}
			}
		}
		err = errors.Join(err, fmt.Errorf("%s is %s (%s)", task, state, reason))
	}
	return err
}

// until reads the bus again and again, until ok has no objection or nothing changes there any more. The error is the last objection.
func until(ctx context.Context, nc *nats.Conn, s *site, ok func(record) error) error {
	seen, changed, end := 0, time.Now(), time.Now().Add(calmAtMost)
	for {
		begun := time.Now()
		r, err := readBus(ctx, nc, s.receivers())
		if err == nil {
			err = ok(r)
		}
		if err == nil {
			return nil
		}
		if n := len(r.Jobs) + len(r.Ticks); n > seen {
			seen, changed = n, time.Now()
		}
		if time.Since(changed) > calmWithin || time.Now().After(end) || !pause(ctx, max(300*time.Millisecond, 2*time.Since(begun))) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// checkRows looks for rows of the jobs table that still wait for somebody.
func (v *verdict) checkRows(ctx context.Context, s *site) {
	if s.jobsMode != "sql" {
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
