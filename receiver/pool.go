package receiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Pool is one receiver: its ports, what is reserved on them and the streams that run. Safe for concurrent use.
type Pool struct {
	cfg     Config
	conn    *bus.Conn
	jobs    *store.Jobs
	view    *store.View
	catalog *store.Catalog
	ports   *ports
	peers   *peers
	commits commits

	// kick wakes the watch when the view changed. Senders: the view's goroutines, never closed; one place is enough,
	// because the watch looks at everything.
	kick chan struct{}

	// base ends when what still runs must end now; recording ends when not even a record of that can be waited for.
	base, recording context.Context
	endBase         context.CancelCauseFunc
	endRecording    context.CancelFunc

	work   sync.WaitGroup // reservations and requests in hand
	closed chan struct{}  // closed when closing becomes true

	mu           sync.Mutex
	closing      bool                    // nothing new begins
	reservations map[string]*reservation // by run
	sendings     map[string]*sending     // backups on their way out, by run
	waiting      map[string]job.Job      // jobs of scripts that wait for a backup of ours, by run

	// The constants of these names, which tests shorten.
	offerGrace, watchEvery, checkTime time.Duration
}

const (
	// offerGrace is how long a port is kept for an offer that the log does not show yet.
	offerGrace = 30 * time.Second
	// checkTime is how long a Check reservation lives.
	checkTime = 60 * time.Second
	// watchEvery is the beat at which reservations are looked at, beside every change of the view.
	watchEvery = time.Second
	// recordTime is what the last records get at shutdown.
	recordTime = 5 * time.Second
)

// New checks the configuration and binds every port of the pool once, so that a port that cannot be had is an error at
// start and not of the first backup. It must be called before view runs. Errors: [ErrConfig].
func New(cfg Config, conn *bus.Conn, jobs *store.Jobs, view *store.View, catalog *store.Catalog) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pt, err := newPorts(cfg.Bind, cfg.Ports, cfg.Reserved)
	if err != nil {
		return nil, err
	}
	p := &Pool{
		cfg: cfg, conn: conn, jobs: jobs, view: view, catalog: catalog, ports: pt, peers: newPeers(cfg.AllowFrom),
		kick: make(chan struct{}, 1), reservations: map[string]*reservation{}, sendings: map[string]*sending{}, waiting: map[string]job.Job{}, closed: make(chan struct{}),
		offerGrace: offerGrace, watchEvery: watchEvery, checkTime: checkTime,
	}
	p.base, p.endBase = context.WithCancelCause(context.Background())
	p.recording, p.endRecording = context.WithCancel(context.Background())
	view.OnChange(func(ev bus.JobEvent) {
		p.offerSend(ev.Job)
		select {
		case p.kick <- struct{}{}:
		default:
		}
	})
	return p, nil
}

// Run takes up what an earlier process left, then serves until ctx ends. It then lets open streams end for
// DrainTimeout, cuts the rest, and returns when all of it is recorded. The bus and the view must outlive it.
func (p *Pool) Run(ctx context.Context) error {
	defer p.endRecording()
	defer p.endBase(nil)
	unlock, err := lockFolder(p.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	select {
	case <-ctx.Done():
		return nil
	case <-p.view.Ready():
	}
	if err := p.recover(ctx); err != nil {
		return errors.Join(err, p.drain(nil))
	}
	svc, err := p.serve()
	if err != nil {
		return errors.Join(err, p.drain(svc))
	}
	p.cfg.Log.Info("receiver is ready", "address", p.cfg.Address, "ports", p.ports.String())
	p.watch(ctx)
	return p.drain(svc)
}

// lockFolder keeps a second receiver out: each would sweep away what the other is writing.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".receiver.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: data folder %s is in use by another receiver", ErrConfig, dir)
	}
	return func() { f.Close() }, nil
}

// watch looks at every reservation whenever something changed, and every second for what merely took too long.
func (p *Pool) watch(ctx context.Context) {
	beat := time.NewTicker(p.watchEvery)
	defer beat.Stop()
	for {
		for _, r := range p.current() {
			r.look(time.Now())
		}
		p.sendWaiting()
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-beat.C:
		}
	}
}

func (p *Pool) current() []*reservation {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*reservation, 0, len(p.reservations))
	for _, r := range p.reservations {
		out = append(out, r)
	}
	return out
}

// spawn runs f in a goroutine that Run waits for; false means that the pool is closing and f does not run.
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return false
	}
	p.work.Go(f)
	return true
}

// drain ends everything, in the order of the least loss.
func (p *Pool) drain(svc micro.Service) error {
	p.mu.Lock()
	p.closing = true
	close(p.closed)
	p.mu.Unlock()
	var err error
	if svc != nil {
		if err = svc.Stop(); err != nil {
			err = fmt.Errorf("stop the receiver service: %w", err)
		}
	}
	streams := 0
	for _, r := range p.current() {
		if r.streaming() {
			streams++
		} else {
			r.end(errStopping)
		}
	}
	p.mu.Lock()
	streams += len(p.sendings)
	p.mu.Unlock()
	if streams > 0 {
		p.cfg.Log.Info("wait for open streams", "streams", streams, "elapsed_max", p.cfg.DrainTimeout.String())
	}
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(p.cfg.DrainTimeout):
	}
	p.endBase(errStopping)
	select {
	case <-done:
	case <-time.After(recordTime):
		p.endRecording()
		<-done
	}
	return err
}

// refOf names the run a reservation is for.
func refOf(k job.Key, id string, attempt int) store.Ref {
	return store.Ref{Key: k, ID: id, Attempt: attempt}
}
