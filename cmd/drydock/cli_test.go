package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

var db1 = job.Server{Host: "10.0.1.5", Port: 3306}

// started puts a run by hand of optimize into the ledger and its job into the log, through these events.
func (b *bench) started(events ...job.Event) job.Job {
	b.t.Helper()
	ctx := bustest.Context(b.t)
	tick, err := store.NewLedger(b.conn, "cli:test").RunNow(ctx, "prod", "optimize", nil, "alice")
	if err != nil {
		b.t.Fatal(err)
	}
	key := job.Key{Cluster: "prod", Server: db1, Task: "optimize"}
	jobs := store.NewJobs(b.conn, "scheduler@test", nil)
	j, err := jobs.Create(ctx, job.Job{
		State: job.Queued, ID: job.NewID(tick.Due, tick.ID, key), Cluster: "prod", Server: db1, Task: "optimize", Mode: job.API,
		Trigger: tick.Trigger, Due: tick.Due, Tick: tick.ID,
	}, "asked for")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range events {
		if j, err = jobs.Apply(ctx, store.RefOf(j), store.Change{Event: e, Reason: "by the test"}); err != nil {
			b.t.Fatal(err)
		}
	}
	return j
}

// A script reads what -o json writes: every listing has it, also of nothing, and nothing else is on stdout.
func TestEveryListingIsJSONAndYAMLToo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []string{"jobs", "ticks", "backups", "alerts", "alerts --all", "alerts sent", "audit", "binlogs"} {
		for _, form := range []string{"json", "yaml"} {
			out, err := b.run("", append(strings.Fields(c), "-o", form)...)
			if err != nil || strings.TrimSpace(out) != "[]" {
				t.Errorf("%s -o %s of nothing: %q, %v; want an empty list", c, form, out, err)
			}
		}
	}
	j := b.started(job.Offer, job.Start)
	for _, c := range []string{"jobs", "jobs " + j.ID, "ticks", "explain prod optimize", "blackout ls", "users list"} {
		var asJSON, asYAML any
		out, err := b.run("", append(strings.Fields(c), "-o", "json")...)
		if err == nil {
			err = json.Unmarshal([]byte(out), &asJSON)
		}
		if err != nil {
			t.Errorf("%s -o json: %v\n%s", c, err, out)
		}
		out, err = b.run("", append(strings.Fields(c), "-o", "yaml")...)
		if err == nil {
			err = yaml.Unmarshal([]byte(out), &asYAML)
		}
		if err != nil || asYAML == nil {
			t.Errorf("%s -o yaml: %v\n%s", c, err, out)
		}
	}
}

// A mistyped command must say what is wrong before it does or reads anything, and nothing that is missing may be a panic.
func TestMistakesOnTheCommandLineAreNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for line, want := range map[string]string{
		"jobs -o xml":                       "table, json or yaml",
		"jobs --limit many":                 "invalid argument",
		"jobs --state broken":               "unknown state",
		"jobs --server :":                   "not a server",
		"jobs 123":                          "not a job id",
		"jobs a b":                          "at most 1 arg",
		"next":                              "no scheduler runs",
		"explain prod":                      "between 2 and 3",
		"explain prod nothing":              "drydock next",
		"explain prod optimize soon":        "is no time",
		"explain prod optimize --within 1y": "invalid argument",
		"explain prod optimize --within 0s": "give a duration",
		"tail --level loud":                 "DEBUG, INFO, WARN, ERROR",
		"tail 01":                           "not a job id",
		"cancel":                            "accepts 1 arg",
		"check --nagios -o json":            "none of the others can be",
		"frobnicate":                        "unknown command",
		"run nowhere optimize":              "nowhere",
		"hold nowhere":                      `no cluster "nowhere"`,
		"schedules list":                    "no scheduler runs",
		"schedules off prod optimize":       "drydock hold prod",
		"schedules off prod nothing":        "drydock schedules list",
		"schedules off nowhere optimize":    `no cluster "nowhere"`,
		"schedules off prod":                "accepts 2 arg",
	} {
		out, err := b.run("", strings.Fields(line)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("drydock %s: %v %s; want an error with %q", line, err, out, want)
		}
	}
	// What main makes of an error is exit status 1; of a configuration that is not there too.
	if code := run([]string{"jobs", "--config", filepath.Join(t.TempDir(), "no.toml")}); code != 1 {
		t.Errorf("exit status %d", code)
	}
	if code := run([]string{"version"}); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestExplainNamesTheMessagesBehindAnAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.started(job.Offer, job.Start, job.Error)
	out, err := b.run("", "explain", "prod", "optimize")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"by worker", "asked for by alice; halted", "DRYDOCK_TASKS 1 ", "DRYDOCK_JOBS 4 ", "error -> halted", "no scheduler answers"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// Colours in a file or a pipe are dirt; a name from a database host must not paint either.
