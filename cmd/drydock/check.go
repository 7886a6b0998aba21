package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/store"
)

func (c *cli) checkCmd() *cobra.Command {
	var nagios bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, the machine and every server; exit status 1 if anything fails",
		Long: "Checks the configuration, the machine and every server; exit status 1 if anything fails.\n\n" +
			"With --nagios it also asks the running drydock for the conditions that hold, and answers as a monitoring plugin: one line\n" +
			"with performance data; exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (the configuration or the command line cannot be read).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nagios {
				return c.plugin(cmd.Context(), cmd.OutOrStdout())
			}
			cfg, err := config.Load(c.file)
			if err != nil {
				return err
			}
			items := app.Check(cmd.Context(), cfg)
			var rows [][]string
			bad := false
			for _, i := range items {
				rows = append(rows, []string{string(i.Status), i.Name, i.Detail, i.Hint})
				bad = bad || i.Status == app.Fail
			}
			if err := c.print(cmd.OutOrStdout(), items, []string{"STATUS", "ITEM", "FOUND", "HINT"}, rows); err != nil {
				return err
			}
			if bad {
				return exitCode(1)
			}
			return nil
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().BoolVar(&nagios, "nagios", false, "answer as a monitoring plugin: one line, exit status 0, 1, 2 or 3")
	cmd.MarkFlagsMutuallyExclusive("nagios", "output")
	return cmd
}

// asPlugin reports whether a command line, however wrong, is one of a monitoring system: that reads every answer as one of
// a plugin.
func asPlugin(args []string) bool {
	return slices.Contains(args, "check") && slices.ContainsFunc(args, func(a string) bool {
		value, given := strings.CutPrefix(a, "--nagios=")
		wanted, err := strconv.ParseBool(value)
		return a == "--nagios" || given && (err != nil || wanted)
	})
}

// unknown says as a plugin that nothing could be checked, and gives the exit status for it.
func unknown(w io.Writer, err error) int {
	fmt.Fprintln(w, "DRYDOCK UNKNOWN -", oneLine(short(err.Error(), 300)))
	return 3
}

// plugin answers as Nagios, Icinga and their like want it.
func (c *cli) plugin(ctx context.Context, w io.Writer) error {
	cfg, err := config.Load(c.file)
	if err != nil {
		return exitCode(unknown(w, err))
	}
	items := app.Check(ctx, cfg)
	open, err := c.openConditions(ctx)
	if err != nil {
		items = append(items, app.Item{Status: app.Fail, Name: "drydock", Detail: err.Error()})
	}
	line, code := verdictLine(items, open)
	fmt.Fprintln(w, line)
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// openConditions are those that hold in the running drydock.
func (c *cli) openConditions(ctx context.Context) (open []store.OpenCondition, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = c.withBus(ctx, func(ctx context.Context, conn *bus.Conn) error {
		open, err = store.NewAlerts(conn, cliActor()).OpenConditions(ctx, store.AlertFilter{Limit: math.MaxInt})
		return err
	})
	return open, err
}

// verdictLine is the line and the exit status for what was found. A condition that somebody acknowledged warns at most; one
// that is only worth knowing does not count. It is pure.
func verdictLine(items []app.Item, open []store.OpenCondition) (line string, code int) {
	var failed, warned []string
	for _, i := range items {
		switch i.Status {
		case app.Fail:
			failed = append(failed, i.Name+": "+i.Detail)
		case app.Warn:
			warned = append(warned, i.Name+": "+i.Detail)
		}
	}
	errors, warnings := 0, 0
	for _, o := range open {
		text := strings.TrimSpace(o.Code + " " + o.Text)
		switch {
		case o.Severity == bus.SeverityError && o.Ack == nil:
			failed, errors = append(failed, text), errors+1
		case o.Severity == bus.SeverityError, o.Severity == bus.SeverityWarn && o.Ack == nil:
			warned, warnings = append(warned, text), warnings+1
		}
	}
	word, what := "OK", fmt.Sprintf("%d checks passed", len(items))
	switch {
	case len(failed) > 0:
		word, code, what = "CRITICAL", 2, list(append(failed, warned...))
	case len(warned) > 0:
		word, code, what = "WARNING", 1, list(warned)
	}
	return fmt.Sprintf("DRYDOCK %s - %s | checks=%d failed=%d warned=%d errors_open=%d warnings_open=%d",
		word, what, len(items), len(failed)-errors, len(warned)-warnings, errors, warnings), code
}

// list names the first few and counts the rest.
func list(all []string) string {
	const most, wide = 3, 120
	var parts []string
	for i, s := range all {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		parts = append(parts, oneLine(short(s, wide)))
	}
	return strings.Join(parts, "; ")
}

// oneLine takes out what would begin the performance data or another line.
func oneLine(s string) string {
	return strings.ReplaceAll(printable(strings.Join(strings.Fields(s), " ")), "|", "/")
}
