package local

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// init_connect gives a session another clock, unless the account is a privileged one.
func TestTheClockOfTheHostIsCompared(t *testing.T) {
	t.Parallel()
	m := server(t, "init_connect='SET timestamp = UNIX_TIMESTAMP() + 3600'")
	r := newRig(t, m)
	r.sql(0, "CREATE USER watcher@'127.0.0.1' IDENTIFIED BY 'w'", "GRANT REPLICA MONITOR ON *.* TO watcher@'127.0.0.1'")
	for name, c := range map[string]struct {
		user, password string
		least, most    float64
	}{
		"as it is":    {"drydock", password, -1, 1},
		"an hour off": {"watcher", "w", 3598, 3601},
	} {
		db := sql.OpenDB(connector(sqlConfig(r.cluster.Servers[0], c.user, c.password)))
		f := ask(bustest.Context(t), db, &variables{}, nil)
		_ = db.Close()
		if f.Clock == nil || f.Clock.Ahead < c.least || f.Clock.Ahead > c.most || f.Clock.Error <= 0 || f.Clock.Error > 5 {
			t.Errorf("%s: %+v, up %v (%s)", name, f.Clock, f.Up, f.Err)
		}
	}
}

// Every job of a fleet wants to know all servers of its cluster. If each of them asked, a thousand servers would be asked a million
// times.
func TestManyJobsAskTheServersOfTheirClusterOnce(t *testing.T) {
	t.Parallel()
	const servers, jobs = 4, 500
	m := server(t, "bind-address=0.0.0.0")
	r := newRig(t, m)
	var logins []Login
	for i := range servers {
		logins = append(logins, Login{Cluster: "lab", Server: job.Server{Host: "127.0.0." + strconv.Itoa(i+1), Port: m.Port()}, User: "drydock", Password: password})
	}
	logins = append(logins, Login{Cluster: "other", Server: logins[0].Server, User: "drydock", Password: password})
	f := NewFacts(FactsConfig{Servers: logins, Ticker: time.Second, Log: bustest.Log(t)}, r.docs)
	running, stop := context.WithCancel(bustest.Context(t))
	stop() // closes the connections only
	defer func() { _ = f.Run(running) }()
	asked := func() (n int) {
		var name string
		if err := r.dbs[0].QueryRow("SHOW GLOBAL STATUS LIKE 'Com_show_variables'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := asked()
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			all := f.All(bustest.Context(t), "lab", time.Hour)
			for _, l := range logins[:servers] {
				if !all[l.Server].Up {
					t.Errorf("%s: %+v", l.Server, all[l.Server])
				}
			}
			if len(all) != servers {
				t.Errorf("%d servers, want %d", len(all), servers)
			}
		})
	}
	wg.Wait()
	if n := asked() - before; n != servers {
		t.Errorf("%d questions of %d jobs, want %d", n, jobs, servers)
	}
	// To ask thousands takes ten seconds. Whoever needs what is a second old would have it begun anew at once, for as long as there are jobs.
	at := time.Now().Add(-time.Minute)
	f.clusters["lab"].at, f.clusters["lab"].took = at, time.Minute
	if f.All(bustest.Context(t), "lab", time.Second); !f.clusters["lab"].at.Equal(at) {
		t.Error("a cluster that takes a minute to ask is asked without a pause")
	}
	ended, end := context.WithCancel(bustest.Context(t))
	end()
	f.clusters["lab"].at = time.Time{}
	if f.All(ended, "lab", 0); !f.clusters["lab"].at.IsZero() {
		t.Error("what could not be asked for passes for an answer")
	}
}

