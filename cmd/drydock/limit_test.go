package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// Who counts the rows of a listing must not take its length for all there is, and a program gets all of it.
func TestNoListingIsCutWithoutAWord(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const there = tableRows + 3
	ctx := bustest.Context(t)
	b.fill(ctx, there)
	for _, c := range []string{"jobs", "ticks", "alerts", "alerts --all", "alerts sent", "audit"} {
		for _, v := range []struct {
			flags string
			want  int
			said  bool
		}{
			{"", tableRows, true}, {"--limit 0", there, false}, {"--limit 2", 2, true}, {fmt.Sprintf("--limit %d", there), there, false},
			{"-o json", there, false}, {"-o json --limit 2", 2, true},
		} {
			var out, errs strings.Builder
			args := append(strings.Fields(c+" "+v.flags), "--config", b.file)
			if code := execute(ctx, args, &out, &errs); code != 0 {
				t.Fatalf("%v: %d %s", args, code, &errs)
			}
			rows := strings.Count(out.String(), "\n") - 1
			if strings.Contains(v.flags, "json") {
				var list []any
				if err := json.Unmarshal([]byte(out.String()), &list); err != nil {
					t.Fatalf("%v: %v", args, err)
				}
				rows = len(list)
			}
			if rows != v.want || strings.Contains(errs.String(), "--limit 0 lists all") != v.said {
				t.Errorf("%s %s: %d rows, want %d; it says %q", c, v.flags, rows, v.want, &errs)
			}
		}
	}
	out, stop := b.follow("jobs", "--watch")
	out.until(t, func(s string) bool { return strings.HasSuffix(s, "--limit 0 lists all\n") }, "the list that says that there is more")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := b.run("", "jobs", "--limit", "-1"); err == nil {
		t.Error("--limit -1 was taken")
	}
}

// fill puts n of everything that is listed on the bus.
func (b *bench) fill(ctx context.Context, n int) {
	b.t.Helper()
	var failed error
	for i := range n {
		s, task := job.Server{Host: "10.0.1.5", Port: 4000 + i}, "optimize"
		tick, err := store.NewLedger(b.conn, "test").RunNow(ctx, "prod", task, nil, "alice")
		failed = firstOf(failed, err)
		_, err = store.NewJobs(b.conn, "test", nil).Create(ctx, job.Job{
			State: job.Queued, ID: job.NewID(tick.Due, tick.ID, job.Key{Cluster: "prod", Server: s, Task: task}), Cluster: "prod", Server: s,
			Task: task, Mode: job.API, Trigger: tick.Trigger, Due: tick.Due, Tick: tick.ID,
		}, "asked for")
		failed = firstOf(failed, err)
		_, _, err = store.NewAlerts(b.conn, "test").Append(ctx, bus.AlertSubject("prod", s.Host, s.Port, "DOCK0501"), 0, bus.Alert{
			State: bus.AlertOpened, Code: "DOCK0501", Severity: bus.SeverityWarn, Cluster: "prod", Server: s, Text: "full", Since: time.Now(),
		})
		failed = firstOf(failed, err)
		x := bus.Notification{Type: bus.TypeNotification, ID: bus.NewMessageID(), State: bus.TrySent, Destination: "chat", Time: time.Now(), Told: []bus.Told{}}
		failed = firstOf(failed, b.conn.Record(ctx, bus.StreamNotifications, bus.NotificationSubject(fmt.Sprint("chat", i)), x.ID, x))
		failed = firstOf(failed, store.NewAudits(b.conn, "test").Record(ctx, bus.Audit{Verb: "hold", Cluster: "prod", Outcome: bus.AuditDone}))
	}
	if failed != nil {
		b.t.Fatal(failed)
	}
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// A monitoring system takes exit status 1 for a warning and what stands on standard error for nothing: whatever is wrong
// with its command line must be UNKNOWN, in one line.
func TestAWrongCommandLineOfAPluginIsUnknown(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"check --nagios --frobnicate", "check --frobnicate --nagios", "--frobnicate check --nagios", "check --nagios=perhaps", "check all --nagios",
		"check --nagios -o json", "check --nagios -o xml", "check --nagios --config", "check --nagios --config /no/such/file", "check --nagios=true --config /no/such/file",
	} {
		var out, errs strings.Builder
		code := execute(bustest.Context(t), strings.Fields(line), &out, &errs)
		if code != 3 || !strings.HasPrefix(out.String(), "DRYDOCK UNKNOWN - ") || strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "|") || errs.String() != "" {
			t.Errorf("%s: exit status %d, %q, %q", line, code, &out, &errs)
		}
	}
	for _, line := range []string{"check --frobnicate", "check --nagios=false --frobnicate", "jobs --nagios"} {
		if code := execute(bustest.Context(t), strings.Fields(line), io.Discard, io.Discard); code != 1 {
			t.Errorf("%s: exit status %d, want 1", line, code)
		}
	}
}
