package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/job"
	"drydock/store"
)

// merged puts the lists of several clusters together.
func merged[T any](names []string, list func(string) ([]T, error), newer func(a, b T) int) ([]T, error) {
	out := []T{}
	for _, name := range names {
		some, err := list(name)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	if len(names) > 1 {
		slices.SortStableFunc(out, newer)
	}
	return out, nil
}

// started is one job of a run by hand.
type started struct {
	ID      string     `json:"id"`
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
}

// notStarted is a server of a run by hand whose slot is taken.
type notStarted struct {
	Server job.Server `json:"server"`
	Reason string     `json:"reason"`
}

// runAnswer is what both run routes answer with 202. The jobs come into being a moment later, when a scheduler takes the
// tick up; their ids are certain now.
type runAnswer struct {
	Tick    string       `json:"tick"`
	Jobs    []started    `json:"jobs"`
	Skipped []notStarted `json:"skipped,omitempty"`
}

func (g *Gateway) runOnServer(c *gin.Context) {
	cl, task, ok := g.runnable(c)
	if !ok {
		return
	}
	if !task.OneServer() {
		g.fail(c, errBadRequest.withMessage("%s works on the whole cluster: POST /api/clusters/%s/jobs/%s", task.Name, cl.Name, task.Name))
		return
	}
	i, known := cl.find(c.Param("host"), c.Param("port"))
	if !known {
		g.fail(c, errServer)
		return
	}
	slots, args := task.Slots([]job.Server{cl.Servers[i]}, true)
	g.run(c, cl, task, slots, "", args)
}

func (g *Gateway) runOnCluster(c *gin.Context) {
	cl, task, ok := g.runnable(c)
	if !ok {
		return
	}
	if !task.Logical() {
		g.run(c, cl, task, cl.targets(task), "", nil)
		return
	}
	from, why, err := g.Docs.Source(c.Request.Context(), cl.Name, store.Sources{Servers: cl.Servers, Preferred: cl.Preferred, MaxLag: cl.MaxLag})
	switch {
	case errors.Is(err, store.ErrNoSource):
		g.fail(c, errConflict.withMessage("%v", err))
	case err != nil:
		g.fail(c, err)
	default:
		g.run(c, cl, task, []job.Server{from}, why, nil)
	}
}

// runnable finds the cluster and task of a run, checks the grant, and answers by itself when something is missing.
func (g *Gateway) runnable(c *gin.Context) (*cluster, job.Task, bool) {
	if !g.mayRead(c, c.Param("cluster")) {
		return nil, job.Task{}, false
	}
	k := callOf(c)
	task, err := job.TaskByName(c.Param("task"))
	switch {
	case err != nil:
		g.fail(c, err)
	case !k.who.May(k.cluster.Name, "", grantOf(task)):
		g.fail(c, errForbidden.withMessage("the grant %s is missing", grantOf(task)))
	case task.Ordered():
		g.fail(c, errConflict.withMessage("task %s replaces data: ask for it with POST .../actions/reseed or .../actions/flashback", task.Name))
	case !task.Built:
		g.fail(c, errNotBuilt.withMessage("task %s is not built yet", task.Name))
	case k.cluster.Refuse[task.Name] != "":
		g.fail(c, errConflict.withMessage("%s", k.cluster.Refuse[task.Name]))
	default:
		return k.cluster, task, true
	}
	return nil, job.Task{}, false
}

// grantOf is the grant that starting and cancelling a task asks for.
func grantOf(t job.Task) string {
	switch t.Kind {
	case job.KindBackup:
		return auth.Backup
	case job.KindLog:
		return auth.Logs
	case job.KindRestore:
		return auth.Restore
	case job.KindRolling: // what it does to each server
		return map[string]string{"rollingrestart": auth.Restart, "rollingreprov": auth.Restore}[t.Name]
	case job.KindService:
		return map[string]string{"stop": auth.Stop, "start": auth.Start, "restart": auth.Restart}[t.Name]
	default:
		return auth.Maintenance
	}
}

// run records the request in the ledger, unless the cluster is closed or every slot is taken. why says why these servers
// were chosen, when nobody named them; args are those that the route itself says.
func (g *Gateway) run(c *gin.Context, cl *cluster, task job.Task, servers []job.Server, why string, args map[string]string) {
	force, ok := g.open(c, cl.Name)
	if !ok || !g.confirmed(c, cl, task, servers) {
		return
	}
	asked, err := runArgs(c, task)
	if err == nil {
		maps.Copy(asked, args)
	}
	if err != nil {
		g.fail(c, errBadRequest.withMessage("%v", err))
		return
	}
	out := runAnswer{Jobs: []started{}}
	free := map[job.Server]bool{}
	for _, s := range servers {
		if j, ok := g.View.Get(job.Key{Cluster: cl.Name, Server: s, Task: task.Name}); ok && j.State.Live() {
			out.Skipped = append(out.Skipped, notStarted{s, fmt.Sprintf("job %s is %s", j.ID, j.State)})
			continue
		}
		free[s] = true
	}
	if len(free) == 0 {
		message := "no server to run on"
		if len(out.Skipped) > 0 {
			message = out.Skipped[0].Reason
		}
		g.fail(c, errConflict.withMessage("%s", message))
		return
	}
	// The taken servers go into the tick too: the ledger then tells why they were left out.
	order := store.ByHand(cl.Name, task.Name, servers, asked, callOf(c).who.Name, force)
	if why != "" {
		order.Reason += "; " + why
	}
	tick, err := g.Ledger.Run(c.Request.Context(), order)
	if err != nil {
		g.fail(c, err)
		return
	}
	out.Tick = tick.ID
	callOf(c).act.Reason = order.Reason
	for _, s := range servers {
		if free[s] {
			key := job.Key{Cluster: cl.Name, Server: s, Task: task.Name}
			id := job.NewID(tick.Due, tick.ID, key)
			callOf(c).act.Jobs = append(callOf(c).act.Jobs, id)
			out.Jobs = append(out.Jobs, started{id, cl.Name, s, task.Name})
		}
	}
	reply(c, http.StatusAccepted, out)
}

func (g *Gateway) listJobs(c *gin.Context) {
	q, ok := g.query(c)
	if !ok {
		return
	}
	f := store.Filter{Server: q.server, Task: q.task, State: q.state, Since: q.since, Limit: q.limit}
	out, err := perCluster(g, c, q, func(name string) ([]job.Job, error) {
		f.Cluster = name
		return g.Jobs.List(c.Request.Context(), f)
	}, func(a, b job.Job) int { return cmp.Or(strings.Compare(b.ID, a.ID), b.Attempt-a.Attempt) })
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, gin.H{"jobs": out[:min(len(out), q.limit)]})
}

