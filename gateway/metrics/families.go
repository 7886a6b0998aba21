package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"drydock/store"
)

// family is one metric: a gauge, as all that is counted here can shrink.
type family struct {
	name   string // with its unit, as in Prometheus's rules of naming
	help   string
	labels []string
	values func(s Snapshot, emit func(value float64, labels ...string))
}

func (f family) desc() *prometheus.Desc { return prometheus.NewDesc(f.name, f.help, f.labels, nil) }

var (
	ofReceiver = []string{"receiver"}
	ofSeries   = []string{"cluster", "server", "task"}
)

var families = []family{
	{"drydock_build_info", "The version that answers; always 1.", []string{"version"}, func(s Snapshot, emit func(float64, ...string)) {
		emit(1, s.Version)
	}},
	{"drydock_receiver_up", "Whether the receiver answers: 1 or 0.", ofReceiver, func(s Snapshot, emit func(float64, ...string)) {
		for _, d := range s.Disks {
			emit(map[bool]float64{true: 1}[d.Up], d.Receiver)
		}
	}},
	{"drydock_receiver_disk_size_bytes", "Size of the disk with the backup folder.", ofReceiver,
		ofDisk(func(d Disk) float64 { return float64(d.Total) })},
	{"drydock_receiver_disk_free_bytes", "What may still be written on it, the reserve included.", ofReceiver,
		ofDisk(func(d Disk) float64 { return float64(d.Free) })},
	{"drydock_receiver_disk_reserve_bytes", "What backups leave free on it (disk-reserve).", ofReceiver,
		ofDisk(func(d Disk) float64 { return float64(d.Reserve) })},
	{"drydock_receiver_disk_full_seconds", "When it is expected to be full, from now on; +Inf for not within a year.", ofReceiver,
		ofDisk(func(d Disk) float64 {
			if !d.Full {
				return math.Inf(1)
			}
			return d.FullIn
		})},
	{"drydock_backups", "Backups in the catalogue whose files are there.", ofSeries,
		sum(func(store.Manifest) float64 { return 1 })},
	{"drydock_backups_pinned", "Those of them that are pinned.", ofSeries, sum(func(m store.Manifest) float64 {
		return map[bool]float64{true: 1}[m.Pinned()]
	})},
	{"drydock_backup_stored_bytes", "What the backups take on the disks.", ofSeries,
		sum(func(m store.Manifest) float64 { return float64(m.Stored) })},
	{"drydock_backup_last_success_timestamp_seconds", "When the newest backup ended.", ofSeries,
		latest(func(m store.Manifest) float64 { return seconds(m.Ended.UnixMilli()) })},
	{"drydock_backup_last_size_bytes", "Size of the newest backup, as it came from the tool.", ofSeries,
		newest(func(m store.Manifest) float64 { return float64(m.Size) })},
	{"drydock_backup_last_proof_timestamp_seconds", "When a drill last restored a backup that is still there.", ofSeries,
		latest(func(m store.Manifest) (at float64) {
			for _, d := range m.Drills {
				if d.Problem == "" {
					at = max(at, seconds(d.Time.UnixMilli()))
				}
			}
			return at
		})},
	{"drydock_backup_rejected_files", "Files that were too small to be believed, kept to be looked at.", []string{"cluster", "server"},
		func(s Snapshot, emit func(float64, ...string)) {
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
}

func seconds(milli int64) float64 { return float64(milli) / 1000 }

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
