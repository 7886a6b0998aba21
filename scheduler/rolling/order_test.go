package rolling

import (
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

var (
	a = job.Server{Host: "a", Port: 3306}
	b = job.Server{Host: "b", Port: 3306}
	c = job.Server{Host: "c", Port: 3306}
	d = job.Server{Host: "d", Port: 3306}
)

func primary() store.Facts { return store.Facts{Up: true, Role: store.RolePrimary} }

func replicaOf(s job.Server) store.Facts {
	lag := int64(0)
	return store.Facts{Up: true, Role: store.RoleReplica, Sources: []store.Source{{From: s.Addr(), IO: "Yes", SQL: "Yes", Lag: &lag}}}
}

func down() store.Facts { return store.Facts{Err: "connection refused"} }

func TestTheOrderIsFromTheLeavesToThePrimary(t *testing.T) {
	t.Parallel()
	all := []job.Server{a, b, c, d}
	for name, x := range map[string]struct {
		facts answers
		skip  []job.Server
		want  string // servers in order, those without a turn in brackets, or the error
	}{
		"star":                 {answers{a: primary(), b: replicaOf(a), c: replicaOf(a), d: replicaOf(a)}, nil, "b c d a"},
		"chain":                {answers{a: primary(), b: replicaOf(a), c: replicaOf(b), d: replicaOf(c)}, nil, "d c b a"},
		"tree":                 {answers{b: primary(), a: replicaOf(b), c: replicaOf(a), d: replicaOf(b)}, nil, "c a d b"},
		"two primaries":        {answers{a: primary(), b: primary(), c: replicaOf(a), d: replicaOf(b)}, nil, "there are 2 primaries"},
		"ring":                 {answers{a: replicaOf(b), b: replicaOf(a), c: replicaOf(a), d: replicaOf(a)}, nil, "there is no primary"},
		"replica down":         {answers{a: primary(), b: replicaOf(a), c: down(), d: replicaOf(a)}, nil, "c:3306 cannot be reached: connection refused"},
		"left out":             {answers{a: primary(), b: replicaOf(a), c: down(), d: replicaOf(a)}, []job.Server{c}, "(c) b d a"},
		"primary left out":     {answers{a: primary(), b: replicaOf(a), c: replicaOf(a), d: replicaOf(a)}, []job.Server{a}, "(a) b c d"},
		"role unknown":         {answers{a: primary(), b: {Up: true, Err: "denied"}, c: replicaOf(a), d: replicaOf(a)}, nil, "the role of b:3306 cannot be told: denied"},
		"source not a member":  {answers{a: primary(), b: replicaOf(job.Server{Host: "elsewhere", Port: 1}), c: replicaOf(b), d: replicaOf(a)}, nil, "c b d a"},
		"lone servers and one": {answers{a: primary(), b: down(), c: down(), d: down()}, []job.Server{b, c, d}, "(b) (c) (d) a"},
	} {
		list, err := stages(all, x.facts, x.skip)
		var got []string
		for _, s := range list {
			text := s.Server.Host
			if s.State == job.StageSkipped {
				text = "(" + text + ")"
			}
			got = append(got, text)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, " "); !strings.HasPrefix(text, x.want) {
			t.Errorf("%s: %s, want %s", name, text, x.want)
		}
	}
}

func TestAChangedTopologyIsNoticed(t *testing.T) {
	t.Parallel()
	all := []job.Server{a, b, c}
	good := answers{a: primary(), b: replicaOf(a), c: replicaOf(a)}
	plan, err := stages(all, good, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, facts := range map[string]answers{
		"":                         good,
		"c:3306 cannot be reached": {a: primary(), b: replicaOf(a), c: down()},
		"b:3306 is a primary now, and was a replica":                {a: primary(), b: primary(), c: replicaOf(a)},
		"c:3306 replicates from b:3306 now, and did from a:3306":    {a: primary(), b: replicaOf(a), c: replicaOf(b)},
		"a:3306 is a replica now, and was a primary":                {a: replicaOf(c), b: replicaOf(a), c: replicaOf(a)},
		"b:3306 is of unknown role now, and was a replica":          {a: primary(), b: {Up: true}, c: replicaOf(a)},
		"b:3306 replicates from elsewhere:1 now, and did from a:33": {a: primary(), b: replicaOf(job.Server{Host: "elsewhere", Port: 1}), c: replicaOf(a)},
	} {
		if got := changed(all, plan, facts); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAfterAMoveTheRestComesInTheNewOrder(t *testing.T) {
	t.Parallel()
	all := []job.Server{a, b, c}
	plan, err := stages(all, answers{a: primary(), b: replicaOf(a), c: replicaOf(a)}, nil) // b c a
	if err != nil {
		t.Fatal(err)
	}
	plan[0].State, plan[1].State = job.StageDone, job.StageRunning
	after := answers{b: primary(), a: replicaOf(b), c: replicaOf(b)}
	got, err := moved(all, plan, 1, after, b)
	if err != nil || got[2].Server != a || got[2].Role != "replica" || got[0].State != job.StageDone || got[0].Role != "primary" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := moved(all, plan, 1, after, c); err == nil || !strings.Contains(err.Error(), "c:3306 is the primary, but it is not") {
		t.Errorf("a hook that lies: %v", err)
	}
	if _, err := moved(all, plan, 1, answers{c: primary(), a: replicaOf(c), b: replicaOf(c)}, c); err == nil || !strings.Contains(err.Error(), "before the other servers") {
		t.Errorf("the present server as the primary: %v", err)
	}
}

func TestAMoveDoesNotGoOnInAClusterOfOtherServers(t *testing.T) {
	t.Parallel()
	facts := answers{a: replicaOf(b), b: primary(), c: replicaOf(b)}
	plan, err := stages([]job.Server{a, b, c}, facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moved([]job.Server{a, b}, plan, 0, facts, b); err == nil || !strings.Contains(err.Error(), "c:3306 is no server") {
		t.Errorf("with one less: %v", err)
	}
	fewer := slices.DeleteFunc(slices.Clone(plan), func(s job.Stage) bool { return s.Server == c })
	if _, err := moved([]job.Server{a, b, c}, fewer, 0, facts, b); err == nil || !strings.Contains(err.Error(), "more servers") {
		t.Errorf("with one more: %v", err)
	}
}

func TestTheGateWantsTheServerAsWellAsBefore(t *testing.T) {
	t.Parallel()
	start := time.Now().UTC()
	at := func(f store.Facts, uptime int64) store.Facts {
		f.Time, f.Uptime = start.Add(time.Minute), uptime
		return f
	}
	lagging := func(lag *int64) store.Facts {
		f := replicaOf(a)
		f.Sources[0].Lag = lag
		return f
	}
	stopped := replicaOf(a)
	stopped.Sources[0].SQL = "No"
	stoppedC := replicaOf(b)
	stoppedC.Sources[0].IO = "Connecting"
	many, few := int64(31), int64(30)
	stage := job.Stage{Server: b, Before: &job.Health{Started: start, Channels: []string{""}, Replicas: []job.Server{c}}}
	for name, x := range map[string]struct {
		b, c store.Facts
		want string
	}{
		"well":                {at(replicaOf(a), 5), replicaOf(b), ""},
		"down":                {down(), replicaOf(b), "is not up"},
		"the same process":    {at(replicaOf(a), 60), replicaOf(b), "has not been started anew"},
		"a second off":        {at(replicaOf(a), 59), replicaOf(b), "has not been started anew"},
		"stopped":             {at(stopped, 5), replicaOf(b), "does not replicate: IO Yes, SQL No"},
		"a primary now":       {at(primary(), 5), replicaOf(b), "does not replicate any more"},
		"lag":                 {at(lagging(&many), 5), replicaOf(b), "lags 31s"},
		"lag at the limit":    {at(lagging(&few), 5), replicaOf(b), ""},
		"lag unknown":         {at(lagging(nil), 5), replicaOf(b), "cannot tell its lag"},
		"replica not back":    {at(replicaOf(a), 5), stoppedC, "has not got its replica c:3306 back"},
		"replica down":        {at(replicaOf(a), 5), down(), "has not got its replica c:3306 back"},
		"replica of somebody": {at(replicaOf(a), 5), replicaOf(a), "has not got its replica c:3306 back"},
	} {
		got := missing(stage, answers{b: x.b, c: x.c}, 30*time.Second)
		if !strings.HasPrefix(got, x.want) || x.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	stage.Before.Channels = []string{"east"} // and the server was made anew, so that its channel has no name
	if got := missing(stage, answers{b: at(replicaOf(a), 5), c: replicaOf(b)}, 30*time.Second); got != "" {
		t.Errorf("its only channel has lost its name: %q", got)
	}
	if got := missing(stage, answers{b: at(stopped, 5), c: replicaOf(b)}, 30*time.Second); got == "" {
		t.Error("its only channel has lost its name and does not run")
	}
}

func TestTheLineOfAHookNamesThePrimary(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]string{
		"": "", "moving\nprimary=db2:3306\ndone\n": "db2:3306", " primary= db2 \n": "db2", "the primary=x": "",
		"primary=a:1\nprimary=b:2": "b:2",
	} {
		if got := primaryLine(out); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
