package metrics

import (
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// kind is what a metric of Prometheus is; empty for a gauge.
type kind string

const (
	counter   kind = "counter"
	histogram kind = "histogram"
)

// family is one metric. Counters begin with the process.
type family struct {
	name   string // with its unit, as in Prometheus's rules of naming
	help   string
	labels []string
	values func(s Snapshot, emit func(value float64, labels ...string))
	kind   kind
	hist   func(s Snapshot, emit func(h Histogram, labels ...string)) // in place of values
}

func (f family) desc() *prometheus.Desc { return prometheus.NewDesc(f.name, f.help, f.labels, nil) }

const labelCluster = "cluster"

var (
	ofReceiver = []string{"receiver"}
	ofSeries   = []string{labelCluster, "server", "task"}
	ofSchedule = []string{labelCluster, "task"}
	ofCluster  = []string{labelCluster}
	ofStream   = []string{"stream"}
	ofConsumer = []string{"stream", "consumer"}
)

// families is the table of the metrics, by what they are about.
var families = slices.Concat(ofProcess, ofJobs, ofTicks, ofConditions, ofBackups, ofBinlogs, ofReceivers, ofBus)

var ofProcess = []family{
	{name: "drydock_build_info", help: "The version that answers; always 1.", labels: []string{"version", "goversion"}, values: func(s Snapshot, emit func(float64, ...string)) {
		emit(1, s.Version, s.GoVersion)
	}},
	{name: "drydock_reading_failed", help: "Whether a part of what is read for the metrics could not be: 1 or 0. The metrics of that part are missing then.", labels: []string{"part"},
		values: func(s Snapshot, emit func(float64, ...string)) {
			for part, failed := range s.Failed {
				emit(bit(failed), part)
			}
		}},
	{name: "drydock_service_instances", help: "Processes that serve a micro service on the bus now.", labels: []string{"service"},
		values: func(s Snapshot, emit func(float64, ...string)) {
			for name, n := range s.Services {
				emit(float64(n), name)
			}
		}},
}

var ofJobs = []family{
	{name: "drydock_jobs", help: "Slots (a task on a server) whose last job is in this state.", labels: []string{labelCluster, "state"},
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, n := range s.Jobs {
				emit(n, k.Cluster, string(k.State))
			}
		}},
	{name: "drydock_job_started_timestamp_seconds", help: "When the job that runs now was begun; missing when none runs.", labels: ofSeries,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, at := range s.Running {
				if !at.IsZero() {
					emit(unix(at), k.Cluster, k.Server.String(), k.Task)
				}
			}
		}},
	{name: "drydock_job_last_success_timestamp_seconds", help: "When the last run that succeeded ended; missing when none is known.", labels: ofSeries,
		values: ofEnded(func(e Ended) (float64, bool) { return unix(e.Success), !e.Success.IsZero() })},
	{name: "drydock_job_last_end_timestamp_seconds", help: "When the last run ended, however it did.", labels: ofSeries,
		values: ofEnded(func(e Ended) (float64, bool) { return unix(e.At), !e.At.IsZero() })},
	{name: "drydock_job_last_failed", help: "Whether the last run that ended was halted, failed or expired: 1 or 0.", labels: ofSeries,
		values: ofEnded(func(e Ended) (float64, bool) {
			return bit(e.State == job.Halted || e.State == job.Failed || e.State == job.Expired), !e.At.IsZero()
		})},
	{name: "drydock_job_last_duration_seconds", help: "How long the last run took that ended; missing when it was never begun.", labels: ofSeries,
		values: ofEnded(func(e Ended) (float64, bool) { return e.Duration.Seconds(), e.Duration > 0 })},
	{name: "drydock_job_last_bytes", help: "Bytes that the last run streamed; missing for none.", labels: ofSeries,
		values: ofEnded(func(e Ended) (float64, bool) { return float64(e.Bytes), e.Bytes > 0 })},
	{name: "drydock_job_runs_total", help: "Attempts of jobs that ended, by how.", labels: []string{labelCluster, "task", "state"}, kind: counter,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, n := range s.Runs {
				emit(n, k.Cluster, k.Task, string(k.State))
			}
		}},
	{name: "drydock_job_bytes_total", help: "Bytes that they streamed.", labels: ofSchedule, kind: counter,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, n := range s.Bytes {
				emit(n, k.Cluster, k.Task)
			}
		}},
	{name: "drydock_job_duration_seconds", help: "How long they took, those that were begun.", labels: []string{"task"}, kind: histogram,
		hist: byTask(func(s Snapshot) map[Schedule]Histogram { return s.Durations })},
}