// What SELECT says of a switch is not what SHOW says. Whoever looks at read_only in the facts would take a server for writable.
func TestVariablesByNameAreThoseThatShowGives(t *testing.T) {
	t.Parallel()
	m := server(t, "log-bin", "slow-query-log=1", "log-output=TABLE,FILE")
	r := newRig(t, m)
	ctx := bustest.Context(t)
	db := sql.OpenDB(connector(sqlConfig(r.cluster.Servers[0], "drydock", password)))
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	v := &variables{}
	shown := func() (n string) {
		err := conn.QueryRowContext(ctx, "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'COM_SHOW_VARIABLES'").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	compare := func(what string, asked bool) {
		t.Helper()
		before := shown()
		got, clock, err := v.read(ctx, conn)
		if err != nil || clock == nil {
			t.Fatalf("%s: %v, clock %v", what, err, clock)
		}
		if (shown() != before) != asked {
			t.Errorf("%s: SHOW GLOBAL VARIABLES was asked: %v, want %v", what, !asked, asked)
		}
		want, _, err := (&variables{}).read(ctx, conn)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %v\nwant %v", what, err, got, want)
		}
	}
	compare("first", true)
	compare("by name", false)
	r.sql(0, "SET GLOBAL read_only = 1", "SET GLOBAL slow_query_log = 0", "SET GLOBAL log_output = 'NONE'", "SET GLOBAL gtid_slave_pos = '7-1-9'", "CREATE DATABASE moves_the_gtid")
	compare("changed", false)
	r.sql(0, "SET GLOBAL read_only = 0")
	v.version = "10.0"
	compare("another version", true)
	v.names, v.spelled = append(v.names, "gone_since"), append(v.spelled, asSelected)
	compare("a variable that is gone", true)
	compare("by name again", false)
}

// Where fewer files may be open than there are servers, the bus could write nothing more. And a server that is asked every ten seconds must
// not have to let us in for each statement.
func TestFrugalFactsKeepNoConnection(t *testing.T) {
	t.Parallel()
	m := server(t)
	r := newRig(t, m)
	made := func() (n int) {
		var name string
		if err := r.dbs[0].QueryRow("SHOW GLOBAL STATUS LIKE 'Connections'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, frugal := range []bool{false, true} {
		before := made()
		s := job.Server{Host: "127.0.0.1", Port: m.Port()}
		f := NewFacts(FactsConfig{Servers: []Login{{Cluster: "lab", Server: s, User: "drydock", Password: password}}, Frugal: frugal, Log: bustest.Log(t)}, r.docs)
		for range 2 {
			if facts, err := f.Fresh(bustest.Context(t), "lab", s, 0); err != nil || !facts.Up {
				t.Errorf("%+v, %v", facts, err)
			}
		}
		if n, want := made()-before, map[bool]int{false: 1, true: 2}[frugal]; n != want {
			t.Errorf("frugal %v: two questions took %d connections, want %d", frugal, n, want)
		}
		if open := f.servers[serverName{"lab", s}].db.Stats().OpenConnections; (open == 0) != frugal {
			t.Errorf("frugal %v: %d connections are open", frugal, open)
		}
		ended, end := context.WithCancel(bustest.Context(t))
		end()
		if err := f.Run(ended); err != nil {
			t.Error(err)
		}
	}
}

// Two backups of a server that are due together both list its tables. The facts must not wait for that, or the server passes for one that is
// down.
func TestOneQuestionBesidesTheFactsAtATime(t *testing.T) {
	t.Parallel()
	s := job.Server{Host: "127.0.0.1", Port: 1} // nobody is asked
	f := NewFacts(FactsConfig{Servers: []Login{{Cluster: "lab", Server: s}}, Log: bustest.Log(t)}, nil)
	_, leave, err := f.pool(bustest.Context(t), "lab", s)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(bustest.Context(t))
	end()
	defer func() { _ = f.Run(ended) }() // closes the connections only
	if _, _, err := f.pool(ended, "lab", s); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one: %v", err)
	}
	leave()
	if _, leave, err = f.pool(bustest.Context(t), "lab", s); err != nil {
		t.Fatal(err)
	}
	leave()
}

func TestFactsSaySinceWhenThingsAreAsTheyAre(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	facts := func(after time.Duration, up bool, threads string) store.Facts {
		f := store.Facts{Up: up, Time: noon.Add(after)}
		if up {
			f.Sources = []store.Source{{From: "a:1", IO: threads, SQL: "Yes"}}
		}
		return f
	}
	last := store.Facts{}
	for i, step := range []struct {
		facts       store.Facts
		up, channel time.Duration // since when, after noon
	}{
		{facts(0, true, "Yes"), 0, 0},
		{facts(10, true, "Yes"), 0, 0},
		{facts(20, true, "Connecting"), 0, 20},
		{facts(30, true, "No"), 0, 20}, // stands one way or the other
		{facts(40, true, "Yes"), 0, 40},
		{facts(50, false, ""), 50, 0},
		{facts(60, true, "Yes"), 60, 60},
	} {
		step.facts.Follow(last)
		last = step.facts
		if !last.Since.Equal(noon.Add(step.up)) || last.Up && !last.Sources[0].Since.Equal(noon.Add(step.channel)) {
			t.Errorf("step %d: %+v", i, last)
		}
	}
}