func TestColoursAreForTerminalsOnly(t *testing.T) {
	t.Parallel()
	rows := func() [][]string { return [][]string{{"failed", "x\x1b[31m"}, {"héllo", "y"}} }
	var file strings.Builder
	if err := writeTable(&file, []string{"STATE", "A"}, rows()); err != nil {
		t.Fatal(err)
	}
	if want := "STATE   A\nfailed  x?[31m\nhéllo   y\n"; file.String() != want {
		t.Errorf("%q, want %q", file.String(), want)
	}
	tty := &canvas{colours: true}
	if err := writeTable(tty, []string{"STATE", "A"}, rows()); err != nil {
		t.Fatal(err)
	}
	if want := "STATE   A\n" + red + "failed" + plain + "  x?[31m\nhéllo   y\n"; tty.String() != want {
		t.Errorf("%q, want %q", tty.String(), want)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if colourful(null) {
		t.Error("the null device is no terminal")
	}
}

// A monitoring system reads the exit status and what stands before the bar: a text with a bar or a line end must not break it.
func TestMonitoringPluginSaysTheWorstInOneLine(t *testing.T) {
	t.Parallel()
	ok, warn, bad := app.Item{Status: app.OK, Name: "bus"}, app.Item{Status: app.Warn, Name: "disk", Detail: "little"}, app.Item{Status: app.Fail, Name: "db", Detail: "a|b\nc"}
	cond := func(s bus.Severity, ack *store.Ack) store.OpenCondition {
		return store.OpenCondition{Alert: bus.Alert{Severity: s, Code: "WARN0110", Text: "old"}, Ack: ack}
	}
	for name, c := range map[string]struct {
		items []app.Item
		open  []store.OpenCondition
		code  int
		want  string
	}{
		"ok":           {[]app.Item{ok}, []store.OpenCondition{cond(bus.SeverityInfo, nil)}, 0, "DRYDOCK OK - 1 checks passed | checks=1 failed=0 warned=0 errors_open=0 warnings_open=0"},
		"warning":      {[]app.Item{ok, warn}, nil, 1, "DRYDOCK WARNING - disk: little | checks=2 failed=0 warned=1 errors_open=0 warnings_open=0"},
		"critical":     {[]app.Item{warn, bad}, nil, 2, "DRYDOCK CRITICAL - db: a/b c; disk: little | checks=2 failed=1 warned=1 errors_open=0 warnings_open=0"},
		"condition":    {[]app.Item{ok}, []store.OpenCondition{cond(bus.SeverityError, nil)}, 2, "DRYDOCK CRITICAL - WARN0110 old | checks=1 failed=0 warned=0 errors_open=1 warnings_open=0"},
		"acknowledged": {[]app.Item{ok}, []store.OpenCondition{cond(bus.SeverityError, &store.Ack{}), cond(bus.SeverityWarn, &store.Ack{})}, 1, "DRYDOCK WARNING - WARN0110 old | checks=1 failed=0 warned=0 errors_open=0 warnings_open=1"},
	} {
		if line, code := verdictLine(c.items, c.open); line != c.want || code != c.code {
			t.Errorf("%s: %d %q, want %d %q", name, code, line, c.code, c.want)
		}
	}
	var many []store.OpenCondition
	for range 200 {
		many = append(many, cond(bus.SeverityError, nil), cond(bus.SeverityWarn, nil))
		many[len(many)-2].Text = strings.Repeat("long ", 1000)
	}
	line, code := verdictLine([]app.Item{bad}, many) // plugins of old are cut after 1024 bytes, and the data with it
	if code != 2 || len(line) > 600 || !strings.HasPrefix(line, "DRYDOCK CRITICAL - db: a/b c; WARN0110 long") || !strings.Contains(line, "and 398 more | checks=1 failed=1 warned=0 errors_open=200 warnings_open=200") {
		t.Errorf("of 400 conditions: %d, %d bytes: %s", code, len(line), line)
	}
}

// A list under --watch shows a change without being asked, and Ctrl-C ends it as if it had done what it was asked for.
func TestWatchShowsAChangeAndLeavesCleanly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, args := range [][]string{{"jobs", "--watch"}, {"ticks", "--watch", "-o", "json"}, {"explain", "prod", "optimize", "--watch"}} {
		out, stop := b.follow(args...)
		out.until(t, func(s string) bool { return s != "" }, "the first list")
		before := out.text()
		b.started(job.Skip)
		out.until(t, func(s string) bool { return strings.Count(s, "optimize") > strings.Count(before, "optimize") }, "the change")
		if err := stop(); err != nil {
			t.Errorf("%v ends with %v", args, err)
		}
	}
}

