// Package metrics is what Prometheus reads of drydock: values taken from what the bus has, and at most every few seconds,
// however often and by how many it is scraped.
//
// It owns the names and meanings of the metrics. Who may see which cluster is the caller's question. A new metric is a line in
// the table families; what it needs beyond that goes into [Snapshot].
package metrics

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Snapshot is what all values of one answer are taken from.
type Snapshot struct {
	Version string // of drydock
	Backups []store.Manifest
	Disks   []Disk
}

// Disk is what a receiver said of its disk; Up is false when it did not answer.
type Disk struct {
	Up bool
	bus.DiskReply
}

// Reader keeps the last [Snapshot]. Safe for concurrent use.
type Reader struct {
	version string
	conn    *bus.Conn
	catalog *store.Catalog

	mu   sync.Mutex // held while a new one is read: who comes meanwhile gets it, too
	last Snapshot
	read time.Time
}

const (
	// fresh is how long a snapshot serves.
	fresh = 10 * time.Second
	// readTime bounds the reading of one, diskTime the answer of one receiver.
	readTime = 4 * time.Second
	diskTime = 2 * time.Second
)

// NewReader reads from c and the catalogue.
func NewReader(version string, c *bus.Conn, catalog *store.Catalog) *Reader {
	return &Reader{version: version, conn: c, catalog: catalog}
}

// Snapshot is the last one, or a new one when that is too old.
func (r *Reader) Snapshot(ctx context.Context) (Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := time.Since(r.read); !r.read.IsZero() && age >= 0 && age < fresh {
		return r.last, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	backups, err := r.catalog.List(ctx, "", job.Server{})
	if err != nil {
		return Snapshot{}, err
	}
	disks, err := r.disks(ctx, backups)
	if err != nil {
		return Snapshot{}, err
	}
	r.last, r.read = Snapshot{r.version, backups, disks}, time.Now()
	return r.last, nil
}

// disks asks every receiver that answers, and names those that have backups and do not.
func (r *Reader) disks(ctx context.Context, backups []store.Manifest) ([]Disk, error) {
	names, err := bus.Receivers(ctx, r.conn)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	for _, m := range backups {
		if !known[m.Receiver] {
			known[m.Receiver] = true
			names = append(names, m.Receiver)
		}
	}
	out := make([]Disk, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, diskTime)
			defer cancel()
			d, err := bus.Request[bus.DiskReply](ctx, r.conn, bus.ReceiverSubject(name, bus.VerbDisk), struct{}{})
			d.Receiver = name
			out[i] = Disk{err == nil, d}
		})
	}
	wg.Wait()
	return out, nil
}

// Seen is the snapshot without the clusters that somebody may not see.
func (s Snapshot) Seen(may func(cluster string) bool) Snapshot {
	out := Snapshot{Version: s.Version}
	for _, m := range s.Backups {
		if may(m.Cluster) {
			out.Backups = append(out.Backups, m)
		}
	}
	for _, d := range s.Disks {
		var rejected []bus.RejectedCount
		for _, r := range d.Rejected {
			if may(r.Cluster) {
				rejected = append(rejected, r)
			}
		}
		d.Rejected = rejected
		out.Disks = append(out.Disks, d)
	}
	return out
}

// Handler answers with the metrics of the snapshot.
func (s Snapshot) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s) // the only one: nothing can be there twice
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// Describe implements [prometheus.Collector].
func (s Snapshot) Describe(out chan<- *prometheus.Desc) {
	for _, f := range families {
		out <- f.desc()
	}
}

// Collect implements [prometheus.Collector].
func (s Snapshot) Collect(out chan<- prometheus.Metric) {
	for _, f := range families {
		desc := f.desc()
		f.values(s, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
		})
	}
}
