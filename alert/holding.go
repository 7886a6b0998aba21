package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// Snapshot is what the conditions of one moment are judged by.
type Snapshot struct {
	Now      time.Time
	Up       time.Time // since when the evaluator runs
	Clusters []Cluster
	Slots    []Slot               // of all clusters, any order
	Backups  map[string]time.Time // when the newest proven backup of each cluster ended
	// Missing are the servers with backups that were never archived, by bus.StateKey with the task archive: how many, and
	// when the oldest ended.
	Missing map[string]Missing
	Proofs  map[string]Proof           // by bus.StateKey with the task backupdrill
	Scripts map[string]store.ScriptDoc // by bus.StateKey with store.DocScript
	// Servers is what the database servers said of themselves, by bus.StateKey with store.DocFacts; only what is fresh.
	Servers map[string]store.Facts
	// Checksums is what the last comparison of each cluster found, by bus.StateKey with store.DocChecksum.
	Checksums map[string]store.Checksum
	Binlogs   map[string]Binlogs // what is known of the archive of binary logs, by cluster
	// Off are the schedules that are or were switched off, by cluster. That nobody backs up because of it makes no condition
	// untrue; it is said with those that it may be the cause of.
	Off  map[string]store.Switches
	Open map[string]bool // the conditions that are open, by subject
}

// Cluster is what the conditions of one cluster depend on.
type Cluster struct {
	Name          string
	Servers       []job.Server
	Lease         time.Duration // scheduler-jobs-lease
	PickupTimeout time.Duration // scheduler-jobs-pickup-timeout
	BackupMaxAge  time.Duration // backup-max-age; 0: a backup is never overdue
	Archive       bool          // backup-restic
	Binlogs       bool          // backup-binlogs
	Drills        bool          // scheduler-backup-drill, where schedules run
	DrillMaxAge   time.Duration // backup-drill-max-age; 0: a proof is never overdue
	MaxClockSkew  time.Duration // monitoring-max-clock-skew; 0: clocks may differ
}

// Missing counts the backups of a server that were never archived.
type Missing struct {
	Count  int
	Oldest time.Time
}

// Slot is the last job of a slot and what else is known of it.
type Slot struct {
	Job  job.Job
	Last Outcome   // of the last run that ended by itself; zero when there is none
	Sign time.Time // when the job's attempt last showed that it lives
	// Heard is false while no sign has come since this evaluator listens. Sign is no more than a benefit of doubt then.
	Heard bool
}

// Outcome is how a run of a task ended.
type Outcome struct {
	State  job.State // success, halted, failed or expired
	JobID  string
	Reason string
	At     time.Time
	Full   bool // a disk was full
}

// outcomeOf is how j, or an earlier attempt of it, last ended. What an operator canceled and what was skipped says
// nothing about whether the task works.
func outcomeOf(j job.Job) (Outcome, bool) {
	if judged(j.State) {
		return Outcome{j.State, j.ID, j.Reason, j.Since, full(j)}, true
	}
	for _, s := range slices.Backward(j.Steps) {
		if judged(s.State) {
			return Outcome{s.State, j.ID, s.Reason, s.Time, strings.Contains(strings.ToLower(s.Reason), fullDisk)}, true
		}
	}
	return Outcome{}, false
}

func judged(s job.State) bool {
	return s == job.Success || s == job.Halted || s == job.Failed || s == job.Expired
}

// fullDisk is what the system and the tools say, in either case of its first letter.
const fullDisk = "no space left"

// full says whether a disk without space ended the job, drydock's or the database host's.
func full(j job.Job) bool {
	said := append([]string{j.Reason, j.Evidence.Result}, j.Evidence.Errors...)
	if j.Stream != nil {
		said = append(said, j.Stream.Err)
	}
	return j.State != job.Success && slices.ContainsFunc(said, func(s string) bool { return strings.Contains(strings.ToLower(s), fullDisk) })
}

const (
	// scriptSilence is how old the last check of a script may be: hosts are asked for one every day.
	scriptSilence = 48 * time.Hour
	// scriptReturns is how soon a script that was sent away should have come again.
	scriptReturns = 2 * time.Minute
	// pausedLong is how long a rolling operation may be paused: the other jobs of its cluster wait all the while.
	pausedLong = 30 * time.Minute
	// archivePatience is how old a backup may become without an archive.
	archivePatience = 6 * time.Hour
	taskArchive     = "archive"
	// slack keeps a condition that is open by the clock open a little longer, so that two evaluators whose clocks differ
	// do not take turns.
	slack = time.Minute
)

// holding gathers conditions by subject.
type holding struct {
	Snapshot
	found map[string]bus.Alert
}

