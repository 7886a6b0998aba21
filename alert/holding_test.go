package alert

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

var (
	db1  = job.Server{Host: "10.0.1.5", Port: 3306}
	db2  = job.Server{Host: "10.0.1.6", Port: 3306}
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func testCluster() Cluster {
	return Cluster{Name: "prod", Servers: []job.Server{db1, db2}, Lease: 10 * time.Minute, PickupTimeout: time.Hour}
}

// slotOf is a slot whose last job was heard a moment ago.
func slotOf(task string, s job.State, reason string) Slot {
	j := job.Job{
		State: s, ID: "J1", Cluster: "prod", Server: db1, Task: task, Attempt: 1, Reason: reason,
		Created: noon.Add(-time.Hour), Since: noon.Add(-time.Minute),
	}
	out, _ := outcomeOf(j)
	return Slot{Job: j, Last: out, Sign: noon, Heard: true}
}

// rollingSlot is an operation on the whole cluster, paused since then unless that is zero.
func rollingSlot(s job.State, paused time.Time, begun bool) Slot {
	return slotOf("rollingrestart", s, "why").with(func(s *Slot) {
		s.Job.Server = job.Server{}
		s.Job.Plan = &job.Plan{Paused: paused, Stages: []job.Stage{{Server: db1}}}
		if begun {
			s.Job.Plan.Stages[0].Began = noon.Add(-time.Hour)
		}
	})
}

// offeredAgain is the history of a job that was sent away for want of a port.
func offeredAgain(ago time.Duration) func(*Slot) {
	return func(s *Slot) {
		s.Job.Steps = []job.Step{
			{State: job.Queued, Event: job.Withdraw, Time: noon.Add(-ago), Reason: job.ReasonNoPort}, {State: job.Available, Event: job.Offer},
		}
	}
}

func (s Slot) with(f func(*Slot)) Slot { f(&s); return s }

// names lists subjects without what they all have in common.
func names(found map[string]bus.Alert) string {
	var out []string
	for subject := range found {
		out = append(out, strings.TrimPrefix(subject, "drydock.alert.prod."))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestWhatHoldsFollowsFromTheSnapshotAlone(t *testing.T) {
	t.Parallel()
	const server = "10_0_1_5.3306."
	bad := Outcome{State: job.Halted, JobID: "J0", Reason: "exit status 1", At: noon.Add(-time.Hour)}
	for name, c := range map[string]struct {
		slots  []Slot
		change func(*Snapshot)
		want   string
	}{
		"nothing":                      {nil, nil, ""},
		"a success":                    {[]Slot{slotOf("mariabackup", job.Success, "")}, nil, ""},
		"a backup is pending":          {[]Slot{slotOf("mariabackup", job.Queued, "")}, nil, server + "WARN0073"},
		"until its checks are over":    {[]Slot{slotOf("mariabackup", job.Finished, "")}, nil, server + "WARN0073"},
		"a logical one is pending":     {[]Slot{slotOf("mysqldump", job.Processing, "")}, nil, server + "DOCK0203"},
		"with either tool":             {[]Slot{slotOf("xtrabackup", job.Processing, ""), slotOf("mariabackup", job.Queued, "")}, nil, server + "WARN0073"},
		"optimize is pending":          {[]Slot{slotOf("optimize", job.Claimed, "")}, nil, server + "WARN0072"},
		"a reseed is pending":          {[]Slot{slotOf("reseedmariabackup", job.Waiting, "")}, nil, server + "WARN0074"},
		"a flashback is pending":       {[]Slot{slotOf("flashbackxtrabackup", job.Waiting, "")}, nil, server + "WARN0076"},
		"collecting a log is no state": {[]Slot{slotOf("errorlog", job.Processing, "")}, nil, ""},
		"a backup is held":             {[]Slot{slotOf("mariabackup", job.Queued, job.HeldReason+"optimize J0 has the server for itself")}, nil, server + "WARN0073 " + server + "WARN0110"},
		"only backups have WARN0110":   {[]Slot{slotOf("optimize", job.Queued, job.HeldReason+"mariabackup J0 has the server for itself")}, nil, server + "WARN0072"},
		"a failure":                    {[]Slot{slotOf("errorlog", job.Failed, "stream: cut")}, nil, server + "DOCK0101-errorlog"},
		"nobody took it":               {[]Slot{slotOf("errorlog", job.Expired, "no script asked")}, nil, server + "DOCK0101-errorlog"},
		"two failures are two":         {[]Slot{slotOf("errorlog", job.Failed, ""), slotOf("slowquery", job.Halted, "")}, nil, server + "DOCK0101-errorlog " + server + "DOCK0101-slowquery"},
		"a cancel is no failure":       {[]Slot{slotOf("errorlog", job.Canceled, "")}, nil, ""},
		"a cancel makes none good":     {[]Slot{slotOf("errorlog", job.Canceled, "").with(func(s *Slot) { s.Last = bad })}, nil, server + "DOCK0101-errorlog"},
		"nor does the next run":        {[]Slot{slotOf("errorlog", job.Processing, "").with(func(s *Slot) { s.Last = bad })}, nil, server + "DOCK0101-errorlog"},
		"drydock's disk is full":       {[]Slot{slotOf("errorlog", job.Halted, "write backup: no space left on device")}, nil, server + "DOCK0101-errorlog " + server + "WARN0100"},
		"no port":                      {[]Slot{slotOf("errorlog", job.Queued, job.ReasonNoPort)}, nil, "_.DOCK0301"},
		"no port once":                 {[]Slot{slotOf("errorlog", job.Queued, job.ReasonNoPort), slotOf("slowquery", job.Queued, job.ReasonNoPort)}, nil, "_.DOCK0301"},
		"no port, offered again":       {[]Slot{slotOf("errorlog", job.Available, "").with(offeredAgain(time.Minute))}, nil, "_.DOCK0301"},
		"offered long ago":             {[]Slot{slotOf("errorlog", job.Available, "").with(offeredAgain(3 * time.Minute))}, nil, ""},
		"taken at last":                {[]Slot{slotOf("errorlog", job.Claimed, "").with(offeredAgain(time.Minute))}, nil, ""},
		"a port came":                  {[]Slot{slotOf("errorlog", job.Available, job.ReasonNoPort)}, nil, ""},
		"no receiver":                  {[]Slot{slotOf("errorlog", job.Queued, job.ReasonNoReceiver)}, nil, "_.DOCK0302"},
		"silence":                      {[]Slot{slotOf("errorlog", job.Processing, "").with(func(s *Slot) { s.Sign = noon.Add(-6 * time.Minute) })}, nil, server + "DOCK0102-errorlog"},
		"a pause":                      {[]Slot{slotOf("errorlog", job.Processing, "").with(func(s *Slot) { s.Sign = noon.Add(-5 * time.Minute) })}, nil, ""},
		"silence before it began":      {[]Slot{slotOf("errorlog", job.Available, "").with(func(s *Slot) { s.Sign = noon.Add(-6 * time.Minute) })}, nil, ""},
		"silence that a restart forgot": {[]Slot{slotOf("errorlog", job.Processing, "").with(func(s *Slot) { s.Heard = false })},
			func(s *Snapshot) { s.Open["drydock.alert.prod."+server+"DOCK0102-errorlog"] = true }, server + "DOCK0102-errorlog"},
		"no backup at all":      {nil, func(s *Snapshot) { s.Backups = nil }, "_.WARN0101"},
		"and it is overdue":     {nil, func(s *Snapshot) { s.Backups = nil; s.Clusters[0].BackupMaxAge = time.Hour }, "_.DOCK0201 _.WARN0101"},
		"an old backup":         {nil, func(s *Snapshot) { s.Clusters[0].BackupMaxAge = 29 * time.Minute }, "_.DOCK0201"},
		"a backup young enough": {nil, func(s *Snapshot) { s.Clusters[0].BackupMaxAge = 31 * time.Minute }, ""},
		"never overdue":         {nil, func(s *Snapshot) { s.Backups["prod"] = time.Time{} }, ""},
		"clocks differ a little": {nil, func(s *Snapshot) {
			s.Clusters[0].BackupMaxAge = 30 * time.Minute
			s.Open["drydock.alert.prod._.DOCK0201"] = true
		}, "_.DOCK0201"},
		"the bound was raised": {nil, func(s *Snapshot) {
			s.Clusters[0].BackupMaxAge = time.Hour
			s.Open["drydock.alert.prod._.DOCK0201"] = true
		}, ""},
		"script outdated":        {nil, func(s *Snapshot) { s.Scripts[scriptKey(db1)] = store.ScriptDoc{Checked: noon, Upgrade: true} }, server + "DOCK0401"},
		"script long unchecked":  {nil, func(s *Snapshot) { s.Scripts[scriptKey(db1)] = store.ScriptDoc{Checked: noon.Add(-49 * time.Hour)} }, server + "DOCK0402"},
		"script never seen":      {nil, func(s *Snapshot) { delete(s.Scripts, scriptKey(db1)); s.Up = noon.Add(-61 * time.Minute) }, server + "DOCK0402"},
		"script not seen so far": {nil, func(s *Snapshot) { delete(s.Scripts, scriptKey(db1)) }, ""},
		"still not seen": {nil, func(s *Snapshot) {
			delete(s.Scripts, scriptKey(db1))
			s.Open["drydock.alert.prod."+server+"DOCK0402"] = true
		}, server + "DOCK0402"},
		"an operation failed":          {[]Slot{rollingSlot(job.Halted, time.Time{}, false)}, nil, "_.DOCK0601-rollingrestart"},
		"aborted when it had begun":    {[]Slot{rollingSlot(job.Canceled, time.Time{}, true)}, nil, "_.DOCK0601-rollingrestart"},
		"aborted before":               {[]Slot{rollingSlot(job.Canceled, time.Time{}, false)}, nil, ""},
		"an operation ended well":      {[]Slot{rollingSlot(job.Success, time.Time{}, true)}, nil, ""},
		"paused for long":              {[]Slot{rollingSlot(job.Processing, noon.Add(-31*time.Minute), true)}, nil, "_.DOCK0602-rollingrestart"},
		"paused":                       {[]Slot{rollingSlot(job.Processing, noon.Add(-30*time.Minute), true)}, nil, ""},
		"an operation nobody works on": {[]Slot{rollingSlot(job.Processing, time.Time{}, true).with(func(s *Slot) { s.Sign = noon.Add(-6 * time.Minute) })}, nil, "_.DOCK0102-rollingrestart"},
		"a server of yesterday":        {[]Slot{slotOf("errorlog", job.Failed, "")}, func(s *Snapshot) { s.Clusters[0].Servers = []job.Server{db2} }, ""},
		"somebody else's cluster":      {[]Slot{slotOf("errorlog", job.Failed, "").with(func(s *Slot) { s.Job.Cluster = "other" })}, nil, ""},
	} {
		s := Snapshot{
			Now: noon, Up: noon.Add(-time.Minute), Clusters: []Cluster{testCluster()}, Slots: c.slots, Open: map[string]bool{},
			Backups: map[string]time.Time{"prod": noon.Add(-30 * time.Minute)},
			Scripts: map[string]store.ScriptDoc{scriptKey(db1): {Checked: noon}, scriptKey(db2): {Checked: noon}},
		}
		if c.change != nil {
			c.change(&s)
		}
		found := Holding(s)
		if got := names(found); got != c.want {
			t.Errorf("%s: %q holds, want %q", name, got, c.want)
		}
		for subject, a := range found {
			if a.State != bus.AlertOpened || a.Code == "" || a.Severity == "" || a.Cluster != "prod" || a.Text == "" {
				t.Errorf("%s: %s says too little: %+v", name, subject, a)
			}
		}
	}
}

func scriptKey(s job.Server) string { return bus.StateKey("prod", s.Host, s.Port, store.DocScript) }

func TestAFullDiskIsFoundWhereverItIsSaid(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*job.Job){
		"by the receiver":      func(j *job.Job) { j.Stream = &job.Stream{Err: "write backup: no space left on device"} },
		"by the tool":          func(j *job.Job) { j.Evidence.Errors = []string{"x", `(errno: 28 "No space left on device")`} },
		"by the last lines":    func(j *job.Job) { j.Evidence.Result = "socat: No space left on device\n" },
		"by the verdict alone": func(j *job.Job) { j.Reason = "could not publish the stream: no space left on device" },
	} {
		j := job.Job{State: job.Failed, Reason: "stream: broken"}
		f(&j)
		if out, ok := outcomeOf(j); !ok || !out.Full {
			t.Errorf("%s: %+v", name, out)
		}
		j.State = job.Success
		if out, _ := outcomeOf(j); out.Full {
			t.Errorf("%s: a success is no full disk", name)
		}
	}
}

func TestAnAttemptThatFailedCountsWhileTheNextOneRuns(t *testing.T) {
	t.Parallel()
	j := job.Job{State: job.Queued, ID: "J1", Attempt: 2, Steps: []job.Step{
		{State: job.Success, Time: noon}, {State: job.Halted, Time: noon.Add(time.Second), Reason: "cut"}, {State: job.Queued},
	}}
	if out, ok := outcomeOf(j); !ok || out.State != job.Halted || out.Reason != "cut" || out.JobID != "J1" {
		t.Errorf("%+v %v", out, ok)
	}
}

func TestTheDocumentNamesEveryCodeWithItsSeverity(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range Codes() {
		name := c.Name
		if c.PerTask {
			name += "-<task>"
		}
		if !strings.Contains(string(text), "| `"+name+"` | "+string(c.Severity)+" | ") {
			t.Errorf("docs/conditions.md has no row for %s, %s", name, c.Severity)
		}
		if seen[c.Name] {
			t.Errorf("%s stands twice", c.Name)
		}
		seen[c.Name] = true
	}
	for task, c := range maps.All(pending) {
		if _, err := job.TaskByName(task); err != nil {
			t.Errorf("%s is about a task that does not exist: %s", c.Name, task)
		}
	}
}

// A backup is overdue whoever switched its schedule off: the condition must open all the same, and say why nothing is done.
func TestASwitchedOffScheduleHidesNothing(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	off := func(task string) bus.Switch {
		return bus.Switch{Task: task, From: noon.Add(-3 * day), By: "alice", Note: task + " is slow"}
	}
	over := off("mydumper")
	over.To = noon
	s := Snapshot{
		Now: noon, Up: noon, Backups: map[string]time.Time{"prod": noon.Add(-2 * day)},
		Proofs: map[string]Proof{bus.StateKey("prod", db1.Host, db1.Port, taskDrill): {Oldest: noon.Add(-9 * day)}},
		Off:    map[string]store.Switches{"prod": {over, off("mariabackup"), off("optimize"), off(taskDrill)}},
	}
	c := testCluster()
	c.BackupMaxAge, c.Drills, c.DrillMaxAge = day, true, 7*day
	s.Clusters = []Cluster{c}
	found := Holding(s)
	for _, want := range []struct {
		code  Code
		about bus.Alert
		says  string
	}{{backupOverdue, bus.Alert{Cluster: "prod"}, "mariabackup is slow"}, {notProven, bus.Alert{Cluster: "prod", Server: db1}, "backupdrill is slow"}} {
		got := found[want.code.subject(want.about)].Text
		if !strings.HasSuffix(got, "is switched off since 2026-11-19 12:00:00 UTC, by alice: "+want.says) || strings.Count(got, "; ") != 1 {
			t.Errorf("%s: %q", want.code.Name, got)
		}
	}
}
