package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// healthPage is whether drydock itself is well.
type healthPage struct {
	Checks    []CheckItem
	Checked   time.Time
	Checking  bool
	Can       bool // this process can check
	Worst     string
	Streams   []streamRow
	BusErr    string
	Receivers []serviceRow
	Schedules []serviceRow
	Scripts   []scriptRow
	Unknown   int // hosts whose script is not known
	Version   string
}

// streamRow is a stream of the bus.
type streamRow struct {
	Name     string
	Messages uint64
	Bytes    int64
	Max      int64 // -1: without limit
	Tenths   int   // of a percent that is full
	First    time.Time
	Last     time.Time
	Err      string
}

// serviceRow is a process that answers on the bus.
type serviceRow struct {
	Name, Version, Address, Ports, ID string
	Free                              string // how many of the ports are, of a receiver
	None                              bool   // none of them is
}

// scriptRow is a version of the script and where it is.
type scriptRow struct {
	Version, Sum string
	Hosts        int
	First        []string
	Upgrading    int
}

// checks is the last look of `drydock check`, which asks every database server: it is done when somebody wants it.
type checks struct {
	ask chan struct{} // the page sends and never waits

	mu      sync.Mutex
	items   []CheckItem
	at      time.Time
	running bool
}

func newChecks() *checks { return &checks{ask: make(chan struct{}, 1)} }

// checkStale is how old a look may be before opening the page takes another one.
const checkStale = 10 * time.Minute

// checkTimeout bounds a look.
const checkTimeout = 3 * time.Minute

// want asks for a look unless there is one that is new enough; age 0 asks for one in any case.
func (c *checks) want(age time.Duration) {
	c.mu.Lock()
	fresh := age > 0 && time.Since(c.at) < age
	c.mu.Unlock()
	if fresh {
		return
	}
	select {
	case c.ask <- struct{}{}:
	default:
	}
}

func (w *Web) runChecks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.checks.ask:
		}
		w.checks.begin(true)
		w.hub.tell(change{topic: topicChecks})
		look, cancel := context.WithTimeout(ctx, checkTimeout)
		items := w.cfg.Check(look)
		cancel()
		w.checks.mu.Lock()
		w.checks.items, w.checks.at, w.checks.running = items, time.Now(), false
		w.checks.mu.Unlock()
		w.hub.tell(change{topic: topicChecks})
	}
}

func (c *checks) begin(running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = running
}

func (w *Web) health(v *visit) (any, error) {
	if err := w.maySeeHealth(v); err != nil {
		return nil, err
	}
	p := healthPage{Version: w.cfg.Version, Can: w.cfg.Check != nil, Worst: "OK"}
	if p.Can {
		w.checks.want(checkStale)
		w.checks.mu.Lock()
		p.Checked, p.Checking = w.checks.at, w.checks.running || w.checks.at.IsZero()
		p.Checks = slices.DeleteFunc(slices.Clone(w.checks.items), func(it CheckItem) bool { return w.hides(v, it) })
		w.checks.mu.Unlock()
	}
	order := map[string]int{"FAIL": 0, "WARN": 1, "OK": 2}
	slices.SortStableFunc(p.Checks, func(a, b CheckItem) int { return order[a.Status] - order[b.Status] })
	if len(p.Checks) > 0 {
		p.Worst = p.Checks[0].Status
	}
	p.Streams = w.streamRows(v.Context())
	for _, s := range w.services(v.Context()) {
		if s.Name == bus.ReceiverService {
			p.Receivers = append(p.Receivers, rowOfService(s))
		} else {
			p.Schedules = append(p.Schedules, rowOfService(s))
		}
	}
	w.freePorts(v.Context(), p.Receivers)
	var err error
	p.Scripts, p.Unknown, err = w.scriptRows(v)
	return p, err
}

// maySeeHealth lets in who may see some cluster.
func (w *Web) maySeeHealth(v *visit) error {
	if len(w.readable(v)) == 0 {
		return &problem{http.StatusForbidden, "a grant on some cluster is needed"}
	}
	return nil
}

// hides tells the items of clusters that the visitor may not see: their names begin with the cluster's. What is to be said of
// the configuration may be about any of them.
func (w *Web) hides(v *visit, it CheckItem) bool {
	if it.Name == "configuration" {
		return len(w.readable(v)) < len(w.cfg.Clusters)
	}
	cluster, _, ok := strings.Cut(it.Name, ": ")
	_, known := w.known[cluster]
	return ok && known && !v.who.MayRead(cluster)
}