// Holding is the set of conditions that hold, by subject. It is pure. Since is zero where no fact says when it began.
func Holding(s Snapshot) map[string]bus.Alert {
	h := holding{s, map[string]bus.Alert{}}
	type place struct {
		cluster string
		server  job.Server
	}
	slots := map[place][]*Slot{}
	for i := range s.Slots {
		at := place{s.Slots[i].Job.Cluster, s.Slots[i].Job.Server}
		slots[at] = append(slots[at], &s.Slots[i])
	}
	for _, c := range s.Clusters {
		for _, server := range c.Servers {
			here := slots[place{c.Name, server}]
			slices.SortFunc(here, func(a, b *Slot) int { return strings.Compare(a.Job.ID, b.Job.ID) }) // of several the oldest is named
			for _, slot := range here {
				h.slot(c, slot)
			}
			h.script(c, server)
			h.archive(c, server, here)
			h.drills(c, server)
			h.server(c, server)
		}
		for _, slot := range slots[place{c.Name, job.Server{}}] { // of the whole cluster
			if t, err := job.TaskByName(slot.Job.Task); err == nil && t.Kind == job.KindRolling {
				h.rolling(c, slot)
			} else {
				h.slot(c, slot)
			}
		}
		h.backups(c)
		h.checksum(c)
		h.binlogs(c)
	}
	return h.found
}

// rolling judges an operation on a whole cluster. Unlike another job it is also reported when an operator aborted it in
// the middle: the servers are not alike then.
func (h *holding) rolling(c Cluster, s *Slot) {
	j := &s.Job
	about := bus.Alert{Cluster: j.Cluster, Task: j.Task, JobID: j.ID, Since: j.Since}
	if j.State == job.Processing {
		h.sign(c, s, about)
	}
	if j.State.Live() && j.Plan != nil && !j.Plan.Paused.IsZero() && h.Now.Sub(j.Plan.Paused) > pausedLong {
		about := about
		about.Since, about.Text = j.Plan.Paused, fmt.Sprintf("%s, for longer than %s; other jobs of the cluster wait", j.Reason, pausedLong)
		h.hold(rollingPaused, about)
	}
	switch {
	case j.State == job.Canceled && j.Plan != nil && j.Plan.Begun():
		about.Text = fmt.Sprintf("%s is %s: %s", j.Task, j.State, orUnknown(j.Reason))
	case s.Last.State != "" && s.Last.State != job.Success:
		about.JobID, about.Since = s.Last.JobID, s.Last.At
		about.Text = fmt.Sprintf("%s is %s: %s", j.Task, s.Last.State, orUnknown(s.Last.Reason))
	default:
		return
	}
	h.hold(rollingFailed, about)
}

// hold adds a condition unless it is there already.
func (h *holding) hold(code Code, a bus.Alert) {
	a.State, a.Code, a.Severity = bus.AlertOpened, code.Name, code.Severity
	if at := code.subject(a); h.found[at].Code == "" {
		h.found[at] = a
	}
}

// open tells whether the condition is open now.
func (h *holding) open(code Code, a bus.Alert) bool { return h.Open[code.subject(a)] }

// slot judges what concerns one task of one server.
func (h *holding) slot(c Cluster, s *Slot) {
	j := &s.Job
	about := bus.Alert{Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Since: j.Since}
	if j.State.Live() {
		h.live(c, s, about)
	}
	if s.Last.State == "" || s.Last.State == job.Success {
		return
	}
	about.JobID, about.Since = s.Last.JobID, s.Last.At
	about.Text = fmt.Sprintf("%s is %s: %s", j.Task, s.Last.State, orUnknown(s.Last.Reason))
	h.hold(jobFailed, about)
	if s.Last.Full {
		h.hold(noSpace, about)
	}
}

// live judges a job that has not ended. about is filled but for the text.
func (h *holding) live(c Cluster, s *Slot, about bus.Alert) {
	j := &s.Job
	if code, ok := pending[j.Task]; ok {
		due := about
		due.Since, due.Text = j.Created, code.Title
		h.hold(code, due)
	}
	if t, err := job.TaskByName(j.Task); err == nil && t.Kind == job.KindBackup && j.Held() {
		about.Text = "backup waits: " + strings.TrimPrefix(j.Reason, job.HeldReason)
		h.hold(backupHeld, about)
	}
	h.port(j, about)
	if j.State == job.Processing || j.State == job.Waiting {
		h.sign(c, s, about)
	}
}

// port judges what a job that was not taken yet says about the receivers, which serve whole clusters.
func (h *holding) port(j *job.Job, about bus.Alert) {
	reason := waitsFor(j, h.Now)
	about.Server, about.Text = job.Server{}, fmt.Sprintf("%s of %s waits: %s", j.Task, j.Server, reason)
	switch {
	case strings.HasPrefix(reason, job.ReasonNoPort):
		h.hold(poolExhausted, about)
	case strings.HasPrefix(reason, job.ReasonNoReceiver):
		h.hold(noReceiver, about)
	case strings.HasPrefix(reason, job.ReasonNoSpace):
		about.Server = j.Server
		h.hold(noSpace, about)
	}
}

