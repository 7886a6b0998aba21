package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/web"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

// fleet is a made-up fleet on a real bus and a real gateway, with 30 days behind it: what pages look like when there is
// something on them. Its texts say what hosts and tools are called and say.
type fleet struct {
	*rig
	texts
	clusters []string
	running  job.Job // a backup that is under way
	failed   job.Job // a backup that failed this morning
	backup   store.Manifest
}

// texts come from hosts and tools.
type texts struct{ host, text string }

var (
	hostileTexts = texts{hostile, markup}
	usualTexts   = texts{"prod-db5.example.com", "connection refused"}
)

// markup must show as text wherever it comes from.
const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`

// hostile is a host that the configuration names; nothing keeps an operator from such a name.
const hostile = `db"><b id=owned>9</b>`

func newFleet(t *testing.T, texts texts) *fleet {
	t.Helper()
	f := &fleet{texts: texts, clusters: []string{"billing", "crm", "eu-shop", "intranet", "ledger", "mail", "prod", "search", "stats", "us-shop"}}
	f.rig = newRig(t, func(c *gateway.Config) {
		c.Users["reader"] = "r"
		c.Grants["reader"] = []string{"proxy"}
		c.Clusters = nil
		for i, name := range f.clusters {
			cl := gateway.Cluster{Name: name, User: "drydock", Password: password, Mode: []job.Mode{job.SQL, job.API}[i%2]}
			for n := range 2 + i%4 {
				cl.Servers = append(cl.Servers, job.Server{Host: fmt.Sprintf("%s-db%d.example.com", name, n+1), Port: 3306})
			}
			c.Clusters = append(c.Clusters, cl)
		}
		c.Clusters[6].Servers = append(c.Clusters[6].Servers, job.Server{Host: f.host, Port: 3306})
		c.Plan = func(_ context.Context, q restore.Question) (restore.Plan, error) {
			took := 754.0
			return restore.Plan{
				Backup: f.backup.ID, Cluster: q.Cluster, Server: f.backup.Server, Task: "mariabackup", Tool: "mariabackup 10.11.14", Ended: f.backup.Ended,
				GTID: "0-1-4711", Proof: "restored for a trial 3 h ago", Target: q.Directory, Read: 8 << 30, Need: 19 << 30, Estimate: &took, Measured: "by the last drill",
				Steps: []string{"unpack the backup to " + q.Directory, "prepare it", "replay 7 segments of the binary log"}, Lost: "nothing: the folder must be empty",
				Point:    &restore.PointPlan{To: q.To, Base: "0-1-4711", Reaches: time.Now(), Segments: 7, Read: 300 << 20},
				Findings: []restore.Finding{{What: "signature", Verdict: restore.Fine, Why: "is right"}, {What: "disk", Verdict: restore.Warning, Why: "not looked at: " + f.text}, {What: "key", Verdict: restore.Refused, Why: f.text}},
				Command:  "drydock restore apply " + f.backup.ID + " --to-directory " + q.Directory + " --confirm " + q.Directory, Machine: "the machine of receiver " + f.text,
			}, nil
		}
		c.MaxAge = func(string) time.Duration { return 26 * time.Hour }
		c.Check = func(context.Context) []web.CheckItem {
			return []web.CheckItem{
				{Status: "OK", Name: "configuration", Detail: "/etc/drydock.toml: 10 clusters"},
				{Status: "WARN", Name: "monitoring-datadir", Detail: "/var/lib/drydock: 812 MiB free", Hint: "backups and the bus need room: free some space"},
				{Status: "FAIL", Name: "mail: mail-db1.example.com:3306", Detail: "dial tcp: " + f.text, Hint: "is it up, and does a firewall let this host in?"},
			}
		}
	})
	f.schedules()
	f.history()
	return f
}

// put appends to the log of a slot whatever its last message is.
func put[T any](r *rig, stream, subject string, v T) {
	r.t.Helper()
	_, last, err := bus.Last[T](r.ctx(), r.conn, stream, subject)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		r.t.Fatal(err)
	}
	if _, err := r.conn.Append(r.ctx(), stream, subject, bus.NewMessageID(), last, v); err != nil {
		r.t.Fatal(err)
	}
}

