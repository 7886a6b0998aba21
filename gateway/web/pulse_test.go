package web

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// TestAPulseShowsWhatWasHeardAndNothingElse: a curve that joins over a silence, goes on where nothing is heard any more, or
// says "0" of a channel that stopped, shows a well server where there is none.
func TestAPulseShowsWhatWasHeardAndNothingElse(t *testing.T) {
	t.Parallel()
	db1, db2 := job.Server{Host: "db1", Port: 3306}, job.Server{Host: "db2", Port: 3306}
	p := newPulses([]Cluster{{Name: "prod", Servers: []job.Server{db1, db2}}})
	say := func(s job.Server, at time.Time, lag int64, load int) bool {
		f := store.Facts{Up: true, Running: load, Time: at}
		switch {
		case lag == -2:
			f.Up = false
		case lag == -1:
			f.Sources = []store.Source{{IO: "No"}}
		default:
			f.Sources = []store.Source{{Lag: new(int64)}, {Lag: &lag}}
		}
		_, fresh := p.take(bus.StateKey("prod", s.Host, s.Port, store.DocFacts), f, noon)
		return fresh
	}
	ago := func(minutes int) time.Time { return noon.Add(-time.Duration(minutes) * time.Minute) }
	if say(db1, ago(60), 900, 900) || say(job.Server{Host: "stranger", Port: 1}, noon, 1, 1) {
		t.Error("what is too old, or of nobody, is taken in")
	}
	if !say(db1, ago(50), 3, 2) || say(db1, ago(50).Add(20*time.Second), 20, 1) || !say(db1, ago(49), -1, 4) || !say(db1, ago(10), 0, 4) || !say(db1, ago(9), -2, 0) ||
		say(db1, ago(30), 7, 1) || !say(db1, noon.Add(time.Hour), 4, 1) {
		t.Error("a minute is called new, or not, when it is the other way round")
	}
	s := p.sparks(job.Key{Cluster: "prod", Server: db1}, noon)
	if len(s) != 2 {
		t.Fatalf("sparks %v", s)
	}
	if got, want := s[0].Path(), "M18 1.0h1M58 10.1h1M98 15.0h1M118 12.2h1"; got != want {
		t.Errorf("the lag is drawn as %q, want %q", got, want)
	}
	if got, want := s[1].Path(), "M18 11.5h1L21 8.0M58 13.2h1M98 8.0h1M118 13.2h1"; got != want {
		t.Errorf("the load is drawn as %q, want %q", got, want)
	}
	if got, want := s[0].String(), "lag of the last hour: now 4 s, at most 20 s, not known all the time"; got != want {
		t.Errorf("the lag says %q, want %q", got, want)
	}
	later := p.sparks(job.Key{Cluster: "prod", Server: db1}, noon.Add(20*time.Minute))
	if got := later[0].String(); !strings.Contains(got, "not known now, at most 7 s") {
		t.Errorf("twenty silent minutes later the lag says %q", got)
	}
	if s := p.sparks(job.Key{Cluster: "prod", Server: db1}, noon.Add(2*time.Hour)); len(s) != 0 {
		t.Errorf("after two silent hours: %v", s)
	}
	say(db2, noon, -1, 3)
	if s := p.sparks(job.Key{Cluster: "prod", Server: db2}, noon); len(s) != 1 || s[0].Name != "load" || s[0].String() != "load of the last hour: now 3, at most 3" {
		t.Errorf("a server that tells no lag: %v", s)
	}
}
