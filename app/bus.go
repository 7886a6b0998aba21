package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"drydock/bus"
	"drydock/config"
)

// busDir is the embedded server's folder (architecture.md section 4).
func busDir(cfg *config.Config) string { return filepath.Join(cfg.Global.Datadir, "nats") }

func limits(cfg *config.Config) bus.Limits {
	bound := func(l config.Limit) bus.Bound { return bus.Bound{MaxAge: l.MaxAge, MaxBytes: l.MaxBytes} }
	n := cfg.Global.NATS
	return bus.Limits{
		Replicas: n.Replicas, Tasks: bound(n.Tasks), Jobs: bound(n.Jobs), Logs: bound(n.Logs),
		Alerts: bound(n.Alerts), Notifications: bound(n.Notifications), Audit: bound(n.Audit), Deadletters: bound(n.DeadLetters),
	}
}

// startEmbedded starts the embedded server; the caller closes it.
func startEmbedded(cfg *config.Config, log *slog.Logger) (*bus.Server, error) {
	n := cfg.Global.NATS
	password, err := bus.Password(busDir(cfg), n.Password.Reveal())
	if err != nil {
		return nil, err
	}
	tlsConfig, err := serverTLS(n)
	if err != nil {
		return nil, err
	}
	return bus.StartServer(bus.ServerConfig{
		Dir: busDir(cfg), Listen: n.Listen, User: n.User, Password: password, TLS: tlsConfig, MaxStore: n.MaxStore, Log: log,
	})
}

func serverTLS(n config.NATS) (*tls.Config, error) {
	if n.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(n.TLSCert, n.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read nats-tls-cert and nats-tls-key: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

// clientTLS is nil when the bus is spoken to in clear.
func clientTLS(n config.NATS) (*tls.Config, error) {
	if n.TLSCA == "" && n.TLSCert == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if n.TLSCA != "" {
		pem, err := os.ReadFile(n.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("read nats-tls-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read nats-tls-ca %s: it holds no certificate", n.TLSCA)
		}
	}
	if n.URL != "" && n.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(n.TLSCert, n.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("read nats-tls-cert and nats-tls-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// ErrNoBus is returned by [Dial] when a running drydock cannot be reached.
var ErrNoBus = errors.New("no running drydock answers")

// Dial connects a command to the bus of the drydock that runs with the same configuration: to nats-url, or to the
// embedded server's listener with the password that only its owner can read. Errors: [ErrNoBus] with what to do.
func Dial(ctx context.Context, cfg *config.Config, log *slog.Logger) (*bus.Conn, error) {
	remote, err := Remote(cfg)
	if err != nil {
		return nil, err
	}
	c, err := bus.ConnectRemote(remote, "drydock cli", log)
	if err != nil {
		return nil, fmt.Errorf("%w at %s (is `drydock serve --config %s` running?): %w", ErrNoBus, remote.URL, cfg.File, err)
	}
	if err := awaitReady(ctx, c); err != nil {
		c.NC.Close()
		return nil, fmt.Errorf("%w at %s: %w", ErrNoBus, remote.URL, err)
	}
	return c, nil
}

// awaitReady asks once, or until ctx ends as long as the bus may be electing a leader: then it says so, or nothing.
func awaitReady(ctx context.Context, c *bus.Conn) error {
	const answerTime, electionTime, pause = 5 * time.Second, 15 * time.Second, 250 * time.Millisecond
	for begun := time.Now(); ; {
		asking, cancel := context.WithTimeout(ctx, answerTime)
		err := c.Ready(asking)
		cancel()
		if !bus.Electing(err) && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || time.Since(begun) > electionTime {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// Remote says where the bus of this configuration listens and how to log in.
func Remote(cfg *config.Config) (bus.Remote, error) {
	n := cfg.Global.NATS
	tlsConfig, err := clientTLS(n)
	if err != nil {
		return bus.Remote{}, err
	}
	r := bus.Remote{URL: n.URL, User: n.User, Password: n.Password.Reveal(), TLS: tlsConfig}
	if n.URL != "" {
		return r, nil
	}
	if n.Listen == "" {
		return r, fmt.Errorf("%w: nats-listen is empty, so the embedded bus has no listener", ErrNoBus)
	}
	host, port, err := net.SplitHostPort(n.Listen)
	if err != nil {
		return r, fmt.Errorf("read nats-listen %q: %w", n.Listen, err)
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	if port == "0" {
		// A free port was picked: the running server left word where.
		if host, port, err = listenerOf(cfg); err != nil {
			return r, err
		}
	}
	r.URL = "nats://" + net.JoinHostPort(host, port)
	if r.Password != "" {
		return r, nil
	}
	if r.Password, err = storedPassword(cfg); err != nil {
		return r, err
	}
	return r, nil
}

// storedPassword reads what the server generated; it never makes one, which would only hide that no server ran here.
func storedPassword(cfg *config.Config) (string, error) {
	path := filepath.Join(busDir(cfg), "password")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: %s does not exist; drydock never ran with this data folder: %w", ErrNoBus, path, err)
	}
	return bus.Password(busDir(cfg), "")
}

func listenerFile(cfg *config.Config) string { return filepath.Join(busDir(cfg), "listener") }

func listenerOf(cfg *config.Config) (host, port string, err error) {
	b, err := os.ReadFile(listenerFile(cfg))
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return net.SplitHostPort(string(b))
}
