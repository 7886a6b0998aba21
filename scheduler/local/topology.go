package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drydock/job"
	"drydock/store"
)

// family is a primary and what replicates from it, directly or by way of others.
type family struct {
	primary  job.Server
	replicas []job.Server
	// missing are replicas that cannot be worked with now, and why.
	missing map[job.Server]string
}

// place is the server that a job's session is with: its own, or the primary of the cluster as it is now.
func (r *Runner) place(ctx context.Context, c Cluster, j job.Job) (job.Server, error) {
	if j.Server != (job.Server{}) {
		return j.Server, nil
	}
	f, err := r.family(ctx, c, j)
	return f.primary, err
}

func (r *Runner) family(ctx context.Context, c Cluster, j job.Job) (family, error) {
	var named job.Server
	if text := j.Args[job.ArgServer]; text != "" {
		var err error
		if named, err = job.ParseServer(text); err != nil || !slices.Contains(c.Servers, named) {
			return family{}, fmt.Errorf("there is no server %q in the cluster", text)
		}
	}
	return kin(c.Servers, r.facts.All(ctx, c.Name, r.ticker), named)
}

// kin finds the primary of a cluster and its replicas by what each server says of itself. With a server named, it is the
// family of that one; a replica then stands alone beside its primary. It is pure. The error says what to do.
func kin(servers []job.Server, facts map[job.Server]store.Facts, named job.Server) (family, error) {
	roots := map[job.Server]job.Server{}
	members := map[job.Server][]job.Server{}
	for _, s := range servers {
		root := rootOf(s, servers, facts)
		roots[s] = root
		if root != s {
			members[root] = append(members[root], s)
		}
	}
	primary := named
	if root, ok := roots[named]; ok && len(members[named]) == 0 {
		primary = root
	}
	if named == (job.Server{}) {
		var heads []string
		for _, s := range servers {
			if len(members[s]) > 0 {
				primary, heads = s, append(heads, s.String())
			}
		}
		switch {
		case len(heads) > 1:
			return family{}, fmt.Errorf("there are several primaries in the cluster (%s): name one", strings.Join(heads, ", "))
		case len(heads) == 0 && len(servers) > 1:
			return family{}, errors.New("no server of the cluster is seen to replicate from another")
		case len(heads) == 0:
			primary = servers[0]
		}
	}
	if f := facts[primary]; !f.Up {
		return family{}, fmt.Errorf("the primary %s does not answer: %s", primary, f.Err)
	}
	out := family{primary: primary, missing: map[job.Server]string{}}
	for _, s := range servers {
		if s == primary || named != (job.Server{}) && named != primary && s != named {
			continue
		}
		switch f := facts[s]; {
		case !f.Up:
			out.missing[s] = "does not answer: " + f.Err
		case f.Err != "":
			out.missing[s] = f.Err
		case roots[s] != primary:
			out.missing[s] = "does not replicate from " + primary.String()
		case stopped(f) != "":
			out.missing[s] = stopped(f)
		default:
			out.replicas = append(out.replicas, s)
		}
	}
	return out, nil
}

// stopped says which replication thread of a server does not run, and why; empty when all do.
func stopped(f store.Facts) string {
	for _, s := range f.Sources {
		if text := s.Stopped(); text != "" {
			return text
		}
	}
	return ""
}

// rootOf walks from a server to the one that replicates from nobody in the cluster. In a circle it is the one that can be
// written to.
func rootOf(s job.Server, servers []job.Server, facts map[job.Server]store.Facts) job.Server {
	seen := []job.Server{s}
	for {
		next, ok := sourceOf(seen[len(seen)-1], servers, facts)
		if !ok {
			return seen[len(seen)-1]
		}
		if i := slices.Index(seen, next); i >= 0 {
			circle := seen[i:]
			slices.SortFunc(circle, func(a, b job.Server) int { return slices.Index(servers, a) - slices.Index(servers, b) })
			for _, m := range circle {
				if !facts[m].ReadOnly {
					return m
				}
			}
			return circle[0]
		}
		seen = append(seen, next)
	}
}

// sourceOf is the server of the cluster that s replicates from. Hosts often know each other by other names than drydock
// does: then the server's id tells.
func sourceOf(s job.Server, servers []job.Server, facts map[job.Server]store.Facts) (job.Server, bool) {
	for _, source := range facts[s].Sources {
		for _, other := range servers {
			id := facts[other].Variables["server_id"]
			if other != s && (source.From == other.Addr() || id != "" && id == source.ID) {
				return other, true
			}
		}
	}
	return job.Server{}, false
}
