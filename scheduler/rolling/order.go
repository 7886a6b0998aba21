package rolling

import (
	"errors"
	"fmt"
	"slices"

	"drydock/job"
	"drydock/store"
)

// answers are the facts of the servers of a cluster.
type answers map[job.Server]store.Facts

// stages is the order in which the servers of a cluster come: the replicas, each after those that replicate from it, then
// the primary. Those in skip have no turn, and are not asked to be well. It is pure. An error says why no operation may
// begin.
func stages(servers []job.Server, all answers, skip []job.Server) ([]job.Stage, error) {
	var out []job.Stage
	var primaries []job.Server
	absent := false // the primary may be one that has no turn
	for _, s := range servers {
		f := all[s]
		switch {
		case slices.Contains(skip, s):
			absent = true
			out = append(out, job.Stage{Server: s, Role: string(f.Role), From: source(servers, f), State: job.StageSkipped, Reason: "left out as asked"})
			continue
		case !f.Up:
			return nil, fmt.Errorf("%s cannot be reached: %s", s, f.Err)
		case f.Role == "":
			return nil, fmt.Errorf("the role of %s cannot be told: %s", s, f.Err)
		case f.Role == store.RolePrimary:
			primaries = append(primaries, s)
		}
		out = append(out, job.Stage{Server: s, Role: string(f.Role), From: source(servers, f), State: job.StagePending})
	}
	switch {
	case len(primaries) > 1:
		return nil, fmt.Errorf("there are %d primaries: %v replicate from nobody", len(primaries), primaries)
	case len(primaries) == 0 && !absent:
		return nil, errors.New("there is no primary: every server replicates from another")
	}
	depth := depths(servers, out)
	for _, s := range skip {
		depth[s] = len(servers) + 1 // before the others, so that the last is always the primary
	}
	slices.SortStableFunc(out, func(a, b job.Stage) int { return depth[b.Server] - depth[a.Server] })
	return out, nil
}

// source is the server of the cluster that f replicates from, as HOST:PORT; what it says itself when it is none of them.
func source(servers []job.Server, f store.Facts) string {
	if len(f.Sources) == 0 {
		return ""
	}
	for _, s := range servers {
		if s.Addr() == f.Sources[0].From {
			return s.String()
		}
	}
	return f.Sources[0].From
}

// depths is how far each server is from a primary. A replica of a server elsewhere counts as one of the primary's.
func depths(servers []job.Server, list []job.Stage) map[job.Server]int {
	of := map[string]job.Stage{}
	for _, s := range list {
		of[s.Server.String()] = s
	}
	out := map[job.Server]int{}
	for _, s := range list {
		for n, at := 0, s; at.Role == string(store.RoleReplica) && n < len(servers); n++ {
			out[s.Server]++
			at = of[at.From]
		}
	}
	return out
}

// changed says how the servers differ from the plan, empty when they do not. It is pure. A server that has no turn is not
// looked at.
func changed(servers []job.Server, plan []job.Stage, all answers) string {
	for _, s := range plan {
		f := all[s.Server]
		switch {
		case s.State == job.StageSkipped:
		case !f.Up:
			return fmt.Sprintf("%s cannot be reached: %s", s.Server, f.Err)
		case string(f.Role) != s.Role:
			return fmt.Sprintf("%s is %s now, and was %s", s.Server, roleName(string(f.Role)), roleName(s.Role))
		case source(servers, f) != s.From:
			return fmt.Sprintf("%s replicates from %s now, and did from %s", s.Server, source(servers, f), s.From)
		}
	}
	return ""
}

func roleName(role string) string {
	if role == "" {
		return "of unknown role"
	}
	return "a " + role
}

// moved is the plan after a hook has moved the primary: what has ended stays, the present server goes on, the rest comes
// in the new order. It is pure. An error says why the operation cannot go on like that.
func moved(servers []job.Server, plan []job.Stage, at int, all answers, primary job.Server) ([]job.Stage, error) {
	var skip []job.Server
	for _, s := range plan {
		if s.State == job.StageSkipped {
			skip = append(skip, s.Server)
		}
	}
	fresh, err := stages(servers, all, skip)
	if err != nil {
		return nil, err
	}
	last := fresh[len(fresh)-1]
	if last.Server != primary || last.Role != string(store.RolePrimary) {
		return nil, fmt.Errorf("the hook said that %s is the primary, but it is not", primary)
	}
	for _, s := range plan {
		if !slices.Contains(servers, s.Server) {
			return nil, fmt.Errorf("%s is no server of the cluster any more", s.Server)
		}
	}
	if len(servers) > len(plan) {
		return nil, errors.New("the cluster has got more servers since the operation began")
	}
	out := slices.Clone(plan[:at+1])
	for i := range out {
		j := slices.IndexFunc(fresh, func(s job.Stage) bool { return s.Server == out[i].Server })
		out[i].Role, out[i].From = fresh[j].Role, fresh[j].From
	}
	for _, s := range fresh {
		if !slices.ContainsFunc(out, func(o job.Stage) bool { return o.Server == s.Server }) {
			j := slices.IndexFunc(plan, func(o job.Stage) bool { return o.Server == s.Server })
			kept := plan[j]
			kept.Role, kept.From = s.Role, s.From
			out = append(out, kept)
		}
	}
	if out[at].Role == string(store.RolePrimary) && at < len(out)-1 {
		return nil, fmt.Errorf("the hook made %s the primary before the other servers had their turn", out[at].Server)
	}
	return out, nil
}

// health is what counts of a server before it is touched, and after. It is pure.
func health(servers []job.Server, s job.Server, all answers) *job.Health {
	f := all[s]
	h := &job.Health{Started: startOf(f), Time: f.Time}
	for _, c := range f.Sources {
		if !runs(c) {
			continue
		}
		h.Channels = append(h.Channels, c.Name)
		if c.Lag != nil && (h.Lag == nil || *c.Lag > *h.Lag) {
			lag := *c.Lag
			h.Lag = &lag
		}
	}
	for _, r := range servers {
		if r != s && follows(all[r], s) {
			h.Replicas = append(h.Replicas, r)
		}
	}
	return h
}

// follows reports whether a replica, with the facts f, replicates from s, and does so now.
func follows(f store.Facts, s job.Server) bool {
	return f.Up && slices.ContainsFunc(f.Sources, func(c store.Source) bool { return c.From == s.Addr() && runs(c) })
}

func runs(c store.Source) bool { return c.IO == "Yes" && c.SQL == "Yes" }
