package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/gateway/metrics"
	"drydock/gateway/web"
	"drydock/restore"
	"drydock/scripts"
	"drydock/store"
)

// Gateway serves the API. [New] binds, [Gateway.Run] works.
type Gateway struct {
	Deps
	cfg      Config
	log      *slog.Logger
	auth     *auth.Auth
	clusters map[string]*cluster
	order    []*cluster // as configured
	control  *store.Control
	desk     *restore.Desk
	readings *metrics.Reader
	people   *store.Users
	users    *store.UserView // run by Run
	audits   *store.Audits
	verdicts *verdicts
	logins   *store.Logins
	engine   *gin.Engine
	verbs    map[string]string // in the audit, by method and route
	tries    *limiter
	guests   *crowd
	follows  chan struct{} // a token per stream of events
	omitted  omitted
	sum      string // SHA-256 of the script, hex
	answerBy time.Duration

	servers []*http.Server // one per listener, same order
	listen  []net.Listener // clear (if any), then TLS
	logs    *bus.Batcher
	signs   signs
	checks  flights // of scripts from database hosts
	sends   flights // of scripts to database hosts
	work    background
	page    *web.Web

	serving  chan struct{} // closed by Run when calls are answered
	stopping chan struct{} // closed by Run when intake ends; event streams listen to it
}

// New checks the configuration, gets the key that signs tokens from the bus, and binds both listeners, so that ":0" has
// an address before [Gateway.Run]. A gateway that is never run must be closed. Errors: [ErrConfig], what the bus or the
// listeners said.
func New(cfg Config, deps Deps) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Deps: deps, cfg: cfg, log: cfg.Log, clusters: map[string]*cluster{}, sum: scripts.Checksum(cfg.Script),
		logs: bus.NewBatcher(deps.Conn, bus.StreamLogs), serving: make(chan struct{}), stopping: make(chan struct{}), answerBy: shellLeaves,
		control: store.NewControl(deps.Conn), desk: restore.NewDesk(deps.Conn, cfg.Name),
		users: store.NewUserView(deps.Conn), audits: store.NewAudits(deps.Conn, cfg.Name), logins: store.NewLogins(deps.Conn), verbs: map[string]string{}, tries: newLimiter(time.Now),
		follows: make(chan struct{}, followsMax),
	}
	g.verdicts = newVerdicts(deps.Conn, g.work.run, func() { g.page.Judged() })
	g.people = store.NewUsers(deps.Conn, g.users)
	g.readings = metrics.NewReader(metricsConfig(cfg), deps.Conn, deps.View, deps.Catalog)
	override := map[string]map[string][]string{}
	for _, c := range cfg.Clusters {
		ready, err := c.ready()
		if err != nil {
			return nil, err
		}
		if g.clusters[c.Name] != nil {
			return nil, fmt.Errorf("%w: cluster %s stands twice", ErrConfig, c.Name)
		}
		g.clusters[c.Name], g.order, override[c.Name] = ready, append(g.order, ready), c.Grants
	}
	if g.auth, err = newAuth(cfg, override, g.users, deps.Conn); err != nil {
		return nil, err
	}
	if cfg.OpenConfig {
		cfg.Log.Warn("api-credentials-secure-config is false: everybody may fetch the archives for database containers, which hold no password then")
	}
	if err := g.bind(); err != nil {
		return nil, err
	}
	return g, nil
}

// keyTimeout bounds each wait for the bus in [New].
const keyTimeout = 10 * time.Second

