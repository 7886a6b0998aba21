package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func sample() Snapshot {
	db1, db2 := job.Server{Host: "db1", Port: 3306}, job.Server{Host: "db2", Port: 3306}
	at := time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC)
	return Snapshot{
		Version: "1.2.3",
		Backups: []store.Manifest{
			{ID: "3", Cluster: "prod", Server: db1, Task: "mariabackup", Ended: at, Size: 30, Stored: 3},
			{
				ID: "2", Cluster: "prod", Server: db1, Task: "mariabackup", Ended: at.Add(-time.Hour), Size: 20, Stored: 2, Pin: &store.Pin{On: true},
				Drills: []store.Drill{{Time: at}, {Time: at.Add(time.Minute), Problem: "bad"}},
			},
			{ID: "1", Cluster: "other", Server: db2, Task: "mysqldump", Ended: at, Size: 10, Stored: 1},
		},
		Disks: []Disk{
			{true, bus.DiskReply{Receiver: "a", Total: 100, Free: 50, Reserve: 10, Full: true, FullIn: 3600, Rejected: []bus.RejectedCount{
				{Cluster: "prod", Server: db1, Files: 2}, {Cluster: "other", Server: db2, Files: 1}}}},
			{true, bus.DiskReply{Receiver: "b", Total: 100, Free: 50}},
			{false, bus.DiskReply{Receiver: "c"}},
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
	m := store.Manifest{ID: "1", Cluster: "prod", Server: job.Server{Host: "db1", Port: 3306}, Receiver: "away"}
	if err := catalog.Put(ctx, m); err != nil {
		t.Fatal(err)
	}
	r := NewReader("1", conn, catalog)
	s, err := r.Snapshot(ctx)
	if err != nil || len(s.Backups) != 1 || len(s.Disks) != 1 || s.Disks[0].Up || s.Disks[0].Receiver != "away" {
		t.Fatalf("%+v, %v", s, err)
	}
	m.ID = "2"
	if err := catalog.Put(ctx, m); err != nil {
		t.Fatal(err)
	}
	if s, _ := r.Snapshot(ctx); len(s.Backups) != 1 {
		t.Errorf("read again at once: %+v", s)
	}
	r.read = r.read.Add(-fresh)
	if s, _ := r.Snapshot(ctx); len(s.Backups) != 2 {
		t.Errorf("not read again: %+v", s)
	}
}
