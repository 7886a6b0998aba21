// Command drydock schedules and runs the maintenance of MariaDB and MySQL fleets.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
)

// Set by the build (-ldflags -X main.version=…). The date is the commit's, not that of the build: the same source makes
// the same bytes.
var (
	version      = "dev"
	commit, date string
)

func main() { os.Exit(run(os.Args[1:])) }

// exitCode lets a command end with another status than 1 without a message of its own.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, args, os.Stdout, os.Stderr)
}

// execute runs a command line and gives its exit status.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case asPlugin(args): // 1 would be a warning
		return unknown(out, err)
	default:
		fmt.Fprintln(errs, "drydock:", err)
		return 1
	}
}

// cli is what the commands share.
type cli struct {
	file   string // --config
	output string // -o
	limit  uint   // --limit

	watch   bool                        // --watch
	watched map[*cobra.Command][]string // subjects whose messages change what a command lists
}

func newRoot() *cobra.Command {
	c := &cli{output: "table", watched: map[*cobra.Command][]string{}}
	root := &cobra.Command{
		Use:   "drydock",
		Short: "Maintenance scheduler for MariaDB and MySQL fleets that proves what it did",
		Long: "drydock takes backups, collects logs and optimizes tables of MariaDB and MySQL servers on schedule,\n" +
			"and calls nothing done without proof.\n\n" +
			"Exit status: 0 all well; 1 an error, a failed check or a job that did not reach success.",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&c.file, "config", "c", "/etc/drydock/drydock.toml", "configuration `FILE`")
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "Running:"},
		&cobra.Group{ID: "operate", Title: "Looking and acting (on a running drydock, over its bus):"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("server", c.serveCmd(), c.checkCmd(), c.readyCmd(), c.importCmd(), c.scriptCmd(), demoCmd())
	add("operate", c.jobsCmd(), c.runCmd(), c.reseedCmd(), c.flashbackCmd(), c.tailCmd(), c.cancelCmd(), c.rollingCmd(), c.nextCmd(), c.schedulesCmd(), c.ticksCmd(), c.explainCmd(), c.holdCmd(), c.unholdCmd(), c.blackoutCmd(),
		c.backupsCmd(), c.binlogsCmd(), c.drillCmd(), c.restoreCmd(), c.alertsCmd(), c.usersCmd(), c.auditCmd(), c.replayCmd(), c.natsCmd())
	root.AddCommand(sendCmd())
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version, its commit and the commit's date", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "drydock", version+source()) },
	}, manCmd())
	c.complete(root)
	return root
}

// source says which commit the binary was made of; empty when the build did not say.
func source() string {
	if commit == "" {
		return ""
	}
	return fmt.Sprintf(" (commit %s of %s)", commit, date)
}

// load reads the configuration and says what it passed over.
func (c *cli) load(log *slog.Logger) (*config.Config, error) {
	cfg, err := config.Load(c.file)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		log.Warn(w.String())
	}
	return cfg, nil
}

// dial loads the configuration and connects to the drydock that runs with it.
func (c *cli) dial(ctx context.Context) (*config.Config, *bus.Conn, error) {
	cfg, err := config.LoadForCommand(c.file)
	if err != nil {
		return nil, nil, err
	}
	conn, err := app.Dial(ctx, cfg, slog.New(slog.DiscardHandler))
	return cfg, conn, err
}

// cliActor names the operator in states and reasons.
func cliActor() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		name = os.Getenv("USER")
	}
	if name == "" {
		name = fmt.Sprintf("uid%d", os.Getuid())
	}
	return "cli:" + name
}