var ofTicks = []family{
	{name: "drydock_ticks_total", help: "Ticks of schedules and runs by hand, by what was decided.", labels: []string{labelCluster, "task", "outcome"}, kind: counter,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, n := range s.Ticks {
				emit(n, k.Cluster, k.Task, string(k.Outcome))
			}
		}},
	{name: "drydock_tick_lateness_seconds", help: "How long after its time a tick of a schedule was started.", labels: []string{"task"}, kind: histogram,
		hist: byTask(func(s Snapshot) map[Schedule]Histogram { return s.Lateness })},
	{name: "drydock_tick_last_lateness_seconds", help: "The same of the last tick or run by hand, whatever was decided.", labels: ofSchedule,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, t := range s.LastTick {
				emit(t.Lateness, k.Cluster, k.Task)
			}
		}},
	{name: "drydock_tick_last_timestamp_seconds", help: "When the last one was due.", labels: ofSchedule,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for k, t := range s.LastTick {
				emit(unix(t.Due), k.Cluster, k.Task)
			}
		}},
}

var ofConditions = []family{
	{name: "drydock_conditions_open", help: "Conditions that hold now (docs/conditions.md). Those of drydock itself have no cluster.", labels: []string{labelCluster, "code", "severity"},
		values: func(s Snapshot, emit func(float64, ...string)) {
			counts := map[[3]string]float64{}
			for _, a := range s.Conditions {
				cluster := a.Cluster
				if cluster == bus.NoCluster {
					cluster = ""
				}
				counts[[3]string{cluster, a.Code, string(a.Severity)}]++
			}
			for k, n := range counts {
				emit(n, k[0], k[1], k[2])
			}
		}},
}

var ofBackups = []family{
	{name: "drydock_backups", help: "Backups in the catalogue whose files are there.", labels: ofSeries,
		values: sum(func(store.Manifest) float64 { return 1 })},
	{name: "drydock_backups_pinned", help: "Those of them that are pinned.", labels: ofSeries,
		values: sum(func(m store.Manifest) float64 {
			return bit(m.Pinned())
		})},
	{name: "drydock_backup_stored_bytes", help: "What the backups take on the disks.", labels: ofSeries,
		values: sum(func(m store.Manifest) float64 { return float64(m.Stored) })},
	{name: "drydock_backup_last_success_timestamp_seconds", help: "When the newest backup ended.", labels: ofSeries,
		values: latest(func(m store.Manifest) float64 { return unix(m.Ended) })},
	{name: "drydock_backup_last_size_bytes", help: "Size of the newest backup, as it came from the tool.", labels: ofSeries,
		values: newest(func(m store.Manifest) float64 { return float64(m.Size) })},
	{name: "drydock_backup_last_proof_timestamp_seconds", help: "When a drill last restored a backup that is still there.", labels: ofSeries,
		values: latest(func(m store.Manifest) (at float64) {
			for _, d := range m.Drills {
				if d.Problem == "" {
					at = max(at, unix(d.Time))
				}
			}
			return at
		})},
	{name: "drydock_backup_rejected_files", help: "Files that were too small to be believed, kept to be looked at.", labels: []string{labelCluster, "server"},
		values: func(s Snapshot, emit func(float64, ...string)) {
			counts := map[[2]string]float64{}
			for _, d := range s.Disks {
				for _, r := range d.Rejected {
					counts[[2]string{r.Cluster, r.Server.String()}] += float64(r.Files)
				}
			}
			for k, n := range counts {
				emit(n, k[0], k[1])
			}
		}},
	{name: "drydock_backup_max_age_seconds", help: "How old the newest backup of the cluster may become (backup-max-age); missing when there is no limit.", labels: ofCluster,
		values: func(s Snapshot, emit func(float64, ...string)) {
			for name := range s.Clusters {
				if age := s.maxAge(name); age > 0 {
					emit(age.Seconds(), name)
				}
			}
		}},
	{name: "drydock_backup_overdue", help: "Whether the newest backup of the cluster is older than that, or there is none: 1 or 0.", labels: ofCluster,
		values: func(s Snapshot, emit func(float64, ...string)) {
			if s.Failed["backups"] {
				return // not known, which is not overdue
			}
			newest := map[string]time.Time{}
			for _, m := range s.Backups {
				if m.Ended.After(newest[m.Cluster]) {
					newest[m.Cluster] = m.Ended
				}
			}
			for name := range s.Clusters {
				if age := s.maxAge(name); age > 0 {
					emit(bit(s.now.Sub(newest[name]) > age), name)
				}
			}
		}},
}

