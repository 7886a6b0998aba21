package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// another is a second process with the given roles on the bus of the first.
func (s *site) another(roles string) *site {
	s.t.Helper()
	remote := s.remote()
	text, err := os.ReadFile(s.toml)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	changed := strings.Replace(string(text), filepath.Join(s.dir, "data"), filepath.Join(dir, "data"), 1)
	changed = strings.Replace(changed, `nats-listen = "127.0.0.1:0"`, fmt.Sprintf("nats-url = %q\nnats-user = %q\nnats-password = %q", remote.URL, remote.User, remote.Password), 1)
	changed = strings.Replace(changed, `receiver-name = "test"`, `receiver-name = "second"`, 1)
	o := &site{t: s.t, dir: dir, api: s.api, servers: s.servers, toml: filepath.Join(dir, "drydock.toml")}
	if err := os.WriteFile(o.toml, []byte(changed), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return o.start("--roles", roles)
}

// checkTicksOnce reads ledger and jobs: no tick twice, none left out, no tick with two jobs.
func (s *site) checkTicksOnce() {
	s.t.Helper()
	var ticks []bus.Tick
	if err := json.Unmarshal([]byte(s.mustCLI("ticks", "--limit", "10000", "-o", "json")), &ticks); err != nil {
		s.t.Fatal(err)
	}
	seen := map[time.Time]bool{}
	actors := map[string]int{}
	var first, last time.Time
	for _, k := range ticks {
		if k.Trigger.Kind != job.Cron || k.Outcome == bus.Armed || k.Outcome == bus.Skipped && len(k.Servers) > 0 {
			continue
		}
		if seen[k.Due] {
			s.t.Errorf("the tick of %s was decided twice", k.Due)
		}
		seen[k.Due] = true
		actors[k.Actor]++
		if first.IsZero() || k.Due.Before(first) {
			first = k.Due
		}
		if k.Due.After(last) {
			last = k.Due
		}
	}
	for d := first; !d.After(last); d = d.Add(time.Second) {
		if !seen[d] {
			s.t.Errorf("the tick of %s is not in the ledger", d)
		}
	}
	s.t.Logf("%d ticks decided by %v", len(seen), actors)
	var jobs []job.Job
	if err := json.Unmarshal([]byte(s.mustCLI("jobs", "--limit", "10000", "-o", "json")), &jobs); err != nil {
		s.t.Fatal(err)
	}
	byTick := map[string]string{}
	for _, j := range jobs {
		if other, ok := byTick[j.Tick]; ok && other != j.ID {
			s.t.Errorf("tick %s started %s and %s", j.Tick, other, j.ID)
		}
		byTick[j.Tick] = j.ID
	}
}
