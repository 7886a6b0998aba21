package proving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/drill"
	"drydock/receiver/duty"
	"drydock/store"
)

const taskDrill = "backupdrill"

// Config is what a [Worker] works from.
type Config struct {
	Name     string // of this receiver, as manifests have it
	Log      *slog.Logger
	Clusters []Cluster
	Trusted  []store.PublicKey // that manifests are signed with
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Name       string
	Scratch    string         // backup-drill-scratch
	Memory     int64          // backup-drill-memory, bytes
	Identities []age.Identity // backup-encrypt-identity
	Compare    bool           // backup-drill-compare
}

// Worker does the drills and the verifications of a receiver, one of each at a time. Make one with [New].
type Worker struct {
	name     string
	log      *slog.Logger
	clusters map[string]Cluster
	trusted  []store.PublicKey
	catalog  *store.Catalog
	trades   map[string]trade // by task

	mu     sync.Mutex
	failed map[turnOf]time.Time // when the last try was that could not be done; none is older than [failedKept]
}

// turnOf is what a backup's turn is for.
type turnOf struct{ task, backup string }

// trade is one of the tasks: which backup has its turn, and what is done with it.
type trade struct {
	what   string                                  // for people
	choose func([]store.Manifest) []store.Manifest // of those of a cluster, newest first; the first is to be first
	do     func(context.Context, *duty.Work, Cluster, store.Manifest) (duty.Result, error)
	turn   chan struct{} // holds one element while one runs: two would want the memory and the disk of two
}

// New makes the worker of the receiver cfg.Name.
func New(cfg Config, catalog *store.Catalog) *Worker {
	w := &Worker{name: cfg.Name, log: cfg.Log, clusters: map[string]Cluster{}, trusted: cfg.Trusted, catalog: catalog, failed: map[turnOf]time.Time{}}
	w.trades = map[string]trade{
		taskDrill:  {"drill", choose, w.drill, make(chan struct{}, 1)},
		taskVerify: {"verify", func(list []store.Manifest) []store.Manifest { return oldestLook(list, w.trusted) }, w.verify, make(chan struct{}, 1)},
	}
	for _, c := range cfg.Clusters {
		w.clusters[c.Name] = c
	}
	return w
}

const (
	// patience is how long a receiver waits for one that holds what is rather to be drilled; for two, twice as long.
	patience = time.Minute
	// tries is how many backups one job turns to after another when the work cannot be done.
	tries = 3
	// failedKept is how long it is remembered that something could not be done with a backup: longer than from one night to the next.
	failedKept = 7 * 24 * time.Hour
)

// Tasks implements [duty.Worker].
func (w *Worker) Tasks() []string { return slices.Sorted(maps.Keys(w.trades)) }

// Begin implements [duty.Beginner]: what a killed drydock left in the scratch folders may be a backup in clear.
func (w *Worker) Begin(context.Context) {
	swept := map[string]bool{}
	for _, c := range w.clusters {
		if swept[c.Scratch] {
			continue
		}
		swept[c.Scratch] = true
		if err := drill.Sweep(c.Scratch); err != nil {
			w.log.Warn("remove what a drill left", "folder", c.Scratch, "err", err)
		}
	}
}

// Plan implements [duty.Worker].
func (w *Worker) Plan(ctx context.Context, j job.Job) (duty.Deed, error) {
	t := w.trades[j.Task]
	list, err := w.meant(ctx, t, j)
	var unknown *unknownError
	if errors.As(err, &unknown) {
		return func(context.Context, *duty.Work) (duty.Result, error) { return duty.Result{}, err }, nil
	}
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, duty.Nothing("there is no backup to " + t.what + ": none is in the catalogue but those that were found bad")
	}
	n, ok := rank(list, w.name)
	if !ok || time.Since(waitsSince(j)) < time.Duration(n)*patience {
		return nil, nil
	}
	list = presentFirst(w.untriedFirst(j.Task, slices.DeleteFunc(list, func(m store.Manifest) bool { return m.Receiver != w.name })))
	c := w.clusters[j.Cluster]
	return func(ctx context.Context, d *duty.Work) (duty.Result, error) { return w.prove(ctx, t, d, c, list) }, nil
}

// presentFirst puts the backups last of whose files this disk has none: somebody deleted them by hand, and nothing that is done with
// them is ever recorded, so they would have every turn.
func presentFirst(list []store.Manifest) []store.Manifest {
	gone := func(m store.Manifest) int {
		for _, path := range []string{m.Path, m.Path + manifestSuffix} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				return 0
			}
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b store.Manifest) int { return gone(a) - gone(b) })
	return list
}

// untriedFirst puts the backups last with which it could not be done: some whose tool is not here, or that do not fit on the disk, would
// have every turn. It says nothing about them, so it is in no record.
func (w *Worker) untriedFirst(task string, list []store.Manifest) []store.Manifest {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(list, func(a, b store.Manifest) int {
		return w.failed[turnOf{task, a.ID}].Compare(w.failed[turnOf{task, b.ID}])
	})
	return list
}

