// Package mariadbdtest starts real MariaDB servers for one test. A missing
// MariaDB fails the test; "make setup" installs it.
package mariadbdtest

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"drydock/internal/mariadbd"
)

// logTail is how much of the error log a failed test shows, in bytes.
const logTail = 4 << 10

// Start starts a server that lives as long as the test. Options.Dir defaults to
// a temporary folder. At the end the server is killed, not stopped: its data
// is thrown away anyway. If the test failed, the end of the error log is shown.
func Start(t testing.TB, opts mariadbd.Options) *mariadbd.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s, err := mariadbd.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Errorf("kill server: %v", err)
		}
		if t.Failed() {
			t.Logf("error log of %s:\n%s", s.Addr(), tail(s.ErrorLog()))
		}
	})
	return s
}

// Pair starts a primary and a replica that follows it. Both have a binary log.
func Pair(t testing.TB, opts mariadbd.Options) (primary, replica *mariadbd.Server) {
	t.Helper()
	opts.LogBin = true
	primary, replica = Start(t, opts), Start(t, opts)
	if err := mariadbd.Replicate(t.Context(), primary, replica); err != nil {
		t.Fatal(err)
	}
	return primary, replica
}

// Family starts a primary and n replicas that follow it. All have a binary log; the replicas are read-only.
func Family(t testing.TB, n int, opts mariadbd.Options) (servers []*mariadbd.Server) {
	t.Helper()
	opts.LogBin = true
	servers = append(servers, Start(t, opts))
	opts.Extra = append(slices.Clone(opts.Extra), "read_only=1")
	for range n {
		replica := Start(t, opts)
		if err := mariadbd.Replicate(t.Context(), servers[0], replica); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, replica)
	}
	return servers
}

func tail(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	text = text[max(0, len(text)-logTail):]
	if _, rest, ok := bytes.Cut(text, []byte("\n")); ok && len(rest) > 0 {
		return rest
	}
	return text
}
