package explain

import (
	"errors"
	"slices"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// An explanation that read a year of a schedule of seconds would take the memory of the gateway: it must end with what to do
// about it, and an explanation of exactly as much as it may hold must not.
func TestAnExplanationThatWouldHoldTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	conn, ctx := bustest.Start(t), bustest.Context(t)
	ledger, jobs := store.NewLedger(conn, "scheduler@test"), store.NewJobs(conn, "scheduler@test", nil)
	const most = 3
	for range most { // entries, and events of jobs
		tick, err := ledger.RunNow(ctx, "prod", "mariabackup", nil, "alice")
		if err != nil {
			t.Fatal(err)
		}
		srv := job.Server{Host: bus.NewMessageID(), Port: 3306}
		fresh := job.Job{ID: job.NewID(tick.Due, tick.ID, job.Key{Cluster: "prod", Server: srv, Task: "mariabackup"}), State: job.Queued, Cluster: "prod", Server: srv, Task: "mariabackup", Tick: tick.ID, Due: tick.Due}
		if _, err := jobs.Create(ctx, fresh, "test"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(most int) error {
		now := time.Now().UTC()
		_, err := Facts{Cluster: "prod", Task: "mariabackup", From: now.Add(-time.Hour), To: now, most: most}.gather(ctx, conn)
		return err
	}
	if err := read(most); err != nil {
		t.Errorf("as much as may be held: %v", err)
	}
	if err := read(most - 1); !errors.Is(err, ErrTooMuch) {
		t.Errorf("one entry more: %v", err)
	}
	key := job.Key{Cluster: "prod", Server: job.Server{Host: "more", Port: 3306}, Task: "mariabackup"}
	if _, err := jobs.Create(ctx, job.Job{ID: job.NewID(time.Now(), "x", key), State: job.Queued, Cluster: key.Cluster, Server: key.Server, Task: key.Task}, "test"); err != nil {
		t.Fatal(err)
	}
	if err := read(most); !errors.Is(err, ErrTooMuch) {
		t.Errorf("one event of a job more: %v", err)
	}
}

// That no scheduler wrote anything must be true of all clusters, and must cost little on a fleet that writes a lot.
func TestSignsOfASchedulerAreLookedForInAllClusters(t *testing.T) {
	t.Parallel()
	conn, ctx := bustest.Start(t), bustest.Context(t)
	write := func(actor, cluster string, tick bus.Tick) bus.Tick {
		t.Helper()
		w, _, _, err := store.NewLedger(conn, actor).Update(ctx, cluster, "mariabackup", func(bus.Tick) (bus.Tick, bool) { return tick, true })
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	armed := bus.Tick{Outcome: bus.Armed, Spec: "0 0 * * * *", Zone: "UTC", Reason: "switched on"}
	first := write("scheduler@a", "prod", armed)
	before := write("scheduler@b", "test", armed)
	write("gateway@x", "test", bus.Tick{Outcome: bus.Fired, Reason: "asked for"}) // of a person: no sign
	due := time.Now().UTC()
	write("gateway@x", "test", bus.Tick{Outcome: bus.Fired, Reason: "asked for"})
	after := write("scheduler@b", "test", armed)
	missed := write("scheduler@a", "prod", bus.Tick{Outcome: bus.Missed, Due: due, Cursor: due, Reason: "no scheduler ran", Gate: job.GateCatchUp})
	f, err := Read(ctx, conn, "prod", "mariabackup", due.Add(-time.Hour), due.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f.Signs = slices.CompactFunc(f.Signs, time.Time.Equal)
	if want := []time.Time{first.Time, before.Time, after.Time, missed.Time}; !slices.EqualFunc(f.Signs, want, time.Time.Equal) {
		t.Errorf("signs %v, want %v", f.Signs, want)
	}
}
