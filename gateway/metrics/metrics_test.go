package metrics

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

var (
	db1, db2 = job.Server{Host: "db1", Port: 3306}, job.Server{Host: "db2", Port: 3306}
	at       = time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC)
)

// sample has something for every family.
func sample() Snapshot {
	prod, other := job.Key{Cluster: "prod", Server: db1, Task: "mariabackup"}, job.Key{Cluster: "other", Server: db2, Task: "mysqldump"}
	gone := job.Key{Cluster: "prod", Server: job.Server{Host: "gone", Port: 1}, Task: "mariabackup"}
	took := Histogram{}.with(70, runBounds)
	return Snapshot{
		Config: Config{
			Version: "1.2.3", Clusters: map[string][]job.Server{"prod": {db1}, "other": {db2}},
			MaxAge: func(string) time.Duration { return 26 * time.Hour },
		},
		GoVersion: "go1.26.0", now: at.Add(27 * time.Hour),
		Counts: Counts{
			Ended: map[job.Key]Ended{
				prod:  {At: at, State: job.Failed, Duration: 70 * time.Second, Bytes: 30, Success: at.Add(-time.Hour)},
				other: {At: at, State: job.Success, Duration: time.Second, Success: at},
				gone:  {At: at, State: job.Failed},
			},
			Runs:       map[RunKey]float64{{Schedule{"prod", "mariabackup"}, job.Success}: 2},
			Bytes:      map[Schedule]float64{{"prod", "mariabackup"}: 50},
			Durations:  map[Schedule]Histogram{{"prod", "mariabackup"}: took, {"other", "mariabackup"}: took},
			Ticks:      map[TickKey]float64{{Schedule{"prod", "mariabackup"}, bus.Fired}: 2},
			Lateness:   map[Schedule]Histogram{{"prod", "mariabackup"}: Histogram{}.with(0.2, tickBounds)},
			LastTick:   map[Schedule]bus.Tick{{"prod", "mariabackup"}: {Due: at, Lateness: 0.2}},
			Conditions: map[string]bus.Alert{"a": {Cluster: "prod", Code: "DOCK0501", Severity: bus.SeverityError}, "b": {Cluster: bus.NoCluster, Code: "DOCK0701", Severity: bus.SeverityError}},
		},
		Jobs:    map[JobKey]float64{{"prod", job.Failed}: 1},
		Running: map[job.Key]time.Time{prod: at},
		Bus: Bus{
			Connected: true, Reconnects: 1, RoundTrip: time.Millisecond, Lag: 3, LagTime: time.Second,
			Streams: []jetstream.StreamInfo{{
				Config: jetstream.StreamConfig{Name: bus.StreamJobs, MaxBytes: 100}, State: jetstream.StreamState{Msgs: 3, Bytes: 30, LastSeq: 5},
			}},
			Consumers: []jetstream.ConsumerInfo{{Stream: bus.StreamTasks, Name: bus.DurableFanout, NumPending: 2}},
		},
		Services: map[string]int{bus.SchedulerService: 1},
		Binlogs: map[string]Binlog{"prod": {
			BinlogStatus: store.BinlogStatus{Time: at, Until: at, Err: "down"}, Segments: 4, Gaps: 1, Stored: 40,
		}},
		Failed: map[string]bool{"backups": false},
		Backups: []store.Manifest{
			{ID: "3", Cluster: "prod", Server: db1, Task: "mariabackup", Ended: at, Size: 30, Stored: 3},
			{
				ID: "2", Cluster: "prod", Server: db1, Task: "mariabackup", Ended: at.Add(-time.Hour), Size: 20, Stored: 2, Pin: &store.Pin{On: true},
				Drills: []store.Drill{{Time: at}, {Time: at.Add(time.Minute), Problem: "bad"}},
			},
			{ID: "1", Cluster: "other", Server: db2, Task: "mysqldump", Ended: at.Add(2 * time.Hour), Size: 10, Stored: 1},
		},
		Disks: []Disk{
			{true, bus.DiskReply{Receiver: "a", Total: 100, Free: 50, Reserve: 10, Full: true, FullIn: 3600, Rejected: []bus.RejectedCount{
				{Cluster: "prod", Server: db1, Files: 2}, {Cluster: "other", Server: db2, Files: 1},
			}}, &bus.PortsReply{Receiver: "a", Total: 4, InUse: 3}},
			{true, bus.DiskReply{Receiver: "b", Total: 100, Free: 50}, nil},
			{false, bus.DiskReply{Receiver: "c"}, nil},
		},
	}
}

func TestNamesAreAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(sample())
	if err != nil || len(problems) > 0 {
		t.Errorf("%+v, %v", problems, err)
	}
}

// A label with an id or a name of a user in it would make series without end.
func TestSeriesFollowFromTheConfiguration(t *testing.T) {
	t.Parallel()
	bounded := []string{"version", "goversion", "part", "service", "cluster", "server", "task", "state", "outcome", "code", "severity", "receiver", "stream", "consumer"}
	for _, f := range families {
		for _, l := range f.labels {
			if !slices.Contains(bounded, l) {
				t.Errorf("%s has the label %s", f.name, l)
			}
		}
	}
}

