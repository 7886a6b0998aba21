package jobtable_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/gateway/jobtable"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/job"
)

func TestNothingOfOursIsInTheBinaryLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"ROW", "STATEMENT"} {
		s := server(t, mariadbd.Options{LogBin: true, Extra: []string{"binlog-format=" + format}})
		c := as(t, s)
		before := text(t, c, "SHOW MASTER STATUS")
		tab := ready(t, s)
		j := jobAt(s, "optimize", 1)
		insert(t, tab, j)
		if ok, err := tab.Abandon(bound(t), j.Task, jobtable.RunOf(j), "canceled"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		insert(t, tab, jobAt(s, "optimize", 2))
		if ok, err := tab.Withdraw(bound(t), j.Task, jobtable.RunOf(jobAt(s, "optimize", 2))); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := tab.Drop(bound(t)); err != nil {
			t.Fatal(err)
		}
		if after := text(t, c, "SHOW MASTER STATUS"); after != before {
			t.Errorf("%s: the binary log went from %s to %s:\n%s", format, before, after, text(t, c, "SHOW BINLOG EVENTS"))
		}
		run(t, c, "CREATE DATABASE seen") // the check can fail
		if text(t, c, "SHOW MASTER STATUS") == before {
			t.Errorf("%s: the binary log does not move at all", format)
		}
	}
}

func TestAtRestNoConnectionIsKept(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := ready(t, s), as(t, s)
	const others = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon'"
	if text(t, c, others) == "0" {
		t.Error("none is kept without that either")
	}
	tab.Rest()
	rows(t, tab) // it works on
	bustest.Until(t, 10*time.Second, "no connection is kept", func() bool { return text(t, c, others) == "0" })
}

func TestARowIsFoundByOldClientsAndByRun(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := ready(t, s), as(t, s)
	j := jobAt(s, "mariabackup", 1)
	id := insert(t, tab, j)
	const query = "SELECT concat(id,'@',server,':',port) FROM replication_manager_schema.jobs WHERE task='%s' AND done=0 AND state=0 ORDER BY id DESC LIMIT 1"
	if got, want := text(t, c, fmt.Sprintf(query, "mariabackup")), fmt.Sprintf("%d@10.0.0.9:4000", id); got != want {
		t.Errorf("the script's query gives %q, want %q", got, want)
	}
	if got, want := text(t, c, "SELECT payload FROM replication_manager_schema.jobs"), `{"drydock":1,"job":"`+j.ID+`","attempt":1}`; got != want {
		t.Errorf("payload %s, want %s", got, want)
	}
	if _, err := tab.Insert(bound(t), jobAt(s, "optimize", 1), "", 0); err != nil {
		t.Fatal(err)
	}
	if got := text(t, c, fmt.Sprintf(query, "optimize")); !strings.HasSuffix(got, "@127.0.0.1:0") {
		t.Errorf("a task without a stream gives %q: clients pass over a row without an address", got)
	}
	r := rows(t, tab)["mariabackup"]
	if r.ID != id || r.Run != jobtable.RunOf(j) || !r.Live() || r.Port != 4000 || time.Since(r.Start).Abs() > time.Minute || !r.End.IsZero() {
		t.Errorf("row is %+v", r)
	}
}

