package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
)

const (
	pingTime = 5 * time.Second
	// pingAge is how old the news of a job may be to be worth a ping.
	pingAge = time.Hour
	// pingPause is how long a cluster whose ping failed is left alone.
	pingPause = 30 * time.Second
)

// pinger calls URLs of dead-man's switches.
type pinger struct {
	client *http.Client

	mu   sync.Mutex
	rest map[string]time.Time // by cluster, until when it is left alone
}

// resting reports whether the cluster is left alone at t.
func (p *pinger) resting(cluster string, t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.Before(p.rest[cluster])
}

func (p *pinger) leave(cluster string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest[cluster] = until
}

func newPinger() *pinger {
	return &pinger{client: &http.Client{Timeout: pingTime, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
	}}, rest: map[string]time.Time{}}
}

// ping calls a URL. Its error holds nothing of it.
func (p *pinger) ping(ctx context.Context, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return errors.New("it is no URL of a web server")
	}
	res, err := p.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return errors.New(newRedactor(target).clean(err.Error()))
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 1<<10) // what it says does not matter
	if res.StatusCode >= 300 {
		return fmt.Errorf("answered %d", res.StatusCode)
	}
	return nil
}

// runPings pings for jobs until ctx ends. All notifiers share the work. Each cluster has its own lane: a web server that
// does not answer holds up no other.
func (n *Notifier) runPings(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-n.view.Ready():
	}
	_ = bus.WorkInLanes(ctx, n.conn, bus.StreamJobs, bus.DurablePings, bus.AllJobs, bus.Lanes[bus.JobEvent]{Of: n.pingLane}, n.pingJob) // always nil
}

// pingLane is the cluster whose switch a change of a job is for, empty for none.
func (n *Notifier) pingLane(ev bus.JobEvent) string {
	if _, worth := n.pingSuffix(ev, true); !worth || n.setup.Load().pings[ev.Job.Cluster] == "" {
		return ""
	}
	return ev.Job.Cluster
}

// errResting brings a ping back later.
var errResting = errors.New("the pings of this cluster failed a moment ago")

// pingJob pings for one change of a job, if it is worth one. An error brings it back.
func (n *Notifier) pingJob(ctx context.Context, m bus.Meta, ev bus.JobEvent) error {
	pattern := n.setup.Load().pings[ev.Job.Cluster]
	suffix, ok := n.pingSuffix(ev, strings.Contains(pattern, "{server}"))
	if pattern == "" || !ok || n.now().Sub(m.Time) > pingAge || n.overtaken(ev) {
		return nil
	}
	if n.pinger.resting(ev.Job.Cluster, n.now()) {
		return errResting
	}
	if err := n.pinger.ping(ctx, pingURL(pattern, suffix, ev.Job)); err != nil {
		n.pinger.leave(ev.Job.Cluster, n.now().Add(pingPause))
		return fmt.Errorf("ping for %s of cluster %s: %w", ev.Job.Task, ev.Job.Cluster, err)
	}
	return nil
}

// overtaken reports whether a ping that comes late would hide a newer one: the job began, and has ended by now, or a later
// run of the slot, or a later attempt, has ended.
func (n *Notifier) overtaken(ev bus.JobEvent) bool {
	last, known := n.view.Get(ev.Job.Key())
	if !known || last.State.Live() {
		return false
	}
	if last.Run() == ev.Job.Run() {
		return ev.Event == job.Start
	}
	return last.ID == ev.Job.ID && last.Attempt > ev.Job.Attempt || last.Created.After(ev.Job.Created)
}

// pingSuffix is what stands behind the path; false when the change is worth no ping. Where all servers of a task share a
// URL, a success of one does not hide that another failed.
func (n *Notifier) pingSuffix(ev bus.JobEvent, perServer bool) (suffix string, ok bool) {
	switch {
	case ev.Event == job.Note:
		return "", false
	case ev.Event == job.Start:
		return "/start", true
	case ev.State == job.Halted, ev.State == job.Failed, ev.State == job.Expired:
		return "/fail", true
	case ev.State != job.Success:
		return "", false
	}
	if perServer {
		return "", true
	}
	failed := n.view.Select(func(j job.Job) bool {
		return j.Cluster == ev.Job.Cluster && j.Task == ev.Job.Task && j.Key() != ev.Job.Key() &&
			(j.State == job.Halted || j.State == job.Failed || j.State == job.Expired)
	})
	return "", len(failed) == 0
}

// pingURL fills the placeholders in and puts the suffix behind the path, before a query.
func pingURL(pattern, suffix string, j job.Job) string {
	server := strings.NewReplacer(":", "-", "[", "", "]", "").Replace(j.Server.String())
	if j.Server.Host == "" {
		server = "cluster"
	}
	out := strings.NewReplacer("{cluster}", url.PathEscape(j.Cluster), "{task}", url.PathEscape(j.Task), "{server}", url.PathEscape(server)).Replace(pattern)
	path, query, found := strings.Cut(out, "?")
	out = strings.TrimSuffix(path, "/") + suffix
	if found {
		out += "?" + query
	}
	return out
}

// beat pings alert-heartbeat-url as long as a scheduler answers.
func (n *Notifier) beat(ctx context.Context) {
	tick := time.NewTicker(n.cfg.HeartbeatEvery)
	defer tick.Stop()
	for {
		if err := n.beatOnce(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("ping alert-heartbeat-url", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Notifier) beatOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*pingTime)
	defer cancel()
	if _, err := bus.Request[bus.NextReply](ctx, n.conn, bus.SubjectNext, struct{}{}); err != nil {
		return fmt.Errorf("not pinged, because no scheduler answers: %w", err)
	}
	return n.pinger.ping(ctx, n.cfg.HeartbeatURL)
}