// Label values have the names of hosts in them: nobody is told of a cluster that he may not see.
func TestMetricsOfOneCluster(t *testing.T) {
	t.Parallel()
	want := `
# HELP drydock_backup_last_proof_timestamp_seconds When a drill last restored a backup that is still there.
# TYPE drydock_backup_last_proof_timestamp_seconds gauge
drydock_backup_last_proof_timestamp_seconds{cluster="prod",server="db1:3306",task="mariabackup"} 1.7955684e+09
# HELP drydock_backup_last_size_bytes Size of the newest backup, as it came from the tool.
# TYPE drydock_backup_last_size_bytes gauge
drydock_backup_last_size_bytes{cluster="prod",server="db1:3306",task="mariabackup"} 30
# HELP drydock_backup_last_success_timestamp_seconds When the newest backup ended.
# TYPE drydock_backup_last_success_timestamp_seconds gauge
drydock_backup_last_success_timestamp_seconds{cluster="prod",server="db1:3306",task="mariabackup"} 1.7955684e+09
# HELP drydock_backup_rejected_files Files that were too small to be believed, kept to be looked at.
# TYPE drydock_backup_rejected_files gauge
drydock_backup_rejected_files{cluster="prod",server="db1:3306"} 2
# HELP drydock_backup_stored_bytes What the backups take on the disks.
# TYPE drydock_backup_stored_bytes gauge
drydock_backup_stored_bytes{cluster="prod",server="db1:3306",task="mariabackup"} 5
# HELP drydock_backup_overdue Whether the newest backup of the cluster is older than that, or there is none: 1 or 0.
# TYPE drydock_backup_overdue gauge
drydock_backup_overdue{cluster="prod"} 1
# HELP drydock_binlog_gaps Pieces of history that the archive lacks. Counted every five minutes, as the next two.
# TYPE drydock_binlog_gaps gauge
drydock_binlog_gaps{cluster="prod"} 1
# HELP drydock_conditions_open Conditions that hold now (docs/conditions.md). Those of drydock itself have no cluster.
# TYPE drydock_conditions_open gauge
drydock_conditions_open{cluster="",code="DOCK0701",severity="error"} 1
drydock_conditions_open{cluster="prod",code="DOCK0501",severity="error"} 1
# HELP drydock_job_last_failed Whether the last run that ended was halted, failed or expired: 1 or 0.
# TYPE drydock_job_last_failed gauge
drydock_job_last_failed{cluster="prod",server="db1:3306",task="mariabackup"} 1
# HELP drydock_job_last_success_timestamp_seconds When the last run that succeeded ended; missing when none is known.
# TYPE drydock_job_last_success_timestamp_seconds gauge
drydock_job_last_success_timestamp_seconds{cluster="prod",server="db1:3306",task="mariabackup"} 1.7955648e+09
# HELP drydock_job_duration_seconds How long they took, those that were begun.
# TYPE drydock_job_duration_seconds histogram
drydock_job_duration_seconds_bucket{task="mariabackup",le="1"} 0
drydock_job_duration_seconds_bucket{task="mariabackup",le="5"} 0
drydock_job_duration_seconds_bucket{task="mariabackup",le="15"} 0
drydock_job_duration_seconds_bucket{task="mariabackup",le="60"} 0
drydock_job_duration_seconds_bucket{task="mariabackup",le="300"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="900"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="1800"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="3600"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="7200"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="14400"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="28800"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="86400"} 1
drydock_job_duration_seconds_bucket{task="mariabackup",le="+Inf"} 1
drydock_job_duration_seconds_sum{task="mariabackup"} 70
drydock_job_duration_seconds_count{task="mariabackup"} 1
# HELP drydock_backups Backups in the catalogue whose files are there.
# TYPE drydock_backups gauge
drydock_backups{cluster="prod",server="db1:3306",task="mariabackup"} 2
# HELP drydock_backups_pinned Those of them that are pinned.
# TYPE drydock_backups_pinned gauge
drydock_backups_pinned{cluster="prod",server="db1:3306",task="mariabackup"} 1
# HELP drydock_receiver_disk_full_seconds When it is expected to be full, from now on; +Inf for not within a year.
# TYPE drydock_receiver_disk_full_seconds gauge
drydock_receiver_disk_full_seconds{receiver="a"} 3600
drydock_receiver_disk_full_seconds{receiver="b"} +Inf
# HELP drydock_receiver_ports_in_use Ports that are reserved or have a stream.
# TYPE drydock_receiver_ports_in_use gauge
drydock_receiver_ports_in_use{receiver="a"} 3
# HELP drydock_receiver_up Whether the receiver answers: 1 or 0.
# TYPE drydock_receiver_up gauge
drydock_receiver_up{receiver="a"} 1
drydock_receiver_up{receiver="b"} 1
drydock_receiver_up{receiver="c"} 0
`
	seen := sample().Seen(func(c string) bool { return c == "prod" })
	var names []string
	for line := range strings.Lines(want) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if err := testutil.CollectAndCompare(seen, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

// However often it is scraped, the catalogue is read every few seconds only; a receiver that has backups and is away is told of.
func TestScrapesShareASnapshot(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx, catalog := bustest.Context(t), store.NewCatalog(conn)
	m := store.Manifest{ID: "1", Cluster: "prod", Server: db1, Receiver: "away"}
	if err := catalog.Put(ctx, m); err != nil {
		t.Fatal(err)
	}
	r := NewReader(Config{Version: "1"}, conn, store.NewView(conn), catalog)
	s := r.Snapshot(ctx)
	if len(s.Backups) != 1 || len(s.Disks) != 1 || s.Disks[0].Up || s.Disks[0].Receiver != "away" {
		t.Fatalf("%+v", s)
	}
	for part, failed := range s.Failed {
		if failed {
			t.Errorf("%s could not be read", part)
		}
	}
	m.ID = "2"
	if err := catalog.Put(ctx, m); err != nil {
		t.Fatal(err)
	}
	if s := r.Snapshot(ctx); len(s.Backups) != 1 {
		t.Errorf("read again at once: %+v", s)
	}
	r.read = r.read.Add(-fresh)
	if s := r.Snapshot(ctx); len(s.Backups) != 2 {
		t.Errorf("not read again: %+v", s)
	}
	// Prometheus must hear that the bus is gone, and not only that nothing answers.
	conn.NC.Close()
	r.read = r.read.Add(-fresh)
	if s := r.Snapshot(ctx); s.Bus.Connected || !s.Failed["backups"] || !s.Failed["streams"] {
		t.Errorf("without a bus: %+v", s.Failed)
	}
}

// The last success of a task that fails now is older than this process: without it an alert on its age would be silent after a
// restart. What ended before is no new run either, and a late report of a run that ended no second one.
func TestTallyKnowsWhatWasBeforeItAndCountsWhatComes(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx, view := bustest.Context(t), store.NewView(conn)
	key := job.Key{Cluster: "prod", Server: db1, Task: "optimize"}
	jobs := store.NewJobs(conn, "test", view)
	bustest.Run(t, view.Run, store.NewProjector(conn, bustest.Log(t)).Run)
	run := func(events ...job.Event) {
		t.Helper()
		due := time.Now().UTC()
		j, err := jobs.Create(ctx, job.Job{
			State: job.Queued, ID: job.NewID(due, bus.NewMessageID(), key), Cluster: key.Cluster, Server: key.Server, Task: key.Task, Mode: job.Local, Due: due,
			Trigger: job.Trigger{Kind: job.Manual},
		}, "")
		for _, e := range append([]job.Event{job.Offer, job.Start}, events...) {
			if err == nil {
				j, err = jobs.Apply(ctx, store.RefOf(j), store.Change{Event: e, Reason: "test"})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run(job.Done, job.Pass)
	run(job.Error)
	docs := store.NewDocs(conn)
	bustest.Until(t, 20*time.Second, "the projection has both", func() bool {
		upTo, err := docs.Projected(ctx)
		last, _ := conn.LastSeq(ctx, bus.StreamJobs)
		return err == nil && upTo == last
	})

	r := NewReader(Config{Clusters: map[string][]job.Server{"prod": {db1}}}, conn, view, store.NewCatalog(conn))
	bustest.Run(t, r.Run)
	bustest.Until(t, 20*time.Second, "the last run is known", func() bool { return !r.tally.Counted().Ended[key].At.IsZero() })
	c := r.tally.Counted()
	if e := c.Ended[key]; e.State != job.Halted || e.Success.IsZero() || !e.Success.Before(e.At) || len(c.Runs) != 0 {
		t.Errorf("%+v, runs %v", e, c.Runs)
	}
	alerts := store.NewAlerts(conn, "test")
	open := bus.Alert{State: bus.AlertOpened, Code: "DOCK0501", Severity: bus.SeverityError, Cluster: "prod", Server: db1}
	if _, _, err := alerts.Append(ctx, bus.AlertSubject("prod", "db1", 3306, "DOCK0501"), 0, open); err != nil {
		t.Fatal(err)
	}
	run(job.Error, job.Error)
	run(job.Done, job.Pass)
	if _, err := store.NewLedger(conn, "test").RunNow(ctx, "prod", "optimize", []job.Server{db1}, "test"); err != nil {
		t.Fatal(err)
	}
	s := Schedule{"prod", "optimize"}
	bustest.Until(t, 20*time.Second, "all is counted", func() bool {
		c = r.tally.Counted()
		return c.Runs[RunKey{s, job.Success}] == 1 && c.Ticks[TickKey{s, bus.Fired}] == 1 && len(c.Conditions) == 1
	})
	if c.Runs[RunKey{s, job.Halted}] != 1 || c.Durations[s].Count > 2 || c.Ended[key].State != job.Success {
		t.Errorf("%+v", c)
	}
	if got := r.Snapshot(ctx); got.Jobs[JobKey{"prod", job.Success}] != 1 || got.Failed["projection"] || got.Failed["binlogs"] {
		t.Errorf("%+v, %+v", got.Jobs, got.Failed)
	}
}