func TestInsertNeverOverwritesALiveRow(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := ready(t, s), as(t, s)
	const set = "UPDATE replication_manager_schema.jobs SET state=%d, done=%d"
	current, older, newer := jobAt(s, "optimize", 5), jobAt(s, "optimize", 1), jobAt(s, "optimize", 9)
	retry := current
	retry.Attempt = 2
	own := func(j job.Job) string { return `{"drydock":1,"job":"` + j.ID + `","attempt":1}` }
	for _, tc := range []struct {
		name        string
		payload     string // of the row in the way
		state, done int
		insert      job.Job
		adopt       bool
		want        error
		replace     error // what Replace says
	}{
		{"another program's available", "", 0, 0, current, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
		{"another program's processing", "whatever", 1, 0, current, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
		{"another program's waiting", "{}", 2, 0, current, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
		{"another program's finished", "", 3, 1, current, false, nil, nil},
		{"another program's failed, done 0", "", 5, 0, current, false, nil, nil},
		{"another program's done in state 0", "", 0, 1, current, false, nil, nil},
		{"older run's processing", own(older), 1, 0, current, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
		{"older run's failed", own(older), 5, 0, current, false, nil, nil},
		{"newer run's finished", own(newer), 3, 1, current, false, jobtable.ErrOld, nil},
		{"newer run's available", own(newer), 0, 0, current, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
		{"own available", own(current), 0, 0, current, true, nil, nil},
		{"own processing", own(current), 1, 0, current, true, nil, nil},
		{"own finished", own(current), 3, 1, current, true, nil, nil},
		{"attempt 1 failed, attempt 2 comes", own(current), 5, 0, retry, false, nil, nil},
		{"attempt 1 still runs, attempt 2 comes", own(current), 1, 0, retry, false, jobtable.ErrLiveRow, jobtable.ErrLiveRow},
	} {
		for _, how := range []struct {
			name   string
			insert func(j job.Job) (int64, error)
			want   error
		}{
			{"insert", func(j job.Job) (int64, error) { return tab.Insert(bound(t), j, "10.0.0.9", 4001) }, tc.want},
			{"replace", func(j job.Job) (int64, error) { return tab.Replace(bound(t), j, "10.0.0.9", 4001) }, tc.replace},
		} {
			run(t, c, "DELETE FROM replication_manager_schema.jobs")
			if _, err := c.ExecContext(bound(t), "INSERT INTO replication_manager_schema.jobs (task, server, port, payload, state, done) VALUES ('optimize','x',1,?,?,?)", tc.payload, tc.state, tc.done); err != nil {
				t.Fatal(err)
			}
			before := rows(t, tab)["optimize"]
			id, err := how.insert(tc.insert)
			after := rows(t, tab)["optimize"]
			if !errors.Is(err, how.want) || how.want == nil && err != nil {
				t.Errorf("%s, %s: error %v, want %v", tc.name, how.name, err, how.want)
				continue
			}
			switch {
			case how.want != nil || tc.adopt && tc.state != 0:
				if after != before || tc.adopt && id != before.ID {
					t.Errorf("%s, %s: the row was %+v and is %+v", tc.name, how.name, before, after)
				}
			case tc.adopt:
				if id != before.ID || after.Port != 4001 || after.Server != "10.0.0.9" {
					t.Errorf("%s, %s: an available row of ours keeps the address %s:%d", tc.name, how.name, after.Server, after.Port)
				}
			case id != after.ID || id == before.ID || after.Run != jobtable.RunOf(tc.insert) || after.State != 0 || after.Done:
				t.Errorf("%s, %s: id %d, row %+v", tc.name, how.name, id, after)
			}
		}
	}
	run(t, c, fmt.Sprintf(set, 1, 0))
	_, err := tab.Insert(bound(t), newer, "x", 1)
	if err == nil || !strings.Contains(err.Error(), "state 1") || !strings.Contains(err.Error(), fmt.Sprint(rows(t, tab)["optimize"].ID)) {
		t.Errorf("the error names neither row nor state: %v", err)
	}
}

func TestConcurrentInsertsMakeOneRow(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tabs := []*jobtable.Table{ready(t, s), open(t, s), open(t, s)}
	for round := range 5 {
		same, other := jobAt(s, fmt.Sprintf("task%d", round), 1), jobAt(s, fmt.Sprintf("task%d", round), 2)
		var mu sync.Mutex
		ids, refused := map[string]map[int64]bool{same.ID: {}, other.ID: {}}, 0
		var wg sync.WaitGroup
		for i := range 12 {
			j := same
			if i%3 == 0 {
				j = other
			}
			wg.Go(func() {
				id, err := tabs[i%len(tabs)].Insert(bound(t), j, "10.0.0.9", 4000)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					ids[j.ID][id] = true
				case errors.Is(err, jobtable.ErrLiveRow):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(ids[same.ID])+len(ids[other.ID]) != 1 || refused == 0 {
			t.Errorf("round %d: rows %v, %d refused; one run must have one row, the other none", round, ids, refused)
		}
	}
}

func TestEndsAreFencedByRunAndState(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := ready(t, s), as(t, s)
	j, stranger := jobAt(s, "optimize", 1), jobtable.RunOf(jobAt(s, "optimize", 2))
	mine := jobtable.RunOf(j)
	abandon := func(r jobtable.Run) (bool, error) { return tab.Abandon(bound(t), "optimize", r, "lease ran out") }
	withdraw := func(r jobtable.Run) (bool, error) { return tab.Withdraw(bound(t), "optimize", r) }
	settle := func(code int, force bool) func(jobtable.Run) (bool, error) {
		return func(r jobtable.Run) (bool, error) { return tab.Settle(bound(t), "optimize", r, code, force) }
	}
	for _, tc := range []struct {
		name        string
		state, done int
		end         func(jobtable.Run) (bool, error)
		changes     bool
		after       string // state|done, "" for no row
	}{
		{"abandon available", 0, 0, abandon, true, "5|0"},
		{"abandon processing", 1, 0, abandon, true, "5|0"},
		{"abandon finished", 3, 1, abandon, false, "3|1"},
		{"abandon failed", 5, 0, abandon, false, "5|0"},
		{"withdraw available", 0, 0, withdraw, true, ""},
		{"withdraw processing", 1, 0, withdraw, false, "1|0"},
		{"settle finished", 3, 1, settle(job.CodeSuccess, false), true, "4|1"},
		{"settle refuted", 3, 1, settle(job.CodeFailed, false), true, "6|1"},
		{"settle failed", 5, 0, settle(job.CodeFailed, false), false, "5|0"},
		{"settle processing", 1, 0, settle(job.CodeSuccess, false), false, "1|0"},
		{"settle processing by force", 1, 0, settle(job.CodeSuccess, true), true, "4|1"},
		{"settle failed by force", 5, 0, settle(job.CodeSuccess, true), false, "5|0"},
	} {
		run(t, c, "DELETE FROM replication_manager_schema.jobs")
		insert(t, tab, j)
		run(t, c, fmt.Sprintf("UPDATE replication_manager_schema.jobs SET state=%d, done=%d", tc.state, tc.done))
		if ok, err := tc.end(stranger); ok || err != nil {
			t.Errorf("%s: the end of another run changed the row (%v, %v)", tc.name, ok, err)
		}
		if ok, err := tc.end(mine); ok != tc.changes || err != nil {
			t.Errorf("%s: %v, %v", tc.name, ok, err)
		}
		if got := text(t, c, "SELECT state, done FROM replication_manager_schema.jobs"); got != tc.after {
			t.Errorf("%s: state|done is %q, want %q", tc.name, got, tc.after)
		}
	}
}

func TestOnlyTheEndOfAHugeResultIsRead(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := ready(t, s), as(t, s)
	j := jobAt(s, "mariabackup", 1)
	insert(t, tab, j)
	run(t, c, "UPDATE replication_manager_schema.jobs SET result=CONCAT(REPEAT('é', 100000), '\ncompleted OK!')")
	got, err := tab.Result(bound(t), j.Task, jobtable.RunOf(j))
	if err != nil || len(got) > jobtable.MaxResult+3 || !strings.HasSuffix(got, "é\ncompleted OK!") || strings.ToValidUTF8(got, "") != got {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	if got, err := tab.Result(bound(t), "optimize", jobtable.RunOf(j)); got != "" || err != nil {
		t.Errorf("the result of no row is %q, %v", got, err)
	}
}

func TestAReadOnlyReplicaIsServedWithTheRight(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{LogBin: true, Extra: []string{"read_only=1"}})
	c := as(t, s)
	run(t, c, "CREATE USER keeper@'127.0.0.1' IDENTIFIED BY 'k', weak@'127.0.0.1' IDENTIFIED BY 'w', blind@'127.0.0.1' IDENTIFIED BY 'b'",
		"GRANT BINLOG ADMIN, READ_ONLY ADMIN ON *.* TO keeper@'127.0.0.1'", "GRANT ALL ON replication_manager_schema.* TO keeper@'127.0.0.1'",
		"GRANT ALL ON replication_manager_schema.* TO weak@'127.0.0.1'",
		"GRANT BINLOG ADMIN ON *.* TO blind@'127.0.0.1'", "GRANT ALL ON replication_manager_schema.* TO blind@'127.0.0.1'")
	keeper := jobtable.Open(addr(s), "keeper", "k")
	defer keeper.Close()
	if err := keeper.Setup(bound(t)); err != nil {
		t.Fatal(err)
	}
	insert(t, keeper, jobAt(s, "optimize", 1))
	weak := jobtable.Open(addr(s), "weak", "w")
	defer weak.Close()
	if _, err := weak.Rows(bound(t)); err == nil || !strings.Contains(err.Error(), "BINLOG ADMIN") {
		t.Errorf("without the right to keep out of the binary log: %v", err)
	}
	blind := jobtable.Open(addr(s), "blind", "b")
	defer blind.Close()
	if _, err := blind.Insert(bound(t), jobAt(s, "errorlog", 1), "x", 1); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("without the right to write to a read-only server: %v", err)
	}
}

func TestAServerThatIsDownIsAnErrorSoonAndWithoutThePassword(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab := ready(t, s)
	wrong := jobtable.Open(addr(s), s.User(), "wr0ng-S3cret")
	defer wrong.Close()
	_, refused := wrong.Rows(bound(t))
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, down := tab.Rows(bound(t))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s to find the server down", took)
	}
	for _, err := range []error{refused, down} {
		if err == nil || strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), oddPassword) {
			t.Errorf("error is %v", err)
		}
	}
	if err := s.Restart(bound(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.Rows(bound(t)); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}
