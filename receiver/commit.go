package receiver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"drydock/bus"
	"drydock/durable"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// commits lets one commit of a run work at a time: a repetition may overtake the first one. The zero value is ready.
type commits struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the commit is over
}

// enter waits for its turn; leave must be called.
func (c *commits) enter(ctx context.Context, run string) (leave func(), err error) {
	for {
		c.mu.Lock()
		over, taken := c.busy[run]
		if !taken {
			if c.busy == nil {
				c.busy = map[string]chan struct{}{}
			}
			over = make(chan struct{})
			c.busy[run] = over
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.busy, run)
				close(over)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the commit of %s: %w", run, ctx.Err())
		}
	}
}

// commit publishes a proven stream. It may be repeated after an error or a crash at any point: each of its steps finds
// out whether it is done.
func (p *Pool) commit(ctx context.Context, req bus.CommitRequest) (bus.CommitReply, error) {
	spec, task, err := p.cfg.place(req.Job.Key(), req.Job.ID, req.Job.Attempt)
	if err != nil {
		return bus.CommitReply{}, refused("publish %s: %v", req.Job.Key(), err)
	}
	leave, err := p.commits.enter(ctx, req.Job.Run())
	if err != nil {
		return bus.CommitReply{}, err
	}
	defer leave()
	j, err := p.committable(ctx, req.Job, task)
	if err != nil {
		return bus.CommitReply{}, err
	}
	spec = storedAs(spec, *j.Stream)
	if err := checkSize(spec, task, j.Stream.Stored); err != nil {
		return bus.CommitReply{}, err
	}
	if task.Kind == job.KindLog {
		_, _, err := sink.AppendLog(spec)
		return bus.CommitReply{Path: spec.Final()}, goneIfAbsent(err)
	}
	// The manifest's bytes first: they need room on the disk, giving files their names does not. It gets its own name
	// last: a manifest never stands there without its backup.
	m, err := p.cfg.Sign(p.manifest(j, spec, req.Checks))
	if err != nil {
		return bus.CommitReply{}, err
	}
	draft, err := draftManifest(m)
	if err != nil {
		return bus.CommitReply{}, err
	}
	path, err := sink.Publish(spec)
	if err != nil {
		return bus.CommitReply{}, errors.Join(goneIfAbsent(err), os.Remove(draft))
	}
	if err := nameManifest(draft, m); err != nil {
		return bus.CommitReply{}, err
	}
	if err := p.catalog.Put(ctx, m); err != nil {
		return bus.CommitReply{}, err
	}
	p.cfg.Log.Info("backup published", "job", j, "path", path, "bytes", m.Stored)
	return bus.CommitReply{Path: path, Backup: m.ID}, nil
}

// committable reads the job from the log itself: what was canceled a moment ago must not be published.
func (p *Pool) committable(ctx context.Context, asked job.Job, task job.Task) (job.Job, error) {
	j, _, err := p.jobs.Last(ctx, asked.Key())
	if errors.Is(err, store.ErrNone) {
		return j, refused("publish %s: %v", asked.Run(), err)
	}
	if err != nil {
		return j, err
	}
	switch {
	case j.ID != asked.ID || j.Attempt != asked.Attempt:
		return j, refused("publish %s: its slot holds %s", asked.Run(), j.Run())
	case j.State != job.Finished && j.State != job.Success:
		return j, refused("publish %s: the job is %s", j.Run(), j.State)
	case j.Dispatch.Receiver != p.cfg.Name:
		return j, refused("publish %s: it belongs to receiver %q", j.Run(), j.Dispatch.Receiver)
	case j.Stream == nil || !j.Stream.Complete:
		return j, refused("publish %s: its stream is not complete", j.Run())
	case task.Kind == job.KindBackup && j.Stream.Bytes == 0:
		return j, refused("publish %s: its stream is empty", j.Run())
	}
	return j, nil
}

func goneIfAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &bus.ServiceError{Code: bus.CodeGone, Message: err.Error()}
	}
	return err
}

// checkSize refuses a file that is not what was recorded: the temporary one or, without it, the published backup. With
// neither, publishing says that it is gone.
func checkSize(spec sink.Spec, task job.Task, stored int64) error {
	info, err := os.Lstat(spec.Temp())
	if errors.Is(err, fs.ErrNotExist) && task.Kind == job.KindBackup {
		info, err = os.Lstat(spec.Final())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() != stored {
		return refused("publish %s: %d bytes on disk, %d were received", spec.Tag, info.Size(), stored)
	}
	return nil
}

// storedAs is the form a stream was really stored in. The configured one may have changed since.
func storedAs(spec sink.Spec, s job.Stream) sink.Spec {
	spec.Hash, spec.Compress, spec.Encrypted = s.Algo, cmp.Or(s.Compress, sink.None), s.Encrypted
	return spec
}

// manifest describes a published backup by the job's facts alone, so that writing it again gives the same.
func (p *Pool) manifest(j job.Job, spec sink.Spec, checks []job.Check) store.Manifest {
	s, ev := j.Stream, j.Evidence
	said := job.Said{Tool: ev.Tool, BinlogFile: ev.BinlogFile, BinlogPos: ev.BinlogPos, GTID: ev.GTID}
	if s.Said != nil {
		said = *s.Said
	}
	return store.Manifest{
		Type: store.ManifestType, ID: j.ID, Cluster: j.Cluster, Server: j.Server, Task: j.Task, Attempt: j.Attempt,
		Trigger: j.Trigger, Tool: cmp.Or(said.Tool, ev.Tool), Started: j.Started(), Ended: s.Closed, Receiver: p.cfg.Name, Path: spec.Final(),
		Compress: spec.Compress, Encrypted: spec.Encrypted, Size: s.Bytes, Stored: s.Stored, Algo: s.Algo, Hash: s.Hash, StoredHash: s.StoredHash,
		BinlogFile: said.BinlogFile, BinlogPos: said.BinlogPos, GTID: said.GTID, BinlogOf: said.BinlogOf, Checks: checks,
		Inventory: j.Inventory,
	}
}

// ManifestSuffix follows the name of the backup file.
const ManifestSuffix = ".manifest.json"

// draftManifest writes the manifest durably under a hidden name beside its backup. It may be repeated.
func draftManifest(m store.Manifest) (draft string, err error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode manifest of %s: %w", m.ID, err)
	}
	dir, name := filepath.Split(m.Path)
	draft = filepath.Join(dir, "."+name+ManifestSuffix+".tmp")
	if err := durable.Write(draft, append(data, '\n')); err != nil {
		return "", fmt.Errorf("write manifest of %s: %w", m.ID, errors.Join(err, os.Remove(draft)))
	}
	return draft, nil
}

// nameManifest gives a draft its name, durably.
func nameManifest(draft string, m store.Manifest) error {
	if err := os.Rename(draft, m.Path+ManifestSuffix); err != nil {
		return fmt.Errorf("name manifest of %s: %w", m.ID, err)
	}
	if err := durable.SyncFolder(filepath.Dir(draft)); err != nil {
		return fmt.Errorf("name manifest of %s: %w", m.ID, err)
	}
	return nil
}