// A server with a thousand connections adds up the counters of all of them for each question. In a fleet of thousands that took more of the
// machines than the maintenance did.
func TestCountersAreAskedMoreSeldomInALargeFleet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		servers int
		ticker  time.Duration
		rounds  int // of which the counters are asked in one
	}{
		{1, 2 * time.Second, 1}, {1000, 2 * time.Second, 1}, {3000, 2 * time.Second, 3}, {10_000, 2 * time.Second, 2}, {10_000, 30 * time.Second, 2}, {10_000, time.Hour, 1},
	} {
		cfg := FactsConfig{Ticker: c.ticker, Log: bustest.Log(t)}
		for i := range c.servers {
			cfg.Servers = append(cfg.Servers, Login{Cluster: "lab", Server: job.Server{Host: "db", Port: i + 1}})
		}
		f := NewFacts(cfg, nil)
		asked := map[int]int{}
		for n := range f.counts {
			for _, w := range f.servers {
				if f.countsNow(w, n) {
					asked[n]++
				}
			}
		}
		if f.counts != c.rounds || asked[0] > c.servers/c.rounds+1 || len(asked) != min(c.rounds, c.servers) {
			t.Errorf("%d servers, every %s: counters in one of %d rounds, want %d; by round %v", c.servers, c.ticker, f.counts, c.rounds, asked)
		}
		ended, end := context.WithCancel(bustest.Context(t))
		end()
		if err := f.Run(ended); err != nil { // closes what it opened
			t.Error(err)
		}
	}
}

// Counters that are not asked for are those of before, unless the server may be another since: a restart shows by a new connection.
func TestCountersOfBeforeAreOfTheSameServer(t *testing.T) {
	t.Parallel()
	m := server(t)
	r := newRig(t, m)
	ctx := bustest.Context(t)
	s := r.cluster.Servers[0]
	f := NewFacts(FactsConfig{Servers: []Login{{Cluster: "lab", Server: s, User: "drydock", Password: password}}, Log: bustest.Log(t)}, r.docs)
	ended, end := context.WithCancel(ctx)
	end()
	defer func() { _ = f.Run(ended) }() // closes the connections only
	anew := func(store.Facts, time.Time) bool { return false }
	look := func(whole bool) store.Facts {
		t.Helper()
		facts, err := f.of(ctx, "lab", s, whole, anew)
		if err != nil || !facts.Up {
			t.Fatalf("%+v, %v", facts, err)
		}
		return facts
	}
	look(true)
	whole := look(true) // now the connection is older than the counters
	old := look(false)
	if whole.Threads == 0 || !whole.Counted.IsZero() || !old.Counted.Equal(whole.Time) || old.Threads != whole.Threads || old.Uptime < whole.Uptime || old.Version == "" {
		t.Errorf("first %+v\nthen  %+v", whole, old)
	}
	// Who needs them is not content with these.
	w := f.servers[serverName{"lab", s}]
	w.mu.Lock()
	w.counted = w.counted.Add(-time.Hour)
	w.mu.Unlock()
	if !f.Answers(ctx, "lab", s, time.Minute) || w.counted.After(time.Now().Add(-time.Minute)) {
		t.Error("to learn whether it answers it is asked for its counters")
	}
	if facts, err := f.Of(ctx, "lab", s, time.Minute); err != nil || !facts.Counted.IsZero() {
		t.Errorf("a job gets counters of %s: %v", facts.Counted, err)
	}
	// The clock of drydock's host is set back by an hour.
	w.mu.Lock()
	w.last.Time = w.last.Time.Add(time.Hour)
	w.mu.Unlock()
	if facts := look(false); facts.Counted.Before(facts.Time) || facts.Uptime < whole.Uptime {
		t.Errorf("the clock was not set back: %+v", facts)
	}
	if facts, err := f.Fresh(ctx, "lab", s, 0); err != nil || !facts.Counted.IsZero() {
		t.Errorf("a job that needs to know now gets counters of %s: %v", facts.Counted, err)
	}
	look(false)
	if err := m.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if facts := look(false); !facts.Counted.IsZero() {
		t.Error("the counters of the server before its restart are told for it")
	}
}