// past puts a job into the log as it ended.
func (f *fleet) past(cluster string, s job.Server, task string, began time.Time, took time.Duration, size int64, end job.State, reason string) job.Job {
	f.t.Helper()
	key := job.Key{Cluster: cluster, Server: s, Task: task}
	ended := began.Add(took)
	j := job.Job{
		ID: job.NewID(began, "t", key), Cluster: cluster, Server: s, Task: task, Attempt: 1, Mode: job.API, State: end, Reason: reason,
		Trigger: job.Trigger{Kind: job.Cron}, Due: began, Created: began, Since: ended, Updated: ended,
		Dispatch: job.Dispatch{Receiver: "db-admin-1", Address: "10.0.1.5", Port: 4001},
		Stream:   &job.Stream{Opened: began, Closed: ended, Bytes: size, Stored: size / 4, Algo: "blake3", Compress: "zstd", Complete: end == job.Success},
	}
	step := func(s job.State, e job.Event, at time.Time, why string) {
		j.Steps = append(j.Steps, job.Step{State: s, Event: e, Time: at, Reason: why, Actor: "gateway@db-admin-1"})
	}
	step(job.Queued, job.Create, began, "due")
	step(job.Available, job.Offer, began.Add(2*time.Second), "")
	step(job.Claimed, job.Claim, began.Add(40*time.Second), "")
	step(job.Processing, job.Start, began.Add(41*time.Second), "the script works")
	if end == job.Success {
		step(job.Finished, job.Done, ended.Add(-3*time.Second), "")
		step(end, job.Pass, ended, reason)
	} else {
		step(end, job.Error, ended, reason)
	}
	put(f.rig, bus.StreamJobs, bus.JobSubject(cluster, s.Host, s.Port, task), bus.JobEvent{
		State: end, Prev: job.Processing, Event: job.Pass, Type: bus.TypeJob, ID: bus.NewMessageID(), Time: ended, Job: j,
	})
	return j
}

