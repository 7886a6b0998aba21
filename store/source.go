package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/job"
)

// Sources is where a logical backup of a cluster may be taken from.
type Sources struct {
	Servers   []job.Server  // all servers of the cluster
	Preferred []job.Server  // db-servers-backup-hosts; empty: none is
	MaxLag    time.Duration // maintenance-max-lag: a replica that lags more is not asked; 0 = any lag will do
}

// ErrNoSource is returned when no server of a cluster is fit for a logical backup. Its text says why for each.
var ErrNoSource = errors.New("no server to take a logical backup from")

// factsFresh is how old facts may be to be believed. They are renewed six times as often.
const factsFresh = time.Minute

// Choose says from which server a logical backup is taken, and why: the first of the preferred ones that is up; without
// any, the healthy replica with the least lag, or else the primary: of several, the one with the most replicas. It is pure. all are the facts about the servers, as
// far as there are any. Errors: [ErrNoSource].
func (c Sources) Choose(all map[job.Server]Facts, now time.Time) (s job.Server, why string, err error) {
	var unfit []string
	reject := func(s job.Server, why string) { unfit = append(unfit, s.String()+" "+why) }
	if len(c.Preferred) > 0 {
		for _, s := range c.Preferred {
			if why := c.trouble(all[s], now); why != "" {
				reject(s, why)
				continue
			}
			return s, instead(fmt.Sprintf("%s is the first of db-servers-backup-hosts that is fit", s), unfit), nil
		}
		return job.Server{}, "", fmt.Errorf("%w: none of db-servers-backup-hosts is fit: %s", ErrNoSource, strings.Join(unfit, "; "))
	}
	var replicas, primaries []job.Server
	for _, s := range c.Servers {
		switch why := c.trouble(all[s], now); {
		case why != "":
			reject(s, why)
		case all[s].Role == RoleReplica:
			replicas = append(replicas, s)
		default:
			primaries = append(primaries, s)
		}
	}
	if len(replicas) > 0 {
		// Of equals the first in the configuration: the sort is stable.
		slices.SortStableFunc(replicas, func(a, b job.Server) int { return cmp.Compare(lagOf(all[a]), lagOf(all[b])) })
		return replicas[0], instead(fmt.Sprintf("%s is the healthy replica with the least lag, %s", replicas[0], lagOf(all[replicas[0]])), unfit), nil
	}
	if len(primaries) > 0 {
		// A server that fell out of replication, with half of its data perhaps, replicates from nobody as well.
		slices.SortStableFunc(primaries, func(a, b job.Server) int { return cmp.Compare(followers(b, all), followers(a, all)) })
		return primaries[0], instead(fmt.Sprintf("%s is the primary, and there is no healthy replica", primaries[0]), unfit), nil
	}
	return job.Server{}, "", fmt.Errorf("%w: %s", ErrNoSource, strings.Join(unfit, "; "))
}

// followers is how many servers replicate from s or are set up to, as far as that is known.
func followers(s job.Server, all map[job.Server]Facts) int {
	n := 0
	for _, f := range all {
		if slices.ContainsFunc(f.Sources, func(c Source) bool { return c.From == s.Addr() }) {
			n++
		}
	}
	return max(n, all[s].Replicas)
}

func instead(why string, unfit []string) string {
	if len(unfit) > 0 {
		why += " (" + strings.Join(unfit, "; ") + ")"
	}
	return why
}

// trouble says why a server is not fit for a backup, empty when it is.
func (c Sources) trouble(f Facts, now time.Time) string {
	switch {
	case f.Time.IsZero():
		return "was not asked yet"
	case now.Sub(f.Time) > factsFresh:
		return "was last asked at " + f.Time.UTC().Format(time.RFC3339)
	case !f.Up:
		return "is down: " + f.Err
	case f.Role == "":
		return "does not tell its role: " + f.Err
	}
	for _, source := range f.Sources {
		switch {
		case source.IO != "Yes" || source.SQL != "Yes":
			return "does not replicate"
		case source.Lag == nil:
			return "does not tell its lag"
		case c.MaxLag > 0 && time.Duration(*source.Lag)*time.Second > c.MaxLag:
			return fmt.Sprintf("lags %s (maintenance-max-lag = %s)", time.Duration(*source.Lag)*time.Second, c.MaxLag)
		}
	}
	return ""
}

// lagOf is the lag of the channel that is the furthest behind.
func lagOf(f Facts) (lag time.Duration) {
	for _, source := range f.Sources {
		if source.Lag != nil {
			lag = max(lag, time.Duration(*source.Lag)*time.Second)
		}
	}
	return lag
}

// Source chooses by what is known of the servers now. Errors: [ErrNoSource], or the bus's.
func (d *Docs) Source(ctx context.Context, cluster string, c Sources) (s job.Server, why string, err error) {
	all := map[job.Server]Facts{}
	for _, s := range c.Servers {
		var f Facts
		ok, err := d.Get(ctx, cluster, s, DocFacts, &f)
		if err != nil {
			return job.Server{}, "", err
		}
		if ok {
			all[s] = f
		}
	}
	return c.Choose(all, time.Now())
}
