package local

import (
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

func TestAnyOneFactorHoldsWorkUp(t *testing.T) {
	t.Parallel()
	a, b := job.Server{Host: "a", Port: 3306}, job.Server{Host: "b", Port: 3306}
	lags := func(s int64, io string) store.Facts {
		return store.Facts{Up: true, Sources: []store.Source{{IO: io, SQL: "Yes", Lag: &s}}}
	}
	for name, c := range map[string]struct {
		lag    time.Duration
		load   int
		facts  map[job.Server]store.Facts
		factor string
	}{
		"nothing known":               {30e9, 50, nil, ""},
		"as busy as it may be":        {30e9, 50, map[job.Server]store.Facts{a: {Running: 50}}, ""},
		"busier":                      {30e9, 50, map[job.Server]store.Facts{a: {Running: 51}}, "load"},
		"busier without a limit":      {30e9, 0, map[job.Server]store.Facts{a: {Running: 51}}, ""},
		"another server's load":       {30e9, 50, map[job.Server]store.Facts{b: {Running: 51}}, ""},
		"a replica lags":              {30e9, 50, map[job.Server]store.Facts{b: lags(31, "Yes")}, "lag of b:3306"},
		"as much as it may":           {30e9, 50, map[job.Server]store.Facts{b: lags(30, "Yes")}, ""},
		"without a limit":             {0, 50, map[job.Server]store.Facts{b: lags(31, "Yes")}, ""},
		"the server itself lags":      {30e9, 50, map[job.Server]store.Facts{a: lags(31, "Yes")}, "lag of a:3306"},
		"a stopped replica":           {30e9, 50, map[job.Server]store.Facts{b: lags(31, "No")}, ""},
		"both, the load is said":      {30e9, 50, map[job.Server]store.Facts{a: {Running: 51}, b: lags(31, "Yes")}, "load"},
		"a lag that cannot be told":   {30e9, 50, map[job.Server]store.Facts{b: {Sources: []store.Source{{IO: "Yes", SQL: "Yes"}}}}, ""},
		"the second of two lags":      {30e9, 50, map[job.Server]store.Facts{a: lags(1, "Yes"), b: lags(31, "Yes")}, "lag of b:3306"},
		"of a server of another name": {30e9, 50, map[job.Server]store.Facts{{Host: "z", Port: 1}: lags(31, "Yes")}, ""},
	} {
		factor, reason := holdup(Cluster{Servers: []job.Server{a, b}, MaxLag: c.lag, MaxLoad: c.load}, c.facts[a].Running, c.facts)
		if factor != c.factor || (reason == "") != (factor == "") {
			t.Errorf("%s: %q %q, want %q", name, factor, reason, c.factor)
		}
	}
}

func TestRotationIsOneStatementAndPassesOverHoles(t *testing.T) {
	t.Parallel()
	got := renames("slow_log", "`mysql`.`slow_log_new`", map[int]bool{1: true, 3: true, 4: true}, 4)
	want := "RENAME TABLE `mysql`.`slow_log_3` TO `mysql`.`slow_log_4`, `mysql`.`slow_log_1` TO `mysql`.`slow_log_2`, " +
		"`mysql`.`slow_log` TO `mysql`.`slow_log_1`, `mysql`.`slow_log_new` TO `mysql`.`slow_log`"
	if got != want {
		t.Errorf("%s", got)
	}
}

// The time that a look took says how long to rest, unless the process was stopped meanwhile: SIGSTOP for a minute must not cost four more.
func TestTheRestAfterALookHasBounds(t *testing.T) {
	t.Parallel()
	for look, want := range map[time.Duration]time.Duration{
		0: lookGap, time.Millisecond: lookGap, 100 * time.Millisecond: lookShare * 100 * time.Millisecond, time.Minute: lookAgain,
	} {
		if got := gapAfter(look); got != want {
			t.Errorf("%s after a look of %s, want %s", got, look, want)
		}
	}
}

// A rolling reprovisioning names no backup. Filled from one that is known to be bad, the server is lost for nothing.
func TestABackupThatWasFoundBadFillsNoServerByItself(t *testing.T) {
	t.Parallel()
	a, b := job.Server{Host: "a", Port: 3306}, job.Server{Host: "b", Port: 3306}
	of := func(id string, s job.Server, task string) store.Manifest {
		return store.Manifest{ID: id, Server: s, Task: task}
	}
	drilled, verified := of("drilled", b, "mysqldump"), of("verified", b, "mydumper")
	drilled.Drills = []store.Drill{{Problem: "a table is missing"}}
	verified.Verifications = []store.Verification{{Problem: "the file is shorter"}}
	for name, c := range map[string]struct {
		newestFirst []store.Manifest
		want        string
	}{
		"of the server itself":     {[]store.Manifest{of("others", a, "mydumper"), of("own", b, "mysqldump"), of("older", b, "mysqldump")}, "own"},
		"of another server":        {[]store.Manifest{of("newest", a, "mydumper"), of("older", a, "mydumper")}, "newest"},
		"bad ones are passed over": {[]store.Manifest{drilled, verified, of("good", b, "mysqldump")}, "good"},
		"even for another's":       {[]store.Manifest{drilled, of("others", a, "mysqldump"), verified}, "others"},
		"physical ones as well":    {[]store.Manifest{of("physical", b, "mariabackup"), of("dump", a, "mysqldump")}, "dump"},
		"nothing good":             {[]store.Manifest{drilled, of("physical", b, "mariabackup")}, ""},
	} {
		if m, ok := newestGood(c.newestFirst, b); m.ID != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, m.ID, c.want)
		}
	}
}
