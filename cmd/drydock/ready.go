package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/app"
	"drydock/config"
)

// readyTimeout bounds the whole look; health checks of containers come every few seconds.
const readyTimeout = 4 * time.Second

func (c *cli) readyCmd() *cobra.Command {
	var busOnly bool
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Ask the drydock that runs here whether it serves; for health checks",
		Long: "Ask /readyz on this machine's api-port. With --bus, for processes without the role gateway, ask whether the\n" +
			"bus answers with the login of the configuration.\n\nExit status: 0 ready; 1 not, and why.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadForCommand(c.file)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), readyTimeout)
			defer cancel()
			if busOnly {
				conn, err := app.Dial(ctx, cfg, slog.New(slog.DiscardHandler))
				if err != nil {
					return err
				}
				return conn.Close()
			}
			return askReady(ctx, cfg.Global)
		},
	}
	cmd.Flags().BoolVar(&busOnly, "bus", false, "ask the bus in place of the API")
	return cmd
}

// askReady calls /readyz over TLS. The certificate is not checked: it is that of another name, and nothing is sent.
func askReady(ctx context.Context, g config.Global) error {
	host := g.BindAddress
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url := "https://" + net.JoinHostPort(host, strconv.Itoa(g.APIPort)) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask whether drydock is ready: %w", err)
	}
	defer res.Body.Close()
	const enough = 4 << 10
	body, _ := io.ReadAll(io.LimitReader(res.Body, enough))
	if res.StatusCode != http.StatusOK {
		return errors.New("drydock is not ready: " + strings.TrimSpace(string(body)))
	}
	return nil
}
