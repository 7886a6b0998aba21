package local

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func TestThePrimaryIsTheOneThatReplicatesFromNobody(t *testing.T) {
	t.Parallel()
	name := func(s string) job.Server { return job.Server{Host: s, Port: 3306} }
	is := func(id, from, fromID string, readOnly bool) store.Facts {
		f := store.Facts{Up: true, ReadOnly: readOnly, Variables: map[string]string{"server_id": id}}
		if from != "" {
			f.Sources = []store.Source{{From: from + ":3306", ID: fromID, IO: "Yes", SQL: "Yes"}}
		}
		return f
	}
	stands := is("3", "a", "1", true)
	stands.Sources[0].SQL = "No"
	for what, c := range map[string]struct {
		facts    map[string]store.Facts
		named    string
		primary  string
		replicas string
		missing  string
		err      string
	}{
		"one and two":            {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": is("3", "a", "1", true)}, "", "a", "b c", "", ""},
		"a chain":                {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": is("3", "b", "2", true)}, "", "a", "b c", "", ""},
		"known by another name":  {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "db-a.internal", "1", true)}, "", "a", "b", "", ""},
		"a circle, one writable": {map[string]store.Facts{"a": is("1", "b", "2", true), "b": is("2", "a", "1", false)}, "", "b", "a", "", ""},
		"a replica is named":     {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": is("3", "a", "1", true)}, "c", "a", "c", "", ""},
		"the primary is named":   {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true)}, "a", "a", "b", "", ""},
		"one of two families": {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": is("3", "", "", false), "d": is("4", "c", "3", true)},
			"d", "c", "d", "", ""},
		"two families":        {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": is("3", "", "", false), "d": is("4", "c", "3", true)}, "", "", "", "", "several primaries"},
		"a thread stands":     {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": stands}, "", "a", "b", "c", ""},
		"one is down":         {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "a", "1", true), "c": {}}, "", "a", "b", "c", ""},
		"the primary is down": {map[string]store.Facts{"a": {Err: "refused"}, "b": is("2", "a", "1", true)}, "", "", "", "", "does not answer: refused"},
		"nobody replicates":   {map[string]store.Facts{"a": is("1", "", "", false), "b": is("2", "", "", false)}, "", "", "", "", "no server of the cluster"},
		"alone":               {map[string]store.Facts{"a": is("1", "", "", false)}, "", "a", "", "", ""},
	} {
		var servers []job.Server
		facts := map[job.Server]store.Facts{}
		for _, s := range []string{"a", "b", "c", "d"} {
			if f, ok := c.facts[s]; ok {
				servers = append(servers, name(s))
				facts[name(s)] = f
			}
		}
		var named job.Server
		if c.named != "" {
			named = name(c.named)
		}
		f, err := kin(servers, facts, named)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		hosts := func(list []job.Server) string {
			var out []string
			for _, s := range list {
				out = append(out, s.Host)
			}
			return strings.Join(out, " ")
		}
		if err != nil || f.primary.Host != c.primary || hosts(f.replicas) != c.replicas || hosts(sortedServers(f.missing)) != c.missing {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
}

func TestFiltersFollowTheServersRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		column, value string
		out           string // tables that it keeps away, of shop.a, shop.tmp_1, blog.a
	}{
		{"Do_DB", "shop", "blog.a"},
		{"Ignore_DB", "shop,x", "shop.a shop.tmp_1"},
		{"Do_Table", "shop.a", "shop.tmp_1 blog.a"},
		{"Ignore_Table", "shop.a", "shop.a"},
		{"Wild_Do_Table", "shop.%", "blog.a"},
		{"Wild_Ignore_Table", `%.tmp\_%`, "shop.tmp_1"},
		{"Wild_Ignore_Table", "sho_.a", "shop.a"},
		{"Wild_Ignore_Table", "shop.[a]", ""},
		{"Rewrite_DB", "blog->diary-1", "blog.a"},
		{"Rewrite_DB", "(x,y),(blog,diary)", "blog.a"},
	} {
		f := filterOf(map[string]sql.NullString{"Replicate_" + c.column: {String: c.value, Valid: true}}, "Replicate_")
		var out []string
		for _, x := range []table{{"shop", "a"}, {"shop", "tmp_1"}, {"blog", "a"}} {
			if f.excludes(x) {
				out = append(out, x.String())
			}
		}
		if got := strings.Join(out, " "); got != c.out {
			t.Errorf("%s = %s keeps %q away, want %q", c.column, c.value, got, c.out)
		}
	}
	if f := filterOf(map[string]sql.NullString{"Replicate_Rewrite_DB": {String: "a-b->c", Valid: true}}, "Replicate_"); !slices.Contains(f.rewritten, "a-b") {
		t.Errorf("%q", f.rewritten)
	}
}

func TestASeriesIsVendorAndRelease(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"10.11.6-MariaDB-log": "MariaDB 10.11", "5.5.5-10.4.2-MariaDB": "MariaDB 10.4", "8.0.35": "MySQL 8.0", "5.7.44-log": "MySQL 5.7", "11": "MySQL 11",
	} {
		if got := series(version); got != want {
			t.Errorf("%s: %s", version, got)
		}
	}
}

// Without GTID, as on many a MySQL, file and offset of the primary's binary log are waited for.
func TestAPositionByFileIsWaitedForOnlyWhereItMeansSomething(t *testing.T) {
	t.Parallel()
	r, _ := familyRig(t, 1, nil, "CREATE TABLE shop.a (i INT)")
	ctx := bustest.Context(t)
	var sides []*side
	for _, s := range r.cluster.Servers {
		x, err := openSide(ctx, r.cluster, s)
		if err != nil {
			t.Fatal(err)
		}
		defer x.session.close()
		sides = append(sides, x)
	}
	row, err := sides[0].binlogState(ctx, sides[0].session.conn)
	if err != nil {
		t.Fatal(err)
	}
	p := position{file: row["File"].String, offset: int64(number(row["Position"].String)), primary: sides[0].id}
	if err := sides[1].reach(ctx, p, lockedFor); err != nil {
		t.Errorf("%s: %v", p, err)
	}
	ahead := p
	ahead.offset += 1000
	if err := sides[1].reach(ctx, ahead, time.Second); !errors.Is(err, errLate) {
		t.Errorf("%s: %v", ahead, err)
	}
	foreign := p
	foreign.primary = "4711"
	if err := sides[1].reach(ctx, foreign, time.Second); !errors.Is(err, errLate) {
		t.Errorf("a position of another server: %v", err)
	}
	if now, err := sides[0].here(ctx, sides[0].session.conn); err != nil || now.gtid == "" {
		t.Errorf("%+v, %v", now, err)
	}
}