// waitsFor is why a job waits. In api mode the port is asked for when a script comes; a job that gets none is withdrawn
// and soon offered again, until the script comes again: it waits all the while.
func waitsFor(j *job.Job, now time.Time) string {
	switch {
	case j.State == job.Queued:
		return j.Reason
	case j.State != job.Available || len(j.Steps) < 2:
		return ""
	}
	before := j.Steps[len(j.Steps)-2]
	if before.Event != job.Withdraw || now.Sub(before.Time) > scriptReturns {
		return ""
	}
	return before.Reason
}

// sign judges whether a running job lives. One that was silent stays so until it is heard: an evaluator that has just
// begun to listen knows nothing.
func (h *holding) sign(c Cluster, s *Slot, about bus.Alert) {
	silent := h.Now.Sub(s.Sign)
	if silent <= c.Lease/2 && (s.Heard || !h.open(jobStuck, about)) {
		return
	}
	about.Since = s.Sign
	about.Text = fmt.Sprintf("no sign of life for %s; after %s the job is halted", (c.Lease / 2).Round(time.Second), c.Lease)
	h.hold(jobStuck, about)
}

// backups judges the newest proven backup of a cluster.
func (h *holding) backups(c Cluster) {
	about := bus.Alert{Cluster: c.Name}
	newest, exists := h.Backups[c.Name]
	if !exists {
		about.Text = "the cluster does not have a backup"
		h.hold(noBackup, about)
	}
	limit := c.BackupMaxAge
	switch {
	case limit == 0:
		return
	case !exists:
		about.Text = fmt.Sprintf("no proven backup within %s: there is none at all", limit) + h.switchedOff(c, isBackup)
	default:
		about.Since = newest.Add(limit)
		about.Text = fmt.Sprintf("no proven backup within %s: the newest ended at %s", limit, newest.UTC().Format(time.RFC3339)) + h.switchedOff(c, isBackup)
		if h.open(backupOverdue, about) {
			limit -= min(slack, limit/10)
		}
		if h.Now.Sub(newest) <= limit {
			return
		}
	}
	h.hold(backupOverdue, about)
}

// switchedOff says which schedules of these tasks somebody keeps switched off; empty when none.
func (h *holding) switchedOff(c Cluster, of func(job.Task) bool) (text string) {
	for _, s := range h.Off[c.Name] {
		if t, err := job.TaskByName(s.Task); err == nil && of(t) && s.To.IsZero() {
			text += "; " + s.String()
		}
	}
	return text
}

func isBackup(t job.Task) bool { return t.Kind == job.KindBackup }

// archive judges whether the backups of a server are archived: the last try failed, or there was none for too long.
func (h *holding) archive(c Cluster, s job.Server, slots []*Slot) {
	missing := h.Missing[bus.StateKey(c.Name, s.Host, s.Port, taskArchive)]
	if !c.Archive {
		return
	}
	about := bus.Alert{Cluster: c.Name, Server: s, Task: taskArchive}
	for _, slot := range slots {
		if slot.Job.Task == taskArchive && slot.Last.State != "" && slot.Last.State != job.Success {
			about.JobID, about.Since = slot.Last.JobID, slot.Last.At
			about.Text = fmt.Sprintf("%d backups are not archived, the last try is %s: %s", max(1, missing.Count), slot.Last.State, orUnknown(slot.Last.Reason))
			h.hold(notArchived, about)
			return
		}
	}
	patience := archivePatience
	if h.open(notArchived, about) {
		patience -= slack
	}
	if missing.Count > 0 && h.Now.Sub(missing.Oldest) > patience {
		about.Since = missing.Oldest.Add(archivePatience)
		about.Text = fmt.Sprintf("%d backups are not archived, the oldest ended at %s", missing.Count, missing.Oldest.UTC().Format(time.RFC3339))
		h.hold(notArchived, about)
	}
}

// script judges what the script of a database host has let be known of itself.
func (h *holding) script(c Cluster, s job.Server) {
	about := bus.Alert{Cluster: c.Name, Server: s}
	doc, known := h.Scripts[bus.StateKey(c.Name, s.Host, s.Port, store.DocScript)]
	open := h.open(scriptNotChecked, about)
	switch {
	case !known && (open || h.Now.Sub(h.Up) > c.PickupTimeout):
		about.Text = "the script of this host never sent itself to be checked: does it run?"
		h.hold(scriptNotChecked, about)
	case known && (h.Now.Sub(doc.Checked) > scriptSilence || open && h.Now.Sub(doc.Checked) > scriptSilence-slack):
		about.Since = doc.Checked.Add(scriptSilence)
		about.Text = "the script of this host was last checked at " + doc.Checked.UTC().Format(time.RFC3339)
		h.hold(scriptNotChecked, about)
	}
	if known && doc.Upgrade {
		about.Since = doc.Checked
		about.Text = "the script of this host is another one than drydock's and has not taken the new one yet"
		h.hold(scriptOutdated, about)
	}
}

func orUnknown(reason string) string {
	if reason == "" {
		return "no reason was given"
	}
	return reason
}
