package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/app"
	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

// conclude prints what became of every job, proves the backups, and shows the ledger. Errors: [ErrNotProven], or ctx's.
func (d *demo) conclude(ctx context.Context, b *board) error {
	conn, err := app.Dial(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	rows := b.snapshot()
	proven := d.showResults(rows)
	if !d.showBackups(ctx, conn, rows) {
		proven = false
	}
	if err := d.showLedger(ctx, conn); err != nil {
		return err
	}
	d.screen.print("")
	if !proven {
		d.showLog()
		return ErrNotProven
	}
	d.say("all %d jobs reached success, started by cron; both backups were restored", len(rows))
	if !d.Keep {
		d.screen.print("         to look around, leave it running: make demo KEEP=1, or %s demo --keep", d.Program)
	}
	return nil
}

// showResults leaves the table on the screen, and says of each job without success why.
func (d *demo) showResults(rows []row) (all bool) {
	all = true
	d.screen.erase()
	if d.screen.live {
		d.screen.print("%s", heading)
		for _, r := range rows {
			d.screen.print("%s", r.line(time.Now()))
		}
	}
	for _, r := range rows {
		if r.job.State == job.Success && r.verdict == "" {
			continue
		}
		all = false
		d.screen.print("")
		for _, line := range r.explain() {
			d.screen.print("%s", clip(line, 4*maxWidth)) // a cause is not cut to fit
		}
	}
	return all
}

// explain says why a job has no success: its reason, the tool's errors, or else the last lines it logged.
func (r row) explain() []string {
	reason := r.job.Reason
	switch {
	case r.verdict != "":
		reason = r.why
	case r.job.State == "":
		reason = "no job was started"
	}
	out := []string{fmt.Sprintf("%s: %s: %s", r.key, r.state(), reason)}
	said := r.job.Evidence.Errors
	if len(said) == 0 {
		said = r.lines
	}
	for _, l := range said {
		out = append(out, "    "+l)
	}
	return out
}

// showBackups prints and proves the backup of every successful backup job. False when one has no proof.
func (d *demo) showBackups(ctx context.Context, conn *bus.Conn, rows []row) (all bool) {
	list, err := store.NewCatalog(conn).List(ctx, "", job.Server{})
	if err != nil {
		d.screen.print("no proof: %v", err)
		return false
	}
	all = true
	for _, r := range rows {
		if r.key.Task != "mariabackup" || r.job.State != job.Success {
			continue
		}
		i := slices.IndexFunc(list, func(m store.Manifest) bool { return m.ID == r.job.ID })
		if i < 0 {
			d.screen.print("no proof: the catalogue has no backup of job %s", r.job.ID)
			all = false
			continue
		}
		d.showBackup(list[i])
		if err := d.prove(ctx, list[i]); err != nil {
			d.screen.print("  NO PROOF   %v", err)
			all = false
		}
	}
	return all
}

func (d *demo) showBackup(m store.Manifest) {
	d.screen.print("")
	d.screen.print("Backup of cluster %s, %s, with its manifest beside it:", m.Cluster, m.Server)
	d.screen.print("  file       %s", filepath.Base(m.Path))
	d.screen.print("  folder     %s", d.short(filepath.Dir(m.Path)))
	size := bytes(m.Size)
	if m.Stored != m.Size {
		size += fmt.Sprintf(", %s on disk (%s)", bytes(m.Stored), m.Compress)
	}
	d.screen.print("  size       %s", size)
	d.screen.print("  %-10s %s", m.Algo, m.Hash)
	d.screen.print("  position   GTID %s, %s:%d", m.GTID, m.BinlogFile, m.BinlogPos)
	d.screen.print("  checked    %s", strings.Join(heldChecks(m.Checks), ", "))
}

func heldChecks(checks []job.Check) (held []string) {
	for _, c := range checks {
		if c.Held {
			held = append(held, c.Name)
		}
	}
	return held
}

// prove restores a backup and prints how; the restored files are removed at once, as there is a second one to come.
func (d *demo) prove(ctx context.Context, m store.Manifest) error {
	d.screen.draw([]string{"  proof      unpacking and preparing the file ..."})
	p := &proof{m: m, dir: d.path("proof", m.Cluster)}
	err := p.run(ctx)
	d.screen.erase()
	if err != nil {
		return err
	}
	d.screen.print("  proof      hash and size computed again: equal; mbstream unpacked %d files in %s", p.files, seconds(p.unpacked))
	d.screen.print("             mariadb-backup --prepare on them: completed OK! in %s", seconds(p.prepare))
	return os.RemoveAll(p.dir)
}

// showLedger prints what became of every tick.
func (d *demo) showLedger(ctx context.Context, conn *bus.Conn) error {
	list, err := store.NewLedger(conn, "demo").List(ctx, store.TickFilter{})
	if err != nil {
		return err
	}
	d.screen.print("")
	d.screen.print("The tick ledger:")
	for _, t := range slices.Backward(list) {
		if t.Outcome == bus.Armed || t.Outcome == bus.Disarmed {
			continue
		}
		line := fmt.Sprintf("  %s UTC  %-4s %-12s %-8s %.2f s after it was due  %s",
			t.Due.Format(time.TimeOnly), t.Cluster, t.Task, t.Outcome, t.Lateness, t.Reason)
		d.screen.print("%s", strings.TrimRight(clip(line, maxWidth), " "))
	}
	return nil
}

// showLog prints the last warnings and errors of drydock's own log.
func (d *demo) showLog() {
	const most = 10
	text, err := os.ReadFile(d.logFile())
	if err != nil {
		return
	}
	var bad []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			bad = append(bad, line)
		}
	}
	if len(bad) > 0 {
		d.screen.print("drydock's last warnings:")
	}
	for _, line := range bad[max(0, len(bad)-most):] {
		d.screen.print("  %s", clip(strings.TrimSpace(line), 3*maxWidth))
	}
	d.screen.print("")
}

// short is a path below the demo's folder, from there.
func (d *demo) short(path string) string {
	if rel, err := filepath.Rel(d.dir, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}

// keepRunning leaves everything as it is until ctx ends, and says how to look around. result is how the show ended.
func (d *demo) keepRunning(ctx context.Context, result error) {
	d.kept.Store(true)
	if err := d.writeEnvironment(); err != nil {
		d.say("no hints: %v", err) // it ended before drydock was up
	}
	if result != nil {
		d.say("%v", result)
	}
	call := d.Program + " --config " + d.configFile()
	d.screen.print("")
	d.screen.print("Everything goes on running. In another terminal:")
	for _, line := range []string{
		". " + d.environmentFile() + "   # the passwords, and where the bus is",
		call + " jobs",
		call + " run sql mariabackup --wait",
		call + " backups",
		"nats stream ls; nats kv ls drydock_serverstate; nats sub 'drydock.job.>'",
		"curl -k https://" + d.addrs.API + "/healthz   # API login: admin, $" + envAPIPassword,
	} {
		d.screen.print("  %s", line)
	}
	d.screen.print("HTTP %s, HTTPS %s, NATS %s; drydock's log: %s", d.addrs.HTTP, d.addrs.API, d.addrs.NATS, d.logFile())
	d.screen.print("Ctrl-C ends it and removes everything.")
	<-ctx.Done()
}