var ofBinlogs = []family{
	{name: "drydock_binlog_archived_timestamp_seconds", help: "Until when the archive has all that the server logged; missing when nothing is archived yet.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return unix(b.Until), !b.Until.IsZero() })},
	{name: "drydock_binlog_report_timestamp_seconds", help: "When a receiver last said how the archiving stands.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return unix(b.Time), !b.Time.IsZero() })},
	{name: "drydock_binlog_failing", help: "Whether nothing is archived now, because of an error: 1 or 0.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return bit(b.Err != ""), true })},
	{name: "drydock_binlog_gaps", help: "Pieces of history that the archive lacks. Counted every five minutes, as the next two.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return float64(b.Gaps), true })},
	{name: "drydock_binlog_segments", help: "Segments in the archive.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return float64(b.Segments), true })},
	{name: "drydock_binlog_stored_bytes", help: "What they take on the disks.", labels: ofCluster,
		values: ofBinlog(func(b Binlog) (float64, bool) { return float64(b.Stored), true })},
}

var ofReceivers = []family{
	{name: "drydock_receiver_up", help: "Whether the receiver answers: 1 or 0.", labels: ofReceiver, values: func(s Snapshot, emit func(float64, ...string)) {
		for _, d := range s.Disks {
			emit(bit(d.Up), d.Receiver)
		}
	}},
	{name: "drydock_receiver_disk_size_bytes", help: "Size of the disk with the backup folder.", labels: ofReceiver,
		values: ofDisk(func(d Disk) float64 { return float64(d.Total) })},
	{name: "drydock_receiver_disk_free_bytes", help: "What may still be written on it, the reserve included.", labels: ofReceiver,
		values: ofDisk(func(d Disk) float64 { return float64(d.Free) })},
	{name: "drydock_receiver_disk_reserve_bytes", help: "What backups leave free on it (disk-reserve).", labels: ofReceiver,
		values: ofDisk(func(d Disk) float64 { return float64(d.Reserve) })},
	{name: "drydock_receiver_disk_full_seconds", help: "When it is expected to be full, from now on; +Inf for not within a year.", labels: ofReceiver,
		values: ofDisk(func(d Disk) float64 {
			if !d.Full {
				return math.Inf(1)
			}
			return d.FullIn
		})},
	{name: "drydock_receiver_ports", help: "Ports of its pool; 0 when it takes any free port.", labels: ofReceiver,
		values: ofPorts(func(p bus.PortsReply) float64 { return float64(p.Total) })},
	{name: "drydock_receiver_ports_in_use", help: "Ports that are reserved or have a stream.", labels: ofReceiver,
		values: ofPorts(func(p bus.PortsReply) float64 { return float64(p.InUse) })},
}

var ofBus = []family{
	{name: "drydock_bus_connected", help: "Whether this process is connected to the bus: 1 or 0. Without it only what is counted here is shown.", values: func(s Snapshot, emit func(float64, ...string)) {
		emit(bit(s.Bus.Connected))
	}},
	{name: "drydock_bus_reconnects_total", help: "How often the connection was made anew.", kind: counter, values: func(s Snapshot, emit func(float64, ...string)) {
		emit(float64(s.Bus.Reconnects))
	}},
	{name: "drydock_bus_round_trip_seconds", help: "How long the bus took to answer.", values: ofRead("streams", func(b Bus) float64 { return b.RoundTrip.Seconds() })},
	{name: "drydock_stream_messages", help: "Messages in the stream.", labels: ofStream,
		values: ofStreams(func(i jetstream.StreamInfo) (float64, bool) { return float64(i.State.Msgs), true })},
	{name: "drydock_stream_stored_bytes", help: "What they take.", labels: ofStream,
		values: ofStreams(func(i jetstream.StreamInfo) (float64, bool) { return float64(i.State.Bytes), true })},
	{name: "drydock_stream_limit_bytes", help: "What they may take; missing when there is no limit.", labels: ofStream,
		values: ofStreams(func(i jetstream.StreamInfo) (float64, bool) { return float64(i.Config.MaxBytes), i.Config.MaxBytes > 0 })},
	{name: "drydock_stream_written_total", help: "Messages that were ever written to the stream.", labels: ofStream, kind: counter,
		values: ofStreams(func(i jetstream.StreamInfo) (float64, bool) { return float64(i.State.LastSeq), true })},
	{name: "drydock_consumer_pending_messages", help: "Messages that the consumer has not got yet.", labels: ofConsumer,
		values: ofConsumers(func(i jetstream.ConsumerInfo) float64 { return float64(i.NumPending) })},
	{name: "drydock_consumer_unacknowledged_messages", help: "Messages that it got and has not dealt with yet.", labels: ofConsumer,
		values: ofConsumers(func(i jetstream.ConsumerInfo) float64 { return float64(i.NumAckPending) })},
	{name: "drydock_consumer_redelivered_messages", help: "Those of them that it got more than once.", labels: ofConsumer,
		values: ofConsumers(func(i jetstream.ConsumerInfo) float64 { return float64(i.NumRedelivered) })},
	{name: "drydock_projection_lag_messages", help: "Messages of DRYDOCK_JOBS that drydock_serverstate does not show yet.",
		values: ofRead("projection", func(b Bus) float64 { return b.Lag })},
	{name: "drydock_projection_lag_seconds", help: "How old the oldest of them is.",
		values: ofRead("projection", func(b Bus) float64 { return b.LagTime.Seconds() })},
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s Snapshot) maxAge(cluster string) time.Duration {
	if s.MaxAge == nil {
		return 0
	}
	return s.MaxAge(cluster)
}

// ofEnded is a value of every slot with a run that ended; one that says false is left out.
func ofEnded(value func(Ended) (float64, bool)) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for k, e := range s.Ended {
			if v, ok := value(e); ok && s.configured(k) {
				emit(v, k.Cluster, k.Server.String(), k.Task)
			}
		}
	}
}

// byTask joins the histograms of the clusters that are seen: one for each would be a thousand series for twenty clusters.
func byTask(of func(Snapshot) map[Schedule]Histogram) func(Snapshot, func(Histogram, ...string)) {
	return func(s Snapshot, emit func(Histogram, ...string)) {
		all := map[string]Histogram{}
		for k, h := range of(s) {
			if s.sees(k.Cluster) {
				all[k.Task] = all[k.Task].plus(h)
			}
		}
		for task, h := range all {
			emit(h, task)
		}
	}
}

func ofBinlog(value func(Binlog) (float64, bool)) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for cluster, b := range s.Binlogs {
			if v, ok := value(b); ok {
				emit(v, cluster)
			}
		}
	}
}

// ofRead is a value of the bus, when the part that it comes from could be read.
func ofRead(part string, value func(Bus) float64) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		if !s.Failed[part] {
			emit(value(s.Bus))
		}
	}
}

