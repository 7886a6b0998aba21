package main

import (
	"log/slog"
	"net"
	"os"
)

// tellSystemd tells systemd what became of the service (sd_notify); without a NOTIFY_SOCKET nobody asked. A state is
// "READY=1" or the like. That it was not heard is logged: systemd will end what it believes never started.
func tellSystemd(log *slog.Logger, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.Dial("unixgram", path) // a leading @ means an abstract name here as there
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		log.Warn("tell systemd", "state", state, "err", err)
	}
}
