package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"drydock/job"
)

// listing is the document [DocInventory] of a server and a task: the tables before a backup.
type listing struct {
	JobID  string `json:"job_id"`
	Tables []byte `json:"tables"` // JSON of the list, in gzip
}

const (
	maxListing = 900 << 10 // bytes in the document, of the 1 MiB that the bus takes
	// maxListed bounds what is unpacked of it.
	maxListed = 64 << 20
)

// ErrTooMany is returned for a list of tables that no document holds.
var ErrTooMany = errors.New("too many tables")

// packers are writers to be used again: one takes 800 KiB, and backups of a fleet begin together.
var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// PutListing keeps the tables that a server has before a backup. Errors: [ErrTooMany].
func (d *Docs) PutListing(ctx context.Context, k job.Key, jobID string, list []job.Listed) error {
	packed, err := pack(list)
	if err != nil {
		return fmt.Errorf("pack the tables of %s: %w", k.Server, err)
	}
	if len(packed) > maxListing*3/4 { // it grows by a third in JSON
		return fmt.Errorf("keep the tables of %s: %w: %d", k.Server, ErrTooMany, len(list))
	}
	return d.Put(ctx, k.Cluster, k.Server, DocInventory+"-"+k.Task, listing{jobID, packed})
}

// pack holds a writer no longer than it packs: many wait for the bus afterwards.
func pack(list []job.Listed) ([]byte, error) {
	var packed bytes.Buffer
	z := packers.Get().(*gzip.Writer)
	defer packers.Put(z)
	z.Reset(&packed)
	err := errors.Join(json.NewEncoder(z).Encode(list), z.Close())
	return packed.Bytes(), err
}

// Listing are the tables that the server had before the backup of that job; ok is false when that is not known.
func (d *Docs) Listing(ctx context.Context, k job.Key, jobID string) (list []job.Listed, ok bool, err error) {
	var doc listing
	if ok, err = d.Get(ctx, k.Cluster, k.Server, DocInventory+"-"+k.Task, &doc); err != nil || !ok || doc.JobID != jobID {
		return nil, false, err
	}
	z, err := gzip.NewReader(bytes.NewReader(doc.Tables))
	if err != nil {
		return nil, false, fmt.Errorf("unpack the tables of %s: %w", k.Server, err)
	}
	if err := json.NewDecoder(io.LimitReader(z, maxListed)).Decode(&list); err != nil {
		return nil, false, fmt.Errorf("unpack the tables of %s: %w", k.Server, err)
	}
	return list, true, nil
}