// tail is what one looks at while something runs: only what was asked for, at least as loud as asked for.
func TestTailFollowsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	out, stop := b.follow("tail", "--server", db1.Host, "--level", "warn", "--since", "1m")
	j := b.started(job.Offer, job.Start)
	for i, l := range []struct{ level, host, text string }{{"INFO", db1.Host, "quiet"}, {"ERROR", "10.9.9.9", "elsewhere"}, {"ERROR", db1.Host, "it \x1b burns"}} {
		batch := bus.LogBatch{Type: bus.TypeLog, ID: "L" + l.text, Level: l.level, Lines: []string{l.text}, Cluster: "prod", Server: job.Server{Host: l.host, Port: 3306}, Task: "optimize", JobID: j.ID, Time: time.Now()}
		if err := b.conn.Record(bustest.Context(t), bus.StreamLogs, bus.LogSubject("prod", l.host, 3306, "optimize", l.level), batch.ID, batch); err != nil {
			t.Fatal(i, err)
		}
	}
	out.until(t, func(s string) bool { return strings.Contains(s, "it ? burns") && strings.Contains(s, "-> processing") }, "the state and the error")
	if s := out.text(); strings.Contains(s, "quiet") || strings.Contains(s, "elsewhere") {
		t.Errorf("more than was asked for:\n%s", s)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Completion must never hang a shell: names of the configuration come without a bus, those of the bus only while it answers.
func TestCompletionKnowsTheFleet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.started()
	ctx := bustest.Context(t)
	control, users := store.NewControl(b.conn), store.NewUsers(b.conn, nil)
	out, err := control.AddBlackout(ctx, store.Blackout{From: time.Now(), To: time.Now().Add(time.Hour), By: "alice"})
	if err == nil {
		_, err = control.SetHold(ctx, store.Hold{Cluster: "prod", By: "alice"})
	}
	if err == nil {
		_, err = users.Add(ctx, "dana", "x", nil, nil, "alice")
	}
	token, _ := auth.NewToken("ci", nil, time.Now().Add(time.Hour))
	if err == nil {
		_, err = users.AddToken(ctx, "dana", token, "alice")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"users", "passwd", "d"}, "dana"},
		{[]string{"users", "token", "list", "ad"}, "admin"}, // of the configuration
		{[]string{"users", "add", ""}, ":4"},                // a new name
		{[]string{"users", "grant", "dana", "db-backup", "cluster-h"}, "cluster-hold"},
		{[]string{"users", "add", "x", "--grant", "db-r"}, "db-restore"},
		{[]string{"users", "token", "revoke", "dana", ""}, token.ID},
		{[]string{"audit", "--user", "da"}, "dana"},
		{[]string{"blackout", "rm", ""}, out.ID},
		{[]string{"unhold", ""}, "prod"},
		{[]string{"alerts", "test", "c"}, "chat"},
		{[]string{"alerts", "sent", "--destination", ""}, "chat"},
		{[]string{"run", "p"}, "prod"},
		{[]string{"run", "prod", "opt"}, "optimize"},
		{[]string{"explain", "prod", "opt"}, "optimize"},
		{[]string{"reseed", "prod", "10"}, db1.String()},
		{[]string{"jobs", "--server", "10"}, db1.String()},
		{[]string{"jobs", "--state", "hal"}, "halted"},
		{[]string{"jobs", "-o", "j"}, "json"},
		{[]string{"cancel", j.ID[:3]}, j.ID},
		{[]string{"hold", ""}, "prod"},
	} {
		// A busy machine may not answer in time, which is no answer; then a person presses the key again.
		bustest.Until(t, 30*time.Second, fmt.Sprintf("%v is completed with %s", c.args, c.want), func() bool {
			return strings.HasPrefix(complete(t, append([]string{"--config", b.file}, c.args...)), c.want)
		})
	}
	// Nobody accepts there: the names of the configuration come all the same, and what only the bus knows does not.
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "deaf.toml")
	if err := os.WriteFile(file, []byte(regexp.MustCompile(`nats://[^"]*`).ReplaceAllString(string(text), "nats://"+deaf.Addr().String())), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := complete(t, []string{"--config", file, "run", "p"}); !strings.HasPrefix(out, "prod") {
		t.Errorf("without a bus: %q", out)
	}
	if out := complete(t, []string{"--config", file, "cancel", ""}); !strings.HasPrefix(out, ":4") {
		t.Errorf("job ids without a bus: %q", out)
	}
}

