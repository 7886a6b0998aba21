package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/receiver/recovery"
	"drydock/restore"
	"drydock/store"
)

// recoveryOrder is what the restore commands were given.
type recoveryOrder struct {
	folderFlags
	backup, cluster, of                   string // which backup
	directory, server                     string // to where
	to                                    string // until when
	identity, chown                       string
	memory                                int64
	load, clean, stay, force, quiet, wait bool
	confirm                               string
}

func (c *cli) restoreCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "restore", Short: "Get the data of a backup back, to a directory or to a server"}
	cmd.AddCommand(c.restorePlanCmd(), c.restoreApplyCmd())
	return cmd
}

func (c *cli) restorePlanCmd() *cobra.Command {
	var o recoveryOrder
	cmd := &cobra.Command{
		Use:   "plan [BACKUP]",
		Short: "Say what a restore would do and what stands against it; exit status 1 if something does",
		Long: "Changes nothing. Without the id of a backup it takes the newest good one of --cluster and --server that ended before --to.\n" +
			"To a directory it is run on the machine of the receiver that has the backup, and needs neither a running drydock nor a\n" +
			"database. To a server it asks the running drydock.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.backup = strings.Join(args, "")
			p, err := c.planned(cmd.Context(), &o)
			if err != nil {
				return err
			}
			if err := c.printPlan(cmd.OutOrStdout(), p.plan); err != nil {
				return err
			}
			if p.plan.Refused() {
				return exitCode(1)
			}
			return nil
		},
	}
	o.flags(cmd)
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) restoreApplyCmd() *cobra.Command {
	var o recoveryOrder
	cmd := &cobra.Command{
		Use:   "apply [BACKUP]",
		Short: "Do what plan says; exit status 1 if it was refused or did not succeed",
		Long: "To a directory: unpacks, decrypts, compares every byte, prepares, and gives the data their name when all of it is there.\n" +
			"What is cut off leaves nothing of that name. To a server: orders a reseed. To a point in time on a server: the receiver makes a\n" +
			"backup of that point first, and the server then stays there without replication.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.backup = strings.Join(args, "")
			return c.applyRestore(cmd.Context(), cmd.OutOrStdout(), &o)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.confirm, "confirm", "", "the directory, or HOST:PORT of the server, once more")
	cmd.Flags().BoolVarP(&o.wait, "wait", "w", false, "of a server: wait for the end; exit status 0 only if the job reached success")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "do not show what the tools say")
	return cmd
}

func (o *recoveryOrder) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.add(cmd)
	f.StringVar(&o.directory, "to-directory", "", "absolute path of a new or empty folder on this machine")
	f.StringVar(&o.server, "to-server", "", "HOST:PORT of a server of the backup's cluster: all its data are replaced")
	f.StringVar(&o.to, "to", "", "point in time: the first moment that is left out (2026-11-26T03:00:00Z, or `TIME` on this machine's clock), or the last GTID that is not")
	f.StringVar(&o.cluster, "cluster", "", "without BACKUP: the cluster")
	f.StringVar(&o.of, "server", "", "without BACKUP: HOST:PORT of the server that the backup is of")
	f.StringVar(&o.identity, "identity", "", "file with private keys of age (default: backup-encrypt-identity of the cluster)")
	f.StringVar(&o.chown, "chown", "", "user who gets the data, as root; mysql as a rule")
	f.Int64Var(&o.memory, "memory", 1024, "MiB for preparing and for a private server")
	f.BoolVar(&o.load, "load", false, "of a dump: make data of a server of it, and not its files")
	f.BoolVar(&o.clean, "clean", false, "remove what a restore to this directory left that was cut off")
	f.BoolVar(&o.stay, "no-replication", false, "of a server: leave it at the backup's point; only from a backup of its own, or of a point in time")
	f.BoolVar(&o.force, "force", false, "of a server: although the cluster is on hold or blacked out")
	cmd.MarkFlagsMutuallyExclusive("to-directory", "to-server")
	cmd.MarkFlagsOneRequired("to-directory", "to-server")
}