// findJob is the route's job, if the caller may see it; the answer is given otherwise.
func (g *Gateway) findJob(c *gin.Context) (job.Job, bool) {
	j, err := g.Jobs.Find(c.Request.Context(), c.Param("id"))
	if err == nil && !callOf(c).who.MayRead(j.Cluster) {
		err = store.ErrNone
	}
	if err != nil {
		g.fail(c, err)
		return j, false
	}
	callOf(c).about(j)
	return j, true
}

func (g *Gateway) showJob(c *gin.Context) {
	if j, ok := g.findJob(c); ok {
		reply(c, http.StatusOK, j)
	}
}

// cancelJob ends a live job. Who carries it out (receiver, dispatcher, script) sees it on the bus.
func (g *Gateway) cancelJob(c *gin.Context) {
	j, ok := g.findJob(c)
	if !ok {
		return
	}
	who := callOf(c).who
	task, err := job.TaskByName(j.Task)
	if err != nil {
		g.fail(c, err)
		return
	}
	if !who.May(j.Cluster, "", grantOf(task)) {
		g.fail(c, errForbidden.withMessage("the grant %s is missing", grantOf(task)))
		return
	}
	after, err := g.Jobs.Cancel(c.Request.Context(), j, who.Name)
	g.ordered(c, after, err)
}

// orderJob gives an operator's word to a rolling operation: pause, resume or abort.
func (g *Gateway) orderJob(word string) gin.HandlerFunc {
	return func(c *gin.Context) {
		j, ok := g.findJob(c)
		if !ok {
			return
		}
		task, err := job.TaskByName(j.Task)
		if err != nil {
			g.fail(c, err)
			return
		}
		who := callOf(c).who
		if !who.May(j.Cluster, "", grantOf(task)) {
			g.fail(c, errForbidden.withMessage("the grant %s is missing", grantOf(task)))
			return
		}
		after, err := g.Jobs.Order(c.Request.Context(), j, word, who.Name)
		g.ordered(c, after, err)
	}
}

// ordered answers with the job as it is after an operator's word.
func (g *Gateway) ordered(c *gin.Context, j job.Job, err error) {
	switch {
	case errors.Is(err, store.ErrOrder):
		err = errConflict.withMessage("%v", err)
	case store.Late(err):
		err = errConflict.withMessage("the job has ended: it is %s", j.State)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, j)
}
