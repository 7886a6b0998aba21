package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"
)

// tableRows is how many rows a table shows that may be long, unless it is told.
const tableRows = 50

// limitFlag adds --limit to a command whose list, newest first, may be long. Who reads JSON or YAML is a program: it gets
// all unless it asks for less.
func (c *cli) limitFlag(cmd *cobra.Command) {
	cmd.Flags().UintVar(&c.limit, "limit", 0, fmt.Sprintf("at most so many, 0 for all (a table %d, -o json and yaml all)", tableRows))
}

// most is how many entries the command lists.
func (c *cli) most(cmd *cobra.Command) int {
	switch {
	case !cmd.Flags().Changed("limit") && c.output == "table":
		return tableRows
	case c.limit == 0:
		return math.MaxInt
	}
	return int(min(c.limit, math.MaxInt))
}

// ask is how many entries it reads: one more shows that there are more.
func (c *cli) ask(cmd *cobra.Command) int {
	n := c.most(cmd)
	return n + min(1, math.MaxInt-n)
}

// cut is the part of a list that was asked for with ask that is shown, and says when that is not all of it: below the
// list under --watch, which clears the screen, else on standard error.
func cut[T any](c *cli, cmd *cobra.Command, w io.Writer, list []T) []T {
	n := c.most(cmd)
	if len(list) <= n {
		return list
	}
	text := fmt.Sprintf("only the newest %d are listed; --limit 0 lists all", n)
	if s, watched := w.(*canvas); watched && c.output == "table" {
		s.below = text
	} else {
		fmt.Fprintln(cmd.ErrOrStderr(), "drydock:", text)
	}
	return list[:n]
}
