package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/store"
)

// folderFlags are those of the commands that read the backup folder and not the bus.
type folderFlags struct{ folder, key string }

func (f *folderFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.folder, "folder", "", "folder to look through (default: Backups in monitoring-datadir)")
	cmd.Flags().StringVar(&f.key, "key", "", "file with the public keys to trust (default: manifest.pub in monitoring-datadir)")
}

// read gives the folder and the keys that the flags, or else the configuration, name.
func (f *folderFlags) read(c *cli) (folder string, keys []store.PublicKey, err error) {
	cfg := &config.Config{}
	if f.folder == "" || f.key == "" { // a copy of the folder is verified where there is no configuration
		if cfg, err = config.LoadForCommand(c.file); err != nil {
			return "", nil, err
		}
	}
	if folder = f.folder; folder == "" {
		folder = app.BackupFolder(cfg)
	}
	keys, err = app.Keys(cfg, f.key, func(problem string) { fmt.Fprintln(os.Stderr, "drydock:", problem) })
	return folder, keys, err
}

// printFound lists the backups that walk comes across. Exit status 1 says that one of them is bad.
func (c *cli) printFound(cmd *cobra.Command, walk func(each func(app.Found)) error) error {
	list, bad := []app.Found{}, false
	err := walk(func(f app.Found) {
		list = append(list, f)
		bad = bad || f.Problem != ""
	})
	if err != nil {
		return err
	}
	heading := []string{"STATUS", "BACKUP", "CLUSTER", "SERVER", "TOOL", "ON DISK", "FILE"}
	if err := c.print(cmd.OutOrStdout(), list, heading, foundRows(list)); err != nil {
		return err
	}
	if bad {
		return exitCode(1)
	}
	return nil
}

func foundRows(list []app.Found) (rows [][]string) {
	for _, f := range list {
		status, what := "OK", f.File
		if f.Problem != "" {
			status, what = "BAD", f.File+": "+f.Problem
		}
		m := f.Manifest
		rows = append(rows, []string{status, m.ID, m.Cluster, m.Server.String(), m.Task, bytes(m.Stored), what})
	}
	return rows
}

func (c *cli) backupsVerifyCmd() *cobra.Command {
	var f folderFlags
	var queue, wait, force bool
	cmd := &cobra.Command{
		Use:   "verify [BACKUP]",
		Short: "Check signature, size and hash of the backups on this machine; exit status 1 if one is bad or there is none",
		Long: "Reads every backup in the backup folder, or the one named, and compares it with its manifest: who signed it, how\n" +
			"large it is, what it hashes to. It needs neither a running drydock nor a database, and works on a copy of the folder.\n" +
			"With --queue the receiver that has the backup does it, asked from anywhere, and the verdict goes into the catalogue.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case queue && len(args) == 0:
				return errors.New("name the backup that is to be verified: --queue BACKUP")
			case queue:
				return c.queueBackup(cmd, "backupverify", args[0], wait, force)
			}
			folder, keys, err := f.read(c)
			if err != nil {
				return err
			}
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			return c.printFound(cmd, func(each func(app.Found)) error {
				return app.VerifyBackups(cmd.Context(), folder, id, keys, each)
			})
		},
	}
	c.outputFlag(cmd)
	f.add(cmd)
	cmd.Flags().BoolVar(&queue, "queue", false, "have the receiver that holds the backup do it, as a job; the other flags but --wait and --force do nothing then")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "with --queue: wait for the end; exit status 0 only if it is what was signed")
	cmd.Flags().BoolVar(&force, "force", false, "with --queue: although the cluster is on hold or blacked out")
	return cmd
}

func (c *cli) backupsRebuildCmd() *cobra.Command {
	var f folderFlags
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Fill the catalogue from the manifests on this machine; exit status 1 if one was left out",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, keys, err := f.read(c)
			if err != nil {
				return err
			}
			return c.act(cmd, bus.Audit{Verb: "catalog-rebuild", Target: folder}, func(ctx context.Context, conn *bus.Conn, _ *bus.Audit) error {
				return c.printFound(cmd, func(each func(app.Found)) error {
					return app.RebuildCatalog(ctx, conn, folder, keys, each)
				})
			})
		},
	}
	c.outputFlag(cmd)
	f.add(cmd)
	return cmd
}

func (c *cli) backupsKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print the public key that the manifests are signed with: keep it where the backups are not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				signer, err := store.NewSigner(ctx, conn)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), signer.Public())
				return err
			})
		},
	}
}
