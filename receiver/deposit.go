package receiver

import (
	"context"
	"errors"
	"io"
	"os"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
	"drydock/xbstream"
)

// Deposit stores a physical backup that is made on this machine by the work of job j, which must live until it returns: give
// writes the stream. m says what it is of; where and how it is stored is filled in. It is in the catalogue only when give
// returned nil and the stream has the format of a backup; else nothing is left.
func (p *Pool) Deposit(ctx context.Context, j job.Job, m store.Manifest, give func(context.Context, io.Writer) error) (store.Manifest, error) {
	m.Attempt = 1
	spec, _, err := p.cfg.place(job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task}, m.ID, m.Attempt)
	if err != nil {
		return m, err
	}
	spec.Tag = job.RunName(j.ID, j.Attempt) // by which it is known to be wanted while the job lives
	f, err := sink.Create(spec)
	if err != nil {
		return m, err
	}
	res, err := take(ctx, f, give)
	if err != nil {
		return m, errors.Join(err, f.Abort())
	}
	m.Type, m.Receiver, m.Path, m.Compress, m.Encrypted = store.ManifestType, p.cfg.Name, spec.Final(), spec.Compress, spec.Encrypted
	m.Size, m.Stored, m.Algo, m.Hash, m.StoredHash = res.Received, res.Stored, res.Algo, res.Hash, res.StoredHash
	m.Checks = []job.Check{{Name: "stream", Held: true}, {Name: "format", Held: true}, {Name: "end line", Held: true}}
	if m, err = p.cfg.Sign(m); err != nil {
		return m, errors.Join(err, sink.Discard(spec))
	}
	// In the order of [Pool.commit]: a manifest never stands there without its backup.
	draft, err := draftManifest(m)
	if err != nil {
		return m, errors.Join(err, sink.Discard(spec))
	}
	if _, err := sink.Publish(spec); err != nil {
		return m, errors.Join(err, os.Remove(draft), sink.Discard(spec))
	}
	if err := nameManifest(draft, m); err != nil {
		return m, err
	}
	return m, p.catalog.Put(ctx, m)
}

// Fits is nil when a backup of about the size of m fits into the folder of the server that m is of, beside the reserve and the
// backups under way.
func (p *Pool) Fits(m store.Manifest) error {
	spec, task, err := p.cfg.place(job.Key{Cluster: m.Cluster, Server: m.Server, Task: m.Task}, m.ID, 1)
	if err != nil {
		return err
	}
	r := &reservation{spec: spec, task: task, need: m.Stored + m.Stored/growth}
	if spec.Compress == sink.None {
		r.need = m.Size + m.Size/growth
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room(r)
}

// take brings the stream that give writes into the file.
func take(ctx context.Context, f *sink.File, give func(context.Context, io.Writer) error) (sink.Result, error) {
	from, to := io.Pipe()
	given := make(chan error, 1) // one send
	go func() {
		err := give(ctx, to)
		_ = to.CloseWithError(err)
		given <- err
	}()
	check := xbstream.New()
	err := f.Receive(ctx, io.TeeReader(from, check), nil)
	_ = from.CloseWithError(err) // whoever writes on must not wait for a reader
	defect := check.Close()
	if gave := <-given; gave != nil && !errors.Is(err, sink.ErrWrite) {
		return sink.Result{}, gave
	}
	if err = errors.Join(err, defect); err != nil {
		return sink.Result{}, err
	}
	return f.Finish()
}
