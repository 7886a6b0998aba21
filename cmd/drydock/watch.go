package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"drydock/bus"
)

const (
	// redrawGap gathers a burst of changes into one redraw, redrawEvery keeps ages and countdowns true without any.
	redrawGap   = 200 * time.Millisecond
	redrawEvery = 10 * time.Second
	flushTime   = 10 * time.Second
	clearScreen = "\x1b[H\x1b[2J\x1b[3J"
)

// watchFlag adds --watch to a command whose list changes with messages on these subjects.
func (c *cli) watchFlag(cmd *cobra.Command, subjects ...string) {
	cmd.Flags().BoolVar(&c.watch, "watch", false, "show it again at every change, until Ctrl-C")
	c.watched[cmd] = subjects
}

// listing runs f, which writes one list to w; with --watch again at every change, until the context ends, which is no error.
func (c *cli) listing(cmd *cobra.Command, f func(ctx context.Context, conn *bus.Conn, w io.Writer) error) error {
	return c.withBus(cmd.Context(), func(ctx context.Context, conn *bus.Conn) error {
		if !c.watch {
			return f(ctx, conn, cmd.OutOrStdout())
		}
		ctx, stop := whileRead(ctx, cmd.OutOrStdout())
		defer stop()
		err := c.redraw(ctx, conn, cmd.OutOrStdout(), c.watched[cmd], f)
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		return err
	})
}

func (c *cli) redraw(ctx context.Context, conn *bus.Conn, out io.Writer, subjects []string, f func(context.Context, *bus.Conn, io.Writer) error) error {
	changed := make(chan struct{}, 1)
	for _, s := range subjects {
		sub, err := conn.NC.Subscribe(s, func(*nats.Msg) {
			select {
			case changed <- struct{}{}:
			default: // one is in store already
			}
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", s, err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	if err := flush(ctx, conn.NC, flushTime); err != nil { // from here on no change is missed
		return fmt.Errorf("watch the bus: %w", err)
	}
	every := time.NewTicker(redrawEvery)
	defer every.Stop()
	last := ""
	for {
		s := &canvas{colours: colourful(out)}
		if err := f(ctx, conn, s); err != nil {
			return err
		}
		if s.below != "" {
			fmt.Fprintln(s, s.below)
		}
		if text := s.String(); text != last {
			if err := show(out, text, c.output == "table", last == ""); err != nil {
				return err
			}
			last = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			continue
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redrawGap):
		}
	}
}

// flush waits until the bus has read what was sent to it, so long at most: the commands' context has no end of its own.
func flush(ctx context.Context, nc *nats.Conn, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return nc.FlushWithContext(ctx)
}

// canvas takes what is shown at once.
type canvas struct {
	strings.Builder
	colours bool
	below   string // said after it; empty: nothing
}

// show replaces what a terminal shows; anywhere else lists follow one another, tables with a blank line between them.
func show(out io.Writer, text string, table, first bool) error {
	switch {
	case isTerminal(out):
		text = clearScreen + text
	case table && !first:
		text = "\n" + text
	}
	_, err := io.WriteString(out, text)
	return err
}