// planned is a plan and what its work needs.
type planned struct {
	plan   app.RestorePlan
	local  app.RestoreOptions // to a directory
	remote restoreOrder       // to a server
}

func (c *cli) planned(ctx context.Context, o *recoveryOrder) (planned, error) {
	if o.backup == "" && (o.cluster == "" || o.of == "") {
		return planned{}, errors.New("name a backup, or --cluster and --server for the newest one")
	}
	if o.server != "" {
		return c.plannedServer(ctx, o)
	}
	return c.plannedDirectory(ctx, o)
}

func (c *cli) applyRestore(ctx context.Context, w io.Writer, o *recoveryOrder) error {
	if want := cmp.Or(o.directory, o.server); o.confirm != want {
		return fmt.Errorf("confirm with --confirm %s: it is what the data go to", want)
	}
	p, err := c.planned(ctx, o)
	if err != nil {
		return err
	}
	if p.plan.Refused() {
		c.output = "table"
		return errors.Join(c.printPlan(os.Stderr, p.plan), errors.New("refused; nothing was changed"))
	}
	if o.server != "" {
		return c.runRestoreOrder(ctx, w, p.remote)
	}
	return c.restoreHere(ctx, w, o, p)
}

// plannedDirectory needs no bus: what only the catalogue knows is missing without one, and said to be.
func (c *cli) plannedDirectory(ctx context.Context, o *recoveryOrder) (p planned, err error) {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		if o.folder == "" || o.key == "" { // a copy of the folder is restored where there is no configuration
			return p, err
		}
		cfg = &config.Config{}
	}
	folder, keys, err := o.read(c)
	if err != nil {
		return p, err
	}
	l := &p.local
	if l.Place, err = recovery.NewPlace(o.directory); err != nil {
		return p, err
	}
	known := c.known(ctx)
	if l.Found, err = o.find(folder, keys, known); err != nil {
		return p, err
	}
	if l.To, err = parsePoint(o.to); err != nil {
		return p, err
	}
	if l.Owner, err = ownerOf(o.chown); err != nil {
		return p, err
	}
	if o.identity != "" {
		l.Identities, err = app.ReadIdentities(o.identity)
	} else {
		l.Identities, err = app.Identities(cfg, l.Found.Manifest.Cluster)
	}
	if err != nil {
		return p, err
	}
	if cfg.Global.Datadir != "" {
		l.Away = append(l.Away, cfg.Global.Datadir)
	}
	l.Away = append(l.Away, folder)
	l.Folder, l.Keys = folder, keys
	l.Reserve, l.Load, l.Clean, l.Memory, l.By = cfg.Global.Receiver.Reserve, o.load, o.clean, o.memory<<20, operator()
	p.plan, err = app.PlanRestore(ctx, *l, known)
	l.Replay = p.plan.Replay
	return p, err
}

// find is the backup that is named, or the newest good one that no drill has found bad.
func (o *recoveryOrder) find(folder string, keys []store.PublicKey, known app.Known) (app.Found, error) {
	if o.backup != "" {
		return app.FindBackup(folder, o.backup, keys)
	}
	of, err := serverNamed(o.of)
	if err != nil {
		return app.Found{}, err
	}
	to, err := parsePoint(o.to)
	if err != nil {
		return app.Found{}, err
	}
	return app.LatestBackup(folder, o.cluster, of, to, keys, known)
}

// known is what the catalogue tells, if it can be reached.
func (c *cli) known(ctx context.Context) app.Known {
	_, conn, err := c.dial(ctx)
	if err != nil {
		return app.Known{Err: err}
	}
	defer conn.NC.Close()
	list, err := store.NewCatalog(conn).List(ctx, "", job.Server{})
	return app.Known{Manifests: list, Err: err}
}