// complete asks as a shell does.
func complete(t *testing.T, args []string) string {
	t.Helper()
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append([]string{"__complete"}, args...))
	root.SetOut(&out)
	root.SetErr(io.Discard)
	if err := root.ExecuteContext(bustest.Context(t)); err != nil {
		t.Error(err)
	}
	return out.String()
}

// Every command has a page, and none of them says when it was made: packages are built twice and compared.
func TestManPagesAreWrittenForEveryCommand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	root := newRoot()
	root.SetArgs([]string{"man", dir})
	root.SetOut(io.Discard)
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	each(root, func(cmd *cobra.Command) {
		if cmd.Hidden || !cmd.IsAvailableCommand() || cmd.Name() == "help" {
			return
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		if err != nil || !strings.Contains(string(page), ".SH SYNOPSIS") {
			t.Errorf("%s: %v", cmd.CommandPath(), err)
		}
	})
}

// followed is the output of a command that goes on.
type followed struct {
	pipe chan string
	got  string
}

func (f *followed) Write(p []byte) (int, error) { f.pipe <- string(p); return len(p), nil }

// text is what came up to now.
func (f *followed) text() string {
	for {
		select {
		case s := <-f.pipe:
			f.got += s
		default:
			return f.got
		}
	}
}

func (f *followed) until(t *testing.T, ok func(string) bool, what string) {
	t.Helper()
	bustest.Until(t, 30*time.Second, what, func() bool { return ok(f.text()) })
}

// follow runs a command; stop is what Ctrl-C does, and gives its error.
func (b *bench) follow(args ...string) (*followed, func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // as main's: without a deadline
	b.t.Cleanup(cancel)
	out := &followed{pipe: make(chan string, 1000)}
	root := newRoot()
	root.SetArgs(append(args, "--config", b.file))
	root.SetOut(out)
	root.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	return out, func() error { cancel(); return <-done }
}