func ofStreams(value func(jetstream.StreamInfo) (float64, bool)) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for _, i := range s.Bus.Streams {
			if v, ok := value(i); ok {
				emit(v, i.Config.Name)
			}
		}
	}
}

func ofConsumers(value func(jetstream.ConsumerInfo) float64) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for _, i := range s.Bus.Consumers {
			emit(value(i), i.Stream, i.Name)
		}
	}
}

// ofPorts is a value of every receiver that said how its ports are.
func ofPorts(value func(bus.PortsReply) float64) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for _, d := range s.Disks {
			if d.Ports != nil {
				emit(value(*d.Ports), d.Receiver)
			}
		}
	}
}

// ofDisk is a value of every receiver that answered.
func ofDisk(value func(Disk) float64) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		for _, d := range s.Disks {
			if d.Up {
				emit(value(d), d.Receiver)
			}
		}
	}
}

type series struct{ cluster, server, task string }

func seriesOf(m store.Manifest) series { return series{m.Cluster, m.Server.String(), m.Task} }

// fold makes one value of each series out of those of its backups, newest first. A value of which join says nothing is left out.
func fold(value func(store.Manifest) float64, join func(a, b float64) float64, zero bool) func(Snapshot, func(float64, ...string)) {
	return func(s Snapshot, emit func(float64, ...string)) {
		all := map[series]float64{}
		for _, m := range s.Backups {
			k, v := seriesOf(m), value(m)
			if was, ok := all[k]; ok {
				v = join(was, v)
			}
			all[k] = v
		}
		for k, v := range all {
			if v != 0 || zero {
				emit(v, k.cluster, k.server, k.task)
			}
		}
	}
}

func sum(value func(store.Manifest) float64) func(Snapshot, func(float64, ...string)) {
	return fold(value, func(a, b float64) float64 { return a + b }, true)
}

// latest leaves out a series for which there is no time.
func latest(value func(store.Manifest) float64) func(Snapshot, func(float64, ...string)) {
	return fold(value, math.Max, false)
}

// newest is the value of the first: [store.Catalog.List] has the newest first.
func newest(value func(store.Manifest) float64) func(Snapshot, func(float64, ...string)) {
	return fold(value, func(a, _ float64) float64 { return a }, true)
}