// history makes 30 days of backups with their accidents, drills, ticks and conditions.
func (f *fleet) history() {
	now := time.Now().UTC().Truncate(time.Second)
	for i, cl := range f.cfg.Clusters {
		s := cl.Servers[len(cl.Servers)-1]
		if i == 6 {
			s = cl.Servers[0]
		}
		for d := 29; d >= 0; d-- {
			began := now.Add(-time.Duration(d)*24*time.Hour - time.Duration(30+7*i)*time.Minute)
			size := int64(3+i)<<30 + int64(30-d)*int64(20+i)<<20
			switch (d*7 + i*11) % 41 {
			case 3:
				f.past(cl.Name, s, "mariabackup", began, 9*time.Minute, size/3, job.Halted, "stream cut after 1.2 GiB: connection reset by peer")
			case 9:
				put(f.rig, bus.StreamTasks, bus.TaskSubject(cl.Name, "mariabackup"), bus.Tick{Outcome: bus.Missed, Due: began, Cluster: cl.Name, Task: "mariabackup", Type: bus.TypeTick, ID: bus.NewMessageID(), Time: began, Reason: "no scheduler ran"})
			case 17:
				put(f.rig, bus.StreamTasks, bus.TaskSubject(cl.Name, "mariabackup"), bus.Tick{Outcome: bus.Skipped, Due: began, Cluster: cl.Name, Task: "mariabackup", Type: bus.TypeTick, ID: bus.NewMessageID(), Time: began, Reason: "outside maintenance-windows"})
			case 23:
				put(f.rig, bus.StreamTasks, bus.TaskSubject(cl.Name, "mariabackup"), bus.Tick{Outcome: bus.Late, Due: began, Cluster: cl.Name, Task: "mariabackup", Type: bus.TypeTick, ID: bus.NewMessageID(), Time: began, Reason: "no scheduler ran; run 12m late"})
				fallthrough
			default:
				if i == 5 && d < 2 { // mail is overdue
					continue
				}
				j := f.past(cl.Name, s, "mariabackup", began, time.Duration(14+i)*time.Minute+time.Duration(d%5)*time.Minute, size, job.Success, "")
				if d < 14 {
					f.manifest(j, i != 7 && d%6 == i%6)
				}
			}
		}
		f.past(cl.Name, s, "optimize", now.Add(-9*time.Hour-time.Duration(i)*time.Minute), 25*time.Minute, 0, job.Success, "")
	}
	prod := f.cfg.Clusters[6]
	f.failed = f.past(prod.Name, prod.Servers[1], "mariabackup", now.Add(-3*time.Hour), 4*time.Minute, 700<<20, job.Halted, "the tool ended with status 7: "+f.text)
	f.failed.Evidence = job.Evidence{Errors: []string{"mariabackup: cannot read the log: " + f.text, "[00] FATAL ERROR: failed to copy datafile"}, Exit: []int{7, 0}}
	put(f.rig, bus.StreamJobs, bus.JobSubject(prod.Name, f.failed.Server.Host, f.failed.Server.Port, "mariabackup"), bus.JobEvent{State: job.Halted, Prev: job.Halted, Event: job.Note, Job: f.failed, Type: bus.TypeJob})
	f.alert(bus.Alert{Code: "DOCK0101", Severity: bus.SeverityError, Cluster: prod.Name, Server: f.failed.Server, Task: "mariabackup", Text: "mariabackup is halted: " + f.text, Since: now.Add(-3 * time.Hour), JobID: f.failed.ID}, bus.AlertOpened)
	f.alert(bus.Alert{Code: "DOCK0201", Severity: bus.SeverityError, Cluster: "mail", Text: "the newest backup is 51 h old, the limit is 26 h", Since: now.Add(-25 * time.Hour)}, bus.AlertOpened)
	f.alert(bus.Alert{Code: "DOCK0503", Severity: bus.SeverityWarn, Cluster: "crm", Server: f.cfg.Clusters[1].Servers[0], Text: "its clock is 4.2 s ahead", Since: now.Add(-6 * time.Hour)}, bus.AlertOpened)
	f.alert(bus.Alert{Code: "DOCK0502", Severity: bus.SeverityError, Cluster: "stats", Server: f.cfg.Clusters[8].Servers[0], Text: "replication stopped: Duplicate entry", Since: now.Add(-40 * time.Hour)}, bus.AlertOpened)
	f.alert(bus.Alert{Code: "DOCK0502", Severity: bus.SeverityError, Cluster: "stats", Server: f.cfg.Clusters[8].Servers[0], Text: "replication stopped: Duplicate entry", Since: now.Add(-40 * time.Hour)}, bus.AlertClosed)

	s := prod.Servers[0]
	key := job.Key{Cluster: prod.Name, Server: s, Task: "mariabackup"}
	due := now.Add(-8 * time.Minute)
	j := job.Job{State: job.Queued, ID: job.NewID(due, "live", key), Cluster: prod.Name, Server: s, Task: key.Task, Mode: job.API, Trigger: job.Trigger{Kind: job.Manual, By: "admin"}, Due: due}
	if _, err := f.jobs.Create(f.ctx(), j, "asked for by admin"); err != nil {
		f.t.Fatal(err)
	}
	for _, e := range []job.Event{job.Offer, job.Claim} {
		f.apply(key, e, nil)
	}
	f.running = f.apply(key, job.Start, func(j *job.Job) {
		for i := range j.Steps {
			j.Steps[i].Time = due.Add(time.Duration(i) * 20 * time.Second)
		}
	})
	f.log(f.running, "INFO", "mariabackup based on MariaDB server 10.11", "[00] "+f.text, "[01] Streaming ./shop/orders.ibd to <STDOUT>")
	f.log(f.running, "WARN", "innodb_open_files reached: retry")
	f.log(f.running, "ERROR", "cannot stat ./tmp/#sql-1.ibd\r\nevent: gone\rdata: forged")
}

