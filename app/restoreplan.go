package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/receiver/recovery"
	"drydock/receiver/sink"
	"drydock/restore"
	"drydock/store"
)

// RestorePlan is a plan, and what its work needs of it.
type RestorePlan struct {
	restore.Plan
	// Replay is the way to the point in time, for [RestoreOptions].
	Replay *binlog.Plan `json:"-"`
}

func (p *RestorePlan) add(what string, v restore.Verdict, format string, args ...any) {
	p.Findings = append(p.Findings, restore.Finding{What: what, Verdict: v, Why: fmt.Sprintf(format, args...)})
}

// found adds a finding that is fine unless err says otherwise.
func (p *RestorePlan) found(what string, err error, fine string, args ...any) {
	if err != nil {
		p.add(what, restore.Refused, "%s", err.Error())
		return
	}
	p.add(what, restore.Fine, fine, args...)
}

// Known are the manifests of the catalogue, with what is known of drills. Err says why there are none.
type Known struct {
	Manifests []store.Manifest
	Err       error
}

func newPlan(m store.Manifest, target string, known Known) RestorePlan {
	p := RestorePlan{Plan: restore.Plan{
		Backup: m.ID, Cluster: m.Cluster, Server: m.Server, Task: m.Task, Tool: m.Tool, Ended: m.Ended, GTID: m.GTID,
		Target: target, Read: m.Stored, Findings: []restore.Finding{},
	}}
	p.proof(m, known)
	p.measure(m, known)
	return p
}

// proof says what was shown of the backup so far.
func (p *RestorePlan) proof(m store.Manifest, known Known) {
	p.Proof = "hash"
	if known.Err != nil {
		p.add("proof", restore.Warning, "whether a drill has restored it is not known: %v", known.Err)
		return
	}
	i := slices.IndexFunc(known.Manifests, func(k store.Manifest) bool { return k.ID == m.ID })
	if i < 0 {
		p.add("proof", restore.Warning, "the catalogue does not have it: no drill of it is known")
		return
	}
	d, restored := known.Manifests[i].Restored()
	fault, bad := known.Manifests[i].Fault()
	switch {
	case restored:
		p.Proof = "restored " + d.Time.Format("2006-01-02")
		p.add("proof", restore.Fine, "a drill restored it at %s: %d tables, %d rows", d.Time.Format(time.DateTime), d.Tables, d.Rows)
	case bad:
		p.Proof = "does not restore"
		p.add("proof", restore.Warning, "%s at %s: %s", fault.How(), fault.Time.Format(time.DateTime), fault.Problem)
	default:
		p.add("proof", restore.Warning, "no drill has restored it yet%s", proven(m, known.Manifests))
	}
}

// proven names the newest older backup of the same server that a drill has restored, to choose from: it has fewer of the last changes.
func proven(m store.Manifest, all []store.Manifest) string {
	for _, k := range all { // newest first
		d, restored := k.Restored()
		if restored && k.Cluster == m.Cluster && k.Server == m.Server && k.Ended.Before(m.Ended) {
			return fmt.Sprintf("; %s, which ended at %s, was restored at %s", k.ID, k.Ended.Format(time.DateTime), d.Time.Format(time.DateTime))
		}
	}
	return ""
}

// measure estimates the time from drills: of this backup, or else of the newest one of its server and tool, by its size.
func (p *RestorePlan) measure(m store.Manifest, known Known) {
	p.Measured = "not measured: no drill of this server and tool is known"
	same := func(k store.Manifest) bool { return k.ID == m.ID }
	kin := func(k store.Manifest) bool {
		return k.Cluster == m.Cluster && k.Server == m.Server && k.Task == m.Task && k.Size > 0
	}
	for _, fits := range []func(store.Manifest) bool{same, kin} {
		for _, k := range known.Manifests { // newest first
			d, restored := k.Restored()
			if !fits(k) || !restored {
				continue
			}
			seconds := d.Restore
			p.Measured = "as its drill of " + d.Time.Format("2006-01-02")
			if k.ID != m.ID {
				seconds *= float64(m.Size) / float64(k.Size)
				p.Measured = fmt.Sprintf("from the drill of %s on %s, by size", k.ID, d.Time.Format("2006-01-02"))
			}
			p.Estimate = &seconds
			return
		}
	}
}

// PlanRestore says what [Restore] would do. Errors are those of looking; what stands against the restore is in the findings.
func PlanRestore(ctx context.Context, o RestoreOptions, known Known) (RestorePlan, error) {
	m := o.Found.Manifest
	b, err := recovery.BackupOf(m, o.Found.File)
	if err != nil {
		return RestorePlan{}, err
	}
	p := newPlan(m, o.Place.Path(), known)
	p.Need = o.needs(b)
	p.Steps, p.Lost = o.steps(b), o.lost()
	p.file(o.Found)
	if m.Encrypted {
		p.found("key", opens(o), "a key here opens it")
	}
	p.tools(ctx, b, o, m.Tool)
	if o.To.Given() {
		p.Replay = p.replay(ctx, o, b)
	}
	p.place(o)
	p.space(o)
	if o.Owner != nil && os.Geteuid() != 0 {
		p.add("owner", restore.Refused, "only root can give data to somebody else")
	}
	if b.Format == job.XBStream && o.Load {
		p.add("load", restore.Refused, "a physical backup is not loaded: it is data of a server")
	}
	return p, nil
}

// steps are what the work does, for people.
func (o RestoreOptions) steps(b recovery.Backup) (list []string) {
	for _, phase := range o.phases(recovery.New(recovery.Config{}, b), b) {
		list = append(list, phase.What)
	}
	return append(list, lastStep)
}

