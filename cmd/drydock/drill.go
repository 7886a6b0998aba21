package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/store"
)

func (c *cli) drillCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "drill", Short: "Restore a backup into a scratch server, to show that it can be"}
	cmd.AddCommand(c.drillRunCmd())
	return cmd
}

// drillOrder is what `drydock drill run` was given.
type drillOrder struct {
	folderFlags
	scratch string
	memory  int64 // MiB
	quiet   bool
}

func (c *cli) drillRunCmd() *cobra.Command {
	var o drillOrder
	var queue, wait, force bool
	cmd := &cobra.Command{
		Use:   "run BACKUP",
		Short: "Drill a backup on this machine; exit status 1 if it does not restore, 2 if the drill could not be done",
		Long: "Unpacks and prepares the backup, or loads the dump, in a private folder, starts a scratch server on a socket in it, checks\n" +
			"every table and counts its rows, then removes all of it. Nothing but that folder is written, and nothing in the data\n" +
			"comes to life: no event, no replication, no network. The tools come last at processor and disk. Run it on the machine\n" +
			"of the receiver that has the backup, or from anywhere with --queue; what was found goes into the catalogue.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if queue {
				return c.queueBackup(cmd, "backupdrill", args[0], wait, force)
			}
			return c.drillHere(cmd, o, args[0])
		},
	}
	c.outputFlag(cmd)
	o.add(cmd)
	cmd.Flags().StringVar(&o.scratch, "scratch", "", "folder to work in (default: backup-drill-scratch); it needs the size of the unpacked backup, or several times that of a dump, and 512 MiB")
	cmd.Flags().Int64Var(&o.memory, "memory", 0, "MiB for preparing and for the scratch server (default: backup-drill-memory)")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "do not show what the tools say")
	cmd.Flags().BoolVar(&queue, "queue", false, "have the receiver that holds the backup do it, as a job; the other flags but --wait and --force do nothing then")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "with --queue: wait for the end; exit status 0 only if it restores")
	cmd.Flags().BoolVar(&force, "force", false, "with --queue: although the cluster is on hold or blacked out")
	return cmd
}

// drillHere drills a backup of this machine. Exit status 1 says that it does not restore, 2 that nothing is known of it.
func (c *cli) drillHere(cmd *cobra.Command, o drillOrder, id string) error {
	cfg, err := config.Load(c.file)
	if err != nil {
		return err
	}
	folder, keys, err := o.read(c)
	if err != nil {
		return err
	}
	found, err := app.FindBackup(folder, id, keys)
	if err != nil {
		return err
	}
	options, err := o.options(cfg, found.Manifest.Cluster)
	if err != nil {
		return err
	}
	d, err := app.RunDrill(cmd.Context(), found, options)
	if err != nil { // says nothing about the backup
		fmt.Fprintln(os.Stderr, "drydock:", err)
		return exitCode(2)
	}
	c.recordDrill(cmd.Context(), found.Manifest, d)
	if err := c.print(cmd.OutOrStdout(), d, drillHeading, drillRows(found.Manifest, d)); err != nil {
		return err
	}
	if d.Problem != "" {
		return exitCode(1)
	}
	return nil
}

// options are how a backup of the cluster is drilled: as the flags say, else as the configuration does.
func (o drillOrder) options(cfg *config.Config, cluster string) (app.DrillOptions, error) {
	out := app.DrillOptions{Scratch: o.scratch, Memory: o.memory << 20, Compare: app.DrillCompares(cfg, cluster), By: operator()}
	if out.Scratch == "" {
		out.Scratch = app.ScratchFolder(cfg, cluster)
	}
	if out.Memory == 0 {
		out.Memory = app.DrillMemory(cfg, cluster)
	}
	out.Step = func(what string) { fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05"), what) }
	out.Line = func(text string) {
		if !o.quiet {
			fmt.Fprintln(os.Stderr, "  ", short(text, 200))
		}
	}
	var err error
	out.Identities, err = app.Identities(cfg, cluster)
	return out, err
}

// queueBackup asks for a task about a backup of the catalogue, as a job of the receiver that has it.
func (c *cli) queueBackup(cmd *cobra.Command, task, id string, wait, force bool) error {
	cfg, conn, err := c.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	list, err := store.NewCatalog(conn).List(cmd.Context(), "", job.Server{})
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.ID == id {
			r := runRequest{cluster: m.Cluster, task: task, backup: id, wait: wait, force: force}
			return c.runNow(cmd.Context(), cmd.OutOrStdout(), cfg, conn, r)
		}
	}
	return fmt.Errorf("the catalogue has no backup %s; drydock backups lists them", id)
}

// recordDrill puts a drill into the catalogue. That is not the drill's own success: it may be made where no drydock runs.
func (c *cli) recordDrill(ctx context.Context, m store.Manifest, d store.Drill) {
	_, conn, err := c.dial(ctx)
	if err == nil {
		defer conn.NC.Close()
		catalog := store.NewCatalog(conn)
		if _, err = catalog.Get(ctx, m.Cluster, m.Server, m.ID); err == nil { // AddDrill makes no entry, and does not say so
			act := bus.Audit{Verb: "drill", Cluster: m.Cluster, Server: m.Server.String(), Target: m.ID, Detail: d.Problem}
			err = audited(ctx, conn, act, func(*bus.Audit) error { return catalog.AddDrill(ctx, m, d) })
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drydock: the drill is not in the catalogue:", err)
	}
}

var drillHeading = []string{"BACKUP", "RESTORED", "RESTORE", "CHECK", "TABLES", "ROWS", "COMPARED", "SKIPPED", "SERVER", "PROBLEM"}

func drillRows(m store.Manifest, d store.Drill) [][]string {
	restored, problem := "yes", "-"
	if d.Problem != "" {
		restored, problem = "NO", short(d.Problem, 200)
	}
	return [][]string{{
		m.ID, restored, fmt.Sprintf("%.1fs", d.Restore), fmt.Sprintf("%.1fs", d.Check), fmt.Sprint(d.Tables), fmt.Sprint(d.Rows), fmt.Sprint(d.Compared), fmt.Sprint(d.Skipped.Count), d.Version, problem,
	}}
}

// proof is what has been shown of a backup, for a list: that its bytes are those that came, or that it restores.
func proof(m store.Manifest) string {
	d, restored := m.Restored()
	v, verified := m.Verified()
	fault, bad := m.Fault()
	switch {
	case restored && d.Skipped.Count > 0:
		return fmt.Sprintf("restored %s, %d tables not looked at", d.Time.Format("2006-01-02"), d.Skipped.Count)
	case restored:
		return "restored " + d.Time.Format("2006-01-02")
	case bad && fault.Drill:
		return "DOES NOT RESTORE"
	case bad:
		return "DAMAGED"
	case verified:
		return "verified " + v.Time.Format("2006-01-02")
	}
	return "hash"
}
