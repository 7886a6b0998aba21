package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"drydock/demo"
)

func demoCmd() *cobra.Command {
	o := demo.Options{Size: demo.DefaultSize, Keep: os.Getenv("KEEP") == "1", Version: version, Program: os.Args[0]}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show drydock on real MariaDB servers that it starts itself, and clean up",
		Long: "Start a MariaDB primary and replica with generated data, run drydock on both (one cluster per dispatch\n" +
			"mode), let cron ticks start eight jobs, and restore both backups. Everything lies in one temporary folder.\n" +
			"Exit status 0 only if every job reached success and both backups could be restored.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			ctx, stop := signal.NotifyContext(cmd.Context(), farewells()...)
			defer stop()
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().Var((*byteSize)(&o.Size), "size", "data to generate")
	cmd.Flags().BoolVar(&o.Keep, "keep", o.Keep, "leave everything running until Ctrl-C (also: KEEP=1 in the environment)")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "make the demo's folder in this `FOLDER` instead of the system's temporary one")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", demo.DefaultTimeout, "how long the jobs may take in all")
	return cmd
}

// farewells are what a demo ends with, beside Ctrl-C, because it would leave its folder behind otherwise: its reader went
// away, or its terminal closed (unless nohup asked for that).
func farewells() []os.Signal {
	list := []os.Signal{syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// byteSize is a flag like 300MiB.
type byteSize int64

const (
	smallestSize = 1 << 20
	largestSize  = 1 << 40
)

// Set reads a number with KiB, MiB or GiB behind it.
func (b *byteSize) Set(text string) error {
	number, shift := text, 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			number, shift = n, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > largestSize>>shift || n<<shift < smallestSize {
		return fmt.Errorf("%q is no size from 1MiB to 1024GiB, like 300MiB", text)
	}
	*b = byteSize(n << shift)
	return nil
}

// String writes what Set reads.
func (b *byteSize) String() string { return strconv.FormatInt(int64(*b)>>20, 10) + "MiB" }

// Type names the flag's values in the help.
func (b *byteSize) Type() string { return "SIZE" }
