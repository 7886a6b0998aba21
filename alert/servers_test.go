package alert

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

func factsKey(s job.Server) string { return bus.StateKey("prod", s.Host, s.Port, store.DocFacts) }

// factsOf is a replica whose threads are as they are since some time ago.
func factsOf(io, sql string, ago time.Duration) store.Facts {
	return store.Facts{Up: true, Time: noon, Since: noon.Add(-time.Hour), Sources: []store.Source{
		{From: "10.0.1.9:3306", IO: io, SQL: sql, Since: noon.Add(-ago), Err: "Got fatal error 1236"},
	}}
}

func TestWhatServersSayOpensAndClosesOnlyWhenItLasts(t *testing.T) {
	t.Parallel()
	down := func(ago time.Duration) store.Facts {
		return store.Facts{Err: "connection refused", Time: noon, Since: noon.Add(-ago)}
	}
	skewed := func(ahead, fault float64) store.Facts {
		return store.Facts{Up: true, Time: noon, Since: noon.Add(-time.Hour), Clock: &store.Clock{Ahead: ahead, Error: fault}}
	}
	two := factsOf("Yes", "Yes", time.Hour)
	two.Sources = append(two.Sources, store.Source{Name: "eu", IO: "Yes", SQL: "No", Since: noon.Add(-time.Minute)})
	for name, c := range map[string]struct {
		facts store.Facts
		open  string
		want  string
	}{
		"all is well":                         {factsOf("Yes", "Yes", time.Hour), "", ""},
		"and closes":                          {factsOf("Yes", "Yes", time.Hour), "DOCK0502", ""},
		"but not at once":                     {factsOf("Yes", "Yes", time.Second), "DOCK0502", "DOCK0502"},
		"the SQL thread stands":               {factsOf("Yes", "No", time.Minute), "", "DOCK0502"},
		"the IO thread stands":                {factsOf("No", "Yes", time.Minute), "", "DOCK0502"},
		"the IO thread cannot connect":        {factsOf("Connecting", "Yes", time.Minute), "", "DOCK0502"},
		"for a moment":                        {factsOf("No", "No", time.Second), "", ""},
		"for a moment while open":             {factsOf("No", "No", time.Second), "DOCK0502", "DOCK0502"},
		"one of two channels":                 {two, "", "DOCK0502"},
		"what it does not tell stays":         {store.Facts{Up: true, Err: "replication state: access denied", Time: noon, Since: noon.Add(-time.Hour)}, "DOCK0502", "DOCK0502"},
		"no replica any more":                 {store.Facts{Up: true, Time: noon, Since: noon.Add(-time.Hour)}, "DOCK0502", ""},
		"down":                                {down(time.Minute), "", "DOCK0501"},
		"down for a moment":                   {down(time.Second), "", ""},
		"up for a moment":                     {store.Facts{Up: true, Time: noon, Since: noon}, "DOCK0501", "DOCK0501"},
		"up":                                  {store.Facts{Up: true, Time: noon, Since: noon.Add(-time.Minute)}, "DOCK0501", ""},
		"of one that is down nothing is said": {down(time.Second), "DOCK0502", "DOCK0502"},
		"ahead":                               {skewed(5.1, 0.05), "", "DOCK0503"},
		"behind":                              {skewed(-5.1, 0.05), "", "DOCK0503"},
		"perhaps ahead":                       {skewed(5.1, 0.2), "", ""},
		"a little below an open limit":        {skewed(4.5, 0), "DOCK0503", "DOCK0503"},
		"well below it":                       {skewed(3.9, 0), "DOCK0503", ""},
	} {
		s := Snapshot{
			Now: noon, Up: noon.Add(-time.Minute), Clusters: []Cluster{testCluster()}, Open: map[string]bool{},
			Backups: map[string]time.Time{"prod": noon}, Servers: map[string]store.Facts{factsKey(db1): c.facts},
			Scripts: map[string]store.ScriptDoc{scriptKey(db1): {Checked: noon}, scriptKey(db2): {Checked: noon}},
		}
		s.Clusters[0].MaxClockSkew = 5 * time.Second
		if c.open != "" {
			s.Open[bus.AlertSubject("prod", db1.Host, db1.Port, c.open)] = true
		}
		found := Holding(s)
		if got := strings.TrimPrefix(names(found), "10_0_1_5.3306."); got != c.want {
			t.Errorf("%s: %q holds, want %q", name, got, c.want)
		}
		for _, a := range found {
			if a.Code == "DOCK0502" && c.open == "" && !strings.Contains(a.Text, "does not run") && !strings.Contains(a.Text, "runs") {
				t.Errorf("%s: %s", name, a.Text)
			}
		}
		// Without fresh facts whatever is open stays, and nothing opens.
		s.Servers = nil
		if got := strings.TrimPrefix(names(Holding(s)), "10_0_1_5.3306."); got != c.open {
			t.Errorf("%s, not fresh: %q holds, want %q", name, got, c.open)
		}
	}
}