// lost is nothing: the folder is a new one. What the data do not have is worth a word.
func (o RestoreOptions) lost() string {
	return "nothing: the folder is new or empty. The data go until " + until(o.Found.Manifest, o.To.String())
}

// until is the point that restored data go to, for people.
func until(m store.Manifest, to string) string {
	if to != "" {
		return to
	}
	age := time.Since(m.Ended).Round(time.Minute)
	return fmt.Sprintf("the end of the backup at %s UTC (%s ago)", m.Ended.UTC().Format(time.DateTime), strings.TrimSuffix(age.String(), "0s"))
}

// file looks at what can be told of the backup without reading all of it; its hash is compared while it is unpacked.
func (p *RestorePlan) file(f Found) {
	if problem := unlisted(f); problem != "" {
		p.add("backup", restore.Refused, "%s", problem)
		return
	}
	p.add("backup", restore.Fine, "signed, of the right size; its hash is compared while it is unpacked")
}

// opens tries the keys on the file: an encrypted backup tells at its beginning whom it is for.
func opens(o RestoreOptions) error {
	f, err := os.Open(o.Found.File)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := sink.Unpack(f, sink.None, true, o.Identities...)
	if errors.Is(err, sink.ErrIdentity) {
		return fmt.Errorf("%w: set backup-encrypt-identity of cluster %s to a file with one of its keys", err, o.Found.Manifest.Cluster)
	}
	if err != nil {
		return err
	}
	return content.Close()
}

// tools looks for the programs and compares their version with that of the tool that took a physical backup.
func (p *RestorePlan) tools(ctx context.Context, b recovery.Backup, o RestoreOptions, took string) {
	names := b.Tools(o.Load)
	if o.To.Given() {
		names = append(names, "mariadbd", "mariadb", "mariadb-binlog")
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, name := range names {
		if _, err := recovery.Look(name); err != nil {
			p.add("tools", restore.Refused, "%v", err)
			return
		}
	}
	if len(names) > 0 {
		p.add("tools", restore.Fine, "%s", strings.Join(names, ", "))
	}
	if b.Format != job.XBStream {
		return
	}
	here, err := recovery.Installed(ctx, b.Preparer())
	if err != nil {
		p.add("version", restore.Refused, "%v", err)
		return
	}
	p.version(b.Preparer()+" "+here.String(), here, took)
}

// version compares what would read the files with what made them.
func (p *RestorePlan) version(reader string, here recovery.Version, took string) {
	of, known := recovery.FindVersion(took)
	if !known {
		p.add("version", restore.Warning, "the manifest does not say the version of the server; the files do, and are looked at before they are prepared")
		return
	}
	note, err := here.Reads(of)
	switch {
	case err != nil:
		p.add("version", restore.Refused, "%v", err)
	case note != "":
		p.add("version", restore.Warning, "%s", note)
	default:
		p.add("version", restore.Fine, "%s for %s", reader, took)
	}
}

func (p *RestorePlan) place(o RestoreOptions) {
	err := o.Place.Look(o.Away...)
	if errors.Is(err, recovery.ErrLeft) {
		if o.Clean {
			p.add("target", restore.Warning, "%v: it is removed first", err)
			return
		}
		err = fmt.Errorf("%w; --clean removes it", err)
	}
	p.found("target", err, "%s is empty or does not exist", o.Place.Path())
}

// space looks at the disk: what is to be left free for backups stays free.
func (p *RestorePlan) space(o RestoreOptions) {
	other := ""
	if len(o.Away) > 0 {
		other = o.Away[0]
	}
	free, shared, err := o.Place.Free(other)
	if err != nil {
		p.add("space", restore.Refused, "%v", err)
		return
	}
	p.Free = &free
	kept := ""
	if shared && o.Reserve > 0 {
		free -= o.Reserve
		kept = fmt.Sprintf(", of which %d MiB are kept for backups (disk-reserve)", o.Reserve>>20)
	}
	said := fmt.Sprintf("%d MiB are needed and %d MiB are free%s", p.Need>>20, *p.Free>>20, kept)
	if free < p.Need {
		p.add("space", restore.Refused, "%s", said)
		return
	}
	p.add("space", restore.Fine, "%s", said)
}

// broken reports whether a drill or a verification found a backup bad.
func (k Known) broken(id string) bool {
	i := slices.IndexFunc(k.Manifests, func(m store.Manifest) bool { return m.ID == id })
	if i < 0 {
		return false
	}
	_, bad := k.Manifests[i].Fault()
	return bad
}

// LatestBackup is the newest good backup of a server in the backup folder from which a point can be reached. One that a
// drill could not restore is for those who name it.
func LatestBackup(folder, cluster string, server job.Server, to Point, keys []store.PublicKey, known Known) (best Found, err error) {
	err = eachManifest(folder, keys, func(f Found) error {
		m := f.Manifest
		task, err := job.TaskByName(m.Task)
		if f.Problem != "" || err != nil || task.Kind != job.KindBackup || m.Cluster != cluster || m.Server != server {
			return nil
		}
		if !to.Onward(m) || unlisted(f) != "" || known.broken(m.ID) {
			return nil
		}
		if best.File == "" || m.Ended.After(best.Manifest.Ended) {
			best = f
		}
		return nil
	})
	if err == nil && best.File == "" {
		when := ""
		if to.Given() {
			when = " that is not beyond " + to.String()
		}
		err = fmt.Errorf("find no good backup of %s in cluster %s%s in %s", server, cluster, when, folder)
	}
	return best, err
}
