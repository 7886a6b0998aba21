// Package metrics is what Prometheus reads of drydock: values taken from what this process has seen on the bus and from readings
// of it that are at most some seconds old, however often and by how many it is scraped.
//
// It owns the names and meanings of the metrics. Who may see which cluster is the caller's question. A new metric is a line in
// the table families; what it needs beyond that goes into [Snapshot]. No label holds a job, a backup or a user: the number of
// series follows from the configuration and not from the history.
package metrics

import (
	"context"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Seen is the snapshot without the clusters that somebody may not see.
func (s Snapshot) Seen(may func(cluster string) bool) Snapshot {
	s.may = may
	return s
}

// sees reports whether a value about a cluster may be shown. No cluster, as in a condition of drydock itself, is everybody's.
func (s Snapshot) sees(cluster string) bool { return cluster == "" || s.may == nil || s.may(cluster) }

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

// Collect implements [prometheus.Collector]. Values about a cluster that may not be seen are left out here, so that no family can
// forget it.
func (s Snapshot) Collect(out chan<- prometheus.Metric) {
	for _, f := range families {
		desc, at := f.desc(), slices.Index(f.labels, labelCluster)
		shown := func(labels []string) bool { return at < 0 || s.sees(labels[at]) }
		if f.hist != nil {
			f.hist(s, func(h Histogram, labels ...string) {
				if shown(labels) {
					out <- prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, h.Buckets, labels...)
				}
			})
			continue
		}
		kind := prometheus.GaugeValue
		if f.kind == counter {
			kind = prometheus.CounterValue
		}
		f.values(s, func(value float64, labels ...string) {
			if shown(labels) {
				out <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
			}
		})
	}
}

// Run counts until ctx ends.
func (r *Reader) Run(ctx context.Context) error { return r.tally.Run(ctx) }
