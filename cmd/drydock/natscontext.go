package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"drydock/app"
	"drydock/config"
)

// natsContext is the JSON that the nats CLI reads as a context.
func natsContext(cfg *config.Config) ([]byte, error) {
	r, err := app.Remote(cfg)
	if err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(map[string]string{
		"description": "drydock", "url": r.URL, "user": r.User, "password": r.Password, "ca": cfg.Global.NATS.TLSCA,
		"cert": clientFile(cfg, cfg.Global.NATS.TLSCert), "key": clientFile(cfg, cfg.Global.NATS.TLSKey),
	}, "", "  ")
	return append(out, '\n'), err
}

// clientFile is a file of the client's certificate: with the embedded bus nats-tls-cert is the server's.
func clientFile(cfg *config.Config, path string) string {
	if cfg.Global.NATS.URL == "" {
		return ""
	}
	return path
}

// saveNATSContext writes the context where the nats CLI looks for it, readable by its owner only.
func saveNATSContext(text []byte) (path string, err error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of nats contexts: %w", err)
	}
	path = filepath.Join(dir, "nats", "context", "drydock.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("create the folder of nats contexts: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("save nats context: %w", err)
	}
	return path, os.Chmod(path, 0o600)
}