// ownerOf looks a user up; nil for none.
func ownerOf(name string) (*recovery.Owner, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("give the data to %s: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &recovery.Owner{UID: uid, GID: gid}, errors.Join(err, err2)
}

// restoreHere does the work and says how far it is.
func (c *cli) restoreHere(ctx context.Context, w io.Writer, o *recoveryOrder, p planned) error {
	l := p.local
	meter := newMeter(os.Stderr, l.Found.Manifest.Size)
	l.Step = func(what string) { meter.say(time.Now().Format("15:04:05") + " " + what) }
	l.Line = func(text string) {
		if !o.quiet {
			meter.say("   " + short(text, 200))
		}
	}
	l.Moved = meter.moved
	note, err := app.Restore(ctx, l)
	meter.done()
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("restore to %s: interrupted; nothing of that name was made: %w", o.directory, err)
	}
	if err != nil {
		return fmt.Errorf("restore to %s: %w", o.directory, err)
	}
	c.recordRestore(ctx, l.Found.Manifest, note, o.directory)
	_, err = fmt.Fprintf(w, "restored %s to %s in %.1fs\n", note.Backup, o.directory, note.Seconds)
	return err
}

// recordRestore puts a restore into the catalogue. That is not the restore's own success: it may be made where no drydock runs.
func (c *cli) recordRestore(ctx context.Context, m store.Manifest, note app.RestoreNote, to string) {
	_, conn, err := c.dial(ctx)
	if err == nil {
		defer conn.NC.Close()
		host, _ := os.Hostname() // only to tell
		act := bus.Audit{Verb: "restore", Cluster: m.Cluster, Server: m.Server.String(), Target: m.ID, Detail: "to directory " + to}
		err = audited(ctx, conn, act, func(*bus.Audit) error {
			return store.NewCatalog(conn).AddRestore(ctx, m, store.Restore{
				Time: note.Restored, By: note.By, Host: host, Directory: to, Seconds: note.Seconds, To: note.To,
			})
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drydock: the restore is not in the catalogue:", err)
	}
}

func (c *cli) printPlan(w io.Writer, p app.RestorePlan) error {
	if c.output != "table" {
		return c.print(w, p, nil, nil)
	}
	if err := writeTable(w, []string{"RESTORE", p.Backup}, planRows(p)); err != nil {
		return err
	}
	rows := [][]string{}
	for _, f := range p.Findings {
		rows = append(rows, []string{f.What, strings.ToUpper(string(f.Verdict)), f.Why})
	}
	fmt.Fprintln(w)
	if err := writeTable(w, []string{"LOOK", "VERDICT", "WHY"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	verdict := "nothing stands against it: restore apply with the same arguments and --confirm " + p.Target
	if p.Refused() {
		verdict = "REFUSED"
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

func planRows(p app.RestorePlan) [][]string {
	needs := bytes(p.Need) + " on disk"
	if p.Free != nil {
		needs += ", " + bytes(*p.Free) + " free"
	}
	takes := p.Measured
	if p.Estimate != nil {
		takes = "about " + (time.Duration(*p.Estimate * float64(time.Second))).Round(time.Second).String() + ": " + p.Measured
	}
	rows := [][]string{
		{"of", fmt.Sprintf("%s in %s, %s", p.Server, p.Cluster, cmp.Or(p.Tool, p.Task))},
		{"ended", p.Ended.UTC().Format("2006-01-02 15:04:05 UTC") + ", GTID " + cmp.Or(p.GTID, "unknown")},
		{"proof", p.Proof},
		{"to", p.Target},
		{"steps", strings.Join(p.Steps, "; ")},
		{"reads", bytes(p.Read)},
		{"needs", needs},
		{"takes", takes},
		{"lost", p.Lost},
	}
	if p.Point != nil {
		rows = append(rows, pointRows(*p.Point)...)
	}
	return rows
}

func pointRows(p restore.PointPlan) [][]string {
	reach := "not from here"
	if p.Segments > 0 {
		reach = fmt.Sprintf("%s to %s (%s), %d segments of %s", p.Base, p.Reaches.UTC().Format("2006-01-02 15:04:05 UTC"), p.Covered, p.Segments, bytes(p.Read))
	}
	if p.Gap != "" {
		reach += "; then a gap: " + p.Gap
	}
	rows := [][]string{{"until", p.To}, {"archived", reach}}
	if p.GTID != "" {
		rows = append(rows, []string{"replays", fmt.Sprintf("%d transactions, the last of %s, to %s", p.Transactions, clock(p.Last), p.GTID)})
	}
	return rows
}
