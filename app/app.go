// Package app is the life of one drydock process: which roles run in it, what each is configured with, in which order
// they start and in which they stop. It is the only package that knows both the configuration and the services.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"drydock/alert"
	"drydock/alert/notify"
	"drydock/bus"
	"drydock/config"
	"drydock/gateway"
	"drydock/scheduler"
	"drydock/scheduler/sshrun"
	"drydock/store"
)

// The roles a process can take (architecture.md section 1).
const (
	RoleScheduler = "scheduler"
	RoleGateway   = "gateway"
	RoleReceiver  = "receiver"
	RoleAlert     = "alert"
)

// Roles lists all roles, in the order of their start.
var Roles = []string{RoleReceiver, RoleGateway, RoleScheduler, RoleAlert}

// Options is what a process is started with.
type Options struct {
	Config  *config.Config
	Roles   []string // empty: all
	Version string
	Log     *slog.Logger
	// Reload brings a freshly read configuration (SIGHUP); its sender owns it and never closes it.
	Reload <-chan *config.Config
	// Cut, when it ends, cuts a stop short (a second signal). Optional.
	Cut context.Context
	// Started is called once when every role runs. Optional.
	Started func(Addresses)
}

// Addresses is where a running process listens.
type Addresses struct {
	HTTP string // empty when off
	API  string
	NATS string // empty when the bus is external or has no listener
}

// Run starts the roles and blocks until ctx ends or one of them fails; then it stops them in the reverse order.
// Errors: why a role could not start, ended by itself, or did not stop.
func Run(ctx context.Context, o Options) error {
	if err := checkRoles(o.Roles); err != nil {
		return err
	}
	if o.Cut == nil {
		o.Cut = context.Background()
	}
	p := &process{Options: o, life: newLifecycle(o.Log)}
	p.current.Store(o.Config)
	err := p.start(ctx)
	if err == nil {
		if o.Started != nil {
			o.Started(p.addrs)
		}
		err = p.serve(ctx)
	} else if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // stopped before everything ran, which is no failure
	}
	return errors.Join(err, p.life.stop(o.Cut))
}

func checkRoles(roles []string) error {
	for _, r := range roles {
		if !slices.Contains(Roles, r) {
			return fmt.Errorf("unknown role %q: the roles are %s", r, strings.Join(Roles, ", "))
		}
	}
	return nil
}

// process is what the parts of one process share.
type process struct {
	Options
	life  *lifecycle
	addrs Addresses
	name  string // of this process on the bus, see processName

	conn      *bus.Conn
	view      *store.View
	catalog   *store.Catalog
	scheduler *scheduler.Scheduler // nil without the role
	ssh       *sshrun.Runner       // nil without the role scheduler
	alert     *alert.Evaluator     // nil without the role
	notifier  *notify.Notifier     // nil without the role alert
	serving   <-chan struct{}      // closed when the gateway answers calls; nil without it
	porch     *gateway.Porch       // nil without the role gateway, and with the embedded bus
	health    func() error
	current   atomic.Pointer[config.Config] // as it was read last
}

func (p *process) has(role string) bool { return len(p.Roles) == 0 || slices.Contains(p.Roles, role) }