func newAuth(cfg Config, override map[string]map[string][]string, users auth.Directory, conn *bus.Conn) (*auth.Auth, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	key, err := store.SigningKey(ctx, conn)
	if err != nil {
		return nil, err
	}
	secrets, first := map[string]string{}, map[string]string{}
	for _, c := range cfg.Clusters {
		secrets[c.Name] = c.Password
		if first[c.Name], err = firstSecret(conn, c.Name, auth.SecretDigest(key, c.Name, c.Password)); err != nil {
			return nil, err
		}
	}
	a, err := auth.New(key, auth.Config{
		Users: cfg.Users, Grants: cfg.Grants, ClusterGrants: override, Lifetime: cfg.TokenLifetime, Directory: users, Secrets: secrets, First: first,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return a, nil
}

// firstSecret looks up a cluster's first password. Each has its own time: a fleet of many clusters may take longer together, and a
// bus that does not answer is an error at the first of them.
func firstSecret(conn *bus.Conn, cluster, digest string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	first, err := store.FirstSecret(ctx, conn, cluster, digest)
	if err != nil {
		return "", fmt.Errorf("look up the password that cluster %s had at first: %w", cluster, err)
	}
	return first, nil
}

// bind makes a server for each listener, and opens those that no porch has opened.
func (g *Gateway) bind() error {
	handler, err := g.handler()
	if err != nil {
		return err
	}
	doors := g.cfg.Porch
	if doors == nil {
		if doors, err = openDoors(g.cfg); err != nil {
			return err
		}
	}
	g.listen, g.guests = doors.listen, newCrowd(g.cfg.MaxConnections, g.log)
	for i := range doors.listen {
		g.servers = append(g.servers, newServer(handler, doors.secure[i], g.guests, g.log))
	}
	return nil
}

// HTTPAddr is where the API is served in clear, nil when it is not.
func (g *Gateway) HTTPAddr() net.Addr {
	if g.cfg.HTTPPort < 0 {
		return nil
	}
	return g.listen[0].Addr()
}

// APIAddr is where the API is served over TLS.
func (g *Gateway) APIAddr() net.Addr { return g.listen[len(g.listen)-1].Addr() }

// Close closes the listeners of a gateway that is not run. [Gateway.Run] does it by itself.
func (g *Gateway) Close() {
	for _, l := range g.listen {
		l.Close()
	}
}

// stopTimeout is what calls in flight get when the gateway stops.
const stopTimeout = 10 * time.Second

// Serving is closed when [Gateway.Run] answers calls.
func (g *Gateway) Serving() <-chan struct{} { return g.serving }

// Run serves until ctx ends (nil) or a listener fails. It stops in order: no new calls, calls in flight to their end,
// then what runs in the background, then the log writer, on which calls wait.
func (g *Gateway) Run(ctx context.Context) error {
	var writer, serving, paging sync.WaitGroup
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer writer.Wait()
	defer stopWriting()
	writer.Go(func() { _ = g.logs.Run(writing) })  // ends with its context only
	writer.Go(func() { _ = g.users.Run(writing) }) // as well: calls to their end know who is revoked
	writer.Go(func() { _ = g.readings.Run(writing) })

	showing, stopShowing := context.WithCancel(ctx) // also when a listener fails
	defer paging.Wait()
	defer stopShowing()
	paging.Go(func() { _ = g.page.Run(showing) }) // ends with its context only

	defer g.work.stop()
	g.work.start(context.WithoutCancel(ctx))

	if g.cfg.Porch != nil {
		g.cfg.Porch.leave()
	}
	failed := make(chan error, len(g.servers)) // each server sends once at most
	for i, s := range g.servers {
		serving.Go(func() {
			if err := serve(s, g.listen[i]); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", g.listen[i].Addr(), err)
			}
		})
	}
	close(g.serving)
	g.log.Info("gateway serves", "addr", g.APIAddr(), "clear", fmt.Sprint(g.HTTPAddr()))

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	close(g.stopping)
	err = errors.Join(err, g.shutdown(context.WithoutCancel(ctx)))
	serving.Wait()
	return err
}

func (g *Gateway) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	errs := make([]error, len(g.servers))
	var wg sync.WaitGroup
	for i, s := range g.servers {
		wg.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("wait for calls in flight: %w", errors.Join(err, s.Close()))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