func (f *fleet) manifest(j job.Job, drilled bool) {
	f.t.Helper()
	m := store.Manifest{
		Type: store.ManifestType, ID: j.ID, Cluster: j.Cluster, Server: j.Server, Task: j.Task, Attempt: 1, Trigger: j.Trigger, Tool: "mariabackup 10.11.11",
		Started: j.Started(), Ended: j.Ended(), Receiver: "db-admin-1", Path: "/var/lib/drydock/Backups/" + j.Cluster + "/" + j.ID + ".xbstream.zst",
		Compress: "zstd", Size: j.Stream.Bytes, Stored: j.Stream.Stored, Algo: "blake3", Hash: "9f2c41d0a7", StoredHash: "77aa01", BinlogFile: "binlog.000412", BinlogPos: 81234, GTID: "0-1-99812",
		Checks: []job.Check{},
	}
	if drilled {
		m.Drills = []store.Drill{{Time: j.Ended().Add(10 * time.Minute), By: "admin", Restore: 412, Check: 61, Version: "10.11.11-MariaDB", Tables: 214, Rows: 48_211_907}}
	}
	if err := f.deps.Catalog.Put(f.ctx(), m); err != nil {
		f.t.Fatal(err)
	}
	f.backup = m
}

func (f *fleet) alert(a bus.Alert, edge bus.AlertState) (id string) {
	f.t.Helper()
	a.State, a.Type, a.ID, a.Time = edge, bus.TypeAlert, bus.NewMessageID(), time.Now().UTC()
	name := a.Code
	if a.Task != "" {
		name += "-" + a.Task
	}
	put(f.rig, bus.StreamAlerts, bus.AlertSubject(a.Cluster, a.Server.Host, a.Server.Port, name), a)
	return a.ID
}

// log writes a batch as the gateway does.
func (f *fleet) log(j job.Job, level string, lines ...string) {
	f.t.Helper()
	b := bus.LogBatch{Level: level, Lines: lines, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt, Type: bus.TypeLog, ID: bus.NewMessageID(), Time: time.Now().UTC()}
	put(f.rig, bus.StreamLogs, bus.LogSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task, level), b)
}

// moved says that a job has moved bytes.
func (f *fleet) moved(j job.Job, bytes int64, rate float64) {
	f.t.Helper()
	data, err := json.Marshal(bus.Progress{Sign: bus.SignBytes, Bytes: bytes, Rate: rate, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt, Type: bus.TypeProgress, Time: time.Now().UTC()})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.conn.NC.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), data); err != nil {
		f.t.Fatal(err)
	}
}

// schedules answers in place of a scheduler.
func (f *fleet) schedules() {
	sub, err := f.conn.NC.Subscribe(bus.SubjectNext, func(m *nats.Msg) {
		now := time.Now().UTC()
		var rep bus.NextReply
		for i, cl := range f.cfg.Clusters {
			for n, task := range []string{"mariabackup", "optimize", "errorlog"} {
				s := bus.ScheduleInfo{Cluster: cl.Name, Task: task, Enabled: true, Spec: fmt.Sprintf("0 %d %d * * *", i*5, 1+n), Zone: "Europe/Paris", Servers: cl.Servers, Windows: "daily 22:00-05:00", Policy: "wait"}
				if i%3 == 1 {
					s.Windows, s.Policy = "", ""
				} else {
					s.Windows = "22:00-05:00"
					s.Closed, s.Opens = "maintenance-windows 22:00-05:00 is closed", now.Truncate(time.Hour).Add(5*time.Hour)
				}
				off, err := store.NewControl(f.conn).Switches(context.Background(), cl.Name)
				if err != nil {
					f.t.Error(err)
				}
				if x, ok := off.Off(task); ok {
					s.Switch = &x
				}
				if task == "errorlog" && i%2 == 0 {
					s.Enabled, s.Why = false, "scheduler-db-servers-logs is false"
				} else {
					for d := range 5 {
						at := now.Truncate(24 * time.Hour).Add(time.Duration(24*(d+1)+1+n)*time.Hour + time.Duration(5*i)*time.Minute)
						s.Next = append(s.Next, at)
						if s.Switch != nil {
							s.Barred = append(s.Barred, bus.Barred{Due: at, Gate: job.GateOff, Reason: s.Switch.String()})
						} else if d == 3 && s.Windows != "" {
							s.Barred = append(s.Barred, bus.Barred{Due: at, Gate: job.GateBlackout, Waits: true, Reason: "the fleet is blacked out, by alice: freeze"})
						}
					}
				}
				rep.Schedules = append(rep.Schedules, s)
			}
		}
		data, _ := json.Marshal(rep)
		_ = m.Respond(data)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := f.conn.NC.Flush(); err != nil {
		f.t.Fatal(err)
	}
}
