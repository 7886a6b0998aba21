package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// Checksum is the document [DocChecksum] of a cluster: what the comparison of its servers found.
type Checksum struct {
	JobID    string       `json:"job_id"` // the run that wrote it last
	Began    time.Time    `json:"began"`
	Ended    time.Time    `json:"ended"`
	Complete bool         `json:"complete"` // that run came to its end
	Primary  job.Server   `json:"primary"`
	Replicas []job.Server `json:"replicas"` // those that were compared with it
	Tables   int          `json:"tables"`   // compared on at least one replica
	// Differs are the tables that are not the same. One that an earlier run found stays until a run compares that table of
	// that server again.
	Differs []Finding `json:"differs"`
	// Unlike could not be told: the servers' versions or the tables' definitions differ, and so do the checksums.
	Unlike []Finding `json:"unlike,omitempty"`
	// Undone could not be compared although they should have been.
	Undone []Finding `json:"undone,omitempty"`
	// Left were left out: filtered from the replica, an engine that cannot be compared, a replica that does not run.
	Left []Finding `json:"left,omitempty"`
	// More is how many findings the lists, at [MaxFindings] each, have no room for.
	More int `json:"more,omitempty"`
}

// MaxFindings bounds each list of a [Checksum].
const MaxFindings = 500

// Finding is what the comparison says about one table of one replica.
type Finding struct {
	Table  string     `json:"table,omitempty"`  // `schema.table`; empty: all of the server
	Server job.Server `json:"server,omitzero"`  // the replica; zero: the table on all of them
	What   string     `json:"what"`             // for people
	Seen   time.Time  `json:"seen,omitzero"`    // when
	JobID  string     `json:"job_id,omitempty"` // by which run
}

// String says it for people, "shop.orders on 10.0.1.6:3306: the rows differ".
func (f Finding) String() string {
	switch {
	case f.Table == "":
		return f.Server.String() + ": " + f.What
	case f.Server == (job.Server{}):
		return f.Table + ": " + f.What
	}
	return f.Table + " on " + f.Server.String() + ": " + f.What
}

// Findings names the first few of a list of differences.
func Findings(list []Finding) string {
	const named = 5
	var names []string
	for _, f := range list[:min(named, len(list))] {
		names = append(names, f.String())
	}
	text := fmt.Sprintf("%d differences: %s", len(list), strings.Join(names, "; "))
	if len(list) == 1 {
		text = "a difference: " + names[0]
	}
	if more := len(list) - named; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// EditChecksum changes the document of a cluster by compare-and-swap; edit may be called again. The zero Checksum stands
// for a document that does not exist yet. Errors: [ErrBusy].
func (d *Docs) EditChecksum(ctx context.Context, cluster string, edit func(*Checksum)) error {
	kv, err := d.c.Bucket(ctx, bus.BucketState)
	if err != nil {
		return err
	}
	_, err = update(ctx, kv, bus.StateKey(cluster, "", 0, DocChecksum), func(doc *Checksum) (bool, error) {
		edit(doc)
		doc.More = 0
		for _, list := range []*[]Finding{&doc.Differs, &doc.Unlike, &doc.Undone, &doc.Left} {
			if n := len(*list) - MaxFindings; n > 0 {
				*list = (*list)[:MaxFindings]
				doc.More += n
			}
		}
		return true, nil
	})
	return err
}

// Checksums reads the documents [DocChecksum] of all clusters, by [bus.StateKey].
func (d *Docs) Checksums(ctx context.Context) (map[string]Checksum, error) {
	return every[Checksum](ctx, d, DocChecksum)
}