// tried remembers whether it could be done with a backup.
func (w *Worker) tried(task string, m store.Manifest, now time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.failed, func(_ turnOf, at time.Time) bool { return now.Sub(at) > failedKept })
	delete(w.failed, turnOf{task, m.ID})
	if err != nil {
		w.failed[turnOf{task, m.ID}] = now
	}
}

// waitsSince is since when a receiver might have taken the job.
func waitsSince(j job.Job) time.Time {
	if j.Ready.After(j.Since) {
		return j.Ready
	}
	return j.Since
}

// unknownError says that a job asks for what is not there.
type unknownError struct{ what string }

func (e *unknownError) Error() string { return e.what }

// meant lists the backups that the job may be about, the first first. Errors: [unknownError].
func (w *Worker) meant(ctx context.Context, t trade, j job.Job) ([]store.Manifest, error) {
	var server job.Server
	if text := j.Args[job.ArgServer]; text != "" {
		var err error
		if server, err = job.ParseServer(text); err != nil {
			return nil, &unknownError{err.Error()}
		}
	}
	list, err := w.catalog.List(ctx, j.Cluster, server)
	if err != nil {
		return nil, err
	}
	id := j.Args[job.ArgBackup]
	if id == "" {
		return t.choose(list), nil
	}
	for _, m := range list {
		if m.ID == id {
			return []store.Manifest{m}, nil
		}
	}
	return nil, &unknownError{fmt.Sprintf("the catalogue has no backup %s of cluster %s", id, j.Cluster)}
}

// prove does the first backup of the list that it can be done with.
func (w *Worker) prove(ctx context.Context, t trade, d *duty.Work, c Cluster, list []store.Manifest) (duty.Result, error) {
	select {
	case t.turn <- struct{}{}:
	default:
		d.Note("waits for another " + d.Job().Task + " on this machine")
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return duty.Result{}, ctx.Err()
		}
	}
	defer func() { <-t.turn }()
	var errs []error
	for _, m := range list[:min(len(list), tries)] {
		result, err := t.do(ctx, d, c, m)
		if err != nil && ctx.Err() != nil {
			return duty.Result{}, ctx.Err()
		}
		w.tried(d.Job().Task, m, time.Now(), err)
		if err == nil {
			return result, errors.Join(errs...)
		}
		err = fmt.Errorf("%s %s: %w", t.what, name(m), err)
		d.Say(err.Error())
		errs = append(errs, err)
	}
	return duty.Result{Tool: t.what}, errors.Join(errs...)
}

func name(m store.Manifest) string {
	return fmt.Sprintf("backup %s (%s of %s)", m.ID, m.Task, m.Server)
}

// drill drills one backup and records what was found.
func (w *Worker) drill(ctx context.Context, d *duty.Work, c Cluster, m store.Manifest) (duty.Result, error) {
	good, path, err := Signed(m, w.trusted)
	if err != nil {
		return duty.Result{}, err
	}
	found, err := Drill(ctx, good, path, Options{
		Scratch: c.Scratch, Memory: c.Memory, Identities: c.Identities, Compare: c.Compare, By: by(d.Job()),
		Step: func(what string) {
			d.Say(name(m) + ": " + what)
			d.Note(name(m) + ": " + what)
		},
		Line: func(text string) { d.Say(text[:min(len(text), maxLine)]) },
	})
	if err != nil {
		return duty.Result{}, err
	}
	if err := w.record(ctx, func(ctx context.Context) error { return w.catalog.AddDrill(ctx, m, found) }); err != nil {
		return duty.Result{}, err
	}
	result := duty.Result{Tool: "drill", Text: fmt.Sprintf("%s restores: %d tables, %d rows, in %.0f s and %.0f s for the check",
		name(m), found.Tables, found.Rows, found.Restore, found.Check)}
	if found.Compared > 0 {
		result.Text += fmt.Sprintf("; all %d tables are there that the server had before and after it", found.Compared)
	} else {
		result.Text += "; not compared with what the server held"
	}
	if said := found.Skipped.String(); said != "" {
		result.Text += "; " + said
	}
	if found.Problem != "" {
		result.Text = ""
		result.Finding = name(m) + ": " + found.Problem
	}
	return result, nil
}

// maxLine is how many bytes of a tool's line go into the log: it may hold a row of a table.
const maxLine = 300

func by(j job.Job) string {
	if j.Trigger.By != "" {
		return j.Trigger.By
	}
	return strings.TrimSpace("schedule " + j.ID)
}

// record is made also when the job is being ended: the work was done.
func (w *Worker) record(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := write(ctx); err != nil {
		return fmt.Errorf("record what was found: %w", err)
	}
	return nil
}
