package local

import (
	"database/sql"
	"testing"
	"time"

	"drydock/internal/bustest"
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
		f := ask(bustest.Context(t), db)
		_ = db.Close()
		if f.Clock == nil || f.Clock.Ahead < c.least || f.Clock.Ahead > c.most || f.Clock.Error <= 0 || f.Clock.Error > 5 {
			t.Errorf("%s: %+v, up %v (%s)", name, f.Clock, f.Up, f.Err)
		}
	}
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
