package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// Config is what the page must know of the configuration.
type Config struct {
	Version  string
	Clusters []Cluster // as configured
	Log      *slog.Logger
	// Check looks at everything that `drydock check` looks at; nil when this process cannot.
	Check func(context.Context) []CheckItem
	// MaxAge is backup-max-age of a cluster as it is now, 0 when there is no limit; nil when nobody knows.
	MaxAge func(cluster string) time.Duration
}

// Cluster is a cluster and its servers.
type Cluster struct {
	Name    string
	Mode    job.Mode
	Servers []job.Server
	Refuse  map[string]string // by task, why the configuration makes it impossible
}

// CheckItem is one line of `drydock check`.
type CheckItem struct {
	Status, Name, Detail, Hint string // Status is OK, WARN or FAIL
}

// Deps are what the page works on. All are required; the caller runs the view.
type Deps struct {
	Conn    *bus.Conn
	Jobs    *store.Jobs
	Ledger  *store.Ledger
	View    *store.View
	Catalog *store.Catalog
	Docs    *store.Docs
	Control *store.Control
	// Verdicts is what a prune would do now with the backups of a cluster, by id; pending while more may come. [Web.Judged] is
	// called then.
	Verdicts func(ctx context.Context, cluster string) (said map[string]Verdict, pending bool)
	// Verify says who a token stands for.
	Verify func(token string) (auth.Principal, error)
	// Changed is closed when what users may do has changed: streams look again then.
	Changed func() <-chan struct{}
	// API serves the REST routes. Actions of a page go through it.
	API http.Handler
	// Grant is the grant that a task asks for, so that a page offers no button that would be refused.
	Grant func(job.Task) string
}

// Web serves the page. [New] makes it, [Web.Run] keeps its picture and ends its streams.
type Web struct {
	Deps
	cfg      Config
	log      *slog.Logger
	known    map[string]Cluster
	mux      *router
	pages    map[string]*page
	assets   assets
	layout   *template.Template
	model    *model
	hub      *hub
	tails    *tails
	forged   *http.CrossOriginProtection
	streams  streams
	calendar calendar
	checks   *checks
	pulses   *pulses

	wanted   chan struct{} // closed when somebody looks at the page for the first time
	want     sync.Once
	stopping <-chan struct{} // closed when the gateway stops; streams end then
}

// New makes the page. stopping is closed by the caller when streams are to end. Errors are those of a template or asset
// that is not as it should be: a test finds them.
func New(cfg Config, deps Deps, stopping <-chan struct{}) (*Web, error) {
	w := &Web{
		Deps: deps, cfg: cfg, log: cfg.Log, known: map[string]Cluster{}, pages: map[string]*page{}, hub: newHub(),
		forged: http.NewCrossOriginProtection(), wanted: make(chan struct{}), stopping: stopping,
	}
	for _, c := range cfg.Clusters {
		w.known[c.Name] = c
	}
	w.model = newModel(w.hub)
	w.checks = newChecks()
	w.pulses = newPulses(cfg.Clusters)
	w.tails = newTails(deps.Conn, cfg.Log)
	var err error
	if w.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if w.layout, err = w.loadLayout(); err != nil {
		return nil, err
	}
	w.mux = &router{ServeMux: http.NewServeMux()}
	if err := w.routes(); err != nil {
		return nil, err
	}
	deps.View.OnChange(func(ev bus.JobEvent) { w.hub.tell(change{topic: topicJobs, key: ev.Job.Key()}) })
	return w, nil
}

// Judged has the open pages of backups look at the verdicts again.
func (w *Web) Judged() { w.hub.tell(change{topic: topicBackups}) }

// Serves reports whether the request is for the page; any other is the API's.
func (w *Web) Serves(r *http.Request) bool {
	_, pattern := w.mux.Handler(r)
	return pattern != ""
}

func (w *Web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		w.log.Error("page panicked", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		http.Error(out, "internal error; the log says more", http.StatusInternalServerError)
	}()
	header(out)
	w.mux.ServeHTTP(out, r)
}

// policy lets nothing run and nothing load but what this server serves as a file.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func header(out http.ResponseWriter) {
	h := out.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// Run keeps the picture of the last 30 days up to date until ctx ends. It reads nothing before somebody looks at the page.
func (w *Web) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.wanted:
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, f := range map[string]func(context.Context) error{
		"jobs": w.followJobs, "ticks": w.followTicks, "control": w.followControl, "alerts": w.followAlerts, "backups": w.followBackups,
		"progress": w.followProgress, "facts": w.followFacts, "tails": w.tails.run, "checks": w.runChecks,
	} {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				w.log.Error("the page no longer follows the bus", "what", name, "err", err)
			}
		})
	}
	return nil
}