func TestThePendingCodesOfLogicalReseeds(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"reseedlogical", "reseedlogicalmaster"} {
		if code := pending[task]; code.Name != "WARN0075" {
			t.Errorf("%s is %+v", task, code)
		}
	}
}

// A failed job of the whole cluster has no server, and is a condition all the same.
func TestJobsOfTheWholeClusterAreJudged(t *testing.T) {
	t.Parallel()
	s := Snapshot{
		Now: noon, Clusters: []Cluster{testCluster()}, Open: map[string]bool{}, Backups: map[string]time.Time{"prod": noon},
		Slots: []Slot{slotOf("checksum", job.Halted, "2 differences").with(func(s *Slot) { s.Job.Server = job.Server{} })},
		Checksums: map[string]store.Checksum{bus.StateKey("prod", "", 0, store.DocChecksum): {Differs: []store.Finding{
			{Table: "shop.a", Server: db2, What: "the rows differ", Seen: noon, JobID: "J1"},
		}}},
		Scripts: map[string]store.ScriptDoc{scriptKey(db1): {Checked: noon}, scriptKey(db2): {Checked: noon}},
	}
	found := Holding(s)
	if got := names(found); got != "_.DOCK0101-checksum _.DOCK0504" {
		t.Errorf("%q holds", got)
	}
	if a := found["drydock.alert.prod._.DOCK0504"]; !strings.Contains(a.Text, "shop.a on 10.0.1.6:3306: the rows differ") || a.JobID != "J1" || !a.Since.Equal(noon) {
		t.Errorf("%+v", a)
	}
}

func TestALostDocumentMakesNoTableEqual(t *testing.T) {
	t.Parallel()
	subject := bus.AlertSubject("prod", "", 0, "DOCK0504")
	s := Snapshot{Now: noon, Clusters: []Cluster{testCluster()}, Open: map[string]bool{subject: true}}
	if _, holds := Holding(s)[subject]; !holds {
		t.Error("without a document the condition closes")
	}
	s.Checksums = map[string]store.Checksum{bus.StateKey("prod", "", 0, store.DocChecksum): {}}
	if _, holds := Holding(s)[subject]; holds {
		t.Error("a clean comparison does not close it")
	}
}

func TestFactsAreFreshByTheClockOfWhoReadsThem(t *testing.T) {
	t.Parallel()
	x := freshness{}
	limit := 30 * time.Second
	at := func(said time.Duration) map[string]store.Facts {
		return map[string]store.Facts{"k": {Time: noon.Add(said)}}
	}
	for _, step := range []struct {
		name  string
		said  time.Duration // by a scheduler whose clock is behind by an hour
		now   time.Duration
		fresh bool
	}{
		{"old when first seen", -time.Hour, 0, false},
		{"and still", -time.Hour, 5 * time.Second, false},
		{"it changed", -time.Hour + 10*time.Second, 10 * time.Second, true},
		{"a while ago", -time.Hour + 10*time.Second, 40 * time.Second, true},
		{"too long ago", -time.Hour + 10*time.Second, 41 * time.Second, false},
	} {
		if got := len(x.fresh(at(step.said), noon.Add(step.now), limit)) == 1; got != step.fresh {
			t.Errorf("%s: fresh %v", step.name, got)
		}
	}
	if len(freshness{}.fresh(at(time.Hour), noon, limit)) != 1 {
		t.Error("what comes from a clock ahead is not fresh")
	}
}

// The scheduler tells, falls silent and tells again: only what it tells is an edge.
func TestSilenceOfTheSchedulerNeitherOpensNorCloses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	y := s.eye("alert@a")
	start := y.clock()
	tell := func(f store.Facts, ago time.Duration) {
		t.Helper()
		f.Time = y.clock().UTC()
		f.Since = start.Add(-time.Hour)
		for i := range f.Sources {
			f.Sources[i].Since = f.Time.Add(-ago)
		}
		if err := s.docs.Put(s.ctx(), "prod", db1, store.DocFacts, f); err != nil {
			t.Fatal(err)
		}
	}
	tell(factsOf("Yes", "No", 0), 0)
	y.look()
	s.want("DOCK0502")
	y.advance(10 * time.Second)
	tell(factsOf("Yes", "No", 0), 10*time.Second)
	y.look()
	s.want("DOCK0502", "opened")
	y.advance(time.Hour).look() // nothing was told since
	s.want("DOCK0502", "opened")
	y.stop()

	// It recovered, and the scheduler died right after it saw that: an evaluator that comes an hour later must not close.
	y = s.eye("alert@a")
	tell(factsOf("Yes", "Yes", 0), 10*time.Second)
	y.advance(time.Hour).look()
	s.want("DOCK0502", "opened")
	tell(factsOf("Yes", "Yes", 0), 10*time.Second)
	y.advance(serversEvery).look()
	s.want("DOCK0502", "opened", "closed")
}