func (w *Web) checkNow(v *visit) error {
	if err := w.maySeeHealth(v); err != nil {
		return err
	}
	if w.cfg.Check == nil {
		return v.after("/health", note{true, "this process cannot check"})
	}
	w.checks.want(0)
	return v.after("/health", note{Text: "the check is asked for"})
}

func (w *Web) streamRows(ctx context.Context) (out []streamRow) {
	for _, name := range []string{bus.StreamTasks, bus.StreamJobs, bus.StreamLogs, bus.StreamAlerts, bus.StreamNotifications, bus.StreamAudit, bus.StreamDeadletters} {
		row := streamRow{Name: name}
		s, err := w.Conn.JS.Stream(ctx, name)
		if err != nil {
			row.Err = err.Error()
			out = append(out, row)
			continue
		}
		info := s.CachedInfo()
		row.Messages, row.Bytes, row.Max = info.State.Msgs, int64(info.State.Bytes), info.Config.MaxBytes
		row.First, row.Last = info.State.FirstTime, info.State.LastTime
		if row.Messages == 0 {
			row.First, row.Last = time.Time{}, time.Time{}
		}
		if row.Max > 0 {
			row.Tenths = int(1000 * row.Bytes / row.Max)
		}
		out = append(out, row)
	}
	return out
}

const serviceWait = 300 * time.Millisecond

// services are the processes that answer: receivers and schedulers. Who does not within a moment is not there.
func (w *Web) services(ctx context.Context) (out []micro.Info) {
	subject, err := micro.ControlSubject(micro.InfoVerb, "", "")
	if err != nil {
		return nil
	}
	inbox := w.Conn.NC.NewRespInbox()
	sub, err := w.Conn.NC.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.Conn.NC.PublishRequest(subject, inbox, nil); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, serviceWait)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var info micro.Info
		if json.Unmarshal(m.Data, &info) == nil && (info.Name == bus.ReceiverService || info.Name == bus.SchedulerService) {
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b micro.Info) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out
}

func rowOfService(s micro.Info) serviceRow {
	r := serviceRow{Name: s.Metadata["receiver"], Version: s.Metadata["version"], Address: s.Metadata["address"], Ports: s.Metadata["ports"], ID: s.ID}
	if r.Name == "" {
		r.Name = s.Metadata["actor"]
	}
	return r
}

// portsWait is how long receivers may take to say how many ports are free, all at the same time.
const portsWait = time.Second

// freePorts asks each receiver for its free ports.
func (w *Web) freePorts(ctx context.Context, rows []serviceRow) {
	ctx, cancel := context.WithTimeout(ctx, portsWait)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range rows {
		r := &rows[i]
		wg.Go(func() {
			p, err := bus.Request[bus.PortsReply](ctx, w.Conn, bus.ReceiverSubject(r.Name, bus.VerbPorts), struct{}{})
			switch {
			case err != nil:
				r.Free = "does not say"
			case p.Total == 0:
				r.Free = fmt.Sprintf("any free one, %d in use", p.InUse)
			default:
				r.Free, r.None = fmt.Sprintf("%d of %d", p.Total-p.InUse, p.Total), p.InUse >= p.Total
			}
		})
	}
}

// scriptRows groups the database hosts by the script that they have.
func (w *Web) scriptRows(v *visit) (out []scriptRow, unknown int, err error) {
	docs, err := w.Docs.Scripts(v.Context())
	if err != nil {
		return nil, 0, fmt.Errorf("read the scripts: %w", err)
	}
	rows := map[string]*scriptRow{}
	for _, c := range w.readable(v) {
		for _, s := range c.Servers {
			doc, ok := docs[bus.StateKey(c.Name, s.Host, s.Port, store.DocScript)]
			if !ok || doc.SHA256 == "" {
				unknown++
				continue
			}
			r := rows[doc.SHA256]
			if r == nil {
				r = &scriptRow{Version: doc.Version, Sum: doc.SHA256[:min(12, len(doc.SHA256))]}
				rows[doc.SHA256] = r
			}
			r.add(s, doc.Upgrade)
		}
	}
	for _, r := range rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b scriptRow) int { return b.Hosts - a.Hosts })
	return out, unknown, nil
}

// scriptsNamed is how many hosts of a version have a name on the page.
const scriptsNamed = 5

func (r *scriptRow) add(s job.Server, upgrading bool) {
	if r.Hosts++; r.Hosts <= scriptsNamed {
		r.First = append(r.First, s.Addr())
	}
	if upgrading {
		r.Upgrading++
	}
}
