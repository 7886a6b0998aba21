package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// bench is a bus and a configuration that the commands find it with.
type bench struct {
	t    *testing.T
	conn *bus.Conn
	file string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server, conn := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0", User: "drydock", Password: "bus"})
	file := filepath.Join(t.TempDir(), "drydock.toml")
	text := fmt.Sprintf(`[Default]
monitoring-datadir = %q
nats-url = "nats://%s"
nats-password = "bus"
api-credentials = "admin:repman"
api-credentials-acl-allow = "admin:db"
alert-destinations = "chat:generic://127.0.0.1:1/hook"
[prod]
db-servers-hosts = "10.0.1.5:3306"
db-servers-credential = "drydock:x"
`, t.TempDir(), server.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &bench{t, conn, file}
}

// run runs a command with an input, and gives its output and error.
func (b *bench) run(input string, args ...string) (string, error) {
	b.t.Helper()
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append(args, "--config", b.file))
	root.SetIn(strings.NewReader(input))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(bustest.Context(b.t))
	return out.String(), err
}

func (b *bench) acts() []bus.Audit {
	b.t.Helper()
	list, err := store.NewAudits(b.conn, "test").List(bustest.Context(b.t), store.AuditFilter{})
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// What is done by command is on record like what is done through the API, and no password gets into it.
func TestCommandsThatChangeSomethingAreInTheAudit(t *testing.T) {
	t.Parallel()
	const canary = "k4n4r1env0gel"
	b := newBench(t)
	jobs := store.NewJobs(b.conn, "test", nil)
	due := time.Now().UTC()
	key := job.Key{Cluster: "prod", Server: job.Server{Host: "10.0.1.5", Port: 3306}, Task: "errorlog"}
	live, err := jobs.Create(bustest.Context(t), job.Job{
		State: job.Queued, ID: job.NewID(due, bus.NewMessageID(), key), Cluster: key.Cluster, Server: key.Server, Task: key.Task, Mode: job.SQL, Due: due,
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := b.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) { // in place of a scheduler
		data, _ := json.Marshal(bus.NextReply{Schedules: []bus.ScheduleInfo{{Cluster: "prod", Task: "optimize", Enabled: true}}})
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	blackout := ""
	for _, c := range []struct {
		args, input, verb string
		outcome           bus.AuditOutcome
		want              string // in the entry as text
	}{
		{"hold prod -r move", "", "hold", bus.AuditDone, "move"},
		{"run prod optimize", "", "run", bus.AuditRefused, "on hold"},
		{"run prod optimize --force", "", "run", bus.AuditDone, "forced"},
		{"unhold prod", "", "unhold", bus.AuditDone, "prod"},
		{"unhold prod", "", "unhold", bus.AuditRefused, "not on hold"},
		{"blackout add --for 1h", "", "blackout-add", bus.AuditDone, " to "},
		{"blackout rm BLACKOUT", "", "blackout-remove", bus.AuditDone, "blacked out"},
		{"schedules off prod analyze", "", "schedule-off", bus.AuditRefused, "has none for analyze"},
		{"schedules off prod optimize --note bug17", "", "schedule-off", bus.AuditDone, "bug17"},
		{"schedules off prod optimize --note another", "", "schedule-off", bus.AuditRefused, "bug17 already"},
		{"schedules on prod optimize", "", "schedule-on", bus.AuditDone, "bug17"},
		{"schedules on prod optimize", "", "schedule-on", bus.AuditRefused, "not switched off"},
		{"reseed prod 10.0.1.5:3306 physical", "", "reseed", bus.AuditRefused, "10.0.1.5:3306"},
		{"cancel " + live.ID, "", "cancel", bus.AuditDone, "errorlog"},
		{"replay", "", "replay", bus.AuditDone, "states"},
		{"users add dana --grant db-logs,db-backup --on prod=cluster --password-stdin", canary + " one\n", "user-add", bus.AuditDone, "db-logs db-backup; on prod: cluster"},
		{"users add dana --password-stdin", canary + " two\n", "user-add", bus.AuditRefused, "exists"},
		{"users add admin --password-stdin", canary + " two\n", "user-add", bus.AuditRefused, "api-credentials"},
		{"users grant dana db-restore", "", "user-grant", bus.AuditDone, "db-logs db-backup db-restore; on prod: cluster"},
		{"users grant dana db-stop --on prod", "", "user-grant", bus.AuditDone, "on prod: cluster db-stop"},
		{"users revoke dana db-logs", "", "user-revoke", bus.AuditDone, "db-backup db-restore"},
		{"users revoke dana db-logs", "", "user-revoke", bus.AuditRefused, "does not have the word"},
		{"users passwd dana --password-stdin", canary + " three\n", "user-passwd", bus.AuditDone, "dana"},
		{"users token add dana ci --grant db-backup", "", "token-add", bus.AuditDone, `"ci" until`},
		{"users token revoke dana ci", "", "token-remove", bus.AuditDone, `"ci" until`},
		{"users revoke-tokens admin", "", "user-revoke-tokens", bus.AuditDone, "admin"},
		{"users revoke-tokens nobody", "", "user-revoke-tokens", bus.AuditRefused, "no such user"},
		{"users disable dana", "", "user-disable", bus.AuditDone, "dana"},
		{"users enable dana", "", "user-enable", bus.AuditDone, "dana"},
		{"users add boss --grant cluster --password-stdin", canary + " four\n", "user-add", bus.AuditDone, "cluster"},
		{"users remove boss", "", "user-remove", bus.AuditRefused, "nobody could manage users"},
		{"users remove boss --force", "", "user-remove", bus.AuditDone, "forced"},
		{"users remove dana", "", "user-remove", bus.AuditDone, "dana"},
	} {
		before := len(b.acts())
		out, err := b.run(c.input, strings.Fields(strings.ReplaceAll(c.args, "BLACKOUT", blackout))...)
		if (err == nil) != (c.outcome == bus.AuditDone) {
			t.Errorf("%s: %v", c.args, err)
		}
		if c.verb == "blackout-add" {
			blackout, _, _ = strings.Cut(out, " ")
		}
		all := b.acts()
		if len(all) != before+1 {
			t.Errorf("%s: %d entries, %v", c.args, len(all)-before, err)
			continue
		}
		a := all[0]
		if a.Verb != c.verb || a.Outcome != c.outcome || a.User != operator() || a.Via != bus.ViaCommand || a.Address == "" || !strings.Contains(fmt.Sprintf("%+v", a), c.want) {
			t.Errorf("%s: %+v, want %s %s %q", c.args, a, c.verb, c.outcome, c.want)
		}
		if strings.Contains(out, canary) {
			t.Errorf("%s prints the password", c.args)
		}
	}
	for _, args := range []string{"users list", "users list -o yaml", "users list -o json", "audit", "audit --verb hold -o yaml", "audit --user nobody"} {
		out, err := b.run("", strings.Fields(args)...)
		if err != nil || strings.Contains(out, "argon2id") {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{bus.StreamAudit, "KV_" + bus.BucketUsers} {
		stream, err := b.conn.JS.Stream(bustest.Context(t), name)
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo().State
		for seq := info.FirstSeq; seq <= info.LastSeq; seq++ {
			if m, err := stream.GetMsg(bustest.Context(t), seq); err == nil && strings.Contains(string(m.Data), canary) {
				t.Errorf("%s holds a password: %s", name, m.Data)
			} else if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Fatal(err)
			}
		}
	}
}

func TestAPasswordIsNeverAnArgument(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, args := range []string{"users add dana secret-word", "users passwd dana secret-word", "users add dana --password secret-word", "users add dana"} {
		if _, err := b.run("", strings.Fields(args)...); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}

// Whoever adds a command is asked here whether it changes something: then it goes through audited, and into the test above.
func TestEveryCommandReadsOrIsAudited(t *testing.T) {
	t.Parallel()
	reads := strings.Fields(`serve check ready import-repman script demo man jobs tail next ticks explain backups backups/verify backups/key alerts nats version audit
		blackout/ls rolling/show restore/plan binlogs binlogs/verify alerts/sent alerts/test send-notification nats/user/list users/list users/token/list schedules/list`)
	acts := strings.Fields(`run reseed flashback cancel hold unhold schedules/off schedules/on replay blackout/add blackout/rm rolling/pause rolling/resume rolling/abort
		drill/run restore/apply backups/rebuild alerts/ack alerts/unack backups/pin backups/unpin backups/prune users/add users/remove users/passwd users/grant users/revoke users/disable users/enable
		nats/user/add nats/user/remove users/revoke-tokens users/token/add users/token/revoke`)
	var walk func(path string, cmd *cobra.Command)
	walk = func(path string, cmd *cobra.Command) {
		if cmd.Runnable() && path != "" && !slices.Contains(reads, path) && !slices.Contains(acts, path) {
			t.Errorf("%s: does it change something?", path)
		}
		for _, sub := range cmd.Commands() {
			walk(strings.TrimPrefix(path+"/"+sub.Name(), "/"), sub)
		}
	}
	walk("", newRoot())
}
