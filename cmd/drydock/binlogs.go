package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/store"
)

// shelf is a row of `drydock binlogs`: what is archived of one server, between two gaps.
type shelf struct {
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	Begins   string     `json:"begins_gtid"` // the last transactions before it
	Ends     string     `json:"ends_gtid"`
	File     string     `json:"file"` // that it ends in
	Pos      int64      `json:"pos"`
	Segments int        `json:"segments"`
	Stored   int64      `json:"stored"`
	Gap      *store.Gap `json:"gap_before,omitempty"`
}

// shelves sums up the segments of a cluster, in the order of history.
func shelves(segments []store.Segment) (out []shelf) {
	for i, l := range store.BinlogChain(segments) {
		gap := l.Missing
		if i == 0 {
			gap = nil // what lies before the archive is not missed
		}
		if n := len(out); n == 0 || gap != nil || out[n-1].Server != l.Server {
			out = append(out, shelf{Cluster: l.Cluster, Server: l.Server, From: l.First, Begins: l.Before, Gap: gap})
		}
		s := &out[len(out)-1]
		if s.From.IsZero() {
			s.From = l.First
		}
		s.To, s.Ends, s.File, s.Pos = l.Until(), l.After, l.File, l.End
		s.Segments++
		s.Stored += l.Stored
	}
	return out
}

func (c *cli) binlogsCmd() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:   "binlogs",
		Short: "List what is archived of binary logs: from when to when, of which server, and what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
				segments, err := store.NewBinlogs(conn).List(ctx, cluster)
				if err != nil {
					return err
				}
				list := []shelf{}
				for len(segments) > 0 {
					n := 1
					for n < len(segments) && segments[n].Cluster == segments[0].Cluster {
						n++
					}
					list, segments = append(list, shelves(segments[:n])...), segments[n:]
				}
				return c.print(cmd.OutOrStdout(), list, shelfHeading, shelfRows(list))
			})
		},
	}
	c.outputFlag(cmd)
	cmd.Flags().StringVar(&cluster, "cluster", "", "only this cluster")
	cmd.AddCommand(c.binlogsVerifyCmd())
	return cmd
}

var shelfHeading = []string{"CLUSTER", "SERVER", "FROM", "TO", "GTID", "FILE", "SEGMENTS", "ON DISK", "GAP BEFORE"}

func shelfRows(list []shelf) (rows [][]string) {
	for _, s := range list {
		gap := "-"
		if s.Gap != nil {
			gap = short(s.Gap.Reason, 100)
		}
		rows = append(rows, []string{
			s.Cluster, s.Server.String(), clock(s.From), clock(s.To), s.Ends, fmt.Sprintf("%s:%d", s.File, s.Pos),
			fmt.Sprint(s.Segments), bytes(s.Stored), gap,
		})
	}
	return rows
}

func (c *cli) binlogsVerifyCmd() *cobra.Command {
	var f folderFlags
	var cluster, identity string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check signature, hash and events of the archived binary logs on this machine; exit status 1 if one is bad or one is missing",
		Long: "Reads every segment in the backup folder, and compares it with its manifest: who signed it, what it hashes to, the\n" +
			"checksum of every event, and that nothing is missing between two segments. It needs neither a running drydock nor a\n" +
			"database, and works on a copy of the folder. Encrypted segments are opened with backup-encrypt-identity or --identity;\n" +
			"without a key only their hashes are compared.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, keys, err := f.read(c)
			if err != nil {
				return err
			}
			identities, err := c.identities(identity)
			if err != nil {
				return err
			}
			out := struct {
				Segments []binlog.Found `json:"segments"`
				Gaps     []store.Gap    `json:"gaps"`
			}{Segments: []binlog.Found{}}
			bad := false
			out.Gaps, err = app.VerifyBinlogs(cmd.Context(), folder, cluster, keys, identities, func(f binlog.Found) {
				out.Segments = append(out.Segments, f)
				bad = bad || f.Problem != ""
			})
			if err != nil {
				return err
			}
			if err := c.print(cmd.OutOrStdout(), out, segmentHeading, segmentRows(out.Segments)); err != nil {
				return err
			}
			for _, g := range out.Gaps {
				fmt.Fprintf(os.Stderr, "drydock: missing after %s: %s\n", clock(g.Since), g.Reason)
			}
			if bad || len(out.Gaps) > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
	c.outputFlag(cmd)
	f.add(cmd)
	cmd.Flags().StringVar(&cluster, "cluster", "", "only this cluster")
	cmd.Flags().StringVar(&identity, "identity", "", "file with private keys of age (default: backup-encrypt-identity of every cluster)")
	return cmd
}

var segmentHeading = []string{"STATUS", "CLUSTER", "SERVER", "FILE", "FROM", "TO", "LAST", "EVENTS", "ON DISK", "PROBLEM"}

func segmentRows(list []binlog.Found) (rows [][]string) {
	for _, f := range list {
		status, s := "OK", f.Segment
		switch {
		case f.Problem != "":
			status = "BAD"
		case !f.Read:
			status = "HASH" // its events are encrypted
		}
		what := f.Problem
		if what == "" {
			what = "-"
		}
		if s.File == "" {
			s.File = f.File
		}
		rows = append(rows, []string{
			status, s.Cluster, s.Server.String(), s.File, fmt.Sprint(s.Start), fmt.Sprint(s.End), clock(s.Last), fmt.Sprint(s.Events), bytes(s.Stored), what,
		})
	}
	return rows
}

// identities are the private keys of a file, or those that the configuration names, as far as there is one.
func (c *cli) identities(path string) (out []age.Identity, err error) {
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the private keys: %w", err)
		}
		if out, err = age.ParseIdentities(strings.NewReader(string(text))); err != nil {
			return nil, fmt.Errorf("read the private keys: %s holds none as age-keygen writes them", path)
		}
		return out, nil
	}
	cfg, err := config.Load(c.file)
	if err != nil {
		return nil, nil // a copy is verified where there is no configuration
	}
	for _, cl := range cfg.Clusters {
		ids, err := app.Identities(cfg, cl.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, ids...)
	}
	return out, nil
}
