package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/config"
)

func (c *cli) serveCmd() *cobra.Command {
	var roles string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run drydock: scheduler, gateway and receivers, on the embedded bus or on nats-url",
		Long: "Run drydock until SIGINT or SIGTERM. The first signal lets open streams end (receiver-drain-timeout), a\n" +
			"second one does not. SIGHUP reads the configuration again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd.Context(), roles) },
	}
	cmd.Flags().StringVar(&roles, "roles", "", "run only these, comma separated: "+strings.Join(app.Roles, ", "))
	return cmd
}

func (c *cli) serve(ctx context.Context, roles string) error {
	syscall.Umask(0o077) // as packaging/drydock.service has it: what drydock, NATS and the tools write is nobody else's
	log := newLog(os.Stderr, "text", slog.LevelInfo)
	cfg, err := c.load(log)
	if err != nil {
		return err
	}
	log = newLog(os.Stderr, cfg.Global.LogFormat, cfg.Global.LogLevel)
	cut, stopCut := secondSignal(ctx)
	defer stopCut()
	reload, stopReload := c.reloads(log)
	defer stopReload()
	o := app.Options{Config: cfg, Version: version, Log: log, Reload: reload, Cut: cut, Started: func(a app.Addresses) {
		log.Info("drydock is up", "version", version, "http", a.HTTP, "api", a.API, "nats", a.NATS, "clusters", len(cfg.Clusters))
		tellSystemd(log, "READY=1")
	}}
	defer context.AfterFunc(ctx, func() { tellSystemd(log, "STOPPING=1") })()
	if roles != "" {
		o.Roles = strings.Split(roles, ",")
	}
	if err := app.Run(ctx, o); err != nil {
		return err
	}
	log.Info("drydock has stopped")
	return nil
}

func newLog(w io.Writer, format string, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// secondSignal gives a context that ends with the second signal, of which the first ends ctx. That one comes here too, and
// perhaps only after ctx has ended: it is told from the second by counting.
func secondSignal(ctx context.Context) (cut context.Context, stop func()) {
	cut, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2) // both signals may come before anyone looks
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	left := 2
	if ctx.Err() != nil {
		left = 1
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			if left--; left <= 0 {
				cancel(errors.New("second signal"))
			}
		}
	}()
	return cut, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel(nil)
	}
}

// reloads sends the configuration, read again, for every SIGHUP; one that does not parse is logged and the old one stays.
func (c *cli) reloads(log *slog.Logger) (<-chan *config.Config, func()) {
	out := make(chan *config.Config)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-hup:
			}
			cfg, err := c.load(log)
			if err != nil {
				log.Error("keep the old configuration", "err", err)
				continue
			}
			select {
			case out <- cfg:
			case <-quit:
				return
			}
		}
	}()
	return out, func() {
		signal.Stop(hup)
		close(quit)
		<-done
	}
}

func (c *cli) natsCmd() *cobra.Command {
	var save bool
	cmd := &cobra.Command{
		Use:   "nats",
		Short: "Print a context for the nats CLI (it holds the bus password), or save it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadForCommand(c.file)
			if err != nil {
				return err
			}
			text, err := natsContext(cfg)
			if err != nil {
				return err
			}
			if !save {
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			path, err := saveNATSContext(text)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "saved %s; try: nats --context drydock stream ls\n", path)
			return nil
		},
	}
	cmd.Flags().BoolVar(&save, "save", false, "write it to ~/.config/nats/context/drydock.json")
	cmd.AddCommand(c.natsUserCmd())
	return cmd
}