// Two schedulers ask each server once, and one that is restarted knows since when a server is up.
func TestAnswersThatAnotherSchedulerGotAreTaken(t *testing.T) {
	t.Parallel()
	m := server(t)
	r := newRig(t, m)
	ctx, cancel := context.WithCancel(bustest.Context(t))
	s := r.cluster.Servers[0]
	var wg sync.WaitGroup
	begin := func() *Facts {
		f := NewFacts(FactsConfig{Servers: []Login{{Cluster: "lab", Server: s, User: "drydock", Password: password}}, Log: bustest.Log(t)}, r.docs)
		wg.Go(func() { f.listen(ctx) })
		<-f.heard
		return f
	}
	first := begin()
	second := begin()
	defer func() {
		cancel()
		wg.Wait()
		_, _ = first.Run(ctx), second.Run(ctx) // close the connections only
	}()
	since := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	if err := r.docs.Put(ctx, "lab", s, store.DocFacts, store.Facts{Up: true, Since: since, Time: since}); err != nil {
		t.Fatal(err)
	}
	w, other := first.servers[serverName{"lab", s}], second.servers[serverName{"lab", s}]
	comes := func(w *watched, after uint64) {
		t.Helper()
		bustest.Until(t, 20*time.Second, "the answer is heard", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.heard.Revision > after
		})
	}
	comes(w, 0)
	first.renew(ctx, w, true)
	got, _ := w.known(true)
	if !got.Since.Equal(since) || w.dials.n.Load() == 0 {
		t.Errorf("after a restart: %+v", got)
	}
	if w.written == 0 {
		t.Fatal("its own answer has no revision")
	}
	comes(other, w.written-1)
	second.renew(ctx, other, true)
	if same, _ := other.known(true); !same.Time.Equal(got.Time) || other.dials.n.Load() != 0 {
		t.Errorf("the second asked again: %+v, %d connections", same, other.dials.n.Load())
	}
	if _, news := w.news(); news {
		t.Error("its own answer is news to the first")
	}
	// Before a scheduler has heard anything, a job of it may need to know.
	third := NewFacts(FactsConfig{Servers: []Login{{Cluster: "lab", Server: s, User: "drydock", Password: password}}, Log: bustest.Log(t)}, r.docs)
	defer func() {
		cancel()
		_ = third.Run(ctx)
	}()
	if facts, err := third.Of(ctx, "lab", s, 0); err != nil || !facts.Since.Equal(since) {
		t.Errorf("at once after a restart: %+v, %v", facts, err)
	}
}

// A rack without power is a hundred servers that take their time not to answer. The others are asked all the same.
func TestServersThatDoNotAnswerKeepNoOtherWaiting(t *testing.T) {
	t.Parallel()
	m := server(t)
	r := newRig(t, m)
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connections, and nobody says anything
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := r.cluster.Servers[0]
	logins := []Login{{Cluster: "lab", Server: s, User: "drydock", Password: password}}
	for i := range 2 * factsWidth {
		logins = append(logins, Login{Cluster: "lab", Server: job.Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}, User: "u" + strconv.Itoa(i)})
		logins[i+1].Cluster = "dead" + strconv.Itoa(i)
	}
	f := NewFacts(FactsConfig{Servers: logins, Log: bustest.Log(t)}, r.docs)
	f.every = time.Millisecond
	for _, login := range logins[1:] {
		ago := time.Now().Add(-time.Hour)
		f.servers[serverName{login.Cluster, login.Server}].keep(store.Facts{Time: ago}, ago)
	}
	ctx, cancel := context.WithCancel(bustest.Context(t))
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	const enough = 5 // together with the others it would have one, and then wait for them
	answers := 0
	err = r.docs.HearFacts(ctx, func(e store.FactsEntry) {
		if !strings.HasPrefix(e.Key, "lab.") {
			t.Errorf("%s was waited for: %d answers of the one that is up", e.Key, answers)
			cancel()
		}
		if answers++; answers == enough {
			cancel()
		}
	}, nil)
	if err != nil || answers < enough {
		t.Errorf("%d answers, %v", answers, err)
	}
}