// start brings everything up: the bus, the view, then the roles from the inside out. What was started before an error
// is in the lifecycle and stopped by the caller.
func (p *process) start(ctx context.Context) error {
	if err := os.MkdirAll(p.Config.Global.Datadir, 0o700); err != nil {
		return fmt.Errorf("create monitoring-datadir: %w", err)
	}
	name, err := processName(p.Config)
	if err != nil {
		return err
	}
	p.name = name
	warnOfOpenFiles(p.Config, p.Log)
	if err := p.openPorch(); err != nil {
		return err
	}
	if err := p.startBus(ctx); err != nil {
		return err
	}
	p.view = store.NewView(p.conn)
	p.catalog = store.NewCatalog(p.conn)
	type ready struct {
		name string
		run  func(context.Context) error
	}
	var made []ready // they run after the view, once every one of them has registered what it watches
	for _, role := range []struct {
		name string
		make func(context.Context) (run func(context.Context) error, err error)
	}{
		{RoleReceiver, p.newReceiver},
		{RoleGateway, p.newGateway},
		{RoleScheduler, p.newScheduler},
		{RoleAlert, p.newAlert},
	} {
		if !p.has(role.name) {
			continue
		}
		run, err := role.make(ctx)
		if err != nil {
			return fmt.Errorf("start %s: %w", role.name, err)
		}
		made = append(made, ready{role.name, run})
	}
	p.life.start("view", p.view.Run)
	select {
	case <-p.view.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, r := range made {
		p.life.start(r.name, r.run)
	}
	if p.serving == nil {
		return nil
	}
	return p.life.await(ctx, p.serving) // not before that anybody is told that drydock is up
}

func (p *process) startBus(ctx context.Context) error {
	name := "drydock " + strings.Join(p.Roles, ",")
	log := p.Log.With("component", "bus")
	p.health = func() error { return nil }
	if p.Config.Global.NATS.URL == "" {
		srv, err := startEmbedded(p.Config, log)
		if err != nil {
			return err
		}
		p.life.onStop("nats server", srv.Close)
		p.life.start("nats watch", srv.Run)
		p.health = srv.Health
		if p.addrs.NATS = srv.Addr(); p.addrs.NATS != "" {
			if err := os.WriteFile(listenerFile(p.Config), []byte(p.addrs.NATS), 0o600); err != nil {
				return fmt.Errorf("record where the bus listens: %w", err)
			}
		}
		if p.conn, err = bus.ConnectInProcess(srv, name, log); err != nil {
			return err
		}
		p.life.onStop("bus connection", p.conn.Close)
		if err := p.declare(ctx, p.conn); err != nil {
			return err
		}
		p.life.start("nats users", func(ctx context.Context) error {
			return store.NewReaders(p.conn).Follow(ctx, func(list []bus.Reader) {
				if err := srv.SetReaders(list); err != nil {
					log.Error("change the users of the bus that only read", "err", err)
				}
			})
		})
		return nil
	}
	return p.awaitBus(ctx, name, log)
}

func (p *process) declare(ctx context.Context, conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return conn.Declare(ctx, limits(p.Config))
}

const (
	busRetry    = time.Second      // between two tries to reach nats-url
	busPatience = 2 * time.Second  // for its first answer
	busRemind   = 30 * time.Second // between two log lines about it
)

// awaitBus connects to nats-url and declares what drydock needs there. Servers that are away, or have no leader yet, are
// waited for: all parts of a split deployment may start at the same time, in any order. Errors: ctx's, and those that
// waiting does not cure.
func (p *process) awaitBus(ctx context.Context, name string, log *slog.Logger) error {
	remote, err := Remote(p.Config)
	if err != nil {
		return err
	}
	var told time.Time
	for {
		conn, err := bus.ConnectRemote(remote, name, log)
		if err == nil {
			if err = p.declareWhenReady(ctx, conn); err == nil {
				p.conn = conn
				p.life.onStop("bus connection", conn.Close)
				return nil
			}
			conn.NC.Close()
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case bus.Permanent(err):
			return fmt.Errorf("use the bus at %s (nats-url): %w", remote.URL, err)
		case time.Since(told) >= busRemind:
			log.Warn("wait for the bus", "url", remote.URL, "err", err)
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(busRetry):
		}
	}
}

// declareWhenReady asks first, and briefly: a cluster without a leader answers nothing, not even later.
func (p *process) declareWhenReady(ctx context.Context, conn *bus.Conn) error {
	asking, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	if err := conn.Ready(asking); err != nil {
		return err
	}
	return p.declare(ctx, conn)
}

// openPorch has the gateway's ports answer while an external bus is waited for.
func (p *process) openPorch() error {
	if p.Config.Global.NATS.URL == "" || !p.has(RoleGateway) {
		return nil
	}
	cfg, err := gatewayConfig(p.Config, p.name, p.Version, p.Log)
	if err != nil {
		return err
	}
	if p.porch, err = gateway.OpenPorch(cfg); err != nil {
		return err
	}
	p.life.onStop("porch", p.porch.Close)
	return nil
}

// serve waits for the end, and takes new configurations in.
func (p *process) serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- p.life.wait(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case cfg := <-p.Reload:
			p.reload(cfg)
		}
	}
}

// reload takes over the schedules and what conditions are judged by. Everything else needs a restart, and the log says so.
func (p *process) reload(cfg *config.Config) {
	if p.scheduler != nil {
		if err := p.scheduler.Reload(schedulerConfig(cfg, p.name, p.Log)); err != nil {
			p.Log.Error("keep the old schedules", "err", err)
			return
		}
		if err := p.reloadSSH(cfg); err != nil {
			p.Log.Error("keep the old ssh sessions", "err", err)
		}
	}
	if p.alert != nil {
		if err := p.alert.Reload(alertConfig(cfg, p.name, p.Log)); err != nil {
			p.Log.Error("keep judging conditions as before", "err", err)
			return
		}
		if err := p.notifier.Reload(notifyConfig(cfg, p.name, p.Log)); err != nil {
			p.Log.Error("keep the old quiet times and pings", "err", err)
			return
		}
	}
	for _, what := range needRestart(p.Config, cfg) {
		p.Log.Warn("this change of the configuration takes effect after a restart", "what", what)
	}
	p.current.Store(cfg)
	p.Log.Info("configuration reloaded", "file", cfg.File)
}

// actor names a role of a process in states and reasons.
func actor(role, name string) string { return role + "@" + name }

// processName is receiver-name, or the host name of the first start, which the data folder keeps: files and ports of
// running jobs are known by it, so that it must survive a container that comes back under another name.
func processName(cfg *config.Config) (string, error) {
	if cfg.Global.Receiver.Name != "" {
		return cfg.Global.Receiver.Name, nil
	}
	path := filepath.Join(cfg.Global.Datadir, "name")
	if b, err := os.ReadFile(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the name of this process: %w", err)
	} else if kept := strings.TrimSpace(string(b)); kept != "" {
		return kept, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "drydock"
	}
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the name of this process: %w", err)
	}
	return name, nil
}
