package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/job"
)

func TestSourceOfALogicalBackup(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, b, c := job.Server{Host: "a", Port: 1}, job.Server{Host: "b", Port: 1}, job.Server{Host: "c", Port: 1}
	primary := Facts{Up: true, Role: RolePrimary, Time: now}
	replica := func(lag int64) Facts {
		return Facts{Up: true, Role: RoleReplica, Time: now, Sources: []Source{{From: "a:1", IO: "Yes", SQL: "Yes", Lag: &lag}}}
	}
	down := Facts{Err: "connection refused", Time: now}
	broken := Facts{Up: true, Role: RoleReplica, Time: now, Sources: []Source{{From: "a:1", IO: "Yes", SQL: "No"}}}
	silent := Facts{Up: true, Role: RoleReplica, Time: now, Sources: []Source{{From: "a:1", IO: "Yes", SQL: "Yes"}}}
	ofB := Facts{Up: true, Role: RoleReplica, Time: now, Sources: []Source{{From: "b:1", IO: "Connecting", SQL: "Yes"}}}
	leading := primary
	leading.Replicas = 1
	old := primary
	old.Time = now.Add(-2 * time.Minute)
	for name, x := range map[string]struct {
		prefer []job.Server
		facts  map[job.Server]Facts
		maxLag time.Duration
		want   job.Server // none: nobody is fit
		why    string
	}{
		"least lag":                        {nil, map[job.Server]Facts{a: primary, b: replica(7), c: replica(2)}, 30 * time.Second, c, "least lag, 2s"},
		"the first of equals":              {nil, map[job.Server]Facts{a: primary, b: replica(0), c: replica(0)}, 30 * time.Second, b, "least lag"},
		"too much lag":                     {nil, map[job.Server]Facts{a: primary, b: replica(31), c: down}, 30 * time.Second, a, "lags 31s (maintenance-max-lag = 30s)"},
		"any lag":                          {nil, map[job.Server]Facts{a: primary, b: replica(9999), c: down}, 0, b, "lag, 2h46m39s"},
		"replication broken":               {nil, map[job.Server]Facts{a: primary, b: broken, c: silent}, 0, a, "b:1 does not replicate; c:1 does not tell its lag"},
		"the primary is what there is":     {nil, map[job.Server]Facts{a: primary}, 0, a, "b:1 was not asked yet"},
		"a server that fell out":           {nil, map[job.Server]Facts{a: primary, b: leading, c: down}, 0, b, "b:1 is the primary"},
		"fallen out, by what others name":  {nil, map[job.Server]Facts{a: primary, b: primary, c: ofB}, 0, b, "b:1 is the primary"},
		"preferred":                        {[]job.Server{c, b}, map[job.Server]Facts{a: primary, b: replica(0), c: replica(20)}, 30 * time.Second, c, "c:1 is the first of db-servers-backup-hosts"},
		"preferred, the first is down":     {[]job.Server{c, b}, map[job.Server]Facts{a: primary, b: replica(3), c: down}, 30 * time.Second, b, "c:1 is down: connection refused"},
		"preferred may be the primary":     {[]job.Server{a}, map[job.Server]Facts{a: primary, b: replica(0)}, 30 * time.Second, a, "a:1 is the first"},
		"no preferred one is fit":          {[]job.Server{c}, map[job.Server]Facts{a: primary, b: replica(0), c: down}, 0, job.Server{}, "none of db-servers-backup-hosts is fit: c:1 is down"},
		"nobody":                           {nil, map[job.Server]Facts{a: down, b: broken, c: old}, 0, job.Server{}, "a:1 is down: connection refused; b:1 does not replicate; c:1 was last asked at"},
		"what is known is too old a story": {nil, map[job.Server]Facts{a: old, b: old, c: old}, 0, job.Server{}, "was last asked at"},
	} {
		s, why, err := Sources{Servers: []job.Server{a, b, c}, Preferred: x.prefer, MaxLag: x.maxLag}.Choose(x.facts, now)
		if x.want == (job.Server{}) {
			if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), x.why) {
				t.Errorf("%s: %v %v", name, s, err)
			}
			continue
		}
		if err != nil || s != x.want || !strings.Contains(why, x.why) {
			t.Errorf("%s: chose %v because %q, %v; want %v, %q", name, s, why, err, x.want, x.why)
		}
	}
}
